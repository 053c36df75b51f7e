"""How fast a piece of work could be at best on this machine: operations over its matrix rate, bytes over its bandwidth.

Operations are those of matrix products, convolutions and attention (two for each multiply-add), counted by torch while
the work really runs; everything else counts as none. Bytes are those that cannot be avoided: inputs, outputs and
weights, each once, in the precision that was asked for; what is written and read again in between counts as none.
The larger of the two times is the floor, and says which of the two binds.
"""
from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MATRIX = dict(cpu=1024, cuda=8192)  # side of the matrices that are multiplied
STREAM = dict(cpu=2 ** 26, cuda=2 ** 30)  # bytes of each of the three arrays that are streamed
TRIES = 15


@dataclass(frozen=True)
class Floor:
    """The shortest time that a piece of work can take.

    Attributes:
        operations: of matrices; two a multiply-add.
        bytes: that must be moved.
        seconds: the longer of the two times.
        bound: ``operations`` or ``bytes``, whichever takes it.
    """

    operations: float
    bytes: float
    seconds: float
    bound: str


class Machine:
    """Rates of a device, measured when they are first asked for: the best of a few tries.

    Args:
        device: its torch threads are those of the moment.
        clock: seconds, of the rates and of all that is measured on this machine.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.operations_per_second = functools.cache(self._matrix_rate)
        self.bytes_per_second = functools.cache(self._bandwidth)

    def floor(self, operations: float, moved: float, dtype: torch.dtype = torch.float32) -> Floor:
        """Of work with so many operations, in matrices of ``dtype``, and so many bytes."""
        computing = operations / self.operations_per_second(dtype) if operations else 0.0
        moving = moved / self.bytes_per_second()
        return Floor(operations, moved, max(computing, moving), 'operations' if computing > moving else 'bytes')

    def rates(self) -> dict[str, float]:
        """Both precisions and the bandwidth, for a report."""
        return dict(float32_operations_per_second=self.operations_per_second(torch.float32),
                    bfloat16_operations_per_second=self.operations_per_second(torch.bfloat16),
                    bytes_per_second=self.bytes_per_second())

    def _matrix_rate(self, dtype: torch.dtype) -> float:
        side = MATRIX[self.device.type]
        left, right = torch.randn(2, side, side, device=self.device).to(dtype)
        out = torch.empty_like(left)
        return 2 * side ** 3 / self._best(lambda: torch.mm(left, right, out=out))

    def _bandwidth(self) -> float:
        size = STREAM[self.device.type]
        left, right, out = torch.ones(3, size // 4, device=self.device)
        return 3 * size / self._best(lambda: torch.add(left, right, alpha=2.0, out=out))

    def _best(self, run: Callable[[], Any]) -> float:
        run()
        return min(self.seconds(run) for _ in range(TRIES))

    def seconds(self, run: Callable[[], Any]) -> float:
        """Of one run, until the device has done it."""
        wait(self.device)
        start = self.clock()
        run()
        wait(self.device)
        return self.clock() - start


def wait(device: torch.device) -> None:
    """Until the device has done all that it was told."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def count_operations(run: Callable[[], Any]) -> tuple[Any, float]:
    """Run once; returns the result and the operations of its matrices."""
    # The fused path of nn.MultiheadAttention is one operator for which torch has no formula.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Operations() as counter:
            result = run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return result, float(counter.total)


class _Operations(TorchDispatchMode):
    """Adds up torch's formulas. Its own counter also follows modules, by hooks that autograd.grad does not bear."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if result is NotImplemented else result
        result = func(*args, **(kwargs or {}))
        self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _product(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    """Of a matrix product; a sparse matrix has as many rows and columns, but computes with its entries alone."""
    entries = left.numel() if left.layout == torch.strided else left._nnz()
    return 2 * entries * right.shape[1]


def _product_and_sum(_: Tensor, left: Tensor, right: Tensor, *__: Any, **___: Any) -> int:
    return _product(left, right)


# torch has the CPU's attention since 2.15; what it computes is what the GPU's does.
_ATTENTION = {getattr(torch.ops.aten, f'_scaled_dot_product_flash_attention_for_cpu{part}'):
              flop_registry[getattr(torch.ops.aten, f'_scaled_dot_product_flash_attention{part}')]
              for part in ('', '_backward')}
FORMULAS = {**_ATTENTION, **flop_registry, torch.ops.aten.mm: _product, torch.ops.aten.addmm: _product_and_sum}


def moved(*things: Any, dtype: torch.dtype = torch.float32) -> float:
    """Bytes of all tensors in ``things``: tensors, modules (weights and buffers), and whatever holds such.

    Args:
        things: anything, arrays too; what holds neither counts as nothing.
        dtype: floating-point numbers count as of this type where it is the smaller one.
    """
    total = 0.0
    for thing in things:
        if isinstance(thing, Tensor):
            size = thing.element_size()
            total += thing.numel() * (min(size, dtype.itemsize) if thing.is_floating_point() else size)
        elif isinstance(thing, np.ndarray):
            total += thing.nbytes
        elif isinstance(thing, nn.Module):
            total += moved(*thing.parameters(), *thing.buffers(), dtype=dtype)
        elif isinstance(thing, BaseDataElement):
            total += moved(*thing.values(), dtype=dtype)
        elif isinstance(thing, Mapping):
            total += moved(*thing.values(), dtype=dtype)
        elif isinstance(thing, (list, tuple)):
            total += moved(*thing, dtype=dtype)
        elif is_dataclass(thing) and not isinstance(thing, type):
            total += moved(*(getattr(thing, field.name) for field in fields(thing)), dtype=dtype)
    return total


def trained(model: nn.Module) -> float:
    """Bytes that a step of AdamW moves: of everything trained, weight, gradient and two moments, read and written."""
    return 8 * moved(*(parameter for parameter in model.parameters() if parameter.requires_grad))
