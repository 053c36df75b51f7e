"""Losses of the online decoder, as WeCLIP's. Labels: 0 background, 1..C, 255 ignore."""
from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL

POSITIVE = 1


def segmentation_loss(seg_logits: Tensor, labels: Tensor) -> Tensor:
    """Balanced cross-entropy: half the mean over background pixels plus half the mean over foreground pixels.

    Deliberate difference from the public code: a side without pixels counts zero; there it makes the loss NaN.

    Args:
        seg_logits: B C+1 h w; upsampled (bilinear, align_corners=False) to the labels' size if it differs.
        labels: B H W int64; 255 is ignored.

    Returns:
        Scalar.
    """
    check_shape('seg_logits: B N h w; labels: B H W', seg_logits=seg_logits, labels=labels)
    background = (labels == BACKGROUND_LABEL).sum()[None]
    others = (labels != IGNORE_LABEL).sum() - background
    # A class weighs one over the pixels of its side.
    counts = torch.cat([background, others.expand(seg_logits.shape[1] - 1)]).clamp_(min=1)
    return _each_pixel(seg_logits, labels, 0.5 / counts).sum()


def pixel_cross_entropy(seg_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all pixels with a label; zero, not NaN, where there is none.

    Args:
        seg_logits: B C+1 h w; upsampled (bilinear, align_corners=False) to the labels' size if it differs.
        labels: B H W int64; 255 is ignored.

    Returns:
        Scalar.
    """
    check_shape('seg_logits: B N h w; labels: B H W', seg_logits=seg_logits, labels=labels)
    return _each_pixel(seg_logits, labels).sum() / (labels != IGNORE_LABEL).sum().clamp(min=1)


def _each_pixel(seg_logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """B H W cross-entropy times the weight of its class (of C+1), zero where the label is ignored."""
    seg_logits = seg_logits.float()
    if seg_logits.shape[-2:] != labels.shape[-2:]:
        seg_logits = F.interpolate(seg_logits, size=labels.shape[-2:], mode='bilinear', align_corners=False)
    return F.cross_entropy(seg_logits, labels, weights, ignore_index=IGNORE_LABEL, reduction='none')


@lru_cache(maxsize=16)
def radius_mask(grid: tuple[int, int], radius: int, device: torch.device | str = 'cpu') -> Tensor:
    """P P bool: pairs of patches at most ``radius`` rows and at most ``radius`` columns apart; made once."""
    rows, columns = (torch.arange(size, device=device) for size in grid)
    near = ((place[:, None] - place[None]).abs() <= radius for place in (rows, columns))
    near_rows, near_columns = near
    return (near_rows[:, None, :, None] & near_columns[None, :, None, :]).flatten(2).flatten(0, 1)


@lru_cache(maxsize=16)
def _too_far(grid: tuple[int, int], radius: int, device: torch.device | str) -> Tensor:
    """P P bool: all pairs but those of :func:`radius_mask`."""
    return ~radius_mask(grid, radius, device)


def affinity_labels(labels: Tensor, grid: tuple[int, int], radius: int | None = 8) -> Tensor:
    """Which pairs of patches belong together according to pixel labels.

    Args:
        labels: B H W int64; the pixel nearest to each patch's top-left corner stands for the patch.
        grid: (h, w).
        radius: pairs farther apart than this many rows or columns are ignored; None ignores none.

    Returns:
        B P P int64: 1 same label, 0 different, 255 ignored (one of the two is ignored, or too far apart).
    """
    check_shape('labels: B H W', labels=labels)
    patches = F.interpolate(labels[:, None].float(), size=grid, mode='nearest').flatten(1)
    same = (patches[:, :, None] == patches[:, None]).long()
    unknown = patches == IGNORE_LABEL
    ignored = unknown[:, :, None] | unknown[:, None]
    if radius is not None:
        ignored |= _too_far(tuple(grid), radius, labels.device)
    return same.masked_fill_(ignored, IGNORE_LABEL)


def affinity_loss(affinity: Tensor, labels: Tensor) -> Tensor:
    """1/2 sum_pos (1 - A) / (n_pos + 1) + 1/2 sum_neg A / (n_neg + 1).

    Args:
        affinity: B P P in [0, 1].
        labels: B P P from :func:`affinity_labels`.

    Returns:
        Scalar; defined when either kind of pair is absent.
    """
    check_shape('affinity: B P P; labels: B P P', affinity=affinity, labels=labels)
    positive, known = labels == POSITIVE, labels != IGNORE_LABEL
    positives = positive.sum()
    # One sum for both kinds: 1 - A counts against positive pairs, A against negative ones.
    weights = 0.5 * known / torch.where(positive, positives, known.sum() - positives).add_(1)
    return ((labels - affinity.float()).abs() * weights).sum()
