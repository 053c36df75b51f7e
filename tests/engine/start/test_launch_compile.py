"""``compile`` of a config: this package's models compile their part of fixed shapes, a dict is mmengine's."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict

from weclip_sam.engine.start.launch import _compile_step


class Fixes(torch.nn.Linear):
    fixed = False

    def fix_shape(self):
        self.fixed = True


@pytest.mark.parametrize('model, choice, fixed, left', [
    (Fixes(1, 1), True, True, None), (Fixes(1, 1), 'auto', False, None), (Fixes(1, 1), False, False, None),
    (Fixes(1, 1), dict(mode='default'), False, dict(mode='default')), (torch.nn.Linear(1, 1), True, None, True),
    (torch.nn.Linear(1, 1), 'auto', None, None)])
def test_who_compiles(model, choice, fixed, left):
    lines = []
    runner = SimpleNamespace(model=model, cfg=ConfigDict(compile=choice, optim_wrapper=dict(type='OptimWrapper')),
                             logger=SimpleNamespace(info=lines.append))
    _compile_step(runner)
    assert getattr(model, 'fixed', None) == fixed and bool(lines) == bool(fixed) and runner.cfg.get('compile') == left


def test_gradients_that_are_added_up_are_not_overwritten():
    runner = SimpleNamespace(model=Fixes(1, 1), cfg=ConfigDict(
        compile=True, optim_wrapper=dict(accumulative_counts=2)))
    with pytest.raises(ValueError, match='compile=True: the gradients of 2 iterations'):
        _compile_step(runner)
