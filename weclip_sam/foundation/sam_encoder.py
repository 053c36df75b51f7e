"""SAM's image encoder and its attention, computed the fast way: the same numbers as segment_anything's own modules."""
from __future__ import annotations

import copy
import time
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import get_rel_pos, window_partition, window_unpartition
from torch import Tensor, nn

from weclip_sam.foundation.graph import making_graph

# Bytes of position bias that exist at once: that of one head of a global block at 1,024 px takes 67 MB in fp32.
_BIAS_BYTES = 2 ** 28


class ImageEncoder:
    """An ``ImageEncoderViT`` for inference: attention by ``scaled_dot_product_attention``, weights cast once.

    segment_anything writes attention out and adds to its logits, in passes over the whole matrix, the two decomposed
    relative positions; here they are one additive bias of the fused kernel.

    Args:
        encoder: segment_anything's; it is left as it is.
        dtype: to compute in; another one than the encoder's makes a copy of its weights.
    """

    def __init__(self, encoder: ImageEncoderViT, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.encoder: Any = cast_copy(encoder, dtype)
        grid = self.encoder.pos_embed.shape[1:3]
        self.positions = [_positions(block, *([block.window_size] * 2 if block.window_size else grid))
                          for block in self.encoder.blocks]

    def __call__(self, images: Tensor) -> Tensor:
        """B 3 S S normalised images to embeddings B D h w in :attr:`dtype`."""
        return self.see(images, ())[0]

    def see(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """B 3 S S normalised images to embeddings B D h w and, of one pass, what :meth:`tokens` gives."""
        net, every = self.encoder, range(len(self.encoder.blocks))
        kept = self.tokens(images, {*blocks, every[-1]})
        x = kept[every[-1]]
        first, norm, second, last = net.neck
        x = F.linear(x, first.weight.flatten(1))  # a convolution of one pixel
        x = F.conv2d(norm_channels(norm, x).permute(0, 3, 1, 2), second.weight, padding=1)
        embeddings = norm_channels(last, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
        return embeddings, {block: kept[block] for block in blocks}

    def tokens(self, images: Tensor, blocks: Collection[int]) -> dict[int, Tensor]:
        """B 3 S S normalised images to B h w D behind each of some blocks; those after the last of them are not run."""
        kept, x = {}, self._embed(images)
        last = max(blocks, default=-1)
        for index, (block, positions) in enumerate(zip(self.encoder.blocks, self.positions, strict=True)):
            if index > last:
                break
            x = _run_block(block, x, positions)
            if index in blocks:
                kept[index] = x
        return kept

    def _embed(self, images: Tensor) -> Tensor:
        return self.encoder.patch_embed(images.to(self.dtype)) + self.encoder.pos_embed


def cast_copy(module: nn.Module, dtype: torch.dtype) -> Any:
    """The module itself where it is of this type, or a copy with cast weights; the old ones are not copied first."""
    weights = [*module.parameters(), *module.buffers()]
    if all(weight.dtype == dtype for weight in weights):
        return module
    return copy.deepcopy(module, {id(weight): nn.Parameter(weight.to(dtype), False) for weight in weights})


def measure_block(encoder: ImageEncoderViT, dtype: torch.dtype, times: int = 3) -> float:
    """Seconds that an encoder's first block takes for an image in this type, the fastest of some."""
    block: Any = cast_copy(encoder.blocks[0], dtype)
    x, best = torch.zeros_like(encoder.pos_embed, dtype=dtype), float('inf')
    positions = _positions(block, *([block.window_size] * 2 if block.window_size else x.shape[1:3]))
    with torch.no_grad():
        for _ in range(times):
            start = time.perf_counter()
            _run_block(block, x, positions)
            best = min(best, time.perf_counter() - start)
    return best


def norm_channels(norm: Any, x: Tensor) -> Tensor:
    """segment_anything's ``LayerNorm2d`` of ... C, channels last."""
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _positions(block: Any, height: int, width: int) -> Tensor:
    """Position vectors (2h-1)+(2w-1) d of all distances between rows, then columns, the largest one first."""
    pairs = ((height, block.attn.rel_pos_h), (width, block.attn.rel_pos_w))
    with torch.no_grad():
        return torch.cat([_largest_first(size, table) for size, table in pairs])


def _largest_first(size: int, table: Tensor) -> Tensor:
    """A position table as it is learnt is ordered by distance already; of another size, segment_anything resizes it."""
    if len(table) == 2 * size - 1:
        return table.flip(0)
    # Of all pairs that segment_anything takes them of, those of the last query and of the first one suffice.
    pairs = get_rel_pos(size, size, table)
    return torch.cat([pairs[-1], pairs[0, 1:]])


def _run_block(block: Any, x: Tensor, positions: Tensor) -> Tensor:
    """One transformer block on B h w D."""
    seen, size = block.norm1(x), x.shape[1:3]
    if block.window_size:
        seen, padded = window_partition(seen, block.window_size)
    seen = _attend(block.attn, seen, positions)
    if block.window_size:
        seen = window_unpartition(seen, block.window_size, padded, size)
    x = x + seen
    return x + block.mlp(block.norm2(x))


def _attend(attn: Any, x: Tensor, positions: Tensor) -> Tensor:
    """Self-attention within each of B maps, B h w D."""
    b, h, w, _ = x.shape
    heads = attn.num_heads
    q, k, v = attn.qkv(x).view(b, h * w, 3, heads, -1).permute(2, 0, 3, 1, 4)
    at_once = max(1, _BIAS_BYTES // ((h * w) ** 2 * x.element_size()))
    if making_graph():  # some heads of all images, whose number is unknown, at a time
        parts = [F.scaled_dot_product_attention(qi, ki, vi, _plain_bias(qi, positions, h, w))
                 for qi, ki, vi in zip(q.split(at_once, 1), k.split(at_once, 1), v.split(at_once, 1), strict=True)]
        return attn.proj(torch.cat(parts, 1).transpose(1, 2).reshape(b, h, w, -1))
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))  # Bn hw d
    parts = [F.scaled_dot_product_attention(qi[None], ki[None], vi[None], _bias(qi, positions, h, w)[None])[0]
             for qi, ki, vi in zip(q.split(at_once), k.split(at_once), v.split(at_once), strict=True)]
    seen = parts[0] if len(parts) == 1 else torch.cat(parts)
    return attn.proj(seen.view(b, heads, h * w, -1).transpose(1, 2).reshape(b, h, w, -1))


def _bias(q: Tensor, positions: Tensor, h: int, w: int) -> Tensor:
    """What the decomposed relative positions add to the logits of queries n hw d: n hw hw."""
    n, reach = len(q), len(positions)
    products = q.reshape(-1, q.shape[-1]) @ positions.T  # with the vectors of every distance at once: n hw, reach
    # A query in row i reads, of its products from the largest distance down, the h ones that start at h-1-i.
    rows = products.as_strided((n, h, w, h, 1), (h * w * reach, w * reach - 1, reach, 1, 0), h - 1)
    columns = products.as_strided((n, h, w, 1, w), (h * w * reach, w * reach, reach - 1, 0, 1), 2 * h + w - 2)
    return (rows + columns).view(n, h * w, h * w)


def _plain_bias(q: Tensor, positions: Tensor, h: int, w: int) -> Tensor:
    """The same for queries B n hw d, B n hw hw, of operations that every runtime has."""
    q = q.unflatten(2, (h, w))
    by_row, by_column = (vectors[torch.arange(size)[None] + torch.arange(size - 1, -1, -1)[:, None]]  # query, key, d
                         for size, vectors in ((h, positions[:2 * h - 1]), (w, positions[2 * h - 1:])))
    rows = torch.einsum('bnhwd,hkd->bnhwk', q, by_row)
    columns = torch.einsum('bnhwd,wkd->bnhwk', q, by_column)
    return (rows[..., None] + columns[..., None, :]).flatten(4).flatten(2, 3)
