"""WeCLIP's light decoder on frozen CLIP tokens (WeCLIP section 3.2): fuse the blocks, mix, classify.

Fusion: tokens of each block go through Linear-ReLU-Linear, are concatenated and fused by a 1x1 convolution (features F,
with channel dropout in training). Head: pre-norm transformer layers without position embedding and a 1x1 convolution.
The decoder's own affinity is sigmoid(F^T F).
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weclip_sam.checks import select_layers
from weclip_sam.features import ClipFeatures, Named, Wanted
from weclip_sam.foundation.graph import making_graph, resizing_matrix, same_size
from weclip_sam.models.by_class import by_class
from weclip_sam.registry import MODELS


@dataclass(frozen=True)
class DecoderOutput:
    """What the decoder says about a batch.

    Attributes:
        seg_logits: B C+1 h w, background first.
        affinity_logits: B P P, F^T F, symmetric; :meth:`affinity` makes probabilities of them.
        branches: B C+1 h w each, what the branches say of which ``seg_logits`` are the mean; empty where there is one.
    """

    seg_logits: Tensor
    affinity_logits: Tensor
    branches: tuple[Tensor, ...] = ()

    @property
    def affinity(self) -> Tensor:
        """A_f, B P P in (0, 1)."""
        return self.affinity_logits.sigmoid()


WRITTEN_OUT = 256  # patches up to which a CPU's attention is faster in matrices than in one kernel, gradient included
QUICK = 1.702  # of CLIP's activation, x * sigmoid(1.702 x)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), CLIP's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """``x * sigmoid(1.702 x)``, of any shape, as ``silu(1.702 x) / 1.702``: half the memory passes."""
        return F.silu(QUICK * x).mul_(1 / QUICK)


class DecoderLayer(nn.Module):
    """A pre-norm transformer layer.

    Args:
        dim: channels.
        heads: attention heads; must divide ``dim``.
        mlp_ratio: hidden channels of the MLP over ``dim``.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), QuickGELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """N P D -> N P D."""
        x = x + self.attend(self.norm1(x))
        normed = self.norm2(x)
        return x + (self.mix(normed) if x.device.type == 'cpu' else self.mlp(normed))

    def mix(self, normed: Tensor) -> Tensor:
        """What ``mlp`` makes of N P D, with the activation's factor in the weights instead of in every hidden number: a
        tenth less to do on a CPU, more launches on a GPU."""
        enter: Any = self.mlp[0]
        leave: Any = self.mlp[2]
        hidden = F.silu(F.linear(normed, QUICK * enter.weight, QUICK * enter.bias))
        return F.linear(hidden, leave.weight / QUICK, leave.bias)

    def attend(self, normed: Tensor) -> Tensor:
        """N P D: what ``attention`` makes of N P D, without the copies that its layout (P first) costs."""
        attention = self.attention
        projected = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = (part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, 2))
        if normed.device.type == 'cpu' and not making_graph() and normed.shape[1] <= WRITTEN_OUT:
            mixed = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return attention.out_proj(mixed.transpose(1, 2).flatten(2))


class TokenAdapter(nn.Module):
    """Features of an encoder's tokens: Linear-ReLU-Linear for each block, joined by a 1x1 convolution, channel dropout.

    Args:
        encoder_width: D channels of the encoder's tokens.
        encoder_layers: L blocks of the encoder.
        token_layers: whose tokens are read: block indices, the last n blocks *before* the last one, or None for all but
            the last.
        dim: channels of the features.
        dropout: probability that one of them is dropped in training.
        encoder: name of the encoder.

    Raises:
        ValueError: blocks that do not exist.
    """

    def __init__(self, encoder_width: int, encoder_layers: int, token_layers: int | Sequence[int] | None, dim: int,
                 dropout: float, encoder: str) -> None:
        super().__init__()
        self.encoder, self.encoder_layers = encoder, encoder_layers
        inner = max(1, encoder_layers - 1)
        if token_layers is None or isinstance(token_layers, int):
            self.token_layers = select_layers(inner if token_layers is None else token_layers, inner, 'token_layers')
        else:
            self.token_layers = select_layers(token_layers, encoder_layers, 'token_layers')
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(encoder_width, dim), nn.ReLU(), nn.Linear(dim, dim)) for _ in self.token_layers)
        self.fuse = nn.Conv2d(dim * len(self.token_layers), dim, 1)
        self.dropout = nn.Dropout2d(dropout)

    def wants(self, encoders: Named | None = None, decoder_heard: bool = False) -> dict[str, Wanted]:
        """What is read of the encoder: the tokens of some blocks."""
        return {self.encoder: Wanted(tokens=frozenset(self.token_layers))}

    def adapt(self, features: ClipFeatures) -> Tensor:
        """B dim h w, on the encoder's grid.

        Raises:
            ValueError: features of an encoder with another number of blocks.
        """
        return self.dropout(self.fuse_tokens(features))

    def fuse_tokens(self, features: ClipFeatures) -> Tensor:
        """B D h w fused features, before dropout."""
        if len(features.tokens) != self.encoder_layers:
            raise ValueError(f'features: expected the tokens of {self.encoder_layers} blocks, got '
                             f'{len(features.tokens)}; build the decoder with encoder_layers={len(features.tokens)}')
        tokens = torch.stack([features.tokens[index][:, 1:] for index in self.token_layers])
        projections: Any = self.projections
        first, second = ([project[place] for project in projections] for place in (0, 2))
        # Channels before patches, so that the blocks' channels lie side by side and nothing need be copied.
        hidden = torch.baddbmm(torch.stack([layer.bias for layer in first])[..., None],
                               torch.stack([layer.weight for layer in first]), tokens.flatten(1, 2).mT).relu()
        # No non-linearity lies between a block's second layer and the fusion (a 1x1 convolution, so a linear layer on
        # tokens): their product is one layer, and small beside what it saves at every patch.
        fuse = self.fuse.weight.flatten(1)
        own = fuse.unflatten(1, (len(second), -1)).transpose(0, 1)
        weight = torch.bmm(own, torch.stack([layer.weight for layer in second])).transpose(0, 1).flatten(1)
        bias = F.linear(torch.cat([layer.bias for layer in second]), fuse, self.fuse.bias)
        fused = torch.addmm(bias[:, None], weight, hidden.flatten(0, 1))
        maps = fused.unflatten(1, (-1, *features.grid)).transpose(0, 1)
        return maps.contiguous() if making_graph() else maps  # whose order would depend on the number of images


class DecoderHead(nn.Module):
    """Pre-norm transformer layers without position embedding and a 1x1 convolution.

    Args:
        dim: channels.
        depth, heads, mlp_ratio: of the layers.
        num_classes: C foreground classes.

    Raises:
        ValueError: heads that do not divide the channels, or no class.
    """

    def __init__(self, dim: int, depth: int, heads: int, mlp_ratio: float, num_classes: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f'decoder: dim {dim} must be divisible by heads {heads}')
        if num_classes < 1:
            raise ValueError(f'decoder: expected at least 1 foreground class, got {num_classes}')
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, mlp_ratio) for _ in range(depth))
        self.classify = by_class(nn.Conv2d(dim, num_classes + 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Features B dim h w -> logits B C+1 h w."""
        return self.classify(mix_patches(self.layers, maps))


def mix_patches(layers: Iterable[nn.Module], maps: Tensor) -> Tensor:
    """Features B D h w through layers on their patches (N P D): B D h w."""
    x = maps.flatten(2).transpose(1, 2).contiguous()
    for layer in layers:
        x = layer(x)
    return x.transpose(1, 2).unflatten(2, maps.shape[-2:])


def on_grid(maps: Tensor, grid: Sequence[int], used: Tensor | None = None) -> Tensor:
    """B D h w on another grid (bilinear, align_corners=False); the same tensor if it is there already.

    ``used``: how many rows and columns to read, the first ones; see :class:`~weclip_sam.features.TokenFeatures`.
    """
    if used is not None:
        rows, columns = (resizing_matrix((new, new), (old, own), False, maps)
                         for new, old, own in zip(grid, maps.shape[-2:], used, strict=True))
        return rows @ maps @ columns.mT
    if same_size(maps.shape[-2:], grid):
        return maps
    return F.interpolate(maps, size=tuple(grid), mode='bilinear', align_corners=False)


@MODELS.register_module()
class WeClipDecoder(TokenAdapter):
    """Segmentation logits and an affinity from the tokens of a frozen encoder.

    Args:
        encoder_width: D channels of the encoder's tokens.
        encoder_layers: L blocks of the encoder.
        num_classes: C foreground classes; C+1 logits come out.
        token_layers: whose tokens are read: block indices, the last n blocks *before* the last one, or None for all but
            the last (published: the last block is trained towards the class token alone).
        dim: channels of the decoder; published: 256.
        depth: transformer layers; published: 3.
        heads: attention heads; published: 8.
        mlp_ratio: published: 4.
        dropout: probability that a fused channel is dropped in training; published: 0.1.
        encoder: name of the encoder whose features are read.

    Raises:
        ValueError: blocks that do not exist, or heads that do not divide the channels.
    """

    def __init__(self, encoder_width: int, encoder_layers: int, num_classes: int,
                 token_layers: int | Sequence[int] | None = None, dim: int = 256, depth: int = 3, heads: int = 8,
                 mlp_ratio: float = 4.0, dropout: float = 0.1, encoder: str = 'clip') -> None:
        super().__init__(encoder_width, encoder_layers, token_layers, dim, dropout, encoder)
        self.reads = frozenset({encoder})
        head = DecoderHead(dim, depth, heads, mlp_ratio, num_classes)
        # Side by side with the adapter's: checkpoints name them so.
        self.layers, self.classify = head.layers, head.classify

    def forward(self, features: Mapping[str, ClipFeatures]) -> DecoderOutput:
        """Decode the frozen features of B images.

        Args:
            features: by encoder; its own is of the size that this decoder was built for.

        Raises:
            ValueError: features of an encoder with another number of blocks.
        """
        maps = self.adapt(features[self.encoder])
        flat = maps.flatten(2)
        return DecoderOutput(self.classify(mix_patches(self.layers, maps)), flat.transpose(1, 2) @ flat)
