"""Pictures of a comparison: for some images a row of image, ground truth and every method's prediction."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from weclip_sam.checks import suggest_name
from weclip_sam.comparison.experiment import Experiment, check_keys
from weclip_sam.comparison.values import PictureRow
from weclip_sam.engine.hooks.predictions import label_path
from weclip_sam.engine.hooks.seed_eval import spread
from weclip_sam.engine.start.config import load_config
from weclip_sam.evaluation import IoUReport, confusion_matrix
from weclip_sam.io.images import read_labels
from weclip_sam.registry import DATASETS
from weclip_sam.visualization import enlarge, hex_colors, label_colors, overlay_labels

_KEYS = {'config', 'count', 'focus', 'ids', 'extremes', 'scan', 'height', 'options'}
_ENLARGED = 360  # pixels of height that a photo keeps: more would make the page heavy
_SCANNED = 2000  # best and worst are looked for among so many images at most


@dataclass(frozen=True)
class _Source:
    """The evaluation set, and each method's folder of predictions for it."""

    dataset: Any
    folders: dict[str, Path]

    @property
    def names(self) -> tuple[str, ...]:
        return ('background', *self.dataset.metainfo['classes'])

    @property
    def colors(self) -> np.ndarray:
        return label_colors(self.dataset.metainfo.get('palette'), len(self.names))

    def prediction(self, method: str, index: int) -> np.ndarray | None:
        path = label_path(self.folders[method], self.dataset.image_ids[index])
        return read_labels(path, len(self.names) - 1) if path.is_file() else None

    def score(self, method: str, index: int) -> float | None:
        """mIoU in percent over the true classes of one image; None without a prediction, or without any true pixel."""
        labels = self.prediction(method, index)
        if labels is None:
            return None
        truth = torch.from_numpy(np.array(self.dataset.load_ground_truth(index), np.int64))
        matrix = confusion_matrix(torch.from_numpy(labels.astype(np.int64)), truth, len(self.names), name=method)
        score = IoUReport.from_confusion(matrix, self.names, 1).miou
        return None if score != score else 100 * score


def _source(experiment: Experiment) -> _Source:
    settings = experiment.pictures
    check_keys(settings, _KEYS, 'pictures')
    if 'config' not in settings:
        raise ValueError("pictures: name a config whose test_dataloader has the images to show: dict(config='...')")
    config = load_config(settings['config'], settings.get('options'))
    dataset = dict(config.test_dataloader.dataset)
    folders: dict[str, Path] = {}
    for run in experiment.runs:
        tests = [stage for stage in run.stages if stage.tool == 'test' and (stage.folder / 'predictions').is_dir()]
        tests.sort(key=lambda stage: stage.measure != 'single')
        if tests:
            folders.setdefault(run.method, tests[0].folder / 'predictions')
    return _Source(DATASETS.build(dataset), folders)


def draw_pictures(experiment: Experiment) -> tuple[dict[str, list[PictureRow]], list[tuple[str, str]]]:
    """Rows by the title of their group, and the legend: (class, #rrggbb) of the foreground classes.

    The groups: chosen images, then where the focus method (the first one by default) is best and worst, and where it
    wins and loses most against the best of the others.

    Raises:
        ValueError: an unknown key or image in the experiment's ``pictures``, or no config in it.
    """
    source = _source(experiment)
    legend = list(zip(source.names, hex_colors(source.colors), strict=True))[1:]
    if not source.folders:
        return {}, legend
    settings = experiment.pictures
    focus = settings.get('focus') or next(iter(source.folders))
    height, extremes = int(settings.get('height', 132)), int(settings.get('extremes', 3))
    ids = source.dataset.image_ids
    if settings.get('ids'):
        unknown = [image_id for image_id in settings['ids'] if image_id not in ids]
        if unknown:
            raise ValueError(f"pictures: no image is called '{unknown[0]}'.{suggest_name(unknown[0], ids)}")
        chosen = [ids.index(image_id) for image_id in settings['ids']]
    else:
        chosen = spread(len(ids), int(settings.get('count', 6)))
    groups = {'Chosen images (evenly over the set)' if not settings.get('ids') else 'Chosen images': chosen}
    if focus in source.folders and extremes:
        groups.update(_extremes(source, focus, extremes, int(settings.get('scan', _SCANNED))))
    return {title: [_row(source, index, height) for index in indices]
            for title, indices in groups.items() if indices}, legend


def _extremes(source: _Source, focus: str, count: int, scan: int) -> dict[str, list[int]]:
    scores: dict[int, float] = {}
    leads: dict[int, float] = {}
    for index in spread(len(source.dataset.image_ids), scan):
        own = source.score(focus, index)
        if own is None:
            continue
        scores[index] = own
        others = [s for name in source.folders if name != focus and (s := source.score(name, index)) is not None]
        if others:
            leads[index] = own - max(others)
    return {f'Best of {focus}': _first(scores, count, -1), f'Worst of {focus}': _first(scores, count, 1),
            f'{focus} furthest ahead of all others': [i for i in _first(leads, count, -1) if leads[i] > 0],
            f'{focus} furthest behind the best of the others': [i for i in _first(leads, count, 1) if leads[i] < 0]}


def _first(values: Mapping[int, float], count: int, sign: int) -> list[int]:
    return sorted(values, key=lambda index: (sign * values[index], index))[:count]


def _row(source: _Source, index: int, height: int) -> PictureRow:
    rgb = np.asarray(source.dataset.load_image(index))
    truth = source.dataset.load_ground_truth(index)
    # At least at twice the height they are shown at, for sharp outlines on dense screens; enlarged, photos show more.
    tall = max(2 * height, min(rgb.shape[0], _ENLARGED))
    size = (tall, max(round(rgb.shape[1] * tall / rgb.shape[0]), 1))
    photo, colors = enlarge(rgb, size), source.colors
    panels = [('image', _png(photo), ''), ('ground truth', _png(_labelled(photo, truth, size, colors)), '')]
    for method in source.folders:
        labels = source.prediction(method, index)
        if labels is None or labels.shape != truth.shape:
            panels.append((method, _png(np.full_like(photo, 235)), 'none'))
            continue
        score = source.score(method, index)
        note = '' if score is None else f'{score:.0f}'
        panels.append((method, _png(_labelled(photo, labels, size, colors)), note))
    present = [source.names[label] for label in np.unique(truth) if 0 < label < len(source.names)]
    return PictureRow(f'{source.dataset.image_ids[index]}: {", ".join(present) or "background only"}', tuple(panels))


def _labelled(photo: np.ndarray, labels: np.ndarray, size: Sequence[int], colors: np.ndarray) -> np.ndarray:
    return overlay_labels(photo, enlarge(np.asarray(labels).astype(np.int64), size, smooth=False), colors, contour=2)


def _png(rgb: np.ndarray) -> bytes:
    """A PNG of 128 colours: a fifth of the size, and nobody sees it at this scale."""
    buffer = BytesIO()
    Image.fromarray(rgb).quantize(128, dither=Image.Dither.NONE).save(buffer, format='PNG', optimize=True)
    return buffer.getvalue()
