"""From class maps to comparable scores: normalisation and background scores.

Everything works on flat (image, class) pairs, so a batch of images with different numbers of classes is one
computation; the shape legend is in :mod:`weclip_sam.structures`.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import suggest_name

SOFTMAXES = ('exact', 'fma')
FMA_SOFTMAX_EPS = 1e-5
MIN_MAX_EPS = 1e-7


def min_max(maps: Tensor) -> Tensor:
    """Clip at zero and stretch every map to [0, 1): ``(x - min) / (max - min + 1e-7)`` (FMA-WSSS).

    CLIP-ES and WeCLIP divide by ``max + 1e-7`` after subtracting the minimum and do it twice: that variant belongs
    to :mod:`weclip_sam.seeds.gradcam`.

    Args:
        maps: K ... float, one map per row; a map that is constant becomes zero.
    """
    if maps.numel() == 0:
        return maps
    flat = maps.clamp(min=0).flatten(1)
    low = flat.amin(1, keepdim=True)
    return ((flat - low) / (flat.amax(1, keepdim=True) - low + MIN_MAX_EPS)).view_as(maps)


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize K h w maps to ``size`` (H, W): bilinear, ``align_corners=False``; the same tensor if nothing changes."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if maps.shape[0] == 0:
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[:, None], size=tuple(size), mode='bilinear', align_corners=False)[:, 0]


def background_score(best: Tensor, method: str = 'power', value: float = 1.0) -> Tensor:
    """Background score where the best foreground score is ``best``.

    ``power``: ``(1 - best) ** value``, never below zero (un-normalised maps may exceed one; the authors' formula
    then takes a power of a negative number, which is NaN for q = 0.6). ``threshold``: the constant ``value``.

    Raises:
        ValueError: for another method, or a power that is not positive.
    """
    if method == 'power':
        if value <= 0:
            raise ValueError(f"background power: expected a number > 0, got {value}; 1 is the neutral choice")
        rest = (1 - best).clamp(min=0)
        return rest if value == 1 else rest ** value
    if method == 'threshold':
        return torch.full_like(best, value)
    known = ('power', 'threshold')
    raise ValueError(f'background method: expected one of {known}, got {method!r}.{suggest_name(method, known)}')


def with_background(scores: Tensor, method: str = 'power', value: float = 1.0) -> Tensor:
    """1+C' H W: one image's background score before its foreground scores (C' H W).

    Args:
        scores: C' H W in [0, 1].
        method, value: see :func:`background_score`.
    """
    best = scores.amax(0, keepdim=True) if len(scores) else scores.new_zeros(1, *scores.shape[1:])
    return torch.cat([background_score(best, method, value), scores])


def masked_softmax(logits: Tensor, allowed: Tensor | None = None, variant: str = 'exact') -> Tensor:
    """Softmax over the last dimension among the allowed entries; the others get 0.

    Args:
        logits: ... N float.
        allowed: ... N bool, or None for all.
        variant: ``exact``, or ``fma`` for what the public FMA-WSSS code computes where there is a mask: exponentials
            relative to the maximum over *all* entries, allowed or not (a gradient flows through it), and 1e-5 added to
            their sum. Probabilities then sum to less than one; they vanish, and GradCAM's gradient with them, where a
            forbidden entry exceeds the allowed ones by more than log 1e5 = 11.5. Kept to reproduce published numbers.

    Returns:
        ... N; a row that allows nothing is zero.
    """
    if variant not in SOFTMAXES:
        raise ValueError(f'softmax variant: expected one of {SOFTMAXES}, got {variant!r}.'
                         f'{suggest_name(variant, SOFTMAXES)}')
    if allowed is None:
        return logits.softmax(-1)
    lowest, forbidden = torch.finfo(logits.dtype).min, ~allowed
    if variant == 'exact':
        return logits.masked_fill(forbidden, lowest).softmax(-1).masked_fill(forbidden, 0)
    # Masking before exp keeps a large forbidden logit from overflowing.
    exponentials = (logits - logits.amax(-1, keepdim=True)).masked_fill(forbidden, lowest).exp()
    return exponentials / (exponentials.sum(-1, keepdim=True) + FMA_SOFTMAX_EPS)


def segment_max(values: Tensor, index: Tensor, segments: int) -> Tensor:
    """Maximum of the rows that share an index.

    Args:
        values: K N float.
        index: K int64 in [0, segments).

    Returns:
        ``segments`` N; -inf where a segment has no row.
    """
    out = values.new_full((segments, values.shape[1]), float('-inf'))
    return out.scatter_reduce(0, index[:, None].expand_as(values), values, 'amax') if len(values) else out
