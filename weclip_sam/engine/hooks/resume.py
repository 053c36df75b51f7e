"""After an interruption the data go on where they stopped, without re-reading what was seen."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from weclip_sam.registry import HOOKS


class _Resumed:
    """Stands in for mmengine's endless iterator: its first ``skip`` batches cost nothing.

    mmengine's loop walks over all batches that were seen before; here the sampler itself starts behind them.
    """

    def __init__(self, loader: DataLoader, skip: int) -> None:
        self._skip = skip
        # Starting a loader draws from torch's global generator; an uninterrupted run does not, so neither may we.
        with torch.random.fork_rng(devices=[]):
            self._batches = iter(loader)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._skip > 0:
            self._skip -= 1
            return None
        return next(self._batches)


@HOOKS.register_module()
class ResumeDataHook(Hook):
    """Makes the data order of a resumed run equal to that of an uninterrupted one.

    The checkpoint gets the sampler's seed and the number of samples seen over all processes; a resumed run takes
    both, so it may even go on with another number of processes or another batch size. It works with samplers
    that have ``seed``, ``start`` and ``world_size``, such as ``InfiniteSeededSampler``; others keep mmengine's way.

    With workers the data start anew even without an interruption: mmengine starts workers when it builds the loop,
    earlier than any hook, so what they have fetched by then does not know what other hooks made before training (SAM
    masks, say); it is thrown away.
    """

    priority = 'HIGH'  # after the hooks that make what the data set reads

    def __init__(self) -> None:
        self._saved: dict[str, int] | None = None
        self._began = (0, 0)  # iteration and samples seen when training began in this process

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write down how far the data were read."""
        loader = runner.train_dataloader
        sampler: Any = getattr(loader, 'sampler', None)
        if hasattr(sampler, 'start'):
            iteration, seen = self._began
            seen += (checkpoint['meta']['iter'] - iteration) * _batch_size(loader) * sampler.world_size
            checkpoint['data_sampler'] = dict(seed=sampler.seed, samples_seen=seen)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember it; whether this is a resume shows when training begins."""
        self._saved = checkpoint.get('data_sampler')

    def before_train(self, runner: Runner) -> None:
        """Move the sampler, then replace the iterator that mmengine made too early."""
        loop = runner.train_loop
        loader = loop.dataloader
        sampler: Any = getattr(loader, 'sampler', None)
        if not hasattr(sampler, 'start') or not hasattr(loop, 'dataloader_iterator'):
            return
        if loop.iter == 0 and loader.num_workers == 0:
            return
        seen = loop.iter * _batch_size(loader) * sampler.world_size
        if loop.iter > 0 and self._saved is not None:
            sampler.seed, seen = self._saved['seed'], self._saved['samples_seen']
        self._began = loop.iter, seen
        sampler.start = seen // sampler.world_size
        loop.dataloader_iterator = _Resumed(loader, skip=loop.iter)


def _batch_size(loader: Any) -> int:
    return loader.batch_size or loader.batch_sampler.batch_size
