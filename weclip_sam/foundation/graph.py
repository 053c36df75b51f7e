"""What is asked otherwise while a graph for images of any size is made (``torch.export``).

Such a graph follows one way through the code for all sizes: a question such as "is it this large already?" would tie
it to the answer for the example. Where the fast way depends on a size, code asks :func:`making_graph` and goes the way
that is right for every size.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def making_graph() -> bool:
    """Whether ``torch.export`` is looking."""
    return torch.compiler.is_exporting()


def same_size(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes are equal; in a graph whether they are so for every image."""
    if making_graph():
        from torch.fx.experimental.symbolic_shapes import statically_known_true  # brings sympy with it
        return len(one) == len(other) and all(statically_known_true(a == b) for a, b in zip(one, other, strict=True))
    return tuple(one) == tuple(other)


def number(size: int | Tensor, device: torch.device | None = None) -> Tensor:
    """A size as a number that a graph calculates with (0-d int64)."""
    return size if isinstance(size, Tensor) else torch.full((), size, device=device)


def resizing_matrix(new: tuple[int, Tensor | int], old: tuple[int, Tensor | int], antialias: bool = False,
                    like: Tensor | None = None) -> Tensor:
    """``new[0]`` x ``old[0]``: bilinear resizing (align_corners=False) along one side as a matrix product.

    ``F.interpolate`` wants to know the size that it makes; here the sizes may be numbers that only the graph knows.

    Args:
        new, old: how many rows the matrix has for the values to be made and columns for those that are read, and how
            many of them, the first ones, there really are (0-d int64): rows beyond are zero, columns beyond not read.
        antialias: as ``F.interpolate``'s, where it shrinks.
        like: for device and type.
    """
    device = None if like is None else like.device
    used = [number(size, device) for _, size in (new, old)]
    place, column = (torch.arange(total, device=device) for total, _ in (new, old))
    scale = used[1] / used[0]
    source = (place + 0.5) * scale - 0.5
    reach = scale.clamp(min=1) if antialias else 1.0
    weights = (1 - (source[:, None] - column).abs() / reach).clamp(min=0)
    weights = weights * (place < used[0])[:, None] * (column < used[1])
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
