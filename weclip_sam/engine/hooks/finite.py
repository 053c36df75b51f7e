"""A loss that is no number ends a training, or skips a step; it never becomes a checkpoint."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from weclip_sam.io.checkpoints import NotFiniteError, find_resumable


def parts_not_finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Of the numbers of one iteration the losses (their names say ``loss``) that are NaN or infinite."""
    return {key: float(value) for key, value in values.items()
            if 'loss' in key and isinstance(value, (int, float)) and not math.isfinite(value)}


def loss_error(runner: Any, iteration: int, parts: Mapping[str, float], skipped: int = 0) -> NotFiniteError:
    """The error that ends a training at an iteration (0-based)."""
    said = ', '.join(f'{key} {value}' for key, value in parts.items())
    before = f' after {skipped} skipped steps' if skipped else ''
    return NotFiniteError(f'iteration {iteration + 1}: the loss is no finite number{before} ({said}), and the training '
                          f'ends. {how_to_go_on(runner)}', iteration + 1, dict(parts))


def how_to_go_on(runner: Any) -> str:
    """What is left, and what to try."""
    good = find_resumable(runner.work_dir)
    left = f'The last good checkpoint is {good}' if good else 'There is no good checkpoint yet'
    return (f'{left}. Try a smaller learning rate, optim_wrapper.clip_grad, no --amp, or '
            'default_hooks.runtime_info.skip=3 to skip so many steps')


class StepGuard:
    """Stands before the optimizer: a step whose loss is not finite is left out, on all processes.

    It waits for the loss at every step.

    Args:
        wrapper: the OptimWrapper, whose ``update_params`` it takes over.
        left_out: called when a step was.
    """

    def __init__(self, wrapper: Any, left_out: Callable[[], None]) -> None:
        self.wrapper, self.left_out = wrapper, left_out
        self._update = wrapper.update_params
        wrapper.update_params = self.update_params

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As the wrapper's own, for finite losses."""
        sound = torch.isfinite(loss.detach()).all().to(torch.int32)
        if get_world_size() > 1:
            all_reduce(sound, 'min')
        if bool(sound):
            self._update(loss, *args, **kwargs)
        else:
            self.wrapper.zero_grad()
            self.left_out()
