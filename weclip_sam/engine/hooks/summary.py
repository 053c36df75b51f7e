"""The end of a run: what it reached, what it cost, and where everything is."""
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.engine.hooks.losses import SKIPPED
from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.engine.memory import peak_memory
from weclip_sam.engine.progress import format_seconds
from weclip_sam.engine.start.environment import ENVIRONMENT
from weclip_sam.engine.start.next_steps import next_steps
from weclip_sam.engine.start.sam_at_test import WITHOUT
from weclip_sam.engine.tracking import trackers_of
from weclip_sam.evaluation import IoUMetric, SamCost
from weclip_sam.evaluation.palettes import look_at_palettes
from weclip_sam.io.checkpoints import NotFiniteError, find_resumable
from weclip_sam.io.files import write_json
from weclip_sam.registry import HOOKS

Kind = TypeVar('Kind')


@HOOKS.register_module()
class SummaryHook(Hook):
    """Prints and writes the summary of a training or test run.

    Per-class IoU table and mIoU of the prediction, mIoU of the pseudo labels (if :class:`SeedEvalHook` measured it),
    wall time (interrupted parts included), peak memory, the paths of all results, and what to type next.
    ``summary.json`` (``summary_test.json`` after a test) holds the same numbers; that of a test names the checkpoint,
    and the seed and iterations of its training, null where the checkpoint does not say.
    IoU metrics without a ``json_path`` get one in the work dir.
    """

    # Before the runner's other after_run hooks close anything, after all of them that measure.
    priority = 'LOW'

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds_before = 0.0
        self._looked = False
        self._loaded: dict[str, Any] = {}

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
        """A resumed run goes on counting; a test tells what it tests."""
        self._loaded = checkpoint.get('meta') or {}
        if runner._resume:
            self._seconds_before = float(checkpoint.get('wall_seconds', 0.0))

    def after_run(self, runner: Any) -> None:
        """Print and write."""
        if not is_main_process():
            return
        tested = isinstance(runner._test_loop, BaseLoop)
        trained = isinstance(runner._train_loop, BaseLoop)
        summary: dict[str, Any] = dict(experiment=runner.experiment_name, seed=runner.seed)
        if tested and not trained:
            summary.update(checkpoint=str(runner._load_from), seed=self._loaded.get('seed'),
                           iterations=self._loaded.get('iter'))
        if trained:
            summary['iterations'] = runner.iter
            summary['trained_parameters'] = sum(p.numel() for p in runner.model.parameters() if p.requires_grad)
        lines = [*self._scores(runner, summary), *_said_in_training(runner, summary, trained)]
        summary.update(wall_seconds=self._seconds(), peak_memory_gb=peak_memory(_has_workers(runner)),
                       device=_device(runner), written=self._written(runner))
        name = 'summary_test.json' if tested and not trained else 'summary.json'
        summary['written']['summary'] = str(Path(runner.work_dir) / name)
        lines.append(f'wall time: {format_seconds(summary["wall_seconds"])} on {summary["device"]}')
        peaks = (f'{k.replace("_", " ")} {v:.2f} GB' for k, v in summary['peak_memory_gb'].items())
        lines.append('peak memory: ' + (', '.join(peaks) or 'not told by this system'))
        lines += ['written:'] + [f'  {what + ":":<14} {where}' for what, where in summary['written'].items()]
        if trained and (checkpoint := summary['written'].get('checkpoint')):
            steps = next_steps(unwrapped(runner.model), runner.cfg, checkpoint)
            lines += [f'next: {what}\n  {command}' for what, command in steps.items()]
        write_json(Path(runner.work_dir) / name, summary)
        runner.logger.info('Summary\n' + '\n'.join(lines))

    def _scores(self, runner: Any, summary: dict[str, Any]) -> Iterator[str]:
        """Lines on what the metrics measured; the same goes into the summary."""
        for split, metrics in self._metrics(runner).items():
            for metric in metrics:
                if metric.last_report is None:
                    continue
                name = f'{split}_{metric.prefix}' if metric.prefix else split
                summary[name] = metric.last_report.to_json()
                truth = metric.last_truth
                if truth is not None and truth.disagreeing:
                    summary[name]['ground_truth_check'] = truth.to_json()
                    yield f'WARNING, {name}: {truth.message()}'
                if not metric.print_table and metric.prefix != WITHOUT:
                    yield metric.last_report.format(f'{name}: IoU by class, percent')
                where = _shown(_images_of(runner, split), metric, metrics)
                yield f'mIoU of the prediction on {where}: {100 * metric.last_report.miou:.2f}'
        for cost in self._of_kind(runner, SamCost).get('test', []):
            if cost.last_report is not None:
                summary['sam'] = cost.last_report.to_json()
                yield cost.last_report.text()

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
                          environment=work_dir / ENVIRONMENT,
                          iou_val=work_dir / 'iou_val.json',
                          iou_val_protocol=work_dir / 'iou_val_protocol.json', iou_test=work_dir / 'iou_test.json')
        there = {what: str(where) for what, where in candidates.items() if where and Path(where).exists()}
        return there | {tracker.name: tracker.where for tracker in trackers_of(runner.visualizer)}


def _said_in_training(runner: Any, summary: dict[str, Any], trained: bool) -> Iterator[str]:
    """Lines on what hooks left in the message hub; the same goes into the summary."""
    info = runner.message_hub.runtime_info
    for group in ('train_seeds', 'val_protocol'):
        found = {key.removeprefix(f'{group}/'): value for key, value in info.items() if key.startswith(f'{group}/')}
        if found:
            summary[group] = found
    for name, score in summary.get('val_protocol', {}).items():
        if name not in ('seconds', 'cpu_seconds'):
            yield f'mIoU of the prediction on val with {name}: {score:.2f}'
    if info.get(SKIPPED):
        summary[SKIPPED] = int(info[SKIPPED])
        yield f'steps left out because the loss was no finite number: {info[SKIPPED]}'
    if trained and 'best_ckpt' in info:
        summary['best'] = dict(score=float(info['best_score']), checkpoint=info['best_ckpt'])
        yield f'best validation: {summary["best"]["score"]:.2f}'
    if seeds := summary.get('train_seeds'):
        if seeds.get('stages'):
            yield ('mIoU of the labels after each seed step: '
                   + ', '.join(f'{step} {score:.2f}' for step, score in seeds['stages'].items()))
        for what in ('pseudo labels', 'prediction'):
            yield f'mIoU of the {what} on {seeds["images"]} train images: {seeds[what]:.2f}'


def _images_of(runner: Any, loop: str) -> str:
    """The split that a loop's data set reads (that of ``test`` mostly ``val``); the loop's name where none is said."""
    node: Any = runner.cfg.get(f'{loop}_dataloader')
    for key in ('dataset', 'reader', 'split'):
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, str) or not node:
        return loop
    return 'all images' if node == 'all' else Path(node).stem  # a folder's may be a list: val.txt


def _shown(split: str, metric: IoUMetric, metrics: list[IoUMetric]) -> str:
    """How a metric's set is called: ``val``, or ``val with SAM`` beside ``val without SAM``."""
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
