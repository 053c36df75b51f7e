"""SAM's image encoder as an eye beside CLIP: tokens that tell what belongs together by how it looks.

The network is in the house for its masks already; here its blocks' tokens are the features, as of any other encoder.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weclip_sam.checks import check_shape
from weclip_sam.features import Kept, TokenFeatures, Wanted
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.registry import MODELS


@MODELS.register_module()
class SamEye(nn.Module):
    """The image encoder of a SAM as an encoder of :class:`~weclip_sam.models.encoders.Encoders`.

    An image is resized so that its longer side is SAM's input (bilinear, antialiased where it shrinks), normalised and
    padded; tokens that lie in the padding alone are left out.

    Args:
        sam: a :class:`FrozenSam` or its config.

    Attributes:
        patch_size, width, layers: sizes of the encoder.
    """

    def __init__(self, sam: FrozenSam | Mapping[str, Any]) -> None:
        super().__init__()
        self.sam: FrozenSam = MODELS.build(dict(sam)) if isinstance(sam, Mapping) else sam
        encoder: Any = self.sam.sam.image_encoder
        self.patch_size: int = encoder.patch_embed.proj.kernel_size[0]
        self.width: int = encoder.patch_embed.proj.out_channels
        self.layers: int = len(encoder.blocks)

    def train(self, mode: bool = True) -> SamEye:
        """Stays in evaluation mode: a frozen model has nothing to train."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, rgb: Tensor, wanted: Wanted | None = None) -> TokenFeatures:
        """Tokens of B 3 H W RGB in 0..255 behind the blocks that are ``wanted`` (None: all).

        The grid is that of SAM's patches over the image. There is no class token: its row is zero.
        """
        check_shape('rgb: B 3 H W', rgb=rgb)
        size = self.sam.input_shape(*rgb.shape[2:])
        images = rgb.float()
        if size != tuple(rgb.shape[2:]):
            images = F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)
        grid = -(-size[0] // self.patch_size), -(-size[1] // self.patch_size)
        chosen = list(range(self.layers)) if wanted is None else sorted(wanted.tokens)
        kept = {}
        for block, tokens in self.sam.tokens(images, chosen).items():
            patches = tokens[:, :grid[0], :grid[1]].flatten(1, 2).float()
            kept[block] = F.pad(patches, (0, 0, 1, 0))
        if wanted is None:
            return TokenFeatures(torch.stack(list(kept.values())), grid)
        return TokenFeatures(Kept('tokens', self.layers, kept), grid)
