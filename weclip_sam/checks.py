"""Checks at the boundary: shapes whose letters bind across arguments, and near matches for unknown names."""
from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only looks up a name does not wait for torch
    from torch import Tensor


def check_shape(spec: str, **tensors: Tensor) -> dict[str, int]:
    """Check several tensors against one shape legend.

    Args:
        spec: one ``name: dims`` clause per tensor, separated by ``;``. A dim is a letter or a word that binds to a
            size the first time it appears and must agree afterwards, or a number, e.g.
            ``'images: B 3 H W; image_labels: B C'``.
        **tensors: the tensors, by the names used in ``spec``.

    Returns:
        The bound sizes by letter.

    Raises:
        ValueError: naming the tensor, the expected and the actual shape.
    """
    bound: dict[str, int] = {}
    for clause in spec.split(';'):
        name, dims_text = (part.strip() for part in clause.split(':'))
        dims = dims_text.split()
        shape = tuple(tensors[name].shape)
        if len(shape) != len(dims):
            raise ValueError(f'{name}: expected {len(dims)} dimensions ({dims_text}), got shape {shape}')
        for dim, size in zip(dims, shape, strict=True):
            expected = int(dim) if dim.isdigit() else bound.setdefault(dim, size)
            if expected != size:
                raise ValueError(f'{name}: expected {dims_text} with {dim}={expected}, got shape {shape}')
    return bound


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string when nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        lowered = {k.lower(): k for k in known}
        near = [lowered[k] for k in difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)]
    return f" Did you mean '{near[0]}'?" if near else ''


def select_layers(layers: int | Sequence[int], count: int, what: str = 'layers') -> list[int]:
    """Resolve a configured range of encoder blocks to indices.

    Args:
        layers: the last ``n`` blocks (all of them if there are fewer), or the indices themselves, which may count from
            the end as -1.
        count: how many blocks there are.
        what: the setting's name, for the error.

    Returns:
        Non-negative indices, in the order given.

    Raises:
        ValueError: no block, a block that does not exist, or one named twice.
    """
    if isinstance(layers, int):
        if layers < 1:
            raise ValueError(f'{what}: expected at least 1 block or a list of block indices, got {layers}')
        return list(range(max(0, count - layers), count))
    chosen = [index + count if index < 0 else index for index in layers]
    wrong = [index for index, resolved in zip(layers, chosen, strict=True) if not 0 <= resolved < count]
    if wrong or not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f'{what}: expected distinct block indices in 0..{count - 1} (or -{count}..-1), '
                         f'got {list(layers)}')
    return chosen
