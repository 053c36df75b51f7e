"""From a list of images of any size to one batch whose sides the patch size divides."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet, SegSample, to_device

# What later steps count and index with: on a device, every such step would wait for it.
ON_HOST = ('image_labels',)


@MODELS.register_module()
class SegDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the model's device, pad it below and on the right, and stack it.

    Values stay RGB in 0..255 (float); the frozen encoder normalises. Each sample's ``img_shape`` says what to cut
    back to. ``image_labels`` stay on the host; nothing that is moved makes the host wait.

    Args:
        divisor: the patch size of the encoder.
        fill: value of the padding, 0..255, near CLIP's mean so that it looks like nothing.
    """

    def __init__(self, divisor: int = 16, fill: float = 114.0) -> None:
        super().__init__(non_blocking=True)
        if divisor < 1:
            raise ValueError(f'SegDataPreprocessor.divisor: expected a patch size of at least 1, got {divisor}')
        self.divisor, self.fill = divisor, fill

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """``inputs``: list of 3 H W uint8 (or B 3 H W) becomes B 3 H' W' float; the rest see :meth:`cast_data`."""
        images = list(data['inputs'])
        height = -(-max(i.shape[-2] for i in images) // self.divisor) * self.divisor
        width = -(-max(i.shape[-1] for i in images) // self.divisor) * self.divisor
        if self.fill != int(self.fill) or any(i.dtype != torch.uint8 for i in images):
            images = [i.float() for i in images]
        # Stacked before it is moved: one copy for the whole batch, and as bytes where they can hold the padding.
        stacked = torch.stack([F.pad(i, (0, width - i.shape[-1], 0, height - i.shape[-2]), value=self.fill)
                               for i in images])
        data = self.cast_data(dict(data, inputs=stacked))
        return dict(data, inputs=data['inputs'].float())

    def cast_data(self, data: Any) -> Any:
        """Copy everything that has a device to the model's, except the ``image_labels`` of samples."""
        if isinstance(data, SegSample):
            moved = data.new()
            moved.set_data({name: self.cast_data(value) for name, value in data.items()
                            if name not in ON_HOST and hasattr(value, 'to')})
            return moved
        if isinstance(data, (Tensor, MaskSet)):
            return to_device(data, self.device)
        return super().cast_data(data)
