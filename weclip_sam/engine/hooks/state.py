"""Hooks for state: random generators across a resume, the curriculum, and a guard for foreign checkpoints."""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from torch import nn

from weclip_sam.commands import tool
from weclip_sam.engine.start.class_names import require_same_classes
from weclip_sam.engine.start.warm_start import MATCH, match_classes
from weclip_sam.io.checkpoints import check_covers, require_finite
from weclip_sam.registry import HOOKS


def unwrapped(model: nn.Module) -> Any:
    """The model itself, without the wrapper of distributed training; hooks ask it for what its class brings."""
    return model.module if is_model_wrapper(model) else model


def rng_state() -> dict[str, Any]:
    """The state of every global random generator, as tensors and plain numbers."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - other people's code still draws from it
    state = dict(python=dict(version=version, words=torch.tensor(words), gauss=gauss),
                 numpy=dict(words=torch.from_numpy(legacy[1].astype(np.int64)), position=int(legacy[2]),
                            has_gauss=int(legacy[3]), gauss=float(legacy[4])),
                 torch=torch.get_rng_state())
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every generator back to what :func:`rng_state` returned."""
    python, legacy = state['python'], state['numpy']
    random.setstate((python['version'], tuple(python['words'].tolist()), python['gauss']))
    words = legacy['words'].cpu().numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        ('MT19937', words, legacy['position'], legacy['has_gauss'], legacy['gauss']))
    # Resuming on a GPU moves every tensor of a checkpoint there; generators want theirs on the host.
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


class _RestoringIterator:
    """A data iterator that gives the generators back just before the first batch that is really trained on."""

    def __init__(self, iterator: Any, skip: int, restore: Callable[[], None]) -> None:
        self._iterator, self._left, self._restore = iterator, skip, restore

    def __iter__(self) -> _RestoringIterator:
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            self._restore()
        self._left -= 1
        return next(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


@HOOKS.register_module()
class RngStateHook(Hook):
    """Saves the random generators' state with checkpoints and restores it on resume.

    With it a resumed run equals an uninterrupted one bit by bit, dropout included. Every process has its own state;
    :class:`AtomicCheckpointHook` gathers them before the main process writes. Validation gets its own stretch of the
    random sequence and gives the training's back, so how often one validates does not change what is learnt.
    """

    # After whoever replaces the data iterator in before_train.
    priority = 'LOWEST'

    def __init__(self) -> None:
        # The training's state while something else runs: a validation, or the way from load to the first batch.
        self._held: dict[str, Any] | None = None
        self._held_for_validation = False
        self._gathered: list[dict[str, Any]] | None = None

    def _release(self) -> None:
        if self._held is not None:
            set_rng_state(self._held)
        self._held, self._held_for_validation = None, False

    def gather(self) -> None:
        """Collect the training's state of all processes; every process must call it."""
        self._gathered = all_gather_object(self._held or rng_state())

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the states to a checkpoint about to be written."""
        if self._gathered is None and get_world_size() > 1:
            return
        checkpoint['rng_state'] = self._gathered or [self._held or rng_state()]
        self._gathered = None

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Hold this process's state if this load is a resume."""
        if not runner._resume:
            return
        states = checkpoint.get('rng_state', [])
        if len(states) == get_world_size():
            self._held = states[get_rank()]
        else:
            runner.logger.warning(f'The checkpoint holds {len(states)} random generator states for {get_world_size()} '
                                  'processes: this run will differ from an uninterrupted one in its random numbers.')

    def before_train(self, runner: Any) -> None:
        """Arrange the restoration: the loop first skips the batches that were trained on already."""
        if self._held is not None:
            loop = runner.train_loop
            loop.dataloader_iterator = _RestoringIterator(loop.dataloader_iterator, runner.iter, self._release)

    def before_val(self, runner: Any) -> None:
        """Set the training's random numbers aside."""
        if self._held is None:
            self._held, self._held_for_validation = rng_state(), True

    def after_val(self, runner: Any) -> None:
        """Take the training's random numbers up again."""
        if self._held_for_validation:
            self._release()


@HOOKS.register_module()
class CurriculumHook(Hook):
    """Tells the model how far training has come: ``model.set_progress(iteration)`` before every training iteration.

    The model keeps what follows from it in buffers, so the curriculum survives a resume and never counts
    validation passes.
    """

    def before_train(self, runner: Any) -> None:
        """Check that the model has a curriculum and place it at the start (or at the last iteration that was made)."""
        model = unwrapped(runner.model)
        if not hasattr(model, 'set_progress'):
            raise ValueError(f'CurriculumHook: {type(model).__name__} has no set_progress(iteration); remove the hook '
                             'from the config or use a model with a curriculum (WeClip)')
        # Not at the next one: a validation that is made up for now must see the model as it was then.
        model.set_progress(max(runner.iter - 1, 0))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Move the curriculum to the iteration about to run (0-based)."""
        unwrapped(runner.model).set_progress(runner.iter)


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuses a checkpoint that does not fit the model when it is resumed or tested, and in any case one of other
    classes or whose weights are no numbers.

    ``load_from`` at the start of a training may be partial on purpose.

    Args:
        other_classes: what ``load_from`` may do at the start of a training with weights that were trained on other
            classes: nothing; ``True``: load what has the right shape; ``'match'`` (``train.py --from``): give what was
            learnt of each class to the class of the same name, see :func:`match_classes`.
    """

    def __init__(self, other_classes: bool | str = False) -> None:
        if other_classes not in (False, True, MATCH):
            raise ValueError(f"CheckpointGuardHook other_classes: expected True, False or '{MATCH}', got "
                             f'{other_classes!r}')
        self.other_classes = other_classes

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare names and shapes before anything is copied."""
        path = str(runner._load_from or 'checkpoint')
        starts = not (runner._resume or runner._train_loop is None or isinstance(runner._train_loop, dict))
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get('state_dict'), dict):
            require_finite(checkpoint['state_dict'], path)
        if starts and self.other_classes == MATCH:
            matched = match_classes(unwrapped(runner.model), checkpoint, _classes_in_use(runner), path,
                                    runner.cfg.get('model'))
            checkpoint['state_dict'] = matched.state
            runner.logger.info(f'Starting from {path}: {matched.text()}; iterations, optimizer and curriculum begin '
                               'anew')
            return
        if not (starts and self.other_classes):
            remedy = f'Start with {tool("train")} --from, which matches them by name' if starts else ''
            require_same_classes(path, checkpoint, _classes_in_use(runner), remedy)
        if not starts:
            if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
                raise ValueError(f"{path}: not a checkpoint of this package (no 'state_dict' in it)")
            check_covers(unwrapped(runner.model), checkpoint['state_dict'], path)


def _classes_in_use(runner: Any) -> Any:
    """Of the data that a checkpoint is loaded for: the training's, or else those tested on."""
    for loop in (runner._train_loop, runner._test_loop, runner._val_loop):
        if isinstance(loop, BaseLoop):
            meta = getattr(loop.dataloader.dataset, 'metainfo', None) or {}
            if meta.get('classes'):
                return meta['classes']
    return None
