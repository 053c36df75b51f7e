"""A function of a batch of images, compiled for the one shape that training gives it.

With ``reduce-overhead`` a GPU runs it, and its gradient, as recorded graphs: one launch instead of hundreds. Graphs
write their results where the last ones were, so a result is good until the next call. Where compiling fails (no
compiler on the machine, not enough memory) training goes on without.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

CHOICES = ('auto', True, False)


class FixedShape:
    """Calls ``function(images, ...)``, compiled where the images have the shape of the first ones, else as it is.

    The first call runs it as it is, so that what it keeps for later calls (positions, weights cast once) is made
    outside of a recorded graph, whose memory is written over.

    Args:
        function: of B 3 H W and plain Python values or tensors of fixed shapes; pure, with results of fixed shapes.
        backend, mode: of ``torch.compile``.
    """

    def __init__(self, function: Callable[..., Any], backend: str | Callable = 'inductor',
                 mode: str | None = 'reduce-overhead') -> None:
        self.function = function
        self.shape: torch.Size | None = None
        self._compiled: Callable[..., Any] | None = torch.compile(
            function, dynamic=False, backend=backend, mode=mode)

    def __call__(self, images: Tensor, *values: Any) -> Any:
        """What the function gives; a compiled one's results are overwritten by the next call."""
        if self._compiled is None or self.shape not in (None, images.shape) or not torch.is_grad_enabled():
            return self.function(images, *values)
        if self.shape is None:
            self.shape = images.shape
            return self.function(images, *values)
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return self._compiled(images, *values)
        except Exception as error:  # whatever it is: if the function itself is at fault, it says so by itself
            result = self.function(images, *values)
            self._compiled = None
            said = ' '.join(str(error).split('\n\n')[0].split()) or type(error).__name__
            print_log(f'The step could not be compiled and goes on without (compile=False says so): {said:.200}',
                      logger='current', level=logging.WARNING)
            return result


def chosen(choice: Any, device_type: str, accumulative_counts: int = 1) -> bool:
    """Whether a step is to be compiled.

    Args:
        choice: ``auto`` (on GPUs), True or False.
        device_type: where the model is.
        accumulative_counts: iterations whose gradients are added up: they would be overwritten where they are.

    Raises:
        ValueError: another choice, or True where gradients are added up.
    """
    if choice not in CHOICES or isinstance(choice, (int, float)) and not isinstance(choice, bool):
        raise ValueError(f"compile: expected 'auto', True or False, got {choice!r}")
    if choice is True and accumulative_counts > 1:
        raise ValueError(f'compile=True: the gradients of {accumulative_counts} iterations cannot be added up where '
                         "each is written over the last; set compile=False or optim_wrapper.accumulative_counts=1")
    return choice is True or choice == 'auto' and device_type == 'cuda' and accumulative_counts == 1
