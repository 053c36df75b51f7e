"""WeCLIP's decoder on a finer grid: tokens say what is where, the image itself says where it ends.

Frozen tokens come in steps of a patch and draw no outlines. Here WeCLIP's head decides on the patches as ever; a few
convolutions, which see its features enlarged and beside them those of the image, add what a finer grid needs. Further
frozen encoders may be read, too: their adapters' features are added to the first one's, before the affinity is taken.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weclip_sam.features import Named, Wanted
from weclip_sam.models.by_class import by_class
from weclip_sam.models.decoder import DecoderOutput, TokenAdapter, WeClipDecoder, mix_patches, on_grid
from weclip_sam.registry import MODELS

GROUPS = 4  # of GroupNorm, which does not care how many images a batch has
GREY, CONTRAST = 127.5, 64.0  # pixels in 0..255 come to about [-2, 2]


class ImageSkip(nn.Module):
    """Features of the image by itself: convolutions of which each but the last halves the grid.

    Args:
        halvings: how often; the grid is ``2 ** halvings`` times coarser than the image.
        width: channels.
    """

    def __init__(self, halvings: int, width: int) -> None:
        super().__init__()
        self.halve = nn.ModuleList(normed(3 if place == 0 else width, width, 2) for place in range(halvings))
        self.look = nn.Conv2d(width if halvings else 3, width, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """B 3 H W in 0..255 -> B width h w."""
        x = (rgb - GREY) / CONTRAST
        for layer in self.halve:
            x = layer(x)
        return self.look(x).relu()


def normed(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution, GroupNorm and ReLU."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1), nn.GroupNorm(GROUPS, width), nn.ReLU())


@MODELS.register_module()
class FineDecoder(WeClipDecoder):
    """Segmentation logits in steps of a few pixels, and an affinity of patches.

    Args:
        encoder_width, encoder_layers, num_classes, token_layers, dim, depth, heads, mlp_ratio, dropout, encoder: see
            :class:`WeClipDecoder`, which is this decoder's coarse half.
        beside: blocks whose tokens are read of further encoders, by their names, for example ``dict(sam=[-1])``.
        encoder_sizes: (D channels, L blocks) of those encoders, by name.
        stride: pixels from one answer to the next, a power of two; by the patch of CLIP's ViT-B/16, 4 makes sixteen
            answers of one.
        image_width: channels of the image's own features.
        fine_width: channels of the convolutions on the fine grid.
        fine_depth: how many of them.

    Raises:
        ValueError: a stride that is no power of two, an encoder without a size, blocks that do not exist, widths that
            4 does not divide, or heads that do not divide the channels.
    """

    def __init__(self, encoder_width: int, encoder_layers: int, num_classes: int,
                 token_layers: int | Sequence[int] | None = None, dim: int = 256, depth: int = 3, heads: int = 8,
                 mlp_ratio: float = 4.0, dropout: float = 0.1, encoder: str = 'clip',
                 beside: Mapping[str, int | Sequence[int]] | None = None,
                 encoder_sizes: Mapping[str, tuple[int, int]] | None = None, stride: int = 4, image_width: int = 32,
                 fine_width: int = 64, fine_depth: int = 2) -> None:
        super().__init__(encoder_width, encoder_layers, num_classes, token_layers, dim, depth, heads, mlp_ratio,
                         dropout, encoder)
        beside, encoder_sizes = beside or {}, encoder_sizes or {}
        if unknown := sorted(set(beside) - set(encoder_sizes)):
            raise ValueError(f'decoder: beside names {unknown}, but there are the encoders {sorted(encoder_sizes)}')
        if stride < 1 or stride & (stride - 1):
            raise ValueError(f'decoder stride: expected a power of two such as 4, got {stride}')
        for name, value in (('image_width', image_width), ('fine_width', fine_width)):
            if value < GROUPS or value % GROUPS:
                raise ValueError(f'decoder {name}: expected a multiple of {GROUPS}, got {value}')
        if fine_depth < 1:
            raise ValueError(f'decoder fine_depth: expected at least 1, got {fine_depth}')
        self.stride, self.reads = stride, frozenset({encoder, *beside})
        self.beside = nn.ModuleDict({
            name: TokenAdapter(*encoder_sizes[name], blocks, dim, dropout, name) for name, blocks in beside.items()})
        self.skip = ImageSkip(stride.bit_length() - 1, image_width)
        self.narrow = nn.Conv2d(dim, fine_width, 1)
        self.join = nn.Sequential(*(normed(image_width + fine_width if place == 0 else fine_width, fine_width)
                                    for place in range(fine_depth)))
        self.correct = by_class(nn.Conv2d(fine_width, num_classes + 1, 1))
        # In the beginning the answer is the coarse one.
        for parameter in self.correct.parameters():
            nn.init.zeros_(parameter)

    def wants(self, encoders: Named | None = None, decoder_heard: bool = False) -> dict[str, Wanted]:
        """What is read of each encoder: the tokens of some blocks."""
        adapters: Any = self.beside
        return super().wants() | {name: adapter.wants()[name] for name, adapter in adapters.items()}

    def forward(self, features: Mapping[str, Any]) -> DecoderOutput:
        """Decode the frozen features of B images, whose pixels (B 3 H W in 0..255) are the feature ``image``."""
        maps = self.adapt(features[self.encoder])
        adapters: Any = self.beside
        for name, adapter in adapters.items():
            maps = maps + on_grid(adapter.adapt(features[name]), maps.shape[-2:], getattr(features[name], 'used', None))
        flat = maps.flatten(2)
        mixed = mix_patches(self.layers, maps)
        side = self.skip(features['image'])
        size = side.shape[-2:]
        joined = self.join(torch.cat([on_grid(self.narrow(mixed), size), side], 1))
        logits = on_grid(self.classify(mixed), size) + self.correct(joined)
        return DecoderOutput(logits, flat.transpose(1, 2) @ flat)
