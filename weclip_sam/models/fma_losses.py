"""What FMA-WSSS teaches prompts with: a multi-label contrastive loss and the CAM activation loss
(https://arxiv.org/abs/2312.03585)."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import IGNORE_LABEL, ClassMaps, foreground_label, to_device

CONTRAST_REDUCTIONS = ('positives', 'images')
CAM_NORMS = ('l1', 'l2')
CAM_REDUCTIONS = ('pixels', 'regions', 'regions_per_map')
COUNT_EPS = 1e-5


def multi_label_contrastive_loss(logits: Tensor, image_labels: Tensor, gamma: float = 1.0,
                                 reduction: str = 'positives') -> Tensor:
    """Every present class against all absent ones: ``-log(e^S_p / (e^S_p + sum_n e^S_n))``.

    Images that have only present or only absent classes say nothing; a batch of such images gives zero (with a
    gradient of zero). Computed as ``softplus(logsumexp_n S_n - S_p)``, which is equal and does not overflow; the public
    code takes plain exponentials, infinite in float32 for logits above 88.

    Args:
        logits: B C float.
        image_labels: B C bool.
        gamma: factor on the logits.
        reduction: ``positives``, mean over all (image, present class) pairs (published), or ``images``, mean over
            the pairs of an image first.

    Returns:
        Scalar.
    """
    check_shape('logits: B C; image_labels: B C', logits=logits, image_labels=image_labels)
    if reduction not in CONTRAST_REDUCTIONS:
        raise ValueError(f'contrastive loss reduction: expected one of {CONTRAST_REDUCTIONS}, got {reduction!r}.'
                         f'{suggest_name(reduction, CONTRAST_REDUCTIONS)}')
    present = to_device(image_labels, logits.device).bool()
    speaks = present.any(1) & ~present.all(1)
    scaled = gamma * logits.float()
    # Images without absent classes would give logsumexp over nothing; they get a harmless value and weight zero.
    absent = scaled.masked_fill(present & speaks[:, None], float('-inf')).logsumexp(1, keepdim=True)
    losses = F.softplus(absent - scaled)
    weight = (present & speaks[:, None]).to(losses.dtype)
    if reduction == 'images':
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
        return (losses * weight).sum() / speaks.sum().clamp(min=1)
    return (losses * weight).sum() / weight.sum().clamp(min=1)


def cam_activation_loss(maps: ClassMaps, labels: Tensor, norm: str = 'l1', reduction: str = 'pixels',
                        detach_max: bool = True, background_floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Raise every class's map to its own maximum inside the class's seed region and push it to zero outside.

    Inside: ``|max(0, max_inside M) - M|``. Outside, other objects included and ignored pixels not:
    ``max(M, floor) - floor``. ``l2`` takes half the square of both.

    Args:
        maps: K pairs with *signed* scores h w; resized bilinearly to the labels' size if they differ.
        labels: B H W int64 seeds: 0 background, 1..C, 255 ignored.
        norm: ``l1`` (published) or ``l2``.
        reduction: ``pixels``: both sums over the number of all counted pixels (published). ``regions``: each over its
            own number of pixels, halved. ``regions_per_map``: the same per map, then the mean over maps.
        detach_max: no gradient through the maximum; with one, every inside pixel would ask to lower it.
        background_floor: activations below it are left alone outside.

    Returns:
        inside and outside loss, scalars; zero (with a gradient of zero) when the batch has no map.
    """
    for name, value, known in (('norm', norm, CAM_NORMS), ('reduction', reduction, CAM_REDUCTIONS)):
        if value not in known:
            raise ValueError(f'CAM activation loss {name}: expected one of {known}, got {value!r}.'
                             f'{suggest_name(value, known)}')
    check_shape('scores: K h w; sample_index: K; class_index: K; labels: B H W', scores=maps.scores,
                sample_index=maps.sample_index, class_index=maps.class_index, labels=labels)
    cams = resize_maps(maps.scores.float(), tuple(labels.shape[1:])).flatten(1)
    if not len(cams):
        nothing = maps.scores.sum() * 0
        return nothing, nothing
    own = labels[maps.sample_index].flatten(1)
    inside = own == foreground_label(maps.class_index)[:, None]
    outside = ~inside & (own != IGNORE_LABEL)
    top = (cams * inside).amax(1, keepdim=True).clamp(min=0)
    top = top.detach() if detach_max else top
    lack = (top - cams).abs() * inside
    excess = (cams.clamp(min=background_floor) - background_floor) * outside
    if norm == 'l2':
        lack, excess = 0.5 * lack ** 2, 0.5 * excess ** 2
    return _reduce(lack, inside, excess, outside, reduction)


def _reduce(lack: Tensor, inside: Tensor, excess: Tensor, outside: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    if reduction == 'pixels':
        count = (inside | outside).sum().clamp(min=1)
        return lack.sum() / count, excess.sum() / count
    if reduction == 'regions':
        return 0.5 * lack.sum() / (inside.sum() + COUNT_EPS), 0.5 * excess.sum() / (outside.sum() + COUNT_EPS)
    per_map = (0.5 * part.sum(1) / (where.sum(1) + COUNT_EPS) for part, where in ((lack, inside), (excess, outside)))
    inner, outer = (part.mean() for part in per_map)
    return inner, outer
