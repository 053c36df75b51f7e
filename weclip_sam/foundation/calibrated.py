"""CLIP's patch tokens on a calibrated path: attention among queries, keys and values themselves, no MLP.

From ExCEL. Two residual streams run through the last blocks: o is the ordinary one; z starts as its
copy and takes, in every block, W_o (M v) alone, where q, k and v are read from o and

    M = (softmax(q q^T s) + softmax(k k^T s) + softmax(v v^T s)) / 3,        s = d^-1/2, for each head.

What follows looks at like patches, not at what CLIP's own attention summarises for the class token.
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.foundation.blocks import numbers_at_once

HEADS = ('mean', 'sum')


def calibrated_matrix(projected: Tensor, heads: int, over_heads: str = 'mean', bias: Tensor | None = None) -> Tensor:
    """M, N T T, one matrix for the values of all heads.

    Args:
        projected: N T 3D, queries, keys and values side by side.
        heads: of the block.
        over_heads: ``mean`` of the heads' matrices, or their ``sum``, as published (rows then sum to ``heads``).
        bias: N T T added to every head's matrix, or None.
    """
    if over_heads not in HEADS:
        raise ValueError(f'calibrated path: heads: expected one of {HEADS}, got {over_heads!r}.'
                         f'{suggest_name(over_heads, HEADS)}')
    n, t, _ = projected.shape
    parts = projected.view(n, t, 3 * heads, -1).transpose(1, 2).contiguous()  # N 3*heads T d
    total = projected.new_zeros(n, t, t)
    for some in parts.split(max(1, numbers_at_once(parts.device) // (n * t * t)), 1):
        weights = ((some * some.shape[-1] ** -0.5) @ some.mT).softmax(-1)
        total += weights[:, 0] if weights.shape[1] == 1 else weights.sum(1)
    total /= 3
    if bias is not None:
        total += heads * bias
    return total / heads if over_heads == 'mean' else total


@torch.no_grad()
def calibrated_patches(blocks: Any, inputs: list[Tensor], over_heads: str = 'mean',
                       bias: Tensor | None = None) -> Tensor:
    """z after the last block.

    Args:
        blocks: the last n residual blocks of the image encoder.
        inputs: what enters each of them on the ordinary path, N T D.
        over_heads, bias: see :func:`calibrated_matrix`.

    Returns:
        N T D; the first row, the class token's, has no use.
    """
    stream = inputs[0]
    for block, tokens in zip(blocks, inputs, strict=True):
        attention = block.attn
        projected = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
        matrix = calibrated_matrix(projected, attention.num_heads, over_heads, bias)
        values = projected[..., 2 * projected.shape[-1] // 3:]
        stream = stream + block.ls_1(attention.out_proj(matrix @ values))
    return stream
