"""Training of any kind, the check before it included, never opens a mask: with masks present, replaced by noise and
deleted it loses alike."""
import functools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook
from PIL import Image

from weclip_sam.checking.configs import require_sound
from weclip_sam.datasets.vocabulary import VOC_CLASSES
from weclip_sam.engine import build_runner, load_config
from weclip_sam.io.images import write_labels

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = ('dog', 'cat', 'bus')
ITERATIONS = 6  # two epochs and more

_opened: list[str] | None = None


def _listen(event: str, arguments: tuple) -> None:
    if _opened is not None and event == 'open':
        _opened.append(str(arguments[0]))


@functools.cache
def _ensure_listening() -> None:
    """An audit hook stays for the life of the process: one is enough."""
    sys.addaudithook(_listen)


class _Losses(Hook):
    def __init__(self) -> None:
        self.values: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs['loss'].item())


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp('hygiene') / 'VOC2012'
    (root / 'ImageSets' / 'Segmentation').mkdir(parents=True)
    (root / 'Annotations').mkdir()
    (root / 'JPEGImages').mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = np.full((64, 72, 3), rng.integers(0, 256, 3), np.uint8)
        pixels[10:40, 12:50] = rng.integers(0, 256, (30, 38, 3))
        Image.fromarray(pixels).save(root / 'JPEGImages' / f'{number}.jpg')
        names = NAMES[number % 3:][:2]
        (root / 'Annotations' / f'{number}.xml').write_text(
            '<annotation>' + ''.join(f'<object><name>{name}</name></object>' for name in names) + '</annotation>')
        write_labels(root / 'SegmentationClass' / f'{number}.png', np.zeros((64, 72), int))
    (root / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('\n'.join('01234'))
    return root


def _train(config_file: str, root: Path, work_dir: Path, iterations: int, pixel_labels: Path | None) -> list[float]:
    config = load_config(CONFIGS / config_file)
    dataset = config.train_dataloader.dataset
    dataset.reader = dict(type='VocReader', data_root=str(root), split='train')
    dataset.pipeline = [
        dict(type='RandomScale'), dict(type='RandomFlip'), dict(type='RandomCrop', size=64), dict(type='PackSample')]
    if pixel_labels is not None:
        dataset.pixel_labels = str(pixel_labels)
    hooks = []
    if 'mask_bank' in dataset:  # the masks of SAM are made while the listener listens
        dataset.mask_bank = str(work_dir / 'bank')
        hooks.append(dict(type='MaskBankHook', bank=dataset.mask_bank, generator=config.mask_generator))
    config.train_dataloader.batch_size = 2
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg'):
        config[key] = None
    config.seed_dataset = dict(type='ImageLabelDataset', reader=dict(dataset.reader), with_masks=True,
                               pipeline=[dict(type='PackSample')])
    config.pop('tune_dataset', None)
    config.model.clip.checkpoint = 'random'
    config.model.pop('start', None)
    config.train_cfg.max_iters = iterations
    config.default_hooks.checkpoint = None
    config.custom_hooks = hooks
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.work_dir = str(work_dir)
    require_sound(config)  # as tools/train.py does
    runner = build_runner(config)
    losses = _Losses()
    runner.register_hook(losses)
    runner.train()
    return losses.values


@pytest.mark.parametrize('config, iterations, offline', [
    ('weclip/weclip_tiny_400_shapes.py', ITERATIONS, False),
    ('weclip_sam/weclip-sam_tiny_400_shapes.py', 3, False),
    ('two_stage/offline-decoder_tiny_400_shapes.py', 3, True),
    ('fma/fma-cls-prompts_tiny_200_shapes.py', 3, False),
    ('fma/fma-seg-prompts_tiny_100_shapes.py', 3, True)])
def test_losses_do_not_depend_on_masks(config, iterations, offline, voc, tmp_path):
    global _opened
    seeds = None
    if offline:
        seeds = tmp_path / 'pseudo'
        for number in range(5):
            labels = np.zeros((64, 72), int)
            labels[10:40, 12:50] = 1 + VOC_CLASSES.index(NAMES[number % 3])
            write_labels(seeds / f'{number}.png', labels)
    truth = tmp_path / 'VOC2012'
    shutil.copytree(voc, truth)
    _ensure_listening()
    try:
        _opened = []
        present = _train(config, truth, tmp_path / 'present', iterations, seeds)
        opened, _opened = _opened, None
    finally:
        _opened = None
    images = [name for name in opened if name.endswith('.jpg')]
    # One for every sample, and one for every image that the check sees, three where SAM does (its file's digest is
    # taken, and its size, which tells how much room masks need): the listener hears what is opened.
    assert len(images) == 2 * iterations + 5 + (15 if 'weclip-sam' in config else 0)
    assert not [name for name in opened if 'SegmentationClass' in name]

    masks = truth / 'SegmentationClass'
    for path in masks.iterdir():
        write_labels(path, np.random.default_rng(1).integers(0, 21, (64, 72)))
    noise = _train(config, truth, tmp_path / 'noise', iterations, seeds)
    shutil.rmtree(masks)
    deleted = _train(config, truth, tmp_path / 'deleted', iterations, seeds)
    assert len(present) == iterations and len(set(present)) > iterations // 2
    assert present == noise == deleted
