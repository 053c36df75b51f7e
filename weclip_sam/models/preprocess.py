"""From a list of images of any size to one batch whose sides the patch size divides."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor

from weclip_sam.registry import MODELS


@MODELS.register_module()
class SegDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the model's device, pad it below and on the right, and stack it.

    Values stay RGB in 0..255 (float); the frozen encoder normalises. Each sample's ``img_shape`` says what to cut
    back to.

    Args:
        divisor: the patch size of the encoder.
        fill: value of the padding, 0..255, near CLIP's mean so that it looks like nothing.
    """

    def __init__(self, divisor: int = 16, fill: float = 114.0) -> None:
        super().__init__()
        if divisor < 1:
            raise ValueError(f'SegDataPreprocessor.divisor: expected a patch size of at least 1, got {divisor}')
        self.divisor, self.fill = divisor, fill

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """``inputs``: list of 3 H W uint8 (or B 3 H W) becomes B 3 H' W' float; everything else is moved."""
        data = self.cast_data(data)
        images = list(data['inputs'])
        height = -(-max(i.shape[-2] for i in images) // self.divisor) * self.divisor
        width = -(-max(i.shape[-1] for i in images) // self.divisor) * self.divisor
        stacked = [F.pad(i.float(), (0, width - i.shape[-1], 0, height - i.shape[-2]), value=self.fill)
                   for i in images]
        return dict(data, inputs=torch.stack(stacked))
