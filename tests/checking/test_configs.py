"""The command that checks data and checkpoints: what it prints, writes and returns."""
import importlib
import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weclip_sam.checking.configs import find_foundation, full_check, log_warnings, quick_check, require_sound
from weclip_sam.checking.findings import Report
from weclip_sam.datasets.shapes.reader import shapes_vocabulary
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.io.images import write_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.models.prompts import PromptLearner, save_prompts
from weclip_sam.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]


def _model(**clip):
    return dict(model=dict(type='WeClip', clip={**dict(type='FrozenClip', arch='tiny', checkpoint='random'), **clip}))


def test_foundation_models_are_found_once():
    sam = dict(type='FrozenSam', arch='tiny', checkpoint='random')
    config = {**_model(), 'custom_hooks': [dict(generator=dict(type='MaskGenerator', sam=sam)), dict(sam=dict(sam))]}
    assert [place for place, _ in find_foundation(config)] == ['model.clip', 'custom_hooks.0.generator.sam']
    assert full_check(config).ok and quick_check(config).ok


@pytest.mark.parametrize('check', [quick_check, full_check])
def test_missing_checkpoints_are_errors_with_a_remedy(check, tmp_path):
    config = _model(arch='ViT-B-16-quickgelu', checkpoint=str(tmp_path / 'ViT-B-16.pt'))
    config['sam'] = dict(type='FrozenSam', arch='vit_b', checkpoint=str(tmp_path / 'sam_vit_b_01ec64.pth'))
    report = check(config)
    assert [(f.check, f.where) for f in report.errors] == [('checkpoint', 'model.clip'), ('checkpoint', 'sam')]
    assert 'ViT-B-16.pt' in report.errors[0].message and 'MB' in report.errors[0].message
    assert f'curl -L --create-dirs -o {tmp_path / "sam_vit_b_01ec64.pth"} https://' in report.errors[1].message


@pytest.mark.parametrize('check', [quick_check, full_check])
@pytest.mark.parametrize(('weights', 'remedy'), [
    ('timm', 'fetch resnet18.a1_in1k'), ('gone.pth', 'gone.pth are not')])
def test_missing_backbone_weights_are_errors_with_a_remedy(check, weights, remedy, monkeypatch, tmp_path):
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    backbone = dict(type='TimmBackbone', name='resnet18', weights=weights)
    report = check(dict(model=dict(type='Segmentor', backbone=backbone)))
    assert [(f.check, f.where) for f in report.errors] == [('checkpoint', 'model.backbone')]
    assert remedy in report.errors[0].message
    assert check(dict(model=dict(type='Segmentor', backbone=dict(backbone, weights=None)))).ok


def test_missing_dino_weights_are_errors_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    report = quick_check(dict(model=dict(type='WeClip', encoders=dict(dino=dict(type='FrozenDino')))))
    assert [(f.check, f.where) for f in report.errors] == [('checkpoint', 'model.encoders.dino')]
    assert 'fetch vit_small_patch14_dinov2.lvd142m' in report.errors[0].message
    tiny = dict(type='FrozenDino', arch='tiny', checkpoint='tiny')
    assert quick_check(dict(model=dict(type='WeClip', encoders=dict(dino=tiny)))).ok


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.mark.parametrize('content', ['sam', 'text', 'pickle'])
def test_checkpoints_of_the_wrong_kind(content, tmp_path):
    path = tmp_path / 'clip.pt'
    if content == 'sam':
        torch.save({'image_encoder.pos_embed': torch.zeros(1, 2, 2, 4)}, path)
    elif content == 'text':
        path.write_text('not a checkpoint')
    else:
        path.write_bytes(pickle.dumps(_Trap(str(tmp_path / 'sprung'))))
    report = full_check(_model(checkpoint=str(path)))
    assert [f.check for f in report.errors] == ['checkpoint'] and 'clip.pt' in report.errors[0].message
    assert not (tmp_path / 'sprung').exists()


def test_load_from_is_checked(tmp_path):
    report = full_check(dict(load_from=str(tmp_path / 'gone.pth')))
    assert report.errors[0].where == 'load_from' and 'gone.pth' in report.errors[0].message


@pytest.fixture
def config_file(tmp_path, write_photo):
    for number in range(3):
        write_photo(tmp_path / 'photos' / 'images' / f'{number}.png', number)
    (tmp_path / 'photos' / 'labels.csv').write_text('image,classes\n0.png,cat\n1.png,cat;dog\n2.png,dog\n')
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'folder.py'
    (tmp_path / 'config.py').write_text(f"_base_ = [r'{base}']\nmodel = {_model()['model']!r}\n")
    return tmp_path / 'config.py'


@pytest.fixture
def write_photo():
    def write(path, seed):
        from PIL import Image
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        Image.fromarray(pixels.numpy()).save(path)
    return write


def _run(arguments):
    main = importlib.import_module('weclip_sam.cli.check_data').main
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code


def test_command(config_file, tmp_path, capsys):
    options = ['--workers', 1, '--json', tmp_path / 'report.json', '--cfg-options', f'data_root={tmp_path / "photos"}']
    assert _run([config_file, *options]) == 0
    assert 'train_dataloader: images 3, classes 2' in capsys.readouterr().out
    assert json.loads((tmp_path / 'report.json').read_text())['ok'] is True
    (tmp_path / 'photos' / 'images' / '1.png').write_bytes(b'')
    assert _run([config_file, *options]) == 1
    assert '1.png: not a readable image' in capsys.readouterr().out
    assert json.loads((tmp_path / 'report.json').read_text())['findings'][0]['check'] == 'image'


def test_command_with_a_wrong_config(tmp_path, capsys):
    assert _run([tmp_path / 'none.py']) == 2
    assert 'none.py: no such config' in capsys.readouterr().err


def test_missing_data_is_one_error(config_file, capsys):
    assert _run([config_file, '--quick']) == 1
    assert 'data/photos' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['voc', 'coco', 'folder', 'folder_masks'])
def test_data_root_option(name, tmp_path):
    base = ROOT / 'configs' / '_base_' / 'datasets' / f'{name}.py'
    (tmp_path / 'leaf.py').write_text(f"_base_ = [r'{base}']\nmodel = dict(type='X')\n")
    config = load_config(tmp_path / 'leaf.py', ['data_root=/new/place'])
    loaders = [config[f'{part}_dataloader'] for part in ('train', 'val', 'test')]
    roots = [loader.dataset.reader.data_root for loader in loaders if loader is not None]
    assert roots == ['/new/place'] * (1 if name == 'folder' else 3)
    if 'seed_dataset' in config:
        assert config.seed_dataset.reader.data_root == '/new/place'
    one = load_config(tmp_path / 'leaf.py', ['train_dataloader.dataset.reader.data_root=/only/here'])
    assert one.train_dataloader.dataset.reader.data_root == '/only/here'
    assert name == 'folder' or one.val_dataloader.dataset.reader.data_root == one.data_root


@pytest.mark.parametrize(('key', 'value', 'near'), [
    ('model.type', 'WeClp', 'WeClip'), ('model.seeds.0.type', 'GradCm', 'GradCam')])
def test_misspelt_parts_are_found_before_anything_is_read(key, value, near):
    config = load_config(ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py', {key: value})
    assert f"unknown type '{value}'. Did you mean '{near}'?" in quick_check(config).text()


@pytest.mark.parametrize('check', [quick_check, full_check])
@pytest.mark.parametrize(('place', 'name', 'message'), [
    ('model', 'rfm_strat', "WeClip takes no argument 'rfm_strat'. Did you mean 'rfm_start'?"),
    ('model.clip', 'bogus', "FrozenClip takes no argument 'bogus'. It takes: arch, checkpoint"),
    ('model.decoder', 'dimm', "WeClipDecoder takes no argument 'dimm'. Did you mean 'dim'?"),
    ('model.seeds.2', 'bogus', "Par takes no argument 'bogus'. It takes: "),
    ('optim_wrapper.optimizer', 'type', "no optimizer is called 'bogus'."),
    ('optim_wrapper.optimizer', 'lrr', "AdamW takes no argument 'lrr'. Did you mean 'lr'?")])
def test_settings_that_nothing_takes_are_found(check, place, name, message):
    config = load_config(ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py')
    config = dict(model=config.model, optim_wrapper=config.optim_wrapper)
    assert check(config).ok
    node = config
    for part in place.split('.'):
        node = node[int(part) if part.isdigit() else part]
    node[name] = 'bogus'
    finding, = check(config).errors
    assert (finding.check, finding.where) == ('config', place) and finding.message.startswith(message)


@pytest.mark.parametrize(('changes', 'kind', 'message'), [
    (dict(end=5), 'error', '20 iterations, but the schedule has 5; give param_scheduler.0.warmup_iters=0'),
    (dict(), 'warning', 'give param_scheduler.0.end=5 param_scheduler.0.warmup_iters=0'),
    (dict(warmup_iters=3), 'warning', 'give param_scheduler.0.end=5'), (dict(end=5, warmup_iters=5), None, '')])
def test_a_schedule_that_is_longer_than_the_training_is_told_before_the_masks_are_made(changes, kind, message):
    step = dict(dict(type='PolyWarmupLR', warmup_iters=20, by_epoch=False, end=400), **changes)
    found = quick_check(dict(_model(), train_cfg=dict(max_iters=5), param_scheduler=[step])).findings
    assert [(one.level, one.message.endswith(message)) for one in found] == [(kind, True)] * bool(kind)


def test_a_refinement_that_finds_no_sam_is_told_before_the_work():
    model = load_config(ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py').model
    model.test.refine = [dict(type='VotePrediction')]
    finding, = quick_check(dict(model=model)).errors
    assert finding.where == 'model.test.refine' and 'mask_generator is missing' in finding.message


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/*/*.py')), ids=lambda path: path.stem)
def test_the_settings_of_all_configs_exist(path):
    if path.parts[-2] not in ('_base_', 'compare'):
        assert [f for f in quick_check(load_config(path)).findings if f.check == 'config'] == []


@pytest.mark.parametrize('check', [quick_check, full_check])
def test_a_bank_of_another_generator_is_found(check, tmp_path):
    generator = dict(type='MaskGenerator', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))
    config = dict(custom_hooks=[dict(type='MaskBankHook', bank=str(tmp_path), generator=generator, dataset='mine')])
    assert check(config).ok
    MaskBank(tmp_path, MODELS.build(dict(generator)).fingerprint(), 'mine')
    assert check(config).ok
    hook, = config['custom_hooks']
    hook['generator'] = dict(generator, points_per_side=5)
    finding, = check(config).errors
    assert (finding.check, finding.where) == ('mask bank', 'custom_hooks.0') and 'made for generator' in finding.message


FEW = {f'{name}.reader.num_images': 3 for name in (
    'train_dataloader.dataset', 'val_dataloader.dataset', 'test_dataloader.dataset', 'seed_dataset', 'tune_dataset')}


@pytest.mark.parametrize('check', [quick_check, full_check])
@pytest.mark.parametrize(('name', 'key'), [
    ('fma-fine_tiny_free_shapes', 'prompts'), ('fma-seg-prompts_tiny_100_shapes', 'start')])
def test_learnt_prompts_are_checked(check, name, key, tmp_path):
    for index in range(3):
        write_labels(tmp_path / 'seeds' / f'train_0_{index:05d}.png', np.zeros((112, 112), int))
    path = tmp_path / 'prompts.safetensors'
    config = load_config(ROOT / 'configs' / 'fma' / f'{name}.py', {**FEW, f'model.{key}': str(path)})
    if key == 'start':
        config.train_dataloader.dataset.pixel_labels = str(tmp_path / 'seeds')
    finding, = check(config).errors
    assert (finding.check, finding.where) == ('checkpoint', f'model.{key}')
    assert finding.message == f'learnt prompts {path} do not exist: train a PromptTuner with tools/train.py first, ' \
        f'or name the file of one: model.{key}=FILE'
    clip = MODELS.build(dict(type='FrozenClip', arch='tiny', checkpoint='tiny'))
    names = shapes_vocabulary()
    save_prompts(path, PromptLearner(clip, [*names.prompt_names, *names.background_nouns], n_ctx=8, position='end'))
    assert check(config).ok
    save_prompts(path, PromptLearner(clip, ['boat'], n_ctx=4, position='end'))
    errors = check(config).errors
    if check is quick_check:
        assert errors == []
        return
    assert [(f.check, f.where) for f in errors] == [('checkpoint', 'model')]
    found = 'context vectors have shape (4,' if key == 'start' else "prompts were learnt for other classes ('boat'"
    assert errors[0].message.startswith(f'{path}: {found}')
    config.train_dataloader.dataset.reader.num_images = 0  # there are no names to compare with: said once
    assert [f.where for f in check(config).errors] == ['train_dataloader']


@pytest.mark.parametrize('check', [quick_check, full_check])
def test_labels_that_seeds_start_from_are_checked(check, tmp_path):
    config = load_config(ROOT / 'configs' / 'sepl' / 'sepl_tiny_free_shapes.py', {
        **FEW, 'input_labels': f'{tmp_path}/{{split}}'})
    finding, = check(config).errors
    assert (finding.check, finding.where) == ('mask', 'train_dataloader')
    assert finding.message == f'{tmp_path}/train does not exist; make the labels first (tools/make_seeds.py)'
    for index in range(3):
        write_labels(tmp_path / 'train' / f'train_0_{index:05d}.png', np.full((112, 112), 10))
    assert check(config).ok
    write_labels(tmp_path / 'train' / 'train_0_00001.png', np.full((112, 112), 11))
    (tmp_path / 'train' / 'train_0_00002.png').unlink()
    missing, value = check(config).errors
    assert '1 of 3 images have no label PNG, for example train_0_00002;' in missing.message
    assert 'train_0_00001.png: label values [11] name no class' in value.message
    config.input_labels = str(tmp_path / '{spilt}')
    finding, = check(config).errors
    assert finding.where == 'input_labels' and "/{spilt}': expected a folder; {split} is all that" in finding.message


def test_a_run_that_cannot_start_says_so(tmp_path):
    with pytest.raises(ValueError, match=r'^this config is not ready to run:(?s:.*)gone\.pt'):
        require_sound(_model(arch='ViT-B-16-quickgelu', checkpoint=str(tmp_path / 'gone.pt')))


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('reader.type', 'FolderReadr', "no reader is called 'FolderReadr'. Did you mean 'FolderReader'?"),
    ('reader.labelz', 'x.csv', "FolderReader takes no argument 'labelz'. Did you mean 'labels'?"),
    ('pipeline.0.type', 'RandomScal', "no transform is called 'RandomScal'. Did you mean 'RandomScale'?"),
    ('pipeline.0.sise', 2, "ResizeLong takes no argument 'sise'. Did you mean 'size'?")])
def test_misspelt_parts_of_a_data_set_are_worded_for_people(config_file, tmp_path, key, value, message):
    config = load_config(config_file, dict(data_root=str(tmp_path / 'photos')))
    node = config.train_dataloader.dataset
    *path, last = key.split('.')
    for part in path:
        node = node[int(part) if part.isdigit() else part]
    node[last] = value
    assert [f.message for f in quick_check(config).errors] == [message]


def test_options_reach_what_was_copied_from_a_variable():
    config = load_config(ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py', {
        'mask_bank': '/new/bank', 'mask_generator.points_per_side': 4, 'seeds.3.threshold': 0.5})
    fill_shared_settings(config)
    hooks = {hook.type: hook for hook in config.custom_hooks}
    hook = hooks['MaskBankHook']
    assert config.train_dataloader.dataset.mask_bank == hook.bank == config.seed_dataset.mask_bank == '/new/bank'
    assert hooks['SeedEvalHook'].dataset.mask_bank == '/new/bank'
    assert hook.generator.points_per_side == config.default_hooks.sheets.mask_generator.points_per_side == 4
    assert config.model.seeds[3].threshold == 0.5
    with pytest.raises(ValueError, match=r'image_size.*train_dataloader.dataset.reader.size=56'):
        load_config(ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py', ['image_size=56'])


def test_training_begins_with_the_warnings_of_the_check(config_file, tmp_path, monkeypatch):
    (tmp_path / 'photos' / 'labels.csv').write_text('image,classes\n0.png,cat\n1.png,cat;dog\n2.png,\n')
    main, said = importlib.import_module('weclip_sam.cli.train').main, []
    logger = SimpleNamespace(warning=lambda text: said.append(text), info=lambda text: None)
    runner = SimpleNamespace(logger=logger, train=lambda: said.append('trained'),
                             visualizer=SimpleNamespace(_vis_backends={}))
    monkeypatch.setattr('weclip_sam.jobs.build_runner', lambda config: runner)
    main([str(config_file), '--work-dir', str(tmp_path / 'run'), '--cfg-options', f'data_root={tmp_path / "photos"}'])
    assert len(said) == 3 and said[-1] == 'trained'
    assert said[0].startswith('no label, train_dataloader: 1 of 3 images have no label and teach background only')
    assert said[1].startswith('classes, train_dataloader: 1 classes are in one training image only')


def test_of_many_warnings_the_first_are_logged():
    report, said = Report(), []
    for number in range(13):
        report.add('warning', 'size', 'train', f'file{number}')
        report.add('note', 'links', 'train', f'link{number}')
    log_warnings(report, SimpleNamespace(warning=said.append))
    assert said[9] == 'size, train: file9' and said[10].startswith('... and 3 more warnings') and len(said) == 11


def test_findings_are_printed_where_the_file_cannot_be_written(config_file, tmp_path, capsys):
    (tmp_path / 'photos' / 'images' / '1.png').write_bytes(b'')
    (tmp_path / 'folder').mkdir()
    options = ['--workers', 1, '--json', tmp_path / 'folder', '--cfg-options', f'data_root={tmp_path / "photos"}']
    assert _run([config_file, *options]) == 2
    told = capsys.readouterr()
    assert '1.png: not a readable image' in told.out and f'error: {tmp_path}/folder: is a folder' in told.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ['config.py', 'folder', 'photos']


@pytest.mark.parametrize('check', [quick_check, full_check])
def test_a_folder_whose_name_is_no_utf8_is_refused(check, tmp_path):
    folder = os.fsdecode(bytes(tmp_path) + b'/caf\xe9')
    report = check(dict(data_root=folder))
    finding, = report.errors
    assert finding.where == 'data_root' and 'caf\\udce9: a name that is no UTF-8' in finding.message
    assert report.text().encode()
