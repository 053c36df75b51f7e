"""SEPL: SAM masks improve anyone's pseudo labels (https://arxiv.org/abs/2305.05803).

For each class of the pseudo label, in ascending id, with R = {label = class}: a mask S not yet taken by an earlier
class is taken if it lies mostly in R (|S & R| / |S| > 0.5) or holds most of R (|S & R| / |R| >= 0.85). The class's new
region is the union of the masks taken, plus R where no mask is left; later classes overwrite.

Nothing here loops over classes, because the sequence has a closed form. Whether a class wants a mask does not depend
on what others took, so the taker t(S) is the lowest class that wants it, infinity if none does. A pixel keeps its own
label c when every mask over it went to an earlier class, max t(S) < c. And since later classes overwrite, the result
is the highest of that c and the finite t(S) over the pixel.

The public code's evaluation never resets its sums between classes; :mod:`weclip_sam.evaluation` does not copy that.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.mask_blocks import Group, groups, highest
from weclip_sam.structures import MaskSet, SeedState

# The authors' file names: without the 0.85 rule and without keeping uncovered label; without the 0.85 rule; complete.
RULES = ('max_iou', 'max_iou_imp', 'max_iou_imp2')
INSIDE_SHARE = 0.85


def label_counts(labels: Tensor, images: Sequence[Group], num_classes: int) -> Tensor:
    """How many pixels of every label lie in every mask.

    Args:
        labels: B H W int64 in [0, num_classes].
        images: the masks of the batch, from :func:`groups`.

    Returns:
        M 1+C int64.
    """
    count = len(images[0].masks) if images else 0
    counts = torch.zeros(count + 1, num_classes + 1, dtype=torch.long, device=labels.device)
    for group in images:
        own = torch.zeros(*group.place.shape, num_classes + 1, dtype=torch.double, device=labels.device)
        with torch.autocast(labels.device.type, enabled=False):
            for rows, columns in group.blocks(beside=num_classes + 1):
                label = labels[group.images, None, rows]
                one_hot = torch.zeros(len(label), num_classes + 1, *label.shape[2:], device=labels.device)
                sums = columns.sums(one_hot.scatter_(1, label, 1).flatten(0, 1))
                own += columns.inside.double() @ sums.view(len(label), num_classes + 1, -1).mT
        counts[group.place] = own.long()
    return counts[:-1]


def takers(labels: Tensor, images: Sequence[Group], mask_index: Tensor, num_classes: int, rule: str) -> Tensor:
    """The class that takes each mask: M int64 in 1..C, or C+1 where no class wants it."""
    inside = label_counts(labels, images, num_classes)
    wanted = 2 * inside > inside.sum(1, keepdim=True)
    if rule == 'max_iou_imp2':
        batch_size = labels.shape[0]
        region = torch.zeros(batch_size, num_classes + 1, dtype=torch.long, device=labels.device)
        region.scatter_add_(1, labels.flatten(1), torch.ones_like(labels).flatten(1))
        region = region[mask_index]
        wanted |= (inside.double() / region.clamp(min=1) >= INSIDE_SHARE) & (region > 0)
    wanted[:, 0] = False
    classes = torch.arange(num_classes + 1, device=labels.device).expand_as(wanted)
    return classes.masked_fill(~wanted, num_classes + 1).amin(1)


def sepl_merge_batch(labels: Tensor, masks: MaskSet, num_classes: int, rule: str = 'max_iou_imp2') -> Tensor:
    """SEPL for a batch of equally sized images.

    Args:
        labels: B H W integer pseudo labels; 0 is background, values above ``num_classes`` (255) count as background.
        masks: the batch's masks, flat. Their order does not matter.
        num_classes: C, foreground classes.
        rule: one of ``RULES``; ``max_iou_imp2`` is the published method.

    Returns:
        B H W int64 in [0, C].

    Raises:
        ValueError: for an unknown rule or labels and masks of different sizes.
    """
    if rule not in RULES:
        raise ValueError(f'SEPL rule: expected one of {RULES}, got {rule!r}.{suggest_name(rule, RULES)}')
    if labels.ndim != 3 or tuple(labels.shape[1:]) != masks.size:
        raise ValueError(f'SEPL labels: expected B H W at the masks\' size {masks.size}, got shape '
                         f'{tuple(labels.shape)}; resize the labels (nearest) or make the masks at the image size')
    labels = labels.long()
    labels = labels.masked_fill((labels < 0) | (labels > num_classes), 0)
    images = groups(masks, len(labels))
    taker = takers(labels, images, masks.sample_index, num_classes, rule)
    taken = taker.masked_fill(taker > num_classes, 0)
    merged, over = (highest(images, value, torch.zeros_like(labels, dtype=torch.int32)) for value in (taken, taker))
    if rule == 'max_iou':
        return merged.long()
    return torch.maximum(merged.long(), labels.masked_fill(over >= labels, 0))


@SEED_STEPS.register_module()
class SeplMerge:
    """Seed step: SEPL on the labels of an earlier step (``PixelLabels``, a folder of PNGs).

    Reads ``pixel_labels`` and ``masks``; writes ``pixel_labels`` and clears ``confidence``, which SEPL does not
    define. Ignored pixels (255) become background unless a mask claims them, as in the authors' code.

    Args:
        rule: ``max_iou``, ``max_iou_imp`` or ``max_iou_imp2`` (published).
    """

    needs, gives = frozenset({'pixel_labels', 'masks'}), frozenset({'pixel_labels'})

    def __init__(self, rule: str = 'max_iou_imp2') -> None:
        if rule not in RULES:
            raise ValueError(f'SeplMerge rule: expected one of {RULES}, got {rule!r}.{suggest_name(rule, RULES)}')
        self.rule = rule

    def __call__(self, state: SeedState) -> SeedState:
        merged = sepl_merge_batch(state.pixel_labels, state.masks, state.image_labels.shape[1], self.rule)
        return dataclasses.replace(state, pixel_labels=merged, confidence=None)
