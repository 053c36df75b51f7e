"""WeCLIP+'s decoder: one adapter for each frozen encoder, and one shared head that answers for each of them.

Each encoder's tokens go through an adapter of their own (WeCLIP's fusion, of one block) and are brought to the grid of
the first encoder; the same transformer layers and classifier run on every adapter's features. The prediction is the
mean of the branches' logits, the affinity sigmoid(F^T F) of the adapters' features side by side.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from weclip_sam.features import Named, Wanted
from weclip_sam.models.decoder import DecoderHead, DecoderOutput, TokenAdapter, on_grid
from weclip_sam.registry import MODELS


@MODELS.register_module()
class BranchDecoder(nn.Module):
    """Segmentation logits and an affinity from the tokens of several frozen encoders.

    Args:
        encoder_sizes: (D channels, L blocks) of each encoder, by name.
        num_classes: C foreground classes; C+1 logits come out.
        branches: blocks whose tokens each encoder's adapter reads, by the encoder's name: block indices, or the last n
            blocks before the last one. The first encoder's grid is that of the answer. Published:
            ``dict(clip=1, dino=[-1])``, CLIP's last block but one and DINO's last.
        dim, depth, heads, mlp_ratio, dropout: see :class:`WeClipDecoder`.

    Raises:
        ValueError: no branch, an encoder without a size, blocks that do not exist, or heads that do not divide the
            channels.
    """

    def __init__(self, encoder_sizes: Mapping[str, tuple[int, int]], num_classes: int,
                 branches: Mapping[str, int | Sequence[int]], dim: int = 256, depth: int = 3, heads: int = 8,
                 mlp_ratio: float = 4.0, dropout: float = 0.1) -> None:
        super().__init__()
        if not branches:
            raise ValueError('decoder: branches names no encoder; expected for example dict(clip=1, dino=[-1])')
        if unknown := sorted(set(branches) - set(encoder_sizes)):
            raise ValueError(f'decoder: branches name {unknown}, but there are the encoders {sorted(encoder_sizes)}')
        self.encoder, self.reads = next(iter(branches)), frozenset(branches)
        self.branch_names = tuple(branches)
        self.adapters = nn.ModuleDict({
            name: TokenAdapter(*encoder_sizes[name], blocks, dim, dropout, name) for name, blocks in branches.items()})
        self.head = DecoderHead(dim, depth, heads, mlp_ratio, num_classes)

    def wants(self, encoders: Named | None = None, decoder_heard: bool = False) -> dict[str, Wanted]:
        """What is read of each encoder: the tokens of some blocks."""
        adapters: Any = self.adapters
        return {name: adapter.wants()[name] for name, adapter in adapters.items()}

    def forward(self, features: Mapping[str, Any]) -> DecoderOutput:
        """Decode the frozen features of B images; ``branches`` of the answer are in the order of the encoders."""
        grid = features[self.encoder].grid
        adapters: Any = self.adapters
        adapted = [on_grid(adapter.adapt(features[name]), grid, getattr(features[name], 'used', None))
                   for name, adapter in adapters.items()]
        branches = tuple(self.head(maps) for maps in adapted)
        flat = torch.cat(adapted, 1).flatten(2)
        return DecoderOutput(torch.stack(branches).mean(0), flat.transpose(1, 2) @ flat, branches)
