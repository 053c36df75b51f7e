"""WeCLIP+'s further losses: overlap (Dice), two branches that teach each other, labels that the decoder corrects.

Labels: 0 background, 1..C, 255 ignore.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.models.losses import segmentation_loss
from weclip_sam.structures import IGNORE_LABEL, to_device

DICE_CLASSES = ('occurring', 'all')
REPLACING_CLASSES = ('named', 'any')
DICE_EPS = 1e-7


class Agreement:
    """Which of these losses a model adds to WeCLIP's, and how strongly.

    Args:
        dice_weight: of :func:`dice_loss`; published by WeCLIP+: 1.
        dice_classes: see :func:`dice_loss`; published: ``all``.
        mutual_weight: of :func:`mutual_loss`, which needs a decoder with branches; published: 0.1.
        replace_start: labels give way to the decoder's sure answers (:func:`replace_labels`) in iterations (0-based)
            later than this one; None never. Published: 18,000 (VOC), 40,000 (COCO).
        replace_confidence, replace_classes: see :func:`replace_labels`; published: 0.75 and ``any``.

    Raises:
        ValueError: an unknown name, a negative weight, or a confidence outside [0, 1].
    """

    def __init__(self, dice_weight: float = 0.0, dice_classes: str = 'occurring', mutual_weight: float = 0.0,
                 replace_start: int | None = None, replace_confidence: float = 0.75,
                 replace_classes: str = 'named') -> None:
        for name, value, known in (('dice_classes', dice_classes, DICE_CLASSES),
                                   ('replace_classes', replace_classes, REPLACING_CLASSES)):
            if value not in known:
                raise ValueError(f'agreement {name}: expected one of {known}, got {value!r}.'
                                 f'{suggest_name(value, known)}')
        if min(dice_weight, mutual_weight) < 0:
            raise ValueError(f'agreement: expected weights >= 0, got {dice_weight} and {mutual_weight}')
        if not 0 <= replace_confidence <= 1:
            raise ValueError(f'agreement replace_confidence: expected a number in [0, 1], got {replace_confidence}')
        self.dice_weight, self.dice_classes, self.mutual_weight = dice_weight, dice_classes, mutual_weight
        self.replace_start, self.replace_confidence = replace_start, replace_confidence
        self.replace_classes = replace_classes

    def replaced(self, labels: Tensor, seg_logits: Tensor, image_labels: Tensor, iteration: int) -> Tensor:
        """The labels B H W that segmentation and Dice learn from in an iteration; ``image_labels`` B C on the host."""
        if self.replace_start is None or iteration <= self.replace_start:
            return labels
        return replace_labels(labels, seg_logits, to_device(image_labels, labels.device), self.replace_confidence,
                              self.replace_classes)

    def losses(self, seg_logits: Tensor, branches: tuple[Tensor, ...], labels: Tensor) -> dict[str, Tensor]:
        """The weighed losses by name; ``labels`` B H W are those that segmentation learns from."""
        losses = {}
        if self.dice_weight:
            losses['loss_dice'] = self.dice_weight * dice_loss(seg_logits, labels, self.dice_classes)
        if self.mutual_weight:
            losses['loss_mutual'] = self.mutual_weight * mutual_loss(branches, labels)
        return losses


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
