"""From logits on a padded input to labels on the original image."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from weclip_sam.evaluation.tta import multi_scale_logits
from weclip_sam.seeds.crf import dense_crf
from weclip_sam.structures import SegSample

TEST_DEFAULTS: dict[str, Any] = dict(scales=(1.0,), flip=False, crf=None, probabilities=False)


def predict_samples(forward: Callable[[Tensor], Tensor], inputs: Tensor, data_samples: list[SegSample],
                    test: Mapping[str, Any], multiple: int = 1) -> list[SegSample]:
    """Add ``prediction`` (H W int64, original size) to every sample.

    Args:
        forward: B 3 H W, RGB in 0..255, to logits B C+1 h w.
        inputs: B 3 H W float, padded as :class:`SegDataPreprocessor` does.
        data_samples: with ``content_box`` and ``ori_shape``.
        test: ``scales``, ``flip`` and ``crf`` (None, or arguments of :func:`weclip_sam.seeds.crf.dense_crf`); keys of
            ``multi_scale_logits`` such as ``fit`` are passed on. ``probabilities`` also gives every sample
            ``probabilities`` (C+1 H W in [0, 1], original size).
        multiple: sides must be divisible by it (the patch size).
    """
    settings = dict(TEST_DEFAULTS) | dict(test)
    crf, keep = settings.pop('crf'), settings.pop('probabilities')
    logits = multi_scale_logits(forward, inputs, multiple=multiple, **settings)
    for rgb, maps, sample in zip(inputs, logits, data_samples, strict=True):
        scores = to_original(maps, inputs.shape[-2:], sample)
        if crf is not None:
            picture = to_original(rgb, inputs.shape[-2:], sample).clamp(0, 255)
            scores = dense_crf(picture.permute(1, 2, 0), scores.softmax(0), **crf)
        sample.prediction = scores.argmax(0)
        if keep:
            sample.probabilities = scores.softmax(0) if crf is None else scores
    return data_samples


def to_original(maps: Tensor, padded: Sequence[int], sample: SegSample) -> Tensor:
    """Resize N h w maps over a padded input to the original image, N H W."""
    if not len(maps):  # an image without a label has no class maps
        return maps.float().new_zeros(0, *sample.ori_shape)
    maps = F.interpolate(maps[None].float(), tuple(padded), mode='bilinear', align_corners=False)
    top, left, bottom, right = sample.content_box
    maps = maps[..., top:bottom, left:right]
    return F.interpolate(maps, tuple(sample.ori_shape), mode='bilinear', align_corners=False)[0]


def labels_to_original(labels: Tensor, sample: SegSample) -> Tensor:
    """The same for H W labels, nearest."""
    top, left, bottom, right = sample.content_box
    labels = labels[None, None, top:bottom, left:right].float()
    return F.interpolate(labels, tuple(sample.ori_shape), mode='nearest-exact')[0, 0].long()
