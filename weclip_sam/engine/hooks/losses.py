"""Losses are read when they are shown: asking a GPU for a number makes the host wait for all that it was told."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from torch import Tensor

from weclip_sam.engine.hooks.finite import StepGuard, loss_error, parts_not_finite
from weclip_sam.engine.optim import PatientOptimWrapper
from weclip_sam.registry import HOOKS

SKIPPED = 'skipped_steps'  # in the message hub, so that it is saved with checkpoints
MOST_KEPT = 1000  # iterations whose losses are kept unread where nothing ever shows them


@HOOKS.register_module(name=['RuntimeInfoHook', 'LazyRuntimeInfoHook'])
class LazyRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's :class:`RuntimeInfoHook`, and what that name means in a config, but not every loss is read at once.

    Losses stay on their device and come into the message hub, each iteration's in its turn, when a
    :class:`LoggerHook` is about to show them, before a validation, a checkpoint and the end of training. What is shown
    and saved is what mmengine's own hook gives; a hook of one's own that looks at ``train/loss`` in the message hub
    between two of these moments sees the iterations up to the last one (list ``mmengine.RuntimeInfoHook`` for it).

    A loss that is NaN or infinite ends the training when it is read, and no checkpoint is written before all losses up
    to it have been read.

    The values that a training step returns must stay as they are: a step that writes its next losses into the same
    tensors has to return copies.

    Args:
        skip: leave out so many steps of the whole training whose loss is not finite, before one ends it. Otherwise than
            with 0, every step waits for its loss.
    """

    def __init__(self, skip: int = 0) -> None:
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
            raise ValueError(f'RuntimeInfoHook: skip must be a number of steps, 0 or more, got {skip!r}')
        self.skip = skip
        self._skipped: set[int] = set()
        self._unread: list[tuple[int, dict[str, Any]]] = []

    def before_train(self, runner: Any) -> None:
        """Stand before the optimizer where steps may be left out."""
        super().before_train(runner)
        if self.skip:
            StepGuard(runner.optim_wrapper, lambda: self._leave_out(runner))

    def _leave_out(self, runner: Any) -> None:
        count = int(runner.message_hub.runtime_info.get(SKIPPED, 0)) + 1
        if count <= self.skip:
            runner.message_hub.update_info(SKIPPED, count)
            self._skipped.add(runner.iter)
            runner.logger.warning(f'Iteration {runner.iter + 1}: the loss is no finite number; the step is left out '
                                  f'({count} of at most {self.skip})')

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Keep what the training step returned; hand it over if it is shown in this iteration."""
        if not outputs:
            return
        wrapper = getattr(runner, 'optim_wrapper', None)
        outputs = {**outputs, **(wrapper.take_norm() if isinstance(wrapper, PatientOptimWrapper) else {})}
        self._unread.append((runner.iter, {key: value.detach() if isinstance(value, Tensor) else value
                                           for key, value in outputs.items()}))
        # A loss that is new takes its place among the logged values at once, as it does with mmengine's hook.
        unknown = any(f'train/{key}' not in runner.message_hub.log_scalars for key in outputs)
        if unknown or self.skip or len(self._unread) >= MOST_KEPT or self._shown_now(runner, batch_idx):
            self.hand_over(runner)

    @staticmethod
    def _shown_now(runner: Any, batch_idx: int) -> bool:
        """Whether a logger shows this iteration: :class:`LoggerHook`, which comes later, decides alike."""
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        return any(hook.every_n_inner_iters(batch_idx, hook.interval)
                   or hook.end_of_epoch(runner.train_dataloader, batch_idx) for hook in loggers)

    def hand_over(self, runner: Any) -> None:
        """Read what is kept, with one wait, and give it to the message hub."""
        unread, self._unread = self._unread, []
        read = _numbers(value for _, values in unread for value in values.values())
        for iteration, values in unread:
            self.take_note(runner, iteration, {key: next(read) for key in values})

    def take_note(self, runner: Any, iteration: int, values: dict[str, Any]) -> None:
        """Put the numbers of one iteration (0-based) into the message hub.

        Every iteration of a training comes by here, in order and with its number: the place for whoever wants to look
        at all of them.

        Raises:
            NotFiniteError: a loss is NaN or infinite, and the step was not left out.
        """
        if parts := parts_not_finite(values):
            if iteration not in self._skipped:
                raise loss_error(runner, iteration, parts, len(self._skipped))
            values = {key: value for key, value in values.items() if key not in parts}
        for key, value in values.items():
            runner.message_hub.update_scalar(f'train/{key}', value)

    def before_val(self, runner: Any) -> None:
        """Validation waits anyhow."""
        self.hand_over(runner)
        super().before_val(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """A checkpoint holds all losses up to its iteration; the runner packed the message hub before it called."""
        if self._unread and 'message_hub' in checkpoint:
            self.hand_over(runner)
            checkpoint['message_hub']['log_scalars'] = runner.message_hub.state_dict()['log_scalars']

    def after_train(self, runner: Any) -> None:
        """The last iterations may not have been shown."""
        self.hand_over(runner)
        super().after_train(runner)


def _numbers(values: Iterable[Any]) -> Iterator[Any]:
    """The values in order, tensors of one element as Python numbers; one copy from each device for each type."""
    values = list(values)
    alike = defaultdict(list)
    for place, value in enumerate(values):
        if isinstance(value, Tensor) and value.numel() == 1:
            alike[value.device, value.dtype].append(place)
    for places in alike.values():
        numbers = torch.stack([values[place].reshape(()) for place in places]).tolist()
        for place, number in zip(places, numbers, strict=True):
            values[place] = number
    return iter(values)
