"""The end of a run: what it reached, what it cost, and where everything is."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.engine.hooks.losses import SKIPPED
from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.engine.memory import peak_memory
from weclip_sam.engine.progress import ProgressReporter, format_seconds
from weclip_sam.engine.start.config import protocol_settings
from weclip_sam.engine.start.sam_at_test import WITHOUT
from weclip_sam.evaluation import IoUMetric, SamCost
from weclip_sam.evaluation.palettes import look_at_palettes
from weclip_sam.io.checkpoints import NotFiniteError, find_resumable
from weclip_sam.io.files import write_json
from weclip_sam.models.refine import refinement_steps
from weclip_sam.registry import HOOKS

Kind = TypeVar('Kind')
PROTOCOL = 'protocol'  # of the predictions that a last validation refines beside its own


@HOOKS.register_module()
class SummaryHook(Hook):
    """Prints and writes the summary of a training or test run.

    Per-class IoU table and mIoU of the prediction, mIoU of the pseudo labels (if :class:`SeedEvalHook` measured it),
    wall time (interrupted parts included), peak memory, and the paths of all results. ``summary.json``
    (``summary_test.json`` after a test) holds the same numbers.
    IoU metrics without a ``json_path`` get one in the work dir.
    """

    # Before the runner's other after_run hooks close anything, after all of them that measure.
    priority = 'LOW'

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds_before = 0.0
        self._looked = False

    def before_run(self, runner: Any) -> None:
        """Give the metrics their files."""
        for split, metrics in self._metrics(runner).items():
            for metric in metrics:
                if metric.json_path is None:
                    suffix = f'_{metric.prefix}' if metric.prefix else ''
                    metric.json_path = str(Path(runner.work_dir) / f'iou_{split}{suffix}.json')

    def before_val(self, runner: Any) -> None:
        """Tell once if the palettes of the ground truth contradict its labels."""
        self._look_at_palettes(runner, runner.val_dataloader)

    def before_test(self, runner: Any) -> None:
        """As before a validation."""
        self._look_at_palettes(runner, runner.test_dataloader)

    def _look_at_palettes(self, runner: Any, loader: Any) -> None:
        dataset = loader.dataset
        if not self._looked and is_main_process() and isinstance(dataset, ImageLabelDataset) and dataset.with_masks:
            self._looked = True
            if recoloured := look_at_palettes(dataset.records, dataset.metainfo['classes']):
                runner.logger.warning(recoloured)

    @classmethod
    def _metrics(cls, runner: Any) -> dict[str, list[IoUMetric]]:
        """The IoU metrics of the loops that are built, by split."""
        return cls._of_kind(runner, IoUMetric)

    @staticmethod
    def _of_kind(runner: Any, kind: type[Kind]) -> dict[str, list[Kind]]:
        loops = dict(val=runner._val_loop, test=runner._test_loop)
        return {split: [m for m in loop.evaluator.metrics if isinstance(m, kind)]
                for split, loop in loops.items() if isinstance(loop, BaseLoop)}

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Time spent so far goes with the checkpoint."""
        checkpoint['wall_seconds'] = self._seconds()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """A resumed run goes on counting."""
        if runner._resume:
            self._seconds_before = float(checkpoint.get('wall_seconds', 0.0))

    def after_run(self, runner: Any) -> None:
        """Print and write."""
        if not is_main_process():
            return
        tested = isinstance(runner._test_loop, BaseLoop)
        trained = isinstance(runner._train_loop, BaseLoop)
        summary: dict[str, Any] = dict(experiment=runner.experiment_name, seed=runner.seed)
        if trained:
            summary['iterations'] = runner.iter
            summary['trained_parameters'] = sum(p.numel() for p in runner.model.parameters() if p.requires_grad)
        lines = []
        for split, metrics in self._metrics(runner).items():
            for metric in metrics:
                if metric.last_report is not None:
                    name = f'{split}_{metric.prefix}' if metric.prefix else split
                    summary[name] = metric.last_report.to_json()
                    truth = metric.last_truth
                    if truth is not None and truth.disagreeing:
                        summary[name]['ground_truth_check'] = truth.to_json()
                        lines.append(f'WARNING, {name}: {truth.message()}')
                    if not metric.print_table and metric.prefix != WITHOUT:
                        lines.append(metric.last_report.format(f'{name}: IoU by class, percent'))
                    lines.append(f'mIoU of the prediction on {_shown(split, metric, metrics)}: '
                                 f'{100 * metric.last_report.miou:.2f}')
        for cost in self._of_kind(runner, SamCost).get('test', []):
            if cost.last_report is not None:
                summary['sam'] = cost.last_report.to_json()
                lines.append(cost.last_report.text())
        for key, value in runner.message_hub.runtime_info.items():
            if key.startswith('train_seeds/'):
                summary.setdefault('train_seeds', {})[key.removeprefix('train_seeds/')] = value
        info = runner.message_hub.runtime_info
        for key, value in info.items():
            if key.startswith('val_protocol/'):
                summary.setdefault('val_protocol', {})[key.removeprefix('val_protocol/')] = value
        lines += [f'mIoU of the prediction on val with {name}: {score:.2f}'
                  for name, score in summary.get('val_protocol', {}).items() if name not in ('seconds', 'cpu_seconds')]
        if info.get(SKIPPED):
            summary[SKIPPED] = int(info[SKIPPED])
            lines.append(f'steps left out because the loss was no finite number: {info[SKIPPED]}')
        if trained and 'best_ckpt' in info:
            summary['best'] = dict(score=float(info['best_score']), checkpoint=info['best_ckpt'])
            lines.append(f'best validation: {summary["best"]["score"]:.2f}')
        if seeds := summary.get('train_seeds'):
            if seeds.get('stages'):
                lines.append('mIoU of the labels after each seed step: '
                             + ', '.join(f'{step} {score:.2f}' for step, score in seeds['stages'].items()))
            lines += [f'mIoU of the {what} on {seeds["images"]} train images: {seeds[what]:.2f}'
                      for what in ('pseudo labels', 'prediction')]
        summary.update(wall_seconds=self._seconds(), peak_memory_gb=peak_memory(_has_workers(runner)),
                       device=_device(runner), written=self._written(runner))
        name = 'summary_test.json' if tested and not trained else 'summary.json'
        summary['written']['summary'] = str(Path(runner.work_dir) / name)
        lines.append(f'wall time: {format_seconds(summary["wall_seconds"])} on {summary["device"]}')
        peaks = (f'{k.replace("_", " ")} {v:.2f} GB' for k, v in summary['peak_memory_gb'].items())
        lines.append('peak memory: ' + (', '.join(peaks) or 'not told by this system'))
        lines += ['written:'] + [f'  {what + ":":<14} {where}' for what, where in summary['written'].items()]
        write_json(Path(runner.work_dir) / name, summary)
        runner.logger.info('Summary\n' + '\n'.join(lines))

    def after_failure(self, runner: Any, error: NotFiniteError) -> None:
        """A training that ended because something was no number says so, instead of scores."""
        if not is_main_process():
            return
        good = find_resumable(runner.work_dir)
        summary = dict(
            experiment=runner.experiment_name, seed=runner.seed, iterations=runner.iter,
            failed=dict(reason=str(error), iteration=error.iteration,
                        not_finite={key: str(value) for key, value in error.parts.items()},
                        last_good_checkpoint=None if good is None else str(good)),
            wall_seconds=self._seconds(), peak_memory_gb=peak_memory(_has_workers(runner)), device=_device(runner))
        write_json(Path(runner.work_dir) / 'summary.json', summary)

    @staticmethod
    def _written(runner: Any) -> dict[str, str]:
        """Everything of this run that lies on disk, by what it is."""
        work_dir, log_dir = Path(runner.work_dir), Path(runner.log_dir)
        info = runner.message_hub.runtime_info
        candidates = dict(work_dir=work_dir, log=log_dir, tensorboard=log_dir / 'vis_data',
                          checkpoint=info.get('last_ckpt'), best=info.get('best_ckpt'), sheets=work_dir / 'sheets',
                          iou_val=work_dir / 'iou_val.json',
                          iou_val_protocol=work_dir / 'iou_val_protocol.json', iou_test=work_dir / 'iou_test.json')
        return {what: str(where) for what, where in candidates.items() if where and Path(where).exists()}


def _shown(split: str, metric: IoUMetric, metrics: list[IoUMetric]) -> str:
    """How a metric's set is called: ``test``, or ``test with SAM`` beside ``test without SAM``."""
    if metric.prefix == WITHOUT:
        return f'{split} without SAM'
    if not metric.prefix and any(other.prefix == WITHOUT for other in metrics):
        return f'{split} with SAM'
    return f'{split}_{metric.prefix}' if metric.prefix else split


def _has_workers(runner: Any) -> bool:
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    return any(loop.dataloader.num_workers for loop in loops if isinstance(loop, BaseLoop))


def _device(runner: Any) -> str:
    if torch.cuda.is_available():
        return f'{runner.world_size} x {torch.cuda.get_device_name()}'
    return f'{runner.world_size} process(es) of {torch.get_num_threads()} CPU thread(s)'


@HOOKS.register_module()
class SeedEvalHook(Hook):
    """After training: mIoU on training images of the finished model's pseudo labels and of its prediction.

    This opens the ground truth of training images, so it runs when training is over and nothing can learn from it.
    Each image goes through ``model.explain(batch)``, where ``batch`` is a collated batch of one image; of its result
    ``seed`` and ``prediction`` (H W int64; 255 in a seed counts as background) are scored.

    Args:
        dataset: an evaluation data set over training images (``with_masks=True``); the config's ``seed_dataset`` unless
            given.
        max_images: score at most so many images, spread evenly over the set; None for all.

    The seeds' per-class table becomes ``iou_train_seeds.json`` in the work dir.
    """

    priority = 'NORMAL'

    def __init__(self, dataset: dict | None = None, max_images: int | None = None) -> None:
        if dataset is None:
            raise ValueError('SeedEvalHook: there are no images to score; give the config a seed_dataset')
        if max_images is not None and max_images < 1:
            raise ValueError(f'SeedEvalHook: max_images must be positive or None, got {max_images}')
        self.dataset, self.max_images = dataset, max_images

    def after_train(self, runner: Any) -> None:
        """Score; every process takes its share of the images."""
        from weclip_sam.engine.hooks.seed_eval import evaluate_seeds  # keeps the data loading out of this file
        scores = evaluate_seeds(runner, self.dataset, self.max_images,
                                str(Path(runner.work_dir) / 'iou_train_seeds.json'))
        for key, value in scores.items():
            runner.message_hub.update_info(f'train_seeds/{key}', value)


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
        scoring.finish(self.name)


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

    def finish(self, name: str) -> None:
        """Restore the model, score, and leave score and cost for the summary."""
        self.restore()
        tell = self.runner.message_hub.update_info
        tell(f'val_protocol/{name}', self.evaluator.evaluate(len(self.dataset))['mIoU'])
        tell('val_protocol/seconds', time.monotonic() - self.began)
        tell('val_protocol/cpu_seconds', time.process_time() - self.cpu)
