"""Position embeddings for any grid of patches, made out of those a vision transformer was trained with."""
from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.foundation.cast_once import stand_of
from weclip_sam.foundation.graph import making_graph, same_size

GRIDS = 8  # resized embeddings that are kept: scales of a test, or the sizes of a data set's photos


def resized_positions(embedding: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """1+P D for an (h, w) grid.

    The class row is kept; the patch rows are resized bilinearly (align_corners=False).

    Args:
        embedding: 1+P' D of the ``native`` grid.
    """
    if same_size(native, grid):
        return embedding
    patches = embedding[1:].T.reshape(1, -1, *native)
    patches = F.interpolate(patches, size=grid, mode='bilinear', align_corners=False)
    return torch.cat([embedding[:1], patches.flatten(2)[0].T])


def stretched_positions(embedding: Tensor, native: tuple[int, int], padding: Tensor) -> Tensor:
    """B 1+P D, stretched over each image's content; zero on padding.

    Args:
        embedding: 1+P' D of the ``native`` grid.
        padding: B h w bool, True around a rectangle of content.
    """
    rows = _stretch_matrix(~padding.all(2), native[0])
    columns = _stretch_matrix(~padding.all(1), native[1])
    patches = embedding[1:].view(*native, -1)
    patches = torch.einsum('bhs,std,bwt->bhwd', rows, patches, columns).flatten(1, 2)
    return torch.cat([embedding[:1].expand(len(patches), 1, -1), patches], 1)


def _stretch_matrix(inside: Tensor, size: int) -> Tensor:
    """B n size: bilinear resizing (align_corners=False) of ``size`` values onto the run of True in ``inside`` (B n)."""
    count = inside.sum(1, keepdim=True).clamp(min=1)
    place = torch.arange(inside.shape[1], device=inside.device) - inside.int().argmax(1, keepdim=True)
    source = ((place + 0.5) * (size / count) - 0.5).clamp(0, size - 1)
    weights = (1 - (source[..., None] - torch.arange(size, device=inside.device)).abs()).clamp(min=0)
    return weights * inside[..., None]


class PositionCache:
    """The last few grids' :func:`resized_positions`; made again where the embedding was changed or moved."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[int, int], tuple[tuple, Tensor]] = OrderedDict()

    def __call__(self, embedding: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """As :func:`resized_positions`."""
        if making_graph():  # which makes them for the size of each image
            return resized_positions(embedding, native, grid)
        found = self._made.get(grid)
        if found is not None and torch.compiler.is_compiling():
            return found[1]  # a graph cannot ask where the embedding lies
        stand = stand_of(embedding)
        if found is None or found[0] != stand:
            found = self._made[grid] = stand, resized_positions(embedding, native, grid)
        self._made.move_to_end(grid)
        while len(self._made) > GRIDS:
            self._made.popitem(last=False)
        return found[1]

    def clear(self) -> None:
        """Forget everything."""
        self._made.clear()
