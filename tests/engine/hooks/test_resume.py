"""An interrupted and resumed run reads the very same data as an uninterrupted one."""
import child_processes
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from weclip_sam.datasets.samplers import sample_generator
from weclip_sam.engine import ResumeDataHook


class _Numbers(Dataset):
    """Item i is i with noise from the sample's own generator."""

    metainfo = dict(classes=('a',))

    def __len__(self):
        return 11

    def __init__(self, needs=None):
        self.needs = needs

    def __getitem__(self, index):
        if self.needs is not None and not self.needs.exists():
            raise FileNotFoundError(self.needs)
        return torch.tensor([int(index), sample_generator(index).random()], dtype=torch.float64)


class _Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, *inputs, mode='loss'):
        return dict(loss=(self.weight * torch.stack(list(inputs))).mean())


class _Record(Hook):
    def __init__(self, stop_at=None):
        self.seen, self.stop_at, self.global_draws = [], stop_at, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(np.stack([row.numpy() for row in data_batch]))
        self.global_draws.append(torch.rand(1).item())


class _Make(Hook):
    priority = 'VERY_HIGH'

    def __init__(self, path):
        self.path = path

    def before_train(self, runner):
        if self.path is not None:
            self.path.touch()


def _run(work_dir, workers, batch_size=2, resume=False, stop_at=None, seed=4, needs=None):
    record = _Record(stop_at)
    runner = Runner(
        _Model(), str(work_dir), experiment_name=f'run{np.random.default_rng().integers(2**60)}',
        train_dataloader=dict(
            dataset=_Numbers(needs), batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='InfiniteSeededSampler', _scope_='weclip_sam')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), train_cfg=dict(by_epoch=False, max_iters=12),
        custom_hooks=[ResumeDataHook(), _Make(needs), record], randomness=dict(seed=seed), resume=resume,
        default_scope='weclip_sam',
        default_hooks=dict(logger=None, timer=None, checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)))
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    child_processes.end_data_workers()
    return record.seen, record.global_draws


@pytest.fixture(autouse=True)
def _plain_loading(monkeypatch):
    # mmengine's message hub is not weights_only-clean; how checkpoints are read is not the subject here.
    load = torch.load
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: load(*args, **{**kwargs, 'weights_only': False}))


@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_data_equal_uninterrupted(tmp_path, workers):
    whole, _ = _run(tmp_path / 'whole', workers)
    first, _ = _run(tmp_path / 'cut', workers, stop_at=8)
    rest, _ = _run(tmp_path / 'cut', workers, resume=True)
    assert len(whole) == 12 and len(first) == 8 and len(rest) == 6
    assert all(np.array_equal(a, b) for a, b in zip(whole, first + rest[2:], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(whole[6:], rest, strict=True))


def test_workers_see_what_hooks_made_before_training(tmp_path):
    seen, _ = _run(tmp_path / 'run', 2, needs=tmp_path / 'masks')
    assert len(seen) == 12


def test_another_batch_size_goes_on_where_the_data_stopped(tmp_path):
    whole, _ = _run(tmp_path / 'whole', 0)
    _run(tmp_path / 'cut', 0, stop_at=7)
    rest, _ = _run(tmp_path / 'cut', 0, batch_size=4, resume=True)
    assert np.array_equal(np.concatenate(rest)[:12], np.concatenate(whole)[12:])


def test_checkpoint_seed_wins(tmp_path):
    whole, _ = _run(tmp_path / 'whole', 0)
    _run(tmp_path / 'cut', 0, stop_at=6)
    rest, _ = _run(tmp_path / 'cut', 0, resume=True, seed=99)
    assert np.array_equal(rest[0], whole[6])


def test_starting_the_data_leaves_the_global_generator_alone(tmp_path):
    _run(tmp_path / 'cut', 0, stop_at=3)
    _, with_hook = _run(tmp_path / 'cut', 0, resume=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    from weclip_sam.engine.hooks.resume import _Resumed
    loader = torch.utils.data.DataLoader(_Numbers(), num_workers=0)
    next(_Resumed(loader, skip=0))
    assert torch.equal(before, torch.get_rng_state()) and len(with_hook) == 9
