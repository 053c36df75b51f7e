"""Losses are read when they are shown, and what is shown and saved is what mmengine's own hook gives."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from weclip_sam.engine import safe_load
from weclip_sam.engine.hooks import losses
from weclip_sam.engine.optim import PatientOptimWrapper
from weclip_sam.io.checkpoints import NotFiniteError
from weclip_sam.registry import HOOKS


@pytest.fixture
def hook():
    return HOOKS.build(dict(type='LazyRuntimeInfoHook'))


@pytest.fixture
def runner():
    name = 'losses'
    MessageHub._instance_dict.pop(name, None)
    yield SimpleNamespace(message_hub=MessageHub.get_instance(name), hooks=[LoggerHook(interval=4)], iter=0,
                          train_dataloader=range(100))
    MessageHub._instance_dict.pop(name, None)


def run(hook, runner, values, first=0):
    for runner.iter, value in enumerate(values, first):
        hook.after_train_iter(runner, runner.iter, outputs=value)


def seen(runner, key='loss'):
    return runner.message_hub.get_scalar(f'train/{key}').data[0].tolist()


def test_nothing_is_read_between_two_log_lines(hook, runner):
    run(hook, runner, [dict(loss=torch.tensor(3.0))])
    assert seen(runner) == [3.0]  # in its place among the logged values from the beginning
    run(hook, runner, [dict(loss=torch.tensor(2.0)), dict(loss=torch.tensor(1.0))], 1)
    assert seen(runner) == [3.0]
    # A tensor without numbers stands for one on a GPU: reading it fails.
    run(hook, runner, [dict(loss=torch.tensor(0.0, device='meta'))] * 3, 4)
    with pytest.raises(NotImplementedError):
        run(hook, runner, [dict(loss=torch.tensor(0.0, device='meta'))], 7)


def test_every_iteration_comes_by_in_order_and_to_the_last_digit(hook, runner):
    made = torch.rand(8, generator=torch.Generator().manual_seed(0))
    steps = [dict(loss=value.clone().requires_grad_(), half=value.bfloat16()[None], count=torch.tensor(i),
                  plain=0.1 * i, array=np.float64(i)) for i, value in enumerate(made)]
    noted = []
    take_note = hook.take_note
    hook.take_note = lambda runner, iteration, values: (noted.append(iteration), take_note(runner, iteration, values))
    run(hook, runner, steps)
    assert noted == list(range(8)) and seen(runner) == [value.item() for value in made]
    assert seen(runner, 'half') == [value.bfloat16().item() for value in made]
    assert seen(runner, 'count') == seen(runner, 'array') == list(range(8))
    assert seen(runner, 'plain') == [0.1 * i for i in range(8)]
    assert not any(value.requires_grad for _, values in hook._unread for value in values.values())


def test_a_loss_that_is_no_number_ends_the_training_with_its_iteration_when_it_is_read(hook, runner, tmp_path):
    runner.work_dir = str(tmp_path)
    steps = [dict(loss=torch.tensor(v), loss_a=torch.tensor(v), loss_b=torch.tensor(0.5), count=torch.tensor(np.nan))
             for v in (1.0, float('inf'), 1.0)]
    run(hook, runner, steps)  # nothing waits for a loss before it is shown
    with pytest.raises(NotFiniteError, match=r'iteration 2: .*\(loss inf, loss_a inf\).*no good checkpoint') as caught:
        run(hook, runner, [dict(loss=torch.tensor(1.0))], 3)
    assert caught.value.iteration == 2 and caught.value.parts == dict(loss=np.inf, loss_a=np.inf)
    assert seen(runner) == [1.0]


def test_without_a_log_not_everything_is_kept(hook, runner, monkeypatch):
    monkeypatch.setattr(losses, 'MOST_KEPT', 3)
    runner.hooks = []
    run(hook, runner, [dict(loss=torch.tensor(float(i))) for i in range(6)])
    assert seen(runner) == [0.0, 1.0, 2.0, 3.0] and len(hook._unread) == 2


def test_values_that_are_no_scalars_are_refused_as_ever(hook, runner):
    with pytest.raises(AssertionError):
        run(hook, runner, [dict(loss=torch.zeros(2))])


def test_logs_and_checkpoints_are_those_of_the_plain_hook(run_toy, tmp_path):
    settings = dict(default_hooks__logger__interval=3, default_hooks__checkpoint__interval=5,
                    log_processor__window_size=4, train_cfg__val_interval=4, train_cfg__max_iters=7)
    kinds = ('mmengine.RuntimeInfoHook', 'LazyRuntimeInfoHook')
    logs, saved = [], []
    for kind in kinds:
        run_toy(work_dir=kind, default_hooks__runtime_info__type=kind, **settings)
        (log,) = (tmp_path / kind).glob('*/vis_data/2*.json')
        logs.append([[(key, value) for key, value in json.loads(line).items()
                      if 'time' not in key] for line in log.read_text().splitlines()])
        files = sorted((tmp_path / kind).glob('iter_*.pth'))
        saved.append([(file.name, safe_load(file)['message_hub']['log_scalars']['train/loss'].data[0].tolist())
                      for file in files])
    assert logs[0] == logs[1] and len(logs[0]) == 4
    assert saved[0] == saved[1] and [(name, len(history)) for name, history in saved[0]] == [
        ('iter_5.pth', 5), ('iter_7.pth', 7)]


def test_the_norm_of_clipped_gradients_is_read_with_the_losses(hook, runner):
    wrapper = PatientOptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1),
                                  clip_grad=dict(max_norm=1.0))
    runner.optim_wrapper = wrapper
    for runner.iter in range(4):
        wrapper._norm = torch.tensor(float(runner.iter))
        hook.after_train_iter(runner, runner.iter, outputs=dict(loss=torch.tensor(1.0)))
    assert seen(runner, 'grad_norm') == [0.0, 1.0, 2.0, 3.0] and wrapper.take_norm() == {}
