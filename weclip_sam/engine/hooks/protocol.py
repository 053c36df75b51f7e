"""The finished model's score by the papers' test protocol."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.engine.progress import ProgressReporter
from weclip_sam.engine.start.config import protocol_settings
from weclip_sam.evaluation import IoUMetric
from weclip_sam.models.refine import refinement_steps
from weclip_sam.registry import HOOKS

PROTOCOL = 'protocol'  # of the predictions that a last validation refines beside its own


@HOOKS.register_module()
class ProtocolValHook(Hook):
    """Score the finished model on the validation set by the papers' test protocol, too.

    The summary then tells both: what the network says by itself, and what it says after multi-scale fusion and CRF.
    Without multi-scale both are read off one pass, the last validation of the training.

    Args:
        tta: with multi-scale and flip.
        crf: with the dense CRF. Settings are those of ``tools/test.py --tta --crf``.

    Raises:
        ValueError: neither is asked for.
    """

    priority = 'NORMAL'

    def __init__(self, tta: bool = False, crf: bool = True) -> None:
        if not (tta or crf):
            raise ValueError('ProtocolValHook: with neither tta nor crf it would repeat the validation')
        self.tta, self.crf = tta, crf
        self.name = ' and '.join(['multi-scale'] * tta + ['CRF'] * crf)
        self._scoring: _ProtocolScore | None = None
        self._scored = False

    def before_val_epoch(self, runner: Any) -> None:
        """Whether this is the last validation of a training, whose forward serves both scores."""
        loop = runner._train_loop
        if self.tta or not isinstance(loop, BaseLoop) or runner.iter < loop.max_iters:
            return
        model = unwrapped(runner.model)
        steps = refinement_steps({**model.test_cfg, **protocol_settings(runner.cfg, self.tta, self.crf)})
        beside = {**model.test_cfg['beside'], PROTOCOL: steps}
        self._scoring = _ProtocolScore(runner, dict(beside=beside), f'prediction_{PROTOCOL}')

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Take the refined predictions of a batch."""
        if self._scoring is not None:
            self._scoring.evaluator.process(data_samples=outputs, data_batch=data_batch)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Score what the last validation refined."""
        if self._scoring is not None:
            self._scoring.finish(self.name)
            self._scoring, self._scored = None, True

    def after_train(self, runner: Any) -> None:
        """Predict and score, unless the last validation has done it; every process its share."""
        if self._scored:
            return
        settings = protocol_settings(runner.cfg, self.tta, self.crf)
        scoring, loader, progress = _ProtocolScore(runner, settings), runner.val_dataloader, ProgressReporter()
        if is_main_process():
            progress.start(f'val with {self.name}', len(loader))
        try:
            with torch.no_grad():
                for done, batch in enumerate(loader, start=1):
                    scoring.evaluator.process(data_samples=runner.model.val_step(batch), data_batch=batch)
                    if is_main_process():
                        progress.update(done)
        finally:
            progress.stop()
            scoring.restore()
        score = scoring.finish(self.name)
        # What a validation leaves is logged with its scores; nothing is after this.
        runner.visualizer.add_scalars({f'val_protocol/{self.name}': score}, step=runner.iter)


class _ProtocolScore:
    """A model that predicts with other settings for a while, and what its predictions score.

    Args:
        runner: its model is set to evaluation; :meth:`finish` or :meth:`restore` brings the earlier mode back.
        settings: of the model's ``test``, changed until then.
        prediction_key: the field of the samples that is scored.
    """

    def __init__(self, runner: Any, settings: dict[str, Any], prediction_key: str = 'prediction') -> None:
        self.runner, self.began, self.cpu = runner, time.monotonic(), time.process_time()
        self.model, self.dataset = unwrapped(runner.model), runner.val_dataloader.dataset
        metric = IoUMetric(prediction_key, json_path=str(Path(runner.work_dir) / 'iou_val_protocol.json'),
                           print_table=False)
        self.evaluator = Evaluator(metric)
        self.evaluator.dataset_meta = self.dataset.metainfo
        self.before = self.model.test_cfg, self.model.training
        self.model.test_cfg = {**self.model.test_cfg, **settings}
        self.model.eval()

    def restore(self) -> None:
        """Leave the model as it was."""
        self.model.test_cfg, training = self.before
        self.model.train(training)

    def finish(self, name: str) -> float:
        """Restore the model, score, and leave score (mIoU, percent) and cost for the summary."""
        self.restore()
        tell = self.runner.message_hub.update_info
        score = self.evaluator.evaluate(len(self.dataset))['mIoU']
        tell(f'val_protocol/{name}', score)
        tell('val_protocol/seconds', time.monotonic() - self.began)
        tell('val_protocol/cpu_seconds', time.process_time() - self.cpu)
        return score
