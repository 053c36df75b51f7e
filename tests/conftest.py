"""Options of the whole test suite."""
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption('--golden', metavar='DIR', default=None,
                     help='folder with golden arrays (clip_es.npz, weclip.npz, sepl.npz, fma.npz); by default '
                          '../shared/golden if it is there, else the subset in tests/data/golden')


def golden_folder(config: pytest.Config) -> Path:
    """The folder of golden arrays that this run compares with."""
    chosen = config.getoption('--golden')
    if chosen is not None:
        folder = Path(chosen)
        if not folder.is_dir():
            raise pytest.UsageError(f'--golden {folder}: no such folder')
        return folder
    shared = ROOT.parent / 'shared' / 'golden'
    return shared if shared.is_dir() else ROOT / 'tests' / 'data' / 'golden'


@pytest.fixture(scope='session')
def golden_dir(pytestconfig: pytest.Config) -> Path:
    return golden_folder(pytestconfig)


@pytest.fixture(scope='session')
def trained_run(tmp_path_factory):
    """The work dir of a real but tiny training run (two iterations, random weights), with ``iter_2.pth``."""
    import logging

    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    from weclip_sam.engine import build_runner, load_config
    config = load_config(ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py', {
        'model.clip.checkpoint': 'random', 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2,
        'param_scheduler.0.warmup_iters': 1, 'param_scheduler.0.end': 2, 'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.reader.num_images': 4, 'val_dataloader.dataset.reader.num_images': 3,
        'test_dataloader.dataset.reader.num_images': 3})
    config.custom_hooks = [dict(type='CurriculumHook')]
    config.default_hooks.pop('sheets')
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.work_dir = str(tmp_path_factory.mktemp('trained') / 'run')
    build_runner(config).train()
    logging.shutdown()
    for kind in (MMLogger, Visualizer, DefaultScope, MessageHub):
        kind._instance_dict.clear()
    return Path(config.work_dir)
