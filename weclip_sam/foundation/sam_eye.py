"""SAM's image encoder as an eye beside CLIP: tokens that tell what belongs together by how it looks.

The network is in the house for its masks already; here its blocks' tokens are the features, as of any other encoder.
They are made live, or once for an image, in the pass that its masks are made in (``mask_bank/features.py``).
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weclip_sam.checks import check_shape, select_layers
from weclip_sam.features import BankedTokens, Kept, TokenFeatures, Wanted
from weclip_sam.foundation.graph import making_graph, number, resizing_matrix
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.mask_bank import FeatureMap
from weclip_sam.registry import MODELS

# Raise it whenever the same weights would give other features: it invalidates feature banks.
FEATURES_VERSION = 1


@MODELS.register_module()
class SamEye(nn.Module):
    """The image encoder of a SAM as an encoder of :class:`~weclip_sam.models.encoders.Encoders`.

    An image is resized so that its longer side is SAM's input (bilinear, antialiased where it shrinks), normalised and
    padded; tokens that lie in the padding alone are left out.

    Args:
        sam: a :class:`FrozenSam` or its config. In a config, None stands for the one of its ``mask_generator``.

    Raises:
        ValueError: no ``sam``.

    Attributes:
        patch_size, width, layers: sizes of the encoder.
    """

    def __init__(self, sam: FrozenSam | Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if sam is None:
            raise ValueError("SamEye: whose encoder? Give it sam=dict(type='FrozenSam', ...), or the config a "
                             'mask_generator, whose sam is taken when a run starts')
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
        images, used = rgb.float(), None
        if making_graph():
            images, used = self._fit(images)
        size = self.sam.input_shape(*images.shape[2:])
        if size != tuple(images.shape[2:]):
            images = F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)
        grid = -(-size[0] // self.patch_size), -(-size[1] // self.patch_size)
        chosen = list(range(self.layers)) if wanted is None else sorted(wanted.tokens)
        kept = {}
        for block, tokens in self.sam.tokens(images, chosen).items():
            patches = tokens[:, :grid[0], :grid[1]].flatten(1, 2).float()
            kept[block] = F.pad(patches, (0, 0, 1, 0))
        if wanted is None:
            return TokenFeatures(torch.stack(list(kept.values())), grid, used)
        return TokenFeatures(Kept('tokens', self.layers, kept), grid, used)

    def _fit(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B 3 H W of any size in SAM's square (B 3 S S; beside them its mean colour, which it takes for padding), and
        the rows and columns of patches that they take."""
        side = self.sam.image_size
        given = torch.stack([number(size, images.device) for size in images.shape[2:]])
        longest = given.max()
        size = ((2 * side * given + longest) // (2 * longest)).clamp(min=1)  # FrozenSam.input_shape in whole numbers
        rows, columns = (resizing_matrix((side, new), (total, total), True, images)
                         for new, total in zip(size, images.shape[2:], strict=True))
        mean = self.sam.sam.pixel_mean
        return rows @ (images - mean) @ columns.mT + mean, (size + self.patch_size - 1) // self.patch_size

    def from_bank(self, banked: BankedTokens, wanted: Wanted | None = None) -> TokenFeatures:
        """The same as :meth:`forward` of images whose tokens (B h w D) were kept; nothing is computed.

        Raises:
            ValueError: the tokens are of another encoder, or those of another block are wanted.
        """
        check_shape('banked tokens: B h w D', **{'banked tokens': banked.tokens})
        blocks = set(range(self.layers)) if wanted is None else set(wanted.tokens)
        if banked.tokens.shape[3] != self.width or not 0 <= banked.block < self.layers:
            raise ValueError(f'SamEye: the bank holds tokens of {banked.tokens.shape[3]} channels of block '
                             f'{banked.block}, this encoder has {self.width} channels and {self.layers} blocks: it is '
                             "another one; give encoders' sam the mask_generator's")
        if blocks - {banked.block}:
            raise ValueError(f'SamEye: tokens of block {", ".join(map(str, sorted(blocks - {banked.block})))} are '
                             f'wanted, the bank of features holds those of block {banked.block}: make another one '
                             '(feature_bank.block), or leave it out (feature_bank=None) for live features')
        kept = F.pad(banked.tokens.flatten(1, 2).float(), (0, 0, 1, 0))
        grid = banked.tokens.shape[1], banked.tokens.shape[2]
        return TokenFeatures(Kept('tokens', self.layers, {banked.block: kept}), grid)


def feature_map(sam: FrozenSam, tokens: Tensor, size: tuple[int, int], pool: int = 1) -> FeatureMap:
    """What is kept of the tokens that :meth:`FrozenSam.see` made of an image.

    Args:
        sam: whose.
        tokens: h w D of the whole square input.
        size: (H, W) of the image.
        pool: tokens to a side that are averaged to one.

    Returns:
        The tokens over the image alone, in float16, cut to its range.
    """
    patch = sam.sam.image_encoder.patch_embed.proj.kernel_size[0]
    reach = [side / patch for side in sam.input_shape(*size)]
    rows, columns = (-(-side // patch) for side in sam.input_shape(*size))
    kept = tokens[:rows, :columns].float()
    if pool > 1:
        kept = F.avg_pool2d(kept.permute(2, 0, 1)[None], pool, ceil_mode=True, count_include_pad=False)[0].permute(
            1, 2, 0)
    largest = torch.finfo(torch.float16).max
    return FeatureMap(kept.clamp(-largest, largest).half(), size, (reach[0] / pool, reach[1] / pool))


def feature_bytes(sam: FrozenSam, size: tuple[int, int], pool: int = 1) -> int:
    """What :func:`feature_map` takes on the disk, in float16."""
    projection = sam.sam.image_encoder.patch_embed.proj
    rows, columns = (-(-side // (projection.kernel_size[0] * pool)) for side in sam.input_shape(*size))
    return 2 * rows * columns * projection.out_channels


def feature_block(sam: FrozenSam, block: int) -> int:
    """A block of the encoder by index; -1 is the last.

    Raises:
        ValueError: there is no such block.
    """
    return select_layers([block], len(sam.sam.image_encoder.blocks), "feature_bank.block of SAM's encoder")[0]


def feature_fingerprint(sam: FrozenSam, block: int, pool: int = 1) -> str:
    """Hash of everything that decides what :func:`feature_map` gives; another precision than fp32 follows as a word."""
    what = json.dumps([FEATURES_VERSION, sam.fingerprint(), feature_block(sam, block), pool])
    name = hashlib.sha256(what.encode()).hexdigest()[:32]
    return name if sam.precision in (None, 'fp32') else f'{name} {sam.precision}'
