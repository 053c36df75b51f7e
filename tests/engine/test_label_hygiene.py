"""Training never opens a mask: twenty iterations with masks present, replaced by noise and deleted lose alike."""
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook
from PIL import Image

from weclip_sam.datasets.image_io import write_labels
from weclip_sam.engine import build_runner, load_config

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py'
ITERATIONS = 20

_opened: list[str] | None = None


def _listen(event: str, arguments: tuple) -> None:
    if _opened is not None and event == 'open':
        _opened.append(str(arguments[0]))


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
        names = ['dog', 'cat', 'bus'][number % 3:][:2]
        (root / 'Annotations' / f'{number}.xml').write_text(
            '<annotation>' + ''.join(f'<object><name>{name}</name></object>' for name in names) + '</annotation>')
        write_labels(root / 'SegmentationClass' / f'{number}.png', np.zeros((64, 72), int))
    (root / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('\n'.join('01234'))
    return root


def _train(root: Path, work_dir: Path) -> list[float]:
    config = load_config(CONFIG)
    config.train_dataloader.dataset.reader = dict(type='VocReader', data_root=str(root), split='train')
    config.train_dataloader.dataset.pipeline = [
        dict(type='RandomScale'), dict(type='RandomFlip'), dict(type='RandomCrop', size=64), dict(type='PackSample')]
    config.train_dataloader.batch_size = 2
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg'):
        config[key] = None
    config.model.clip.checkpoint = 'random'
    config.train_cfg.max_iters = ITERATIONS
    config.default_hooks.checkpoint = None
    config.custom_hooks = [dict(type='CurriculumHook')]
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.work_dir = str(work_dir)
    runner = build_runner(config)
    losses = _Losses()
    runner.register_hook(losses)
    runner.train()
    return losses.values


def test_losses_do_not_depend_on_masks(voc, tmp_path):
    global _opened
    sys.addaudithook(_listen)
    try:
        _opened = []
        present = _train(voc, tmp_path / 'present')
        opened, _opened = _opened, None
    finally:
        _opened = None
    images = [name for name in opened if name.endswith('.jpg')]
    assert len(images) == 2 * ITERATIONS  # one for every sample, so the listener hears what is opened
    assert not [name for name in opened if 'SegmentationClass' in name]

    masks = voc / 'SegmentationClass'
    for path in masks.iterdir():
        write_labels(path, np.random.default_rng(1).integers(0, 21, (64, 72)))
    noise = _train(voc, tmp_path / 'noise')
    for path in masks.iterdir():
        path.unlink()
    masks.rmdir()
    deleted = _train(voc, tmp_path / 'deleted')
    assert len(present) == ITERATIONS and len(set(present)) > ITERATIONS // 2
    assert present == noise == deleted
