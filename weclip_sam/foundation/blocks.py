"""The blocks of a frozen vision transformer (open_clip's), run without gradient: only what is wanted, at full speed.

The plain, differentiable way of writing a block stands in :mod:`weclip_sam.foundation.last_block`.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from weclip_sam.features import Heads, Kept, Wanted
from weclip_sam.foundation.cast_once import CastOnce, linear
from weclip_sam.foundation.graph import making_graph

QUICK = 1.702  # x * sigmoid(1.702 x) is silu(1.702 x) / 1.702, and silu runs in place in one pass
# Attention written out takes as many heads at once as fit this many numbers: the cache of a CPU, or a GPU kept busy.
_CPU_NUMBERS, _GPU_NUMBERS = 2 ** 18, 2 ** 27
_CPU_ROOM, _GPU_ROOM = 2 ** 24, 2 ** 28  # weights of a block's heads that are kept at most


@dataclass(frozen=True)
class FrozenBlocks:
    """Residual blocks that nobody trains.

    The matrix products run in the precision asked for, with weights cast once (:class:`CastOnce`); norms, the sum of
    the residual branches and the mean attention stay in float32.
    """

    blocks: nn.ModuleList
    cast: CastOnce

    def run(self, tokens: Tensor, wanted: Wanted, dtype: torch.dtype, padding: Tensor | None = None,
            ) -> tuple[Kept, Kept, dict[tuple[int, ...], Tensor], dict[int, Heads]]:
        """Run as many blocks as ``wanted`` needs.

        Args:
            tokens: N T D, input of the first block.
            wanted: whose tokens and attentions are kept.
            dtype: precision of the matrix products.
            padding: N P bool, patches that nobody attends to, or None.

        Returns:
            tokens N T D and attentions N T T (float32, mean of the heads) of the wanted blocks, mean attentions N P P,
            and heads of the wanted blocks where there is room for them.
        """
        kept: dict[int, Tensor] = {}
        attentions: dict[int, Tensor] = {}
        means: dict[tuple[int, ...], Tensor] = {}
        heads: dict[int, Heads] = {}
        hidden: Tensor | None = None
        own = False  # whether tokens are nobody else's and may be changed in place
        for index in range(wanted.last + 1):
            block = _Block(self.blocks[index], self.cast, f'{index}.', dtype)
            # Of the last block that runs, the attention alone may be wanted.
            whole = index < wanted.last or index in wanted.tokens
            keep = index in wanted.heads and block.has_room_for(tokens)
            mixed, attention, own_heads = block.attend(tokens, padding, whole, wanted.attended(index), keep)
            if own_heads is not None:
                heads[index] = own_heads
            if attention is not None:
                for group in (group for group in wanted.means if index in group):
                    patches = attention[:, 1:, 1:]
                    means[group] = means[group].add_(patches) if group in means else patches.clone()
                if index in wanted.attentions:
                    attentions[index] = attention
            if mixed is not None:
                tokens = block.add(tokens, mixed, block.scale_1, own)
                mixed, hidden = block.mlp(tokens, hidden)
                tokens = block.add(tokens, mixed, block.scale_2, True)
                own = index not in wanted.tokens
            if index in wanted.tokens:
                kept[index] = tokens
        for group, total in means.items():
            total.div_(len(group))
        return Kept('tokens', len(self.blocks), kept), Kept('attentions', len(self.blocks), attentions), means, heads

    def heads(self, index: int, tokens: Tensor, dtype: torch.dtype, padding: Tensor | None = None) -> Heads:
        """The attention of one block, head by head, on N T D ``tokens``; the rest as for :meth:`run`."""
        heads = _Block(self.blocks[index], self.cast, f'{index}.', dtype).attend(tokens, padding, False, False, True)[2]
        assert heads is not None
        return heads


class _Block:
    """One of open_clip's residual blocks in one precision."""

    def __init__(self, block: Any, cast: CastOnce, name: str, dtype: torch.dtype) -> None:
        self.block, self.cast, self.name, self.dtype = block, cast, name, dtype
        self.heads: int = block.attn.num_heads
        self.scale_1, self.scale_2 = (getattr(scale, 'gamma', None) for scale in (block.ls_1, block.ls_2))

    def weights(self, name: str, weight: Tensor, bias: Tensor, factor: float = 1.0,
                bias_factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """A linear layer's weight and bias in this block's precision."""
        return (self.cast(f'{self.name}{name}.weight', weight, self.dtype, factor, pack=True),
                self.cast(f'{self.name}{name}.bias', bias, self.dtype, bias_factor))

    def norm(self, norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def has_room_for(self, tokens: Tensor) -> bool:
        """Whether the attention weights of all heads on N T D tokens may be kept."""
        room = _CPU_ROOM if tokens.device.type == 'cpu' else _GPU_ROOM
        return len(tokens) * self.heads * tokens.shape[1] ** 2 <= room

    def attend(self, tokens: Tensor, padding: Tensor | None, mix: bool, show: bool, keep: bool,
               ) -> tuple[Tensor | None, Tensor | None, Heads | None]:
        """What attention adds to the N T D tokens (None unless ``mix``), the attention N T T (None unless ``show``) and
        how it came about (None unless ``keep``)."""
        if not (mix or show or keep):
            return None, None, None
        attn = self.block.attn
        parts, width = 3 if mix or keep else 2, tokens.shape[-1]  # nobody reads the values where nothing is mixed
        weight, bias = self.weights(f'in_proj.{parts}', attn.in_proj_weight[:parts * width],
                                    attn.in_proj_bias[:parts * width])
        normed = self.norm(self.block.ln_1, tokens)
        projected = linear(normed.to(self.dtype), weight, bias)
        heads = projected.unflatten(2, (parts, self.heads, width // self.heads)).permute(2, 0, 3, 1, 4)
        mixed, attention, kept = None, None, None
        # torch's fused attention is slow on a CPU in anything but float32.
        if not show and not keep and (tokens.device.type != 'cpu' or self.dtype == torch.float32):
            mask = None if padding is None else ~F.pad(padding, (1, 0))[:, None, None]
            mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask)
        else:
            heads = heads.contiguous()
            mixed, attention, weights = _attend_by_heads(heads, padding, mix, show, keep)
            kept = None if weights is None else Heads(normed, heads[0], heads[1], heads[2], weights)
        if mixed is not None:
            weight, bias = self.weights('out_proj', attn.out_proj.weight, attn.out_proj.bias)
            mixed = linear(mixed.transpose(1, 2).flatten(2), weight, bias)
        return mixed, attention, kept

    def mlp(self, tokens: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the MLP adds to the N T D tokens, and room for its hidden numbers to be given to the next block's: large
        buffers are dear."""
        mlp, quick = self.block.mlp, isinstance(self.block.mlp.gelu, QuickGELU)
        # Where weights are cast anyhow, QuickGELU's factor goes with them; float32's are left as they are.
        factor = QUICK if quick else 1.0
        folded = factor if mlp.c_fc.weight.dtype != self.dtype else 1.0
        factor /= folded
        x = self.norm(self.block.ln_2, tokens).to(self.dtype).flatten(0, 1)
        weight, bias = self.weights('c_fc', mlp.c_fc.weight, mlp.c_fc.bias, folded, folded)
        known = quick or isinstance(mlp.gelu, nn.GELU)
        if weight.layout != torch.strided and known:
            active = linear(x, weight, bias, ('swish', '') if quick else ('gelu', mlp.gelu.approximate))
        elif weight.layout != torch.strided:
            active = mlp.gelu(linear(x, weight, bias))
        else:
            room = None if making_graph() else hidden  # a graph has no buffers of its own
            hidden = torch.addmm(bias, x, weight.t(), beta=factor, alpha=factor, out=room)
            active = F.silu(hidden, inplace=True) if quick else mlp.gelu(hidden)
        weight, bias = self.weights('c_proj', mlp.c_proj.weight, mlp.c_proj.bias, 1 / folded)
        if weight.layout != torch.strided:
            return linear(active, weight, bias).view(tokens.shape), hidden
        return torch.addmm(bias, active, weight.t(), alpha=1 / factor).view(tokens.shape), hidden

    @staticmethod
    def add(tokens: Tensor, branch: Tensor, scale: Tensor | None, inplace: bool) -> Tensor:
        """The tokens and what a branch adds to them."""
        if scale is not None:
            branch = branch * scale
        return tokens.add_(branch) if inplace else tokens + branch


def numbers_at_once(device: torch.device) -> int:
    """How many attention weights are worked on at once."""
    return _CPU_NUMBERS if device.type == 'cpu' else _GPU_NUMBERS


def _attend_by_heads(projected: Tensor, padding: Tensor | None, mix: bool, show: bool, keep: bool,
                     ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Attention written out, some images or, where one is too large for that, some of its heads at a time.

    Args:
        projected: 2 or 3 N H T d, contiguous: queries, keys and, where anything shall be mixed, values.
        padding: N P bool, patches that nobody attends to, or None.
        mix, show, keep: what is wanted.

    Returns:
        mixed values N H T d, the attention N T T float32, mean of the heads, and N H T T, that of the heads; each None
        unless it is wanted.
    """
    n, heads, t, d = projected.shape[1:]
    queries, keys, *values = projected.flatten(1, 2).unbind(0)  # N*H T d
    mask = None if padding is None else F.pad(padding, (1, 0))[:, None, None].expand(n, heads, 1, t).flatten(0, 1)
    mixed = torch.empty_like(values[0]) if mix else None
    kept = queries.new_empty(n * heads, t, t) if keep else None
    fit = numbers_at_once(queries.device) // t ** 2
    images, step = max(1, fit // heads), max(1, fit)
    # Heads are added up one by one while they are in the cache, but not in low precision: that would copy each.
    gathers = keep or fit >= heads or queries.dtype != torch.float32
    total = None if not show else queries.new_empty(n, t, t) if gathers else queries.new_zeros(n, t, t)
    for first in range(0, n, images):
        rows = range(first * heads, min(n, first + images) * heads)
        gathered = None
        if kept is not None:
            gathered = kept[rows.start:rows.stop]
        elif show and gathers:
            gathered = queries.new_empty(len(rows), t, t)
        for start in rows[::step]:
            some = slice(start, min(start + step, rows.stop))
            scores = torch.baddbmm(queries.new_empty(1), queries[some], keys[some].mT, beta=0, alpha=d ** -0.5)
            if mask is not None:
                scores.masked_fill_(mask[some], float('-inf'))
            place = None if gathered is None else gathered[start - rows.start:some.stop - rows.start]
            weights = torch.softmax(scores, -1, out=place)
            if mixed is not None:
                torch.bmm(weights, values[0][some], out=mixed[some])
            if total is not None and not gathers:
                for head in weights:
                    total[first] += head
        if total is not None and gathered is not None:
            torch.sum(gathered.unflatten(0, (-1, heads)), 1, out=total[first:first + images])
    return (None if mixed is None else mixed.unflatten(0, (n, heads)),
            None if total is None else total.float().div_(heads),
            None if kept is None else kept.unflatten(0, (n, heads)))
