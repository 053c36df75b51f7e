"""Low-precision copies of frozen weights, made once instead of at every call as autocast does for them."""
from __future__ import annotations

import torch
from torch import Tensor


class CastOnce:
    """Copies of frozen tensors in another precision, made at first use and again where a tensor was changed or moved.

    They take the memory of the weights in that precision besides the weights themselves (half of float32's), and are
    neither saved nor loaded.
    """

    def __init__(self) -> None:
        self._copies: dict[tuple[str, torch.dtype], tuple[tuple, Tensor]] = {}

    def __call__(self, name: str, tensor: Tensor, dtype: torch.dtype, factor: float = 1.0) -> Tensor:
        """``tensor * factor`` in ``dtype``; the tensor itself where that is the same.

        Args:
            name: tells the tensor apart from others; the same name always comes with the same factor.
            tensor: a frozen weight.
            dtype: what it is wanted in.
            factor: multiplied in before rounding.
        """
        if tensor.dtype == dtype and factor == 1:
            return tensor
        stand = stand_of(tensor)
        found = self._copies.get((name, dtype))
        if found is None or found[0] != stand:
            found = stand, (tensor.detach() if factor == 1 else tensor.detach() * factor).to(dtype)
            self._copies[name, dtype] = found
        return found[1]

    def clear(self) -> None:
        """Forget all copies."""
        self._copies.clear()


def stand_of(tensor: Tensor) -> tuple:
    """Changes with the tensor: in-place changes (load_state_dict) raise its version, moves change its address."""
    return tensor.data_ptr(), tensor.device, tensor.dtype, 0 if tensor.is_inference() else tensor._version


def precision(device: torch.device, weights: torch.dtype) -> torch.dtype:
    """What autocast asks for on ``device``, or, where it is off, the dtype of the ``weights`` themselves."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return weights
