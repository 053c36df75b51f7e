"""How many operators a piece of work gives to its device: on a GPU each is a kernel to launch, and while kernels are
small it is launches that a step waits for. Counted without one: ``python tools/benchmarks/operators.py``.

On the ``meta`` device nothing is computed, so real sizes take seconds. It knows no autocast; what bfloat16 adds (casts
of weights and of what passes between the precisions) is counted on the CPU, where everything runs.
"""
from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import weclip_sam
import weclip_sam.engine

PACKAGE = Path(weclip_sam.__file__).parent
SYSTEMS = 'WeCLIP', 'WeCLIP-SAM, first version', 'WeCLIP-SAM'
# Functions, by module and name, that a GPU does otherwise than what is run here, and how many kernels that takes: a
# fused optimizer (FusedOptimWrapperConstructor), and PAR's weights and twenty rounds (par_triton).
KERNELS = {('torch.optim.adam', 'adam'): 1, ('weclip_sam.seeds.par', 'neighbour_weights'): 1,
           ('weclip_sam.seeds.par', '_rounds'): 20, ('weclip_sam.seeds.par', '_image_by_image'): 21}
# Memory, and other names for what is there: no kernel.
FREE = {'alias', 'detach', 'detach_', 'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided',
        '_unsafe_view', '_reshape_alias', 'lift_fresh', 'set_', 'resize_', '_pin_memory', 'is_pinned', 'record_stream'}


@dataclass
class Operators(TorchDispatchMode):
    """Counts what is dispatched to a device while it is active.

    Args:
        device: type of the device; operators on other devices (labels on the host) do not count.

    Attributes:
        by_part: count by file of the package, ``FILE, backward`` for what an automatic gradient calls, and
            ``optimizer``.
        by_name: count by operator.
    """

    device: str
    by_part: Counter = field(default_factory=Counter)
    by_name: Counter = field(default_factory=Counter)
    _paused: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def total(self) -> int:
        """All that was counted."""
        return self.by_part.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split('.')[0]
        if not self._paused and name not in FREE and not func.is_view and self._is_there((args, kwargs, result)):
            self._note(name)
        return result

    @contextmanager
    def counted_as(self, name: str, count: int) -> Iterator[None]:
        """What is dispatched inside counts as so many operators."""
        for _ in range(0 if self._paused else count):
            self._note(name)
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def _is_there(self, values: Any) -> bool:
        return any(leaf.device.type == self.device for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))

    def _note(self, name: str) -> None:
        self.by_name[name] += 1
        self.by_part[_part()] += 1


def _part() -> str:
    """Whose operator this is, from the stack of calls: the innermost file of the package."""
    frame: FrameType | None = sys._getframe(1)
    backward = ''
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return path.relative_to(PACKAGE).as_posix() + backward
        if frame.f_code.co_name in ('backward', 'grad', '_engine_run_backward'):
            backward = ', backward'
        elif 'torch/optim' in path.as_posix():
            return 'optimizer'
        frame = frame.f_back
    return 'the losses, backward' if backward else 'elsewhere'


def count_operators(run: Callable[[], Any], device: str = 'meta',
                    kernels: Mapping[tuple[str, str], int] = KERNELS) -> Operators:
    """Run once and count.

    Args:
        run: the work.
        device: type of the device it runs on.
        kernels: functions, by module and name, and how many operators each of their calls counts as.
    """
    counter = Operators(device)
    with _own_kernels(counter, kernels), without_numbers(device), counter:
        run()
    return counter


@contextmanager
def _own_kernels(counter: Operators, kernels: Mapping[tuple[str, str], int]) -> Iterator[None]:
    places = [(importlib.import_module(module), name, count) for (module, name), count in kernels.items()]
    functions = [getattr(module, name) for module, name, _ in places]

    def counted(function: Callable, count: int) -> Callable:
        @wraps(function)
        def once(*args: Any, **kwargs: Any) -> Any:
            with counter.counted_as(function.__name__, count):
                return function(*args, **kwargs)
        return once
    try:
        for (module, name, count), function in zip(places, functions, strict=True):
            setattr(module, name, counted(function, count))
        yield
    finally:
        for (module, name, _), function in zip(places, functions, strict=True):
            setattr(module, name, function)


@contextmanager
def without_numbers(device: str) -> Iterator[None]:
    """On the ``meta`` device: autocast, which does not know it, is that of the CPU, and attention is one operator, as
    on a GPU."""
    autocast, attention = torch.autocast, F.scaled_dot_product_attention
    if device == 'meta':
        torch.autocast = lambda kind, *args, **kwargs: autocast(  # type: ignore[misc, assignment]
            'cpu' if kind == 'meta' else kind, *args, **kwargs)
        F.scaled_dot_product_attention = _attention  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.autocast, F.scaled_dot_product_attention = autocast, attention  # type: ignore[misc]


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
               is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Operators of a training step.')
    parser.add_argument('--systems', nargs='+', choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument('--batch', type=int, default=4, help='images (default: %(default)s)')
    parser.add_argument('--size', type=int, default=320, help='their side (default: %(default)s)')
    parser.add_argument('--masks', type=int, default=100, help='masks an image (default: %(default)s)')
    parser.add_argument('--bf16', action='store_true', help='under autocast, on the CPU')
    args = parser.parse_args(argv)
    from benchmarks.iterations import training_step  # it counts what it runs, with this file
    from benchmarks.made_up import SETTINGS, Bench
    device = 'cpu' if args.bf16 else 'meta'
    setting = replace(SETTINGS['vit-b16'], batch=args.batch, size=args.size, masks=args.masks)
    for system in args.systems:
        with without_numbers(device):
            _, step = training_step(Bench(setting, torch.device(device)), system, args.bf16)
            step()  # the optimizer makes its state in the first one
        counted = count_operators(step, device)
        print(f'{system}, {"bfloat16" if args.bf16 else "float32"}: {counted.total} operators a step')
        for part, count in counted.by_part.most_common():
            print(f'  {count:5}  {part}')
        print('  most: ' + ', '.join(f'{name} {count}' for name, count in counted.by_name.most_common(12)))


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parents[1]))  # its neighbours are modules of ``benchmarks``
    main()
