"""Options and fixtures of the whole test suite."""
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Tiny tensors gain nothing by more threads; and a data worker, which is a fork of this process, must not wait for
# threads that it does not have. Before torch is imported:
os.environ.setdefault('OMP_NUM_THREADS', '1')

import child_processes
import numpy as np
import pytest
import torch
from mmengine.config import config as mmengine_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image

from weclip_sam.datasets import Reader, Record, Vocabulary

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'
TOY = ROOT / 'tests' / 'engine' / 'toy'


def clear_mmengine() -> None:
    """mmengine keeps loggers and names of a run in globals: forget them between runs of one process."""
    logging.shutdown()
    for kind in (MMLogger, Visualizer, DefaultScope, MessageHub):
        kind._instance_dict.clear()

torch.set_num_threads(1)
child_processes.adopt_orphans()
# Line breaks of the config that a run writes down took a second of each run, more than the run itself.
mmengine_config.FormatCode = lambda text, *args, **kwargs: (text, False)


@pytest.fixture(autouse=True)
def no_child_is_left():
    """A test ends what it has started, and fails otherwise."""
    before = child_processes.children()
    yield
    if left := child_processes.end_new_children(before):
        pytest.fail(f'left {len(left)} process(es) behind, which have been killed: {list(left.values())}')


def pytest_addoption(parser):
    parser.addoption('--golden', metavar='DIR', default=None,
                     help='folder with golden arrays (clip_es.npz, weclip.npz, sepl.npz, fma.npz); by default '
                          '../shared/golden if it is there, else the subset in tests/data/golden')
    parser.addoption('--screenshots', metavar='DIR', default=None, help='where tests of pages leave pictures of them')


def golden_folder(config: pytest.Config) -> Path:
    """The folder of golden arrays that this run compares with."""
    chosen = config.getoption('--golden')
    if chosen is not None:
        folder = Path(chosen)
        if not folder.is_dir():
            raise pytest.UsageError(f'--golden {folder}: no such folder')
        return folder
    return SHARED / 'golden' if (SHARED / 'golden').is_dir() else ROOT / 'tests' / 'data' / 'golden'


@pytest.fixture(scope='session')
def golden_dir(pytestconfig: pytest.Config) -> Path:
    return golden_folder(pytestconfig)


@pytest.fixture(scope='session')
def trained_run(tmp_path_factory):
    """The work dir of a real but tiny training run (two iterations, random weights), with ``iter_2.pth``."""
    from weclip_sam.engine import build_runner, load_config
    config = load_config(ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py', {
        'model.clip.checkpoint': 'random', 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2,
        'param_scheduler.0.warmup_iters': 1, 'param_scheduler.0.end': 2, 'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.reader.num_images': 4, 'val_dataloader.dataset.reader.num_images': 3,
        'test_dataloader.dataset.reader.num_images': 3})
    config.custom_hooks = []
    config.default_hooks.pop('sheets')
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.work_dir = str(tmp_path_factory.mktemp('trained') / 'run')
    build_runner(config).train()
    clear_mmengine()
    return Path(config.work_dir)


@pytest.fixture(scope='session')
def labelling_run(tmp_path_factory):
    """A folder with ``iter_400.pth``: WeCLIP-SAM with the bundled networks and three training images, whose decoder is
    heard, though it has learnt nothing. There is no bank of masks."""
    from weclip_sam.datasets.shapes.reader import shapes_vocabulary
    from weclip_sam.engine import load_config
    from weclip_sam.engine.start.vocabulary import fill_vocabulary
    from weclip_sam.io.plain import plain
    from weclip_sam.registry import MODELS
    folder = tmp_path_factory.mktemp('labelling')
    config = load_config(ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py', {
        'train_dataloader.dataset.reader.num_images': 3, 'val_dataloader.dataset.reader.num_images': 3,
        'test_dataloader.dataset.reader.num_images': 3, 'seed_dataset.reader.num_images': 3,
        'mask_bank': str(folder / 'bank')})
    settings = plain(config.to_dict(), 'the config')
    fill_vocabulary(config)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.set_progress(399)
    torch.save(dict(meta=dict(settings=settings, dataset_meta=shapes_vocabulary().metainfo()),
                    state_dict=model.state_dict()), folder / 'iter_400.pth')
    return folder


@pytest.fixture
def forget_runs():
    """Clear mmengine's globals after a test that trains."""
    yield
    clear_mmengine()


class MemoryReader(Reader):
    """Images made on the spot: image i has value i everywhere; labels and masks follow from i."""

    def __init__(self, count: int = 10, size: tuple[int, int] = (20, 30), classes: int = 3) -> None:
        self.shape = size
        names = [f'class{i}' for i in range(classes)]
        # Image 0 has no label at all.
        records = [Record(f'image{i:03d}', (i % classes,) if i else ()) for i in range(count)]
        super().__init__(Vocabulary.build(names), records)

    def load_image(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((*self.shape, 3), index, np.uint8))

    def load_ground_truth(self, index: int) -> np.ndarray:
        return np.full(self.shape, index % 3 + 1, np.uint8)

    def check_masks(self) -> None:
        pass


@pytest.fixture
def memory_reader() -> Callable[..., MemoryReader]:
    return MemoryReader


@pytest.fixture
def shared() -> Path:
    """The optional sibling folder with real data."""
    if not SHARED.is_dir():
        pytest.skip('no ../shared folder beside the repository')
    return SHARED


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a small random RGB image; returns its path."""
    def write(path: Path, size: tuple[int, int] = (12, 16), seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path
    return write


@pytest.fixture
def toy_config(tmp_path, monkeypatch):
    """Build the toy config with options and a work dir of its own; afterwards mmengine's globals are cleared."""
    monkeypatch.syspath_prepend(str(TOY))
    from weclip_sam.engine import load_config

    def make(work_dir='run', **options):
        config = load_config(TOY / 'toy_config.py', {k.replace('__', '.'): v for k, v in options.items()})
        config.work_dir = str(tmp_path / work_dir)
        config.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
        return config

    yield make
    clear_mmengine()
    sys.modules.pop('toy_parts', None)


@pytest.fixture
def run_toy(toy_config):
    """Train the toy and return its runner; ``experiment_name`` keeps runs of one second apart."""
    from weclip_sam.engine import build_runner
    counter = iter(range(100))

    def run(**options):
        config = toy_config(**options)
        config.experiment_name = f'toy{next(counter)}'
        runner = build_runner(config)
        runner.train()
        return runner

    return run
