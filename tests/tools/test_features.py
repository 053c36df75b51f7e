"""SAM's features beside its masks: one pass for both, their own photos and encoder, their room told before."""
import shutil
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from PIL import Image

from weclip_sam.engine import load_config
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.foundation.sam_eye import SamEye
from weclip_sam.mask_bank import FeatureBank, MaskBank
from weclip_sam.offline.masks import MaskBankHook
from weclip_sam.registry import DATASETS, MODELS

SAM = dict(type='FrozenSam', arch='tiny', checkpoint='tiny')
EYE = """
train_dataloader['dataset']['feature_bank'] = dict(stride=8)
model.update(encoders=dict(sam=dict(type='SamEye')), seeds=[
    dict(type='ExcelMaps', blocks=2), dict(type='EyeAffinity', eye='sam'), dict(type='PixelLabels')])
"""


@pytest.fixture
def looks(monkeypatch):
    """How often SAM's encoder looked, and how many points it was asked about."""
    seen = SimpleNamespace(encoder=0, points=0)
    see, ask = FrozenSam.see, FrozenSam.ask

    def count_images(self, images, blocks):
        seen.encoder += len(images)
        return see(self, images, blocks)

    def count_points(self, image, points):
        seen.points += len(points)
        return ask(self, image, points)
    monkeypatch.setattr(FrozenSam, 'see', count_images)
    monkeypatch.setattr(FrozenSam, 'ask', count_points)
    yield seen


def test_one_pass_makes_masks_and_features_and_what_is_lacking_is_made_alone(photos, run_tool, tmp_path, looks,
                                                                             summary_of, capsys):
    root, config = photos
    bank, features = tmp_path / 'bank', tmp_path / 'bank' / 'features'
    assert run_tool('make_masks', config, '--out', bank, '--features') == 0
    assert (looks.encoder, looks.points) == (8, 8 * 9)
    assert "SAM's features of 8 images take about" in capsys.readouterr().err
    assert summary_of(bank)['features'] == dict(folder=str(features), in_bank=8, made_alone=0, block=3, pool=1)
    together = {path.name: path.read_bytes() for path in features.rglob('*.safetensors')}
    shutil.rmtree(features)
    assert run_tool('make_masks', config, '--out', bank, '--features') == 0
    assert (looks.encoder, looks.points) == (16, 8 * 9)  # there were masks: the encoder alone
    assert summary_of(bank)['features']['made_alone'] == 8
    assert together == {path.name: path.read_bytes() for path in features.rglob('*.safetensors')} and len(together) == 8
    # A photo is replaced, one touched, the features of one are lost.
    Image.open(root / 'images' / 'p1.png').transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / 'images' / 'p1.png')
    (root / 'images' / 'p2.png').touch()
    FeatureBank(features)._path('p3').unlink()
    assert run_tool('make_masks', config, '--out', bank, '--features') == 0
    assert (looks.encoder, looks.points) == (18, 9 * 9)
    assert FeatureBank(features).made_of('p1').photos[0] == MaskBank(bank).made_of('p1').photos[-1]
    other = ['--cfg-options', 'mask_generator.sam.checkpoint=random']
    shutil.copytree(features, tmp_path / 'other' / 'features')
    assert run_tool('make_masks', config, '--out', tmp_path / 'other', '--features', *other) == 2
    assert 'this bank was made for generator' in capsys.readouterr().err


def test_too_little_room_is_told_before_anything_is_made(photos, run_tool, tmp_path, monkeypatch, capsys):
    _, config = photos
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(10, 9, 100_000))
    assert run_tool('make_masks', config, '--out', tmp_path / 'bank', '--features') == 2
    error = capsys.readouterr().err
    assert "SAM's features of 8 images take about" in error and 'but only 100 kB are free there' in error
    assert 'feature_bank.pool=2' in error and not MaskBank(tmp_path / 'bank').ids()
    assert run_tool('make_masks', config, '--out', tmp_path / 'bank', '--no-features') == 0


def test_training_and_seeds_read_the_bank_in_the_place_of_the_encoder(photos, run_tool, tmp_path, monkeypatch, capsys,
                                                                      looks):
    _, path = photos
    with open(path, 'a') as file:
        file.write(EYE)
    assert run_tool('make_seeds', path, '--out', tmp_path / 'live') == 0  # there is no bank: the encoder looks
    config = load_config(path)
    fill_shared_settings(config)
    dataset = DATASETS.build(dict(config.train_dataloader.dataset, pipeline=[
        dict(type='RandomScale', ratio=(0.7, 1.5)), dict(type='RandomFlip'), dict(type='RandomCrop', size=32),
        dict(type='PackSample')]))
    words = {key: list(dataset.metainfo[key]) for key in ('classes', 'prompt_names', 'background_nouns')}
    model = MODELS.build({**config.model, 'type': 'WeClip', 'vocabulary': words,
                          'decoder': dict(type='WeClipDecoder', dim=16, depth=1, heads=2)})
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset),
                             logger=SimpleNamespace(info=print, warning=print))
    hook = MaskBankHook(config.mask_bank, config.mask_generator, 'photos')
    hook.before_train(runner)
    assert "SAM's features of 8 images take about" in capsys.readouterr().err and len(MaskBank(config.mask_bank)) == 8
    looks.encoder = 0
    hook.before_train(runner)
    assert looks.encoder == 0

    def look(*_, **__):
        raise AssertionError('the encoder was run')
    with monkeypatch.context() as patch:
        patch.setattr(SamEye, 'forward', look)
        batch = pseudo_collate([dataset[1], dataset[2]])
        assert batch['data_samples'][0].banked['sam'].tokens.shape == (4, 4, 128)
        losses = model.train_step(batch, OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
        assert torch.isfinite(losses['loss'])
        assert 'eye' in model.explain(pseudo_collate([dataset[1]]))['stages']
        assert run_tool('make_seeds', path, '--out', tmp_path / 'seeds') == 0
    made = [[(tmp_path / name / f'p{i}.png').read_bytes() for i in range(8)] for name in ('live', 'seeds')]
    assert made[0] != made[1]  # the live one saw the stretched image
    model.encoders.networks['sam'] = SamEye(dict(SAM, checkpoint='random'))
    with pytest.raises(ValueError, match="not those of the encoder 'sam' of the model"):
        hook.before_train(runner)
    del model.encoders.networks['sam']
    with pytest.raises(ValueError, match="for the encoder 'sam', but the model has \\['clip'\\]"):
        hook.before_train(runner)
