"""Checkpoints that survive a kill at any moment."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, barrier, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook

from weclip_sam.engine.hooks.finite import how_to_go_on
from weclip_sam.engine.hooks.losses import LazyRuntimeInfoHook
from weclip_sam.engine.hooks.state import RngStateHook, unwrapped
from weclip_sam.io.checkpoints import NotFiniteError, not_finite
from weclip_sam.io.files import atomic_open, remove_stale_temporaries
from weclip_sam.io.plain import plain
from weclip_sam.registry import HOOKS


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, written to a temporary name and renamed."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` as ``filepath``: all of it or nothing."""
        with atomic_open(filepath) as file:
            file.write(obj)


register_backend('weclip_sam_atomic', AtomicLocalBackend, force=True)

# In mmengine's message hub, so it is saved with checkpoints; a name that begins with 'val' would appear in the log.
_VALIDATED = 'last_validation'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's :class:`CheckpointHook`, in an order that leaves a usable checkpoint at every moment.

    A checkpoint holds the config as plain values (``meta.settings``) instead of mmengine's Python text.

    It is written whole under another name, renamed, then pointed to by ``last_checkpoint`` (renamed as well),
    and only then older ones are removed. A validation that a kill prevented is made up for on resume.
    Iteration-based training only.

    Args:
        interval: iterations between checkpoints. None: 1,000, or a quarter of a training that is shorter than 4,000.
            -1: only at the end.
        max_keep_ckpts: how many to keep; -1 for all.
        save_best: one metric name such as ``'mIoU'``, or None.
        **kwargs: as for mmengine's hook.
    """

    out_dir: str  # mmengine's; None until before_train

    def __init__(self, interval: int | None = None, max_keep_ckpts: int = 2, save_best: str | None = None,
                 **kwargs: Any) -> None:
        if kwargs.pop('by_epoch', False):
            raise ValueError('AtomicCheckpointHook counts iterations: by_epoch must be False')
        if isinstance(save_best, (list, tuple)):
            raise ValueError(f'AtomicCheckpointHook: save_best must be one metric name, got {save_best}')
        self.own_interval = interval is None
        super().__init__(interval=1000 if interval is None else interval, by_epoch=False,
                         max_keep_ckpts=max_keep_ckpts, save_best=save_best,
                         backend_args=dict(backend='weclip_sam_atomic'), **kwargs)
        self.file_client_args = None
        self._config: dict[str, Any] | None = None
        self.file_backend = get_file_backend(backend_args=self.backend_args)

    def before_train(self, runner: Any) -> None:
        """Clear what a killed writer left; validate where a kill came between checkpoint and validation."""
        self.out_dir = self.out_dir or runner.work_dir
        if self.own_interval:
            self.interval = min(1000, max(1, runner.max_iters // 4))
        self._take_over(runner)
        runner.logger.info(f'Checkpoints will be saved to {self.out_dir}')
        if is_main_process():
            remove_stale_temporaries(self.out_dir, '*.pth')
            for pattern in ('last_checkpoint', '*.json', '*.txt'):
                remove_stale_temporaries(runner.work_dir, pattern)
        barrier()
        if runner._resume and self._validation_is_due(runner):
            runner.logger.info(f'Validating iteration {runner.iter}, which was saved but not validated before')
            runner.val_loop.run()

    def _take_over(self, runner: Any) -> None:
        """Of the files that a checkpoint names take only those that lie here: it may come from elsewhere."""
        info = runner.message_hub.runtime_info
        for key in ('best_ckpt', 'last_ckpt'):
            if key in info:
                here = os.path.join(self.out_dir, os.path.basename(str(info[key])))
                if os.path.isfile(here):
                    info[key] = here
                else:
                    del info[key]
                    if key == 'best_ckpt':  # nothing here is as good: whatever validates first is kept
                        info.pop('best_score', None)
        self.best_ckpt_path = info.get('best_ckpt')

    @staticmethod
    def _validation_is_due(runner: Any) -> bool:
        loop = runner.train_loop
        if runner.val_loop is None or loop.iter == 0 or loop.iter < loop.val_begin:
            return False
        if loop.iter == loop.max_iters:
            return True  # nothing is left to train, but the summary wants scores
        return (loop.iter % loop.val_interval == 0
                and runner.message_hub.runtime_info.get(_VALIDATED) != loop.iter)

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Keep the best checkpoint; remember that this iteration is validated."""
        runner.message_hub.update_info(_VALIDATED, int(runner.iter))
        if runner._train_loop is not None and not isinstance(runner._train_loop, dict):
            super().after_val_epoch(runner, metrics)

    def before_run(self, runner: Any) -> None:
        """Find out now, not at the first save, whether the config can be kept."""
        self._config = plain(runner.cfg.to_dict(), 'the config')

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The config as plain values instead of text."""
        checkpoint['meta'].pop('cfg', None)
        checkpoint['meta']['settings'] = self._config or plain(runner.cfg.to_dict(), 'the config')

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        """Write, point to it, prune: in this order."""
        self._require_finite(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, name)
        keep = list(runner.message_hub.runtime_info.get('keep_ckpt_ids', []))
        keep = [kept for kept in keep if kept != step] + [step]
        if self.max_keep_ckpts > 0:
            keep = keep[-self.max_keep_ckpts:]
        runner.message_hub.update_info('keep_ckpt_ids', keep)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        for hook in runner.hooks:
            if isinstance(hook, RngStateHook):
                hook.gather()
        runner.save_checkpoint(self.out_dir, name, None, save_optimizer=self.save_optimizer,
                               save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=False,
                               backend_args=self.backend_args, **self.args)
        if is_main_process():
            with atomic_open(os.path.join(runner.work_dir, 'last_checkpoint'), 'w') as file:
                file.write(self.last_ckpt)
            if self.max_keep_ckpts > 0:
                self._prune(min(keep))

    @staticmethod
    def _require_finite(runner: Any, step: int) -> None:
        """Nothing that is no number takes the place of a good checkpoint. Every process calls it: what one finds ends
        all.

        Raises:
            NotFiniteError: a loss of an iteration up to now, or a weight.
        """
        found: NotFiniteError | None = None
        try:
            for hook in runner.hooks:
                if isinstance(hook, LazyRuntimeInfoHook):
                    hook.hand_over(runner)
            if wrong := not_finite({name: p for name, p in unwrapped(runner.model).named_parameters()
                                    if p.requires_grad}, learnt=True):
                found = NotFiniteError(f'iteration {step}: {len(wrong)} weights are no finite numbers any more (first: '
                                       f'{wrong[0]}), though the losses were. {how_to_go_on(runner)}', step,
                                       dict.fromkeys(wrong, 'not finite'))
        except NotFiniteError as error:
            found = error
        told = all_gather_object(found and (str(found), found.iteration, found.parts))
        if first := next(filter(None, told), None):
            raise NotFiniteError(*first)

    def _prune(self, oldest_kept: int) -> None:
        """Remove checkpoints older than all that are kept, also those a kill saved from removal before."""
        pattern = re.compile(re.escape(self.filename_tmpl).replace(r'\{\}', r'(\d+)'))
        for path in Path(self.out_dir).iterdir():
            match = pattern.fullmatch(path.name)
            if match and int(match.group(1)) < oldest_kept:
                path.unlink(missing_ok=True)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        """As mmengine's, but the old best stays until the new one is there."""
        if not self.save_best:
            return
        wanted = self.key_indicators[0]
        if wanted != 'auto' and wanted not in metrics:
            raise ValueError(f"save_best='{wanted}': the validation gave only {sorted(metrics)}")
        self._require_finite(runner, runner.iter)
        previous, self.best_ckpt_path = self.best_ckpt_path, None
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path = previous
        elif previous and previous != self.best_ckpt_path and is_main_process():
            Path(previous).unlink(missing_ok=True)
