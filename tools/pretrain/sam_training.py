"""Training a small SAM on point prompts: the loss, and nothing of where scenes come from."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch import Tensor, nn

from weclip_sam.foundation.sam import decode_points


@dataclass(frozen=True)
class PromptBatch:
    """Images with foreground points and what each of SAM's outputs should answer.

    Attributes:
        images: B S S 3 uint8, S the model's input size.
        index: N int64, the image of each point.
        points: N 2 float (x, y) in pixels.
        targets: N 3 S S bool: sub-part, part and whole under the point, one per level.
        kinds: B S S int64, what each pixel is: 0 background, 1 clutter, 2 object, 3 an object's last (smallest) part.
        offsets: B 2 S S float, from each object pixel to its object's centre (x, y) in units of S; zero elsewhere.
    """

    images: Tensor
    index: Tensor
    points: Tensor
    targets: Tensor
    kinds: Tensor
    offsets: Tensor

    def to(self, device: torch.device | str) -> PromptBatch:
        """The same batch on another device."""
        return PromptBatch(*(value.to(device) for value in vars(self).values()))


class DenseHead(nn.Module):
    """Kinds (4 logits) and offsets (2) of every low-resolution pixel: embeddings B D h w to B 6 4h 4w.

    Points ask about a dozen pixels of an image; this asks about all of them, so the encoder learns what an object is
    from far fewer images. It is thrown away after training.
    """

    KINDS = 4

    def __init__(self, prompt_dim: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(prompt_dim, (self.KINDS + 2) * 16, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Image embeddings B D h w to B K 4h 4w."""
        return F.pixel_shuffle(self.read(embeddings), 4)


def embed_images(sam: Sam, images: Tensor) -> Tensor:
    """B S S 3 uint8 to embeddings B D h w, with gradient."""
    return sam.image_encoder(sam.preprocess(images.permute(0, 3, 1, 2).float()))


def mask_iou(masks: Tensor, targets: Tensor) -> Tensor:
    """IoU over the last two axes of bool masks; 0 where both are empty."""
    shared = (masks & targets).flatten(-2).sum(-1)
    return shared / (masks | targets).flatten(-2).sum(-1).clamp(min=1)


def dense_loss(answers: Tensor, batch: PromptBatch) -> Tensor:
    """Cross-entropy of the kinds + twice the mean L1 error of the offsets over object pixels.

    Args:
        answers: B 6 4h 4w from :class:`DenseHead`.
        batch: whose ``kinds`` and ``offsets`` are sampled at the low resolution.
    """
    step = batch.kinds.shape[-1] // answers.shape[-1]
    kinds, offsets = batch.kinds[:, ::step, ::step], batch.offsets[:, :, ::step, ::step]
    answers = answers.float()
    objects = (kinds >= 2)[:, None]
    error = ((answers[:, DenseHead.KINDS:] - offsets).abs() * objects).sum() / (2 * objects.sum()).clamp(min=1)
    return F.cross_entropy(answers[:, :DenseHead.KINDS], kinds) + 2 * error


def prompt_loss(sam: Sam, batch: PromptBatch, dense: DenseHead | None = None,
                iou_weight: float = 0.5) -> tuple[Tensor, dict[str, Tensor]]:
    """Every output has its own level to answer, so that levels mean something.

    SAM trains the best of three outputs on one target, and their order is an accident. Here the hierarchy under a
    point is known: outputs 1, 2, 3 are trained on sub-part, part and whole, output 0 (the single-mask token) on the
    whole. Per output: cross-entropy against the target's coverage of each low-resolution pixel + Dice; the IoU
    head learns the IoU that each output really reached.

    Args:
        sam: the model, in training mode or not.
        batch: prompts.
        dense: head of the auxiliary :func:`dense_loss`, added with weight 1.
        iou_weight: weight of the IoU regression.

    Returns:
        The loss, and detached scalars ``mask``, ``dice``, ``iou_error`` and ``iou_0`` .. ``iou_2`` (mean IoU per
        level at low resolution), with ``dense`` also ``dense``.
    """
    embeddings = embed_images(sam, batch.images)
    logits, predicted = decode_points(sam, embeddings, batch.index, batch.points)
    logits, predicted = logits.float(), predicted.float()
    coverage = F.interpolate(batch.targets.float(), logits.shape[-2:], mode='area')
    coverage = torch.cat([coverage[:, 2:], coverage], dim=1)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, coverage)
    soft = logits.sigmoid().flatten(2)
    flat = coverage.flatten(2)
    dice = 1 - (2 * (soft * flat).sum(2) + 1) / (soft.sum(2) + flat.sum(2) + 1)
    reached = mask_iou(logits.detach() > sam.mask_threshold, coverage > 0.5)
    iou_error = F.mse_loss(predicted, reached)
    loss = 2 * cross_entropy + dice.mean() + iou_weight * iou_error
    stats = dict(mask=cross_entropy, dice=dice.mean(), iou_error=iou_error.sqrt())
    if dense is not None:
        stats['dense'] = dense_loss(dense(embeddings), batch)
        loss = loss + stats['dense']
    stats |= {f'iou_{level}': reached[:, level + 1].mean() for level in range(3)}
    return loss, {name: value.detach() for name, value in stats.items()}
