"""SAM-guided seeds: every SAM mask votes as a whole (SAMS of FMA-WSSS, https://arxiv.org/abs/2312.03585).

1. Score of a class on a mask: mean of relu(CAM) over the mask; min-max over the masks of the image, per class.
2. Background score of a mask: (1 - best class score) ** q; the highest score names the mask.
3. The named masks are painted, lower SAM levels first and less confident ones first, so wholes and sure masks win.

Masks and (image, class) pairs of a batch are flat; :mod:`weclip_sam.seeds.mask_blocks` takes the means, as matrix
products, and paints, as a maximum of painting ranks per pixel instead of a loop that overwrites.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.seeds.mask_blocks import groups, highest, mask_means, row_blocks, shared_areas
from weclip_sam.seeds.scores import MIN_MAX_EPS, background_score, resize_maps, segment_max
from weclip_sam.structures import ClassMaps, MaskSet, foreground_label

NORMALISATIONS = ('relu_mean', 'mean_relu', 'double', 'softmax', 'none')
SIGNED = ('mean_relu', 'none')  # what leaves signs as they are
PRIORITIES = ('level_bigger', 'level_smaller', 'confidence_bigger', 'confidence_smaller', 'area_bigger',
              'area_smaller')
UNCOVERED = ('background', 'ignore', 'keep')
EXTENTS = ('image', 'masks')
SAM_LEVELS = 3  # sub-part, part, whole


class MaskVotes(NamedTuple):
    """What the masks decided.

    Attributes:
        labels: M int64, 0 background, 1..C.
        confidence: M float, the winning score.
        scores: K M float, of each pair on the masks of its image; -inf on others.
        background: M float, the background's score.
    """

    labels: Tensor
    confidence: Tensor
    scores: Tensor
    background: Tensor


def preparation(maps: ClassMaps, batch_size: int, normalisation: str,
                gamma: float = 1.0) -> Callable[[Tensor, slice], Tensor]:
    """Per-pixel part of a normalisation (see :func:`vote`), whose mean over a mask is taken next.

    Returns:
        A function of some rows of the scores of some pairs, all that their images have, and which pairs these are.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f'normalisation: expected one of {NORMALISATIONS}, got {normalisation!r}.'
                         f'{suggest_name(normalisation, NORMALISATIONS)}')
    if normalisation == 'relu_mean':
        return lambda scores, pairs: scores.clamp(min=0)
    if normalisation == 'double':
        low, high = _extremes(maps.scores)
        return lambda scores, pairs: (scores.clamp(min=0) - low[pairs]) / (high[pairs] - low[pairs] + MIN_MAX_EPS)
    if normalisation == 'softmax':
        return lambda scores, pairs: _softmax(scores * gamma, maps.sample_index[pairs], batch_size)
    return lambda scores, pairs: scores


def _extremes(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest of each map, clipped at zero: K 1 1."""
    if not scores.numel():
        return (scores.new_zeros(len(scores), 1, 1),) * 2
    return scores.amin((1, 2), keepdim=True).clamp(min=0), scores.amax((1, 2), keepdim=True).clamp(min=0)


def _softmax(scores: Tensor, index: Tensor, batch_size: int) -> Tensor:
    """Over the maps (K H W) that share an index."""
    flat = scores.flatten(1)
    flat = (flat - segment_max(flat, index, batch_size)[index]).exp()
    total = flat.new_zeros(batch_size, flat.shape[1]).index_add(0, index, flat)
    return (flat / total[index]).view_as(scores)


def vote(means: Tensor, maps: ClassMaps, mask_index: Tensor, occupied: Tensor, normalisation: str = 'relu_mean',
         background: str = 'power', background_value: float = 0.6, rest: Tensor | None = None) -> MaskVotes:
    """Name every mask by its highest score.

    Normalisations, with the authors' ``norm_first`` value in brackets: ``relu_mean`` (True, published) and ``double``
    ('double_norm') and ``mean_relu`` (False: the mean of the *signed* CAM, clipped afterwards) end in a min-max over
    the image's masks per class; ``softmax`` (gamma_softmax) and ``none`` (no_norm) use the means as they are.

    Args:
        means: K M from :func:`mask_means` of the maps that :func:`preparation` made.
        maps: the (image, class) pairs of the rows of ``means``.
        mask_index: M int64, the image of each mask.
        occupied: M bool, False for masks without pixels (left over by a crop): they neither vote nor are voted on.
        background: ``power`` (1 - best) ** value or ``threshold`` value.
        background_value: q; 0.6 for the coarse and 0.7 for the fine seeds of the paper.
        rest: K, what :func:`rest_scores` gives for each pair, which takes part in the min-max; None leaves it to the
            masks alone, as published.

    Returns:
        MaskVotes. A tie goes to the background, then to the lower class; masks of an image without classes are
        background.
    """
    pairs = (maps.sample_index[:, None] == mask_index[None]) & occupied[None]
    infinity = float('inf')
    if normalisation in ('relu_mean', 'mean_relu', 'double'):
        scores = means.clamp(min=0)
        # A padding column keeps the reductions defined for a batch without any mask.
        low = F.pad(scores.masked_fill(~pairs, infinity), (0, 1), value=infinity).amin(1, keepdim=True)
        high = F.pad(scores.masked_fill(~pairs, -infinity), (0, 1), value=-infinity).amax(1, keepdim=True)
        if rest is not None:
            low, high = torch.minimum(low, rest[:, None]), torch.maximum(high, rest[:, None])
        scores = (scores - low) / (high - low + MIN_MAX_EPS)
    else:
        scores = means
    scores = F.pad(scores.masked_fill(~pairs, -infinity), (0, 0, 0, 1), value=-infinity)
    best, winner = scores.max(0)
    nobody = best == -infinity
    best_or_zero = best.masked_fill(nobody, 0)
    rest = background_score(best_or_zero, background, background_value)
    labels = F.pad(foreground_label(maps.class_index), (0, 1))[winner]
    foreground = (best > rest) & ~nobody
    return MaskVotes(torch.where(foreground, labels, 0), torch.where(foreground, best, rest), scores[:-1], rest)


def lowest_scores(maps: ClassMaps, padding: Tensor | None, prepare: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """K: the lowest value of each map (clipped at zero), padding left out; 0 where there is nothing else."""
    lowest = maps.scores.new_full((len(maps.scores),), torch.inf)
    for rows in row_blocks(*maps.scores.shape[1:]) if maps.scores.numel() else ():
        scores = prepare(maps.scores[:, rows], slice(0, len(lowest))).clamp(min=0)
        if padding is not None:
            scores = scores.masked_fill(padding[maps.sample_index, rows], torch.inf)
        lowest = torch.minimum(lowest, scores.amin((1, 2)))
    return torch.where(lowest < torch.inf, lowest, 0.0)


def rest_scores(rest: Tensor, maps: ClassMaps, padding: Tensor | None,
                prepare: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """What each map says of the part of its image that no mask covers: the mean over it, or the map's lowest value
    where masks cover everything.

    Args:
        rest: K, of :func:`mask_means`.
        maps: scores K H W.
        padding: B H W bool, no part of any image, or None.
        prepare: see :func:`preparation`.

    Returns:
        K float, not negative.
    """
    unknown = rest.isnan()
    if rest.device.type == 'cpu' and not unknown.any():
        return rest  # elsewhere, to look is to wait
    return torch.where(unknown, lowest_scores(maps, padding, prepare), rest)


def painting_order(priority: Sequence[str], level: Tensor, area: Tensor, confidence: Tensor) -> Tensor:
    """Positions of the masks from the first painted to the last (which stays on top).

    Args:
        priority: keys of decreasing weight out of ``PRIORITIES``; ``'level_bigger'`` paints bigger levels last. The
            paper's is ``('level_bigger', 'confidence_bigger')``. Ties keep the input order.
        level, area, confidence: M each.

    Returns:
        M int64.

    Raises:
        ValueError: for an unknown key or none at all.
    """
    values = {'level': level, 'area': area, 'confidence': confidence}
    if isinstance(priority, str) or not priority:
        raise ValueError(f"priority: expected a sequence of keys such as ('level_bigger',), got {priority!r}")
    order = torch.arange(len(level), device=level.device)
    for key in reversed(priority):  # a stable sort per key, the weightiest last, is a lexicographic sort
        if key not in PRIORITIES:
            raise ValueError(f'priority: expected keys out of {PRIORITIES}, got {key!r}.'
                             f'{suggest_name(key, PRIORITIES)}')
        name, direction = key.split('_')
        value = values[name] if direction == 'bigger' else -values[name]
        order = order[torch.argsort(value[order], stable=True)]
    return order


def sam_vote(maps: ClassMaps, masks: MaskSet, batch_size: int, *, normalisation: str = 'relu_mean',
             gamma: float = 1.0, background: str = 'power', background_value: float = 0.6,
             priority: Sequence[str] = ('level_bigger', 'confidence_bigger'), extent: str = 'masks',
             padding: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, MaskVotes, Tensor]:
    """SAMS for a batch (FMA-WSSS, section 3.3).

    Args:
        maps: K pairs with scores h w; resized to the masks' size if they differ.
        masks: the batch's masks, flat; an image may have none, and so may the whole batch.
        batch_size: B; images without classes or masks cannot be counted otherwise.
        normalisation, gamma, background, background_value: see :func:`vote` and :func:`preparation`.
        priority: see :func:`painting_order`.
        extent: over what the min-max of a class is taken. ``masks``, as published: the lowest mask gets zero, whatever
            it shows, so that a single mask, or an object and its part, become background. ``image``: what no mask
            covers takes part as a mask of its own (see :func:`rest_scores`); with dense masks that changes little.
        padding: B H W bool, what is no part of an image, or None.

    Returns:
        labels B H W int64 (0 where nothing was painted), confidence B H W (0 there), covered B H W bool,
        the votes per mask, and the painting order.

    Raises:
        ValueError: for unknown names and for maps or masks whose tensors disagree.
    """
    check_shape('masks: M H W; level: M; mask index: M; scores: K h w; sample index: K; class index: K',
                **{'masks': masks.held, 'level': masks.level, 'mask index': masks.sample_index,
                   'scores': maps.scores, 'sample index': maps.sample_index, 'class index': maps.class_index})
    maps = maps.with_scores(resize_maps(maps.scores, masks.size))
    prepare = preparation(maps, batch_size, normalisation, gamma)
    images = groups(masks, batch_size, padding)
    means, area, rest = mask_means(maps, images, prepare, signed=normalisation in SIGNED)
    bare = rest_scores(rest, maps, padding, prepare) if extent == 'image' else None
    votes = vote(means, maps, masks.sample_index, area > 0, normalisation, background, background_value, bare)
    order = painting_order(priority, masks.level, area, votes.confidence)
    # On top lies the mask of the highest rank, 1 the one that is painted first.
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(1, len(order) + 1, device=order.device))
    top = highest(images, rank, torch.zeros(batch_size, *masks.size, dtype=torch.int32, device=masks.device))
    labels, confidence = (F.pad(value[order], (1, 0)).index_select(0, top.flatten()).view_as(top)
                          for value in votes[:2])
    return labels, confidence, top > 0, votes, order


def voted_scores(maps: ClassMaps, background: Tensor, masks: MaskSet, votes: MaskVotes,
                 order: Tensor) -> tuple[Tensor, Tensor]:
    """What each pixel's label was chosen by: the scores of the mask on top of it, its own where there is no mask.

    Args:
        maps: K pairs with scores H W, as they were voted on.
        background: B H W, each pixel's own.
        masks: of the batch, at H x W.
        votes, order: of :func:`sam_vote`.

    Returns:
        K H W and B H W, not negative.
    """
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(1, len(order) + 1, device=order.device))
    top = highest(groups(masks, len(background)), rank, torch.zeros_like(background, dtype=torch.int32)).long()
    covered = top > 0
    painted = maps.scores.clamp(min=0)
    for plane, own, image in zip(painted, votes.scores, maps.sample_index, strict=True):
        said = F.pad(own.clamp(min=0)[order], (1, 0))[top[image]]
        plane.copy_(torch.where(covered[image], said, plane))
    return painted, torch.where(covered, F.pad(votes.background[order], (1, 0))[top], background)


def thin_masks(masks: MaskSet, threshold: float = 0.3) -> Tensor:
    """Thin masks out so that they hardly overlap: wholes first, parts into the gaps, sub-parts last.

    From the highest level down, a mask stays if no kept mask of a higher level covers ``threshold`` of its area or
    more (FMA-WSSS, rock-sand-water). Masks of one level are not compared. Nothing waits for the host.

    Args:
        masks: one image's masks or a batch's.
        threshold: in [0, 1].

    Returns:
        M bool, the masks that stay.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f'threshold: expected a share of the area in [0, 1], got {threshold}')
    kept = torch.zeros(len(masks) + 1, dtype=torch.bool, device=masks.device)  # the last one is no mask's
    for group in groups(masks):
        shared = shared_areas(group).float()
        share = shared / shared.diagonal(dim1=1, dim2=2).clamp(min=1)[..., None]
        level, image = group.fill_up(masks.level, -1), group.fill_up(masks.sample_index, -1)
        covers = (share >= threshold) & (image[..., None] == image[:, None])
        stay = torch.zeros_like(level, dtype=torch.bool)
        for which in reversed(range(SAM_LEVELS)):
            stay = stay | (level == which) & ~(covers & stay[:, None]).any(2)
        kept[group.place] = stay
    return kept[:-1]
