"""Fixtures of the engine's tests: the toy run."""
import logging
import sys
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

TOY = Path(__file__).parent / 'toy'


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
    logging.shutdown()
    for kind in (MMLogger, Visualizer, DefaultScope, MessageHub):
        kind._instance_dict.clear()
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
