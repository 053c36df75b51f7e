"""Segmentation heads on one feature map: DeepLabV2 and DeepLabV3."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from weclip_sam.models.by_class import by_class
from weclip_sam.registry import MODELS


def _check_rates(rates: Sequence[int], name: str) -> tuple[int, ...]:
    if not rates or min(rates) < 1:
        raise ValueError(f'{name} rates: expected at least one dilation >= 1, got {list(rates)}')
    return tuple(rates)


@MODELS.register_module()
class DeepLabV2Head(nn.Module):
    """Sum of dilated 3x3 classifiers (https://arxiv.org/abs/1606.00915, ASPP-L).

    Args:
        in_channels: of the features.
        num_classes: C foreground classes; C+1 logits come out.
        rates: dilations; published 6, 12, 18, 24. A single 12 is the LargeFOV head.
    """

    def __init__(self, in_channels: int, num_classes: int, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(by_class(nn.Conv2d(in_channels, num_classes + 1, 3, padding=rate, dilation=rate))
                                      for rate in _check_rates(rates, 'DeepLabV2Head'))
        for branch in self.branches:
            weight, bias = branch.parameters()
            nn.init.normal_(weight, std=0.01)
            nn.init.zeros_(bias)

    def forward(self, features: Tensor) -> Tensor:
        """B in_channels h w -> B C+1 h w."""
        return sum(branch(features) for branch in self.branches)


@MODELS.register_module()
class DeepLabV3Head(nn.Module):
    """Atrous spatial pyramid pooling with an image-level branch (https://arxiv.org/abs/1706.05587, section 3.3).

    The image-level branch has a bias in place of batch normalisation, so that a batch of one image can be trained on.

    Args:
        in_channels, num_classes: see :class:`DeepLabV2Head`.
        channels: of every branch; published 256.
        rates: dilations; published 6, 12, 18 at output stride 16, and twice that at 8.
        dropout: before the classifier.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 256, rates: Sequence[int] = (6, 12, 18),
                 dropout: float = 0.1) -> None:
        super().__init__()
        rates = _check_rates(rates, 'DeepLabV3Head')
        self.branches = nn.ModuleList([Conv2dNormActivation(in_channels, channels, 1), *(
            Conv2dNormActivation(in_channels, channels, 3, dilation=rate) for rate in rates)])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, channels, 1), nn.ReLU(inplace=True))
        self.project = Conv2dNormActivation(channels * (len(self.branches) + 1), channels, 1)
        self.mix = Conv2dNormActivation(channels, channels, 3)
        self.dropout = nn.Dropout(dropout)
        self.classify = by_class(nn.Conv2d(channels, num_classes + 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """B in_channels h w -> B C+1 h w."""
        pooled = F.interpolate(self.pool(features), features.shape[-2:], mode='nearest')
        x = self.project(torch.cat([*(branch(features) for branch in self.branches), pooled], 1))
        return self.classify(self.dropout(self.mix(x)))
