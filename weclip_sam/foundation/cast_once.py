"""Low-precision copies of frozen weights, made once instead of at every call as autocast does for them."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


class CastOnce:
    """Copies of frozen tensors in another precision, made at first use and again where a tensor was changed or moved.

    They take the memory of the weights in that precision besides the weights themselves (half of float32's). They are
    neither saved nor loaded, and a copy of this object starts without any.
    """

    def __init__(self) -> None:
        self._copies: dict[tuple[str, torch.dtype], tuple[tuple, Tensor]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return CastOnce, ()

    def __call__(self, name: str, tensor: Tensor, dtype: torch.dtype, factor: float = 1.0,
                 pack: bool = False) -> Tensor:
        """``tensor * factor`` in ``dtype``; the tensor itself where that is the same.

        Args:
            name: tells the tensor apart from others; the same name always comes with the same factor.
            tensor: a frozen weight.
            dtype: what it is wanted in.
            factor: multiplied in before rounding.
            pack: whether a matrix is laid out as the CPU's matrix product reads it (:func:`linear` alone takes it),
                where there is such a layout.
        """
        if tensor.dtype == dtype and factor == 1:
            return tensor
        found = self._copies.get((name, dtype))
        if found is not None and torch.compiler.is_compiling():
            return found[1]  # a graph cannot ask where a weight lies
        stand = stand_of(tensor)
        if found is None or found[0] != stand:
            made = (tensor.detach() if factor == 1 else tensor.detach() * factor).to(dtype)
            if pack and tensor.device.type == 'cpu' and _packs(dtype):
                made = torch.ops.mkldnn._reorder_linear_weight(made)
            found = self._copies[name, dtype] = stand, made
        return found[1]

    def clear(self) -> None:
        """Forget all copies."""
        self._copies.clear()


def stand_of(tensor: Tensor) -> tuple:
    """Changes with the tensor: in-place changes (load_state_dict) raise its version, moves change its address."""
    return tensor.data_ptr(), tensor.device, tensor.dtype, 0 if tensor.is_inference() else tensor._version


def linear(x: Tensor, weight: Tensor, bias: Tensor, activation: tuple[str, str] = ('none', '')) -> Tensor:
    """``F.linear`` that also takes packed weights, and for these an activation of oneDNN's by name and algorithm."""
    if weight.layout == torch.strided:
        return torch.nn.functional.linear(x, weight, bias)
    name, algorithm = activation
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)


# Asked once: torch 2.11 cannot compile the question, and a compiled step would be three graphs instead of one.
_WITH_AUTOCAST = frozenset(kind for kind in ('cpu', 'cuda', 'xpu', 'mps', 'hpu', 'mtia', 'maia')
                           if torch.amp.is_autocast_available(kind))


def precision(device: torch.device, weights: torch.dtype) -> torch.dtype:
    """What autocast asks for on ``device``, or, where it is off, the dtype of the ``weights`` themselves."""
    if device.type in _WITH_AUTOCAST and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return weights


@lru_cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this CPU and this torch have matrix products of packed weights (a tenth faster than of plain ones)."""
    has = all(hasattr(torch.ops.mkldnn, name) for name in (
        '_linear_pointwise', '_reorder_linear_weight', '_is_mkldnn_bf16_supported'))
    return has and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
