"""WeCLIP+'s further losses: overlap (Dice), two branches that teach each other, labels that the decoder corrects.

METHODS section 8. Labels: 0 background, 1..C, 255 ignore.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.models.losses import segmentation_loss
from weclip_sam.structures import IGNORE_LABEL

DICE_CLASSES = ('occurring', 'all')
REPLACING_CLASSES = ('named', 'any')
DICE_EPS = 1e-7


def enlarged(seg_logits: Tensor, labels: Tensor) -> Tensor:
    """B C+1 H W float32: logits at the size of the labels (bilinear, align_corners=False)."""
    check_shape('seg_logits: B N h w; labels: B H W', seg_logits=seg_logits, labels=labels)
    if seg_logits.shape[-2:] == labels.shape[-2:]:
        return seg_logits.float()
    return F.interpolate(seg_logits.float(), size=labels.shape[-2:], mode='bilinear', align_corners=False)


def dice_loss(seg_logits: Tensor, labels: Tensor, classes: str = 'occurring') -> Tensor:
    """One minus the soft Dice of the batch, averaged over classes: ``1 - mean_c 2 sum(p_c t_c) / sum(p_c + t_c)``.

    Args:
        seg_logits: B C+1 h w; enlarged to the labels' size.
        labels: B H W int64; 255 is ignored.
        classes: ``occurring`` averages over the classes that the labels hold and leaves ignored pixels out. ``all``, as
            published, averages over all C+1, of which the absent ones count zero (so the loss stays above 0.9), and
            keeps the probability on ignored pixels in the denominator.

    Returns:
        Scalar; zero where ``occurring`` finds no labelled pixel.
    """
    if classes not in DICE_CLASSES:
        raise ValueError(f'dice classes: expected one of {DICE_CLASSES}, got {classes!r}.'
                         f'{suggest_name(classes, DICE_CLASSES)}')
    probabilities = enlarged(seg_logits, labels).softmax(1)
    known = labels != IGNORE_LABEL
    count = probabilities.shape[1]
    target = labels.masked_fill(~known, 0)[:, None] == torch.arange(count, device=labels.device)[:, None, None]
    target = (target & known[:, None]).to(probabilities)
    if classes == 'occurring':
        probabilities = probabilities * known[:, None]
    overlap = (probabilities * target).sum((0, 2, 3))
    dice = 2 * overlap / ((probabilities + target).sum((0, 2, 3)) + DICE_EPS)
    if classes == 'all':
        return 1 - dice.mean()
    occurs = (target.amax((0, 2, 3)) > 0).to(dice)
    return ((1 - dice) * occurs).sum() / occurs.sum().clamp(min=1)


def mutual_loss(branches: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Sum over the branches of the balanced cross-entropy against the winners of the branch before (of two: the other).

    Args:
        branches: logits B C+1 h w each.
        labels: B H W int64; gives the size, and the pixels (255) that teach nothing.

    Returns:
        Scalar. A teacher without any background (or nothing else) leaves that half zero, where the public code's value
        is NaN.
    """
    large = [enlarged(branch, labels) for branch in branches]
    ignored = labels == IGNORE_LABEL
    winners = [logits.detach().argmax(1).masked_fill(ignored, IGNORE_LABEL) for logits in large]
    losses = [segmentation_loss(logits, winners[place - 1]) for place, logits in enumerate(large)]
    return torch.stack(losses).sum()


def replace_labels(labels: Tensor, seg_logits: Tensor, image_labels: Tensor, confidence: float = 0.75,
                   classes: str = 'named') -> Tensor:
    """Labels that give way to the decoder's own answer where that is sure.

    Args:
        labels: B H W int64; 255 stays.
        seg_logits: B C+1 h w, detached or not.
        image_labels: B C bool, on the device of the labels.
        confidence: the winner's probability must exceed it; published: 0.75.
        classes: ``named`` lets the background and the image's own classes win alone. ``any``, as published, takes every
            winner (of the authors' pixels 2.6 to 9 % got a class that their image does not have).

    Returns:
        B H W int64.
    """
    if classes not in REPLACING_CLASSES:
        raise ValueError(f'replacement classes: expected one of {REPLACING_CLASSES}, got {classes!r}.'
                         f'{suggest_name(classes, REPLACING_CLASSES)}')
    with torch.no_grad():
        best, winner = enlarged(seg_logits, labels).softmax(1).max(1)
        sure = (best > confidence) & (labels != IGNORE_LABEL)
        if classes == 'named':
            allowed = F.pad(image_labels, (1, 0), value=True)  # the background comes first
            sure &= allowed.gather(1, winner.flatten(1)).view_as(winner)
        return torch.where(sure, winner, labels)
