"""Losses and weights that are no numbers: the run ends, good checkpoints stay, the summary says so."""
import json

import pytest
import torch
from mmengine.hooks import Hook

from weclip_sam.engine import explain, safe_load
from weclip_sam.io.checkpoints import NotFiniteError, find_resumable, not_finite, require_finite
from weclip_sam.registry import HOOKS


@HOOKS.register_module(force=True)
class Spoil(Hook):
    """From an iteration on (0-based) so many losses, or the weights, are NaN."""

    priority = 'HIGHEST'

    def __init__(self, iteration, times=1, weights=False):
        self.iteration, self.times, self.weights = iteration, times, weights

    def before_train(self, runner):
        forward = runner.model.forward

        def spoiled(*args, mode='tensor', **kwargs):
            found = forward(*args, mode=mode, **kwargs)
            if mode == 'loss' and self.iteration <= runner.iter < self.iteration + self.times and not self.weights:
                found['loss'] = found['loss'] * float('nan')
            return found
        runner.model.forward = spoiled

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.weights and runner.iter == self.iteration:
            runner.model.second.bias.data[0] = float('inf')


def options(spoil, **more):
    return dict(custom_hooks=[dict(type='Spoil', **spoil)], default_hooks__checkpoint__interval=2,
                default_hooks__logger__interval=100, default_hooks__sheets=None, train_cfg__val_interval=100,
                default_hooks__checkpoint__max_keep_ckpts=-1, **more)


@pytest.mark.parametrize('weights', [False, True])
def test_nothing_that_is_no_number_becomes_a_checkpoint(run_toy, tmp_path, weights):
    with pytest.raises(NotFiniteError, match='iteration 6: ') as caught:
        run_toy(**options(dict(iteration=5, weights=weights)))
    folder = tmp_path / 'run'
    assert sorted(path.name for path in folder.glob('*.pth')) == ['iter_2.pth', 'iter_4.pth']
    assert find_resumable(folder) == folder / 'iter_4.pth' and not list(folder.glob('.*.tmp'))
    assert not not_finite(safe_load(folder / 'iter_4.pth')['state_dict'])
    failed = json.loads((folder / 'summary.json').read_text())['failed']
    assert failed['iteration'] == 6 and failed['last_good_checkpoint'] == str(folder / 'iter_4.pth')
    assert failed['not_finite'] == ({'second.bias': 'not finite'} if weights else {'loss': 'nan'})
    assert explain(caught.value) == failed['reason'] and 'iter_4.pth' in failed['reason']


def test_the_best_checkpoint_is_no_exception(run_toy, tmp_path):
    with pytest.raises(NotFiniteError, match='iteration 3: '):
        run_toy(**{**options(dict(iteration=2)), 'train_cfg__val_interval': 3,
                   'default_hooks__checkpoint__interval': 100})
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_steps_may_be_left_out_a_few_times(run_toy, tmp_path):
    settings = options(dict(iteration=5, times=2), default_hooks__runtime_info__skip=2)
    runner = run_toy(**settings)
    assert runner.iter == 12 and not not_finite(runner.model.state_dict())
    assert json.loads((tmp_path / 'run' / 'summary.json').read_text())['skipped_steps'] == 2
    steps = safe_load(tmp_path / 'run' / 'iter_12.pth')['optimizer']['state'][0]['step']
    assert int(steps) == 10
    hook, = settings['custom_hooks']
    hook['times'] = 3
    with pytest.raises(NotFiniteError, match='iteration 8: .*after 2 skipped steps'):
        run_toy(work_dir='more', **settings)


@pytest.mark.parametrize('skip', [-1, 1.5, True, 'a'])
def test_skip_is_a_number_of_steps(skip):
    with pytest.raises(ValueError, match='skip must be a number of steps'):
        HOOKS.build(dict(type='RuntimeInfoHook', skip=skip))


def test_infinity_may_be_meant_in_what_is_not_learnt():
    state = dict(mask=torch.tensor([0.0, -torch.inf]), weight=torch.ones(2), count=torch.tensor(3), empty=torch.ones(0))
    assert not_finite(state) == [] and not_finite(state, learnt=True) == ['mask']
    state.update({'a.weight': torch.tensor([torch.inf]), 'b': torch.tensor([torch.nan])})
    assert not_finite(state) == ['a.weight', 'b'] and not_finite({}) == []
    with pytest.raises(NotFiniteError, match=r'x.pth: 2 of its 6 tensors .*\(first: a.weight\).*earlier checkpoint'):
        require_finite(state, 'x.pth')
