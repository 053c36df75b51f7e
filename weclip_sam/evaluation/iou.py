"""Intersection over union from one confusion matrix over the whole set: pure functions.

Only sums over the set are averaged, never images: VOC's mIoU is a statement about all pixels of the set.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weclip_sam.structures import IGNORE_LABEL


def confusion_matrix(pred: Tensor, gt: Tensor, num_classes: int, name: str = 'prediction') -> Tensor:
    """Count pixels by (true label, predicted label).

    Args:
        pred: ... integers in [0, num_classes); where the ground truth is ignored any value goes.
        gt: the same shape, integers in [0, num_classes), or 255 for pixels that do not count.
        num_classes: labels in all, background included.
        name: what to call the prediction in errors (a file name, say).

    Returns:
        num_classes x num_classes int64 on ``pred``'s device: rows are ground truth, columns predictions.

    Raises:
        ValueError: different sizes, or labels outside the classes; says which rule was broken.
    """
    if pred.shape != gt.shape:
        raise ValueError(f'{name}: size {tuple(pred.shape)} differs from its ground truth {tuple(gt.shape)}; '
                         'predictions are scored at the size of the ground truth, pixel by pixel')
    gt, pixels = gt.to(pred.device), None
    if pred.device.type == 'cpu':
        pred, gt, pixels = _runs(pred, gt)
    counted = gt != IGNORE_LABEL
    truth, guess = gt[counted].long(), pred[counted].long()
    for what, labels, extra in ((name, guess, ' (255 is for ground truth alone: a prediction names a class '
                                 'for every pixel)'), (f'ground truth of {name}', truth, ' or 255 to ignore')):
        bad = labels[(labels < 0) | (labels >= num_classes)]
        if bad.numel():
            raise ValueError(f'{what}: labels {torch.unique(bad).tolist()[:8]} lie outside the {num_classes} classes; '
                             f'allowed are 0..{num_classes - 1}{extra}')
    counts = torch.bincount(truth * num_classes + guess, None if pixels is None else pixels[counted], num_classes ** 2)
    return counts.long().view(num_classes, num_classes)


def _runs(pred: Tensor, gt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Runs of pixels that have the same two labels: prediction, ground truth, and how many pixels (float64, whole).

    Label maps are areas, so there are far fewer runs than pixels, and only these are indexed and counted.
    """
    guess, truth = pred.detach().flatten().numpy(), gt.detach().flatten().numpy()
    ends = np.flatnonzero((guess[1:] != guess[:-1]) | (truth[1:] != truth[:-1]))
    ends = np.append(ends, np.arange(len(guess))[-1:])  # in no pixels there is no run
    pixels = np.diff(ends, prepend=-1).astype(np.float64)
    return torch.from_numpy(guess[ends]), torch.from_numpy(truth[ends]), torch.from_numpy(pixels)


def iou_from_confusion(matrix: Tensor) -> Tensor:
    """Per-class intersection over union.

    Args:
        matrix: N N counts, rows ground truth.

    Returns:
        N float64 in [0, 1]; NaN for a class that occurs in neither ground truth nor prediction.
    """
    matrix = matrix.double()
    hit = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - hit
    return hit / torch.where(union > 0, union, torch.nan)


@dataclass(frozen=True)
class IoUReport:
    """Scores of a set; all of them fractions in [0, 1].

    Attributes:
        classes: N names, background first.
        iou: N; NaN for classes in neither ground truth nor prediction.
        accuracy: N, the share of each class's pixels that were found (recall); NaN without ground truth.
        precision: N, the share of each class's predicted pixels that were right; NaN if never predicted.
        pixels: N int, ground-truth pixels of each class.
        images: how many images were counted.
    """

    classes: tuple[str, ...]
    iou: tuple[float, ...]
    accuracy: tuple[float, ...]
    precision: tuple[float, ...]
    pixels: tuple[int, ...]
    images: int

    @classmethod
    def from_confusion(cls, matrix: Tensor, classes: Sequence[str], images: int) -> IoUReport:
        """Read every score off one confusion matrix (N N, rows ground truth)."""
        matrix = matrix.cpu()
        if matrix.shape != (len(classes), len(classes)):
            raise ValueError(f'confusion matrix {tuple(matrix.shape)} does not fit the {len(classes)} class names')
        counts = matrix.double()
        hit, truth, guess = counts.diagonal(), counts.sum(1), counts.sum(0)
        return cls(tuple(classes), tuple(iou_from_confusion(matrix).tolist()),
                   tuple((hit / torch.where(truth > 0, truth, torch.nan)).tolist()),
                   tuple((hit / torch.where(guess > 0, guess, torch.nan)).tolist()),
                   tuple(matrix.sum(1).tolist()), images)

    def _mean_over_present(self, values: Sequence[float]) -> float:
        present = [value for value, pixels in zip(values, self.pixels, strict=True) if pixels > 0]
        return sum(present) / len(present) if present else float('nan')

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that have ground-truth pixels, as the field counts it."""
        return self._mean_over_present(self.iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean of the class accuracies over the classes that have ground-truth pixels."""
        return self._mean_over_present(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """The share of all counted pixels with the right label."""
        total = sum(self.pixels)
        right = sum(a * p for a, p in zip(self.accuracy, self.pixels, strict=True) if p > 0)
        return right / total if total else float('nan')

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, in percent as papers print them."""
        rows = zip(self.classes, self.iou, self.accuracy, self.precision, self.pixels, strict=True)
        return dict(mIoU=100 * self.miou, mAcc=100 * self.mean_accuracy, aAcc=100 * self.pixel_accuracy,
                    images=self.images,
                    classes={name: dict(IoU=100 * iou, accuracy=100 * acc, precision=100 * pre, pixels=pixels)
                             for name, iou, acc, pre, pixels in rows})

    def format(self, title: str = '') -> str:
        """A plain-text table of all classes, side by side where there are many, the means below."""
        width = max(5, *(len(name) for name in self.classes))
        head = f'{"class":<{width}}  {"IoU":>6} {"acc":>6} {"prec":>6}'
        lines = [f'{name:<{width}}  {_percent(iou)} {_percent(acc)} {_percent(pre)}'
                 for name, iou, acc, pre in zip(self.classes, self.iou, self.accuracy, self.precision,
                                               strict=True)]
        columns = 1 if len(lines) <= 30 else 2 if len(lines) <= 60 else 3
        rows = -(-len(lines) // columns)
        lines += [' ' * len(head)] * (rows * columns - len(lines))
        body = [' | '.join(lines[row + rows * column] for column in range(columns)) for row in range(rows)]
        table = [' | '.join([head] * columns), '-' * len(body[0]), *body, '-' * len(body[0])]
        means = (f'mIoU {100 * self.miou:.2f}   mean acc {100 * self.mean_accuracy:.2f}   '
                 f'pixel acc {100 * self.pixel_accuracy:.2f}   images {self.images}')
        return '\n'.join(([title] if title else []) + table + [means])


def _percent(value: float) -> str:
    return f'{"-":>6}' if value != value else f'{100 * value:6.2f}'
