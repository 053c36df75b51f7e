"""SAM-guided seeds: every SAM mask votes as a whole (SAMS of FMA-WSSS, https://arxiv.org/abs/2310.13026).

1. Score of a class on a mask: mean of relu(CAM) over the mask; min-max over the masks of the image, per class.
2. Background score of a mask: (1 - best class score) ** q; the highest score names the mask.
3. The named masks are painted, lower SAM levels first and less confident ones first, so wholes and sure masks win.

A whole batch is one computation over flat masks and flat (image, class) pairs: one matrix product gives all scores,
and painting is a maximum of painting ranks per pixel instead of a loop that overwrites.
"""
from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.labels import label_pixels
from weclip_sam.seeds.scores import MIN_MAX_EPS, background_score, min_max, resize_maps, segment_max
from weclip_sam.structures import IGNORE_LABEL, ClassMaps, MaskSet, SeedState, foreground_label

NORMALISATIONS = ('relu_mean', 'mean_relu', 'double', 'softmax', 'none')
PRIORITIES = ('level_bigger', 'level_smaller', 'confidence_bigger', 'confidence_smaller', 'area_bigger',
              'area_smaller')
UNCOVERED = ('background', 'ignore', 'keep')
EXTENTS = ('image', 'masks')
SAM_LEVELS = 3  # sub-part, part, whole
MASK_BLOCK = 256  # masks turned to numbers at a time, at most
PIXEL_BLOCK = 1 << 20  # pixels of each
BLOCK_ENTRIES = 1 << 25  # masks times pixels: 256 MB in float64


class MaskVotes(NamedTuple):
    """What the masks decided.

    Attributes:
        labels: M int64, 0 background, 1..C.
        confidence: M float, the winning score.
    """

    labels: Tensor
    confidence: Tensor


def mask_means(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of every map over every mask, as a matrix product.

    The product runs in float64: a mask that was found twice must get two equal scores (ties are painted in input
    order), whatever columns of the product it lands in, and half precision would lose small areas. Blocks of masks and
    pixels bound the memory; their number depends on shapes alone.

    Args:
        maps: K H W float.
        masks: M H W bool.

    Returns:
        means K M float32, zero for a mask without pixels, and areas M int64.
    """
    with torch.autocast(maps.device.type, enabled=False):
        sums = maps.new_zeros(len(masks), len(maps) + 1, dtype=torch.double)
        for start, stop in _pixel_blocks(masks):
            columns = maps.flatten(1)[:, start:stop].double().T
            columns = F.pad(columns, (0, 1), value=1.0)  # the last column counts pixels
            blocks = masks.flatten(1)[:, start:stop].split(_masks_at_a_time(stop - start))
            sums += torch.cat([block.double() @ columns for block in blocks])
        area = sums[:, -1]
        return (sums[:, :-1].T / area.clamp(min=1)).float(), area.long()


def _pixel_blocks(masks: Tensor) -> list[tuple[int, int]]:
    pixels = masks[:0].flatten(1).shape[1]
    return [(start, min(start + PIXEL_BLOCK, pixels)) for start in range(0, pixels, PIXEL_BLOCK)] if len(masks) else []


def _masks_at_a_time(pixels: int) -> int:
    return max(1, min(MASK_BLOCK, BLOCK_ENTRIES // max(1, pixels)))


def prepare_maps(maps: ClassMaps, batch_size: int, normalisation: str, gamma: float = 1.0) -> Tensor:
    """Per-pixel part of a normalisation (see :func:`vote`): K H W maps whose mean over a mask is taken next."""
    if normalisation not in NORMALISATIONS:
        raise ValueError(f'normalisation: expected one of {NORMALISATIONS}, got {normalisation!r}.'
                         f'{suggest_name(normalisation, NORMALISATIONS)}')
    scores = maps.scores
    if normalisation == 'relu_mean':
        return scores.clamp(min=0)
    if normalisation == 'double':
        return min_max(scores)
    if normalisation == 'softmax':
        flat = scores.flatten(1) * gamma
        flat = (flat - segment_max(flat, maps.sample_index, batch_size)[maps.sample_index]).exp()
        total = flat.new_zeros(batch_size, flat.shape[1]).index_add(0, maps.sample_index, flat)
        return (flat / total[maps.sample_index]).view_as(scores)
    return scores


def vote(means: Tensor, maps: ClassMaps, mask_index: Tensor, occupied: Tensor, normalisation: str = 'relu_mean',
         background: str = 'power', background_value: float = 0.6, rest: Tensor | None = None) -> MaskVotes:
    """Name every mask by its highest score.

    Normalisations, with the authors' ``norm_first`` value in brackets: ``relu_mean`` (True, published) and ``double``
    ('double_norm') and ``mean_relu`` (False: the mean of the *signed* CAM, clipped afterwards) end in a min-max over
    the image's masks per class; ``softmax`` (gamma_softmax) and ``none`` (no_norm) use the means as they are.

    Args:
        means: K M from :func:`mask_means` of the maps that :func:`prepare_maps` made.
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
    return MaskVotes(torch.where(foreground, labels, 0), torch.where(foreground, best, rest))


def rest_scores(maps: Tensor, sample_index: Tensor, covered: Tensor, padding: Tensor | None = None) -> Tensor:
    """What each map says of the part of its image that no mask covers: the mean over it, or the map's lowest value
    where masks cover everything.

    Args:
        maps: K H W from :func:`prepare_maps`.
        sample_index: K int64.
        covered: B H W bool.
        padding: B H W bool, no part of any image, or None.

    Returns:
        K float, not negative.
    """
    bare = ~covered if padding is None else ~covered & ~padding
    content = torch.ones_like(covered) if padding is None else ~padding
    bare, content = bare.flatten(1)[sample_index], content.flatten(1)[sample_index]
    flat = maps.flatten(1).clamp(min=0)
    count = bare.sum(1)
    mean = (flat.double() * bare).sum(1) / count.clamp(min=1)
    lowest = flat.masked_fill(~content, float('inf')).amin(1) if flat.shape[1] else flat.new_zeros(len(flat))
    lowest = torch.where(content.any(1), lowest, 0.0)
    return torch.where(count > 0, mean.float(), lowest)


def cover(masks: Tensor, mask_index: Tensor, batch_size: int) -> Tensor:
    """B H W bool: where any mask of the image lies."""
    anything = torch.arange(len(masks), device=masks.device)
    return paint(masks, mask_index, anything, batch_size) < len(masks)


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


def paint(masks: Tensor, mask_index: Tensor, order: Tensor, batch_size: int) -> Tensor:
    """Which mask lies on top at every pixel.

    Args:
        masks: M H W bool.
        mask_index: M int64, the image of each mask.
        order: M int64 from :func:`painting_order`.

    Returns:
        B H W int64, the position of the topmost mask, or M where no mask lies.
    """
    count = len(order)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(1, count + 1, device=order.device)).float()
    top = torch.zeros(batch_size, masks.shape[1] * masks.shape[2], device=masks.device)
    with warnings.catch_warnings():  # index_reduce calls itself beta; it is 10 x faster than scatter_reduce on CPU
        warnings.simplefilter('ignore', UserWarning)
        for start, stop in _pixel_blocks(masks):
            few = _masks_at_a_time(stop - start)
            for block, index, number in zip(masks.flatten(1)[:, start:stop].split(few), mask_index.split(few),
                                            rank.split(few), strict=True):
                top[:, start:stop].index_reduce_(0, index, block.float() * number[:, None], 'amax')
    return F.pad(order, (1, 0), value=count)[top.long()].view(batch_size, *masks.shape[1:])


def sam_vote(maps: ClassMaps, masks: MaskSet, batch_size: int, *, normalisation: str = 'relu_mean',
             gamma: float = 1.0, background: str = 'power', background_value: float = 0.6,
             priority: Sequence[str] = ('level_bigger', 'confidence_bigger'), extent: str = 'masks',
             padding: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, MaskVotes, Tensor]:
    """SAMS for a batch (FMA-WSSS, section 3.3).

    Args:
        maps: K pairs with scores h w; resized to the masks' size if they differ.
        masks: the batch's masks, flat; an image may have none, and so may the whole batch.
        batch_size: B; images without classes or masks cannot be counted otherwise.
        normalisation, gamma, background, background_value: see :func:`vote` and :func:`prepare_maps`.
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
                **{'masks': masks.masks, 'level': masks.level, 'mask index': masks.sample_index,
                   'scores': maps.scores, 'sample index': maps.sample_index, 'class index': maps.class_index})
    maps = maps.with_scores(resize_maps(maps.scores, masks.size))
    prepared = prepare_maps(maps, batch_size, normalisation, gamma)
    means, area = mask_means(prepared, masks.masks)
    rest = None
    if extent == 'image':
        rest = rest_scores(prepared, maps.sample_index, cover(masks.masks, masks.sample_index, batch_size), padding)
    votes = vote(means, maps, masks.sample_index, area > 0, normalisation, background, background_value, rest)
    order = painting_order(priority, masks.level, area, votes.confidence)
    top = paint(masks.masks, masks.sample_index, order, batch_size)
    labels = F.pad(votes.labels, (0, 1))[top]
    confidence = F.pad(votes.confidence, (0, 1))[top]
    return labels, confidence, top < len(masks), votes, order


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
    if not len(masks):
        return torch.zeros(0, dtype=torch.bool, device=masks.masks.device)
    with torch.autocast(masks.masks.device.type, enabled=False):
        shared = torch.zeros(len(masks), len(masks), dtype=torch.double, device=masks.masks.device)
        few = max(1, BLOCK_ENTRIES // len(masks))  # pixels at a time; counts below 2**24 stay exact in float32
        for start in range(0, masks.size[0] * masks.size[1], few):
            flat = masks.masks.flatten(1)[:, start:start + few].float()
            shared += flat @ flat.T
        share = shared.float() / shared.diagonal().clamp(min=1)[:, None].float()
    covers = (share >= threshold) & (masks.sample_index[:, None] == masks.sample_index[None])
    kept = torch.zeros(len(masks), dtype=torch.bool, device=masks.masks.device)
    for level in reversed(range(SAM_LEVELS)):
        kept = kept | (masks.level == level) & ~(covers & kept[None]).any(1)
    return kept


@SEED_STEPS.register_module()
class SamVote:
    """Seed step: SAM masks vote on the class maps. Reads ``maps`` and ``masks``, writes ``pixel_labels`` and
    ``confidence`` (B H W, the masks' size).

    Args:
        normalisation, gamma, background, background_value, priority: see :func:`sam_vote`.
        uncovered: pixels without a mask become ``background`` (published), ``ignore`` (255), or ``keep`` the labels
            that an earlier step wrote.
        extent: ``image``: what no mask covers takes part in the min-max, and an image without any mask gets the labels
            of its maps: a name is never lost because masks are few. ``masks``: as published.

    Confidence where nothing was painted: the pixel's own background score for ``background``, 0 for ``ignore``, the
    earlier step's for ``keep``.
    """

    needs, gives = frozenset({'maps', 'masks'}), frozenset({'pixel_labels'})

    def __init__(self, normalisation: str = 'relu_mean', gamma: float = 1.0, background: str = 'power',
                 background_value: float = 0.6, priority: Sequence[str] = ('level_bigger', 'confidence_bigger'),
                 uncovered: str = 'background', extent: str = 'image') -> None:
        for name, value, known in (('normalisation', normalisation, NORMALISATIONS),
                                   ('background', background, ('power', 'threshold')),
                                   ('uncovered', uncovered, UNCOVERED), ('extent', extent, EXTENTS)):
            if value not in known:
                raise ValueError(f'SamVote {name}: expected one of {known}, got {value!r}.'
                                 f'{suggest_name(str(value), known)}')
        painting_order(priority, *torch.zeros(3, 0))  # names unknown keys now, not in the first batch
        self.settings: dict[str, Any] = dict(normalisation=normalisation, gamma=gamma, background=background,
                                             background_value=background_value, priority=tuple(priority),
                                              extent=extent)
        self.uncovered = uncovered
        if uncovered == 'keep':
            self.needs = self.needs | {'pixel_labels'}

    def __call__(self, state: SeedState) -> SeedState:
        batch_size = state.image_labels.shape[0]
        maps = state.maps.with_scores(resize_maps(state.maps.scores, state.masks.size))
        labels, confidence, covered, _, _ = sam_vote(maps, state.masks, batch_size, padding=state.padding,
                                                     **self.settings)
        if self.uncovered == 'background':
            confidence = torch.where(covered, confidence, self._background_confidence(maps, batch_size))
        elif self.uncovered == 'ignore':
            labels = torch.where(covered, labels, IGNORE_LABEL)
        else:
            labels, confidence = self._keep(state, labels, confidence, covered)
        if self.settings['extent'] == 'image' and self.uncovered == 'background':
            labels, confidence = self._without_masks(maps, labels, confidence, covered)
        return dataclasses.replace(state, pixel_labels=labels, confidence=confidence)

    def _background_confidence(self, maps: ClassMaps, batch_size: int) -> Tensor:
        best = segment_max(maps.scores.flatten(1), maps.sample_index, batch_size).clamp(0, 1)
        score = background_score(best, self.settings['background'], self.settings['background_value'])
        return score.view(batch_size, *maps.scores.shape[1:])

    def _without_masks(self, maps: ClassMaps, labels: Tensor, confidence: Tensor,
                       covered: Tensor) -> tuple[Tensor, Tensor]:
        """Images without any mask get the labels of their maps."""
        background = self._background_confidence(maps, len(labels))
        by_maps, sure, _ = label_pixels(maps, background)
        none = ~covered.flatten(1).any(1)[:, None, None]
        return torch.where(none, by_maps, labels), torch.where(none, sure, confidence)

    @staticmethod
    def _keep(state: SeedState, labels: Tensor, confidence: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
        if state.pixel_labels.shape != labels.shape:
            raise ValueError(f"SamVote(uncovered='keep') needs labels of shape {tuple(labels.shape)} from an earlier "
                             f'step (PixelLabels), got {tuple(state.pixel_labels.shape)}')
        earlier = torch.zeros_like(confidence) if state.confidence is None else state.confidence
        return torch.where(covered, labels, state.pixel_labels), torch.where(covered, confidence, earlier)
