"""A training with MaskBankHook on masks that another program made: taken as they are, never added to."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.checking.configs import full_check, quick_check, require_sound
from weclip_sam.engine import build_runner, load_config
from weclip_sam.io.rle import encode_masks
from weclip_sam.mask_bank import HEADER, MaskBank
from weclip_sam.offline.mask_import import MaskFolder
from weclip_sam.offline.mask_run import run_masks
from weclip_sam.offline.masks import MaskBankHook

CONFIG = Path(__file__).parents[2] / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_folder.py'
SIZE = (40, 60)


def write_masks(folder, name):
    folder.mkdir(exist_ok=True)
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 5:20, 5:30] = masks[1, 22:, 10:50] = True
    (folder / f'{name}.json').write_text(json.dumps([
        dict(segmentation=dict(size=list(SIZE), counts=code), predicted_iou=0.9, stability_score=0.95)
        for code in encode_masks(masks)]))


@pytest.fixture
def photos(tmp_path, toy_config):  # the toy's fixture clears mmengine's globals afterwards
    """Config of a short training on three photographs; SAM is not there. Masks of the photographs are in ``amg``."""
    root, rng = tmp_path / 'photos', np.random.default_rng(0)
    (root / 'images').mkdir(parents=True)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / 'images' / f'p{i}.png')
        write_masks(tmp_path / 'amg', f'p{i}')
    (root / 'labels.csv').write_text('image,classes\n' + ''.join(f'p{i}.png,cat;dog\n' for i in range(3)))
    config = load_config(CONFIG, {
        'data_root': str(root), 'mask_bank': str(tmp_path / 'bank'), 'mask_generator.sam.arch': 'vit_b',
        'mask_generator.sam.checkpoint': str(tmp_path / 'gone.pth'), 'train_cfg.max_iters': 2,
        'param_scheduler.0.warmup_iters': 1, 'param_scheduler.0.end': 2, 'train_dataloader.batch_size': 2})
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.work_dir = str(tmp_path / 'run')
    return config


def fill(config, tmp_path):
    return run_masks(config, 'train', None, torch.device('cpu'), source=str(tmp_path / 'amg'))


def test_a_training_takes_imported_masks_and_adds_none(photos, tmp_path):
    checkpoint, = quick_check(photos).errors
    assert (checkpoint.check, checkpoint.where) == ('checkpoint', 'mask_generator.sam')
    assert fill(photos, tmp_path).made == ['p0', 'p1', 'p2']
    before = {path: path.read_bytes() for path in (tmp_path / 'bank').iterdir()}
    require_sound(photos)
    assert full_check(photos, workers=0).ok
    build_runner(photos).train()
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    assert {path: path.read_bytes() for path in (tmp_path / 'bank').iterdir()} == before


def test_imported_masks_that_are_missing_are_named_and_never_generated(photos, tmp_path):
    content = (tmp_path / 'amg' / 'p1.json').read_bytes()
    (tmp_path / 'amg' / 'p1.json').unlink()
    assert list(fill(photos, tmp_path).failed) == ['p1']
    message = (f'mask bank {tmp_path}/bank: it holds imported masks, and those of 1 of the 3 training images are '
               'missing, for example p1. ')
    for check in (quick_check, full_check):
        finding, = check(photos).errors
        assert (finding.check, finding.where) == ('mask bank', 'custom_hooks.0') and message in finding.message
        assert 'make_masks.py CONFIG --from DIR again, or choose another mask_bank' in finding.message
    with pytest.raises(ValueError, match='of 1 of the 3 training images are missing, for example p1'):
        build_runner(photos).train()
    assert not list((tmp_path / 'run').glob('*.pth')) and MaskBank(tmp_path / 'bank', mode='r').ids() == ['p0', 'p2']
    (tmp_path / 'amg' / 'p1.json').write_bytes(content)
    assert fill(photos, tmp_path).made == ['p1']
    require_sound(photos)


@pytest.mark.parametrize('old', [False, True])
def test_imported_masks_of_a_replaced_photo_are_told_and_never_generated(photos, tmp_path, old):
    fill(photos, tmp_path)
    if old:  # of before photos were noted: only another size shows
        for path in (*(tmp_path / 'bank').glob('photos-*'), *(tmp_path / 'bank').glob('shard-*')):
            path.unlink()
        with MaskBank(tmp_path / 'bank') as bank:
            for i in range(3):
                bank.put(f'p{i}', MaskFolder(tmp_path / 'amg').read(f'p{i}', SIZE))
    require_sound(photos)
    path = tmp_path / 'photos' / 'images' / 'p1.png'
    Image.fromarray(np.zeros((*SIZE[:old], 55, 3) if old else (*SIZE, 3), np.uint8)).save(path)
    before = {path: path.read_bytes() for path in (tmp_path / 'bank').iterdir()}
    for check in (quick_check, full_check):
        finding, = check(photos).errors
        assert 'the photos of 1 of 3 images (p1) are others now' in finding.message
        assert finding.where == 'custom_hooks.0' and 'CONFIG --from DIR' in finding.message
    for refused in (build_runner(photos).train, lambda: fill(photos, tmp_path)):
        with pytest.raises(ValueError, match=r'imported masks, and the photos of 1 of 3 images \(p1\) are others'):
            refused()
    after = {path: path.read_bytes() for path in (tmp_path / 'bank').iterdir() if not path.name.startswith('photos-')}
    assert {path: content for path, content in before.items() if not path.name.startswith('photos-')} == after


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('dataset', 'others', "made for dataset 'others'"), ('image_folder', '/elsewhere', 'images in /elsewhere')])
def test_imported_masks_of_other_images_are_refused(photos, tmp_path, key, value, message):
    fill(photos, tmp_path)
    path = tmp_path / 'bank' / HEADER
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / 'photos' / 'images' / 'p1.png')
    finding, = [each for each in quick_check(photos).errors if each.where == 'custom_hooks.0']
    assert message in finding.message
    runner = build_runner(photos)
    with pytest.raises(ValueError, match=message):
        MaskBankHook(photos.mask_bank, photos.mask_generator, photos.mask_dataset).before_train(runner)


def test_a_sam_that_the_sheets_draw_with_is_still_looked_for(photos, tmp_path):
    fill(photos, tmp_path)
    photos.default_hooks.sheets.mask_generator = photos.mask_generator
    finding, = quick_check(photos).errors
    assert finding.where == 'default_hooks.sheets.mask_generator.sam' and 'gone.pth does not exist' in finding.message
