"""Labels that were made before training."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.commands import tool
from weclip_sam.structures import IGNORE_LABEL, SegSample


def pad_to(masks: Tensor, size: Sequence[int], fill: bool | int) -> Tensor:
    """Pad ... H W below and on the right to ``size``; the same tensor where it fits."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return F.pad(masks, (0, size[1] - masks.shape[-1], 0, size[0] - masks.shape[-2]), value=fill)


def offline_labels(data_samples: Sequence[SegSample], inputs: Tensor) -> Tensor:
    """B H W int64 labels made beforehand, padded with 255 to the inputs (B 3 H W).

    Raises:
        ValueError: a sample without labels.
    """
    if any(sample.get('pixel_labels') is None for sample in data_samples):
        raise ValueError('training on labels made before (a second stage, or prompts for segmentation): the samples '
                         "have none; set the training data set's pixel_labels='folder of label PNGs' "
                         f'({tool("make_seeds")} makes one)')
    return torch.stack([pad_to(s.pixel_labels, inputs.shape[-2:], IGNORE_LABEL) for s in data_samples])
