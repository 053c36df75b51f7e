"""Scoring the pseudo labels that a model makes for training images."""
from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook

from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.engine.progress import ProgressReporter
from weclip_sam.evaluation import IoUMetric
from weclip_sam.registry import DATASETS, HOOKS
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL

TOGETHER = 8  # images of one size that the model looks at at a time


def spread(length: int, most: int | None) -> list[int]:
    """At most ``most`` of the positions 0..length-1, evenly apart, ascending."""
    if most is None or most >= length:
        return list(range(length))
    return [index * length // most for index in range(most)]


def _explained(model: Any, items: Iterable[dict[str, Any]]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each item's sample and what the model shows of it; neighbours of one size go through it together, if it can."""
    most = TOGETHER if hasattr(model, 'explain_all') else 1
    for _, equal in groupby(items, key=lambda item: item['inputs'].shape):
        while batch := list(islice(equal, most)):
            collated = pseudo_collate(batch)
            shown = model.explain_all(collated) if most > 1 else [model.explain(collated)]
            yield from zip([item['data_samples'] for item in batch], shown, strict=True)


@torch.no_grad()
def evaluate_seeds(runner: Any, dataset: dict | Any, max_images: int | None, json_path: str) -> dict[str, Any]:
    """Run ``model.explain`` over (part of) a labelled set and score its seeds and predictions.

    Args:
        runner: with a model that has ``explain``.
        dataset: config or instance; items hold ``ground_truth`` in their sample.
        max_images: see :func:`spread`.
        json_path: where the table of the seeds goes.

    Returns:
        ``{'pseudo labels': mIoU, 'prediction': mIoU, 'images': count, 'seconds': wall time, 'cpu_seconds': of this
        process, 'stages': {step: mIoU}}``, percent; the stages are the labels after each step of the seed pipeline, if
        ``explain`` gives them.
    """
    began, cpu = time.monotonic(), time.process_time()
    model = unwrapped(runner.model)
    if not hasattr(model, 'explain'):
        raise ValueError(f'SeedEvalHook: {type(model).__name__} has no explain(batch), so it shows no pseudo labels; '
                         'remove the hook from the config')
    data = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
    chosen = spread(len(data), max_images)
    metrics = dict(seed=IoUMetric('seed', json_path=json_path, print_table=True),
                   prediction=IoUMetric('prediction', print_table=False))
    stages: dict[str, IoUMetric] = {}
    for metric in metrics.values():
        metric.dataset_meta = data.metainfo
    # Evaluation mode for the scores; the caller's mode comes back afterwards.
    was_training = model.training
    model.eval()
    progress = ProgressReporter()
    mine = chosen[get_rank()::get_world_size()]
    if is_main_process():
        progress.start('seeds of train', len(mine))
    items = (data[index] for index in mine)
    for done, (sample, shown) in enumerate(_explained(model, items), start=1):
        for name in shown.get('stages', {}):
            if name not in stages:
                stages[name] = IoUMetric(name, print_table=False)
                stages[name].dataset_meta = data.metainfo
        everything = [(key, metric, shown[key]) for key, metric in metrics.items()]
        everything += [(key, metric, shown['stages'][key]) for key, metric in stages.items()]
        for key, metric, labels in everything:
            labels = torch.where(labels == IGNORE_LABEL, BACKGROUND_LABEL, labels.long())
            metric.process(None, [dict(image_id=sample.image_id, ground_truth=sample.ground_truth.to(labels.device),
                                       image_labels=sample.image_labels, **{key: labels})])
        if is_main_process():
            progress.update(done)
    progress.stop()
    model.train(was_training)
    # A process without images knows no stage, but takes part in summing each.
    for name in dict.fromkeys(name for names in all_gather_object(list(stages)) for name in names):
        if name not in stages:
            stages[name] = IoUMetric(name, print_table=False)
            stages[name].dataset_meta = data.metainfo
    scores = {key: metric.evaluate(len(chosen))['mIoU'] for key, metric in metrics.items()}
    by_stage = {key: metric.evaluate(len(chosen))['mIoU'] for key, metric in stages.items()}
    return {'pseudo labels': scores['seed'], 'prediction': scores['prediction'], 'images': len(chosen),
            'seconds': time.monotonic() - began, 'cpu_seconds': time.process_time() - cpu,
            'stages': by_stage}


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
        scores = evaluate_seeds(runner, self.dataset, self.max_images,
                                str(Path(runner.work_dir) / 'iou_train_seeds.json'))
        for key, value in scores.items():
            runner.message_hub.update_info(f'train_seeds/{key}', value)
        runner.visualizer.add_scalars(
            {'labels/mIoU': scores['pseudo labels'], 'labels/mIoU_prediction': scores['prediction'],
             **{f'labels/mIoU_after_{step}': score for step, score in scores['stages'].items()}}, step=runner.iter)
