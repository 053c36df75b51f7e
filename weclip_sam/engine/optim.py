"""Optimizers that neither wait for a device nor launch a kernel for every parameter, and mixed precision that needs no
loss scaling and runs on CPUs too."""
from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mmengine.optim
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from weclip_sam.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

# Where one kernel for all parameters pays, by type of the device. On a CPU Adam's many passes over memory become one;
# the other optimizers gain nothing there.
FUSED = {'cuda': ('Adam', 'AdamW', 'SGD', 'Adagrad'), 'cpu': ('Adam', 'AdamW')}


@OPTIM_WRAPPERS.register_module(name=['OptimWrapper', 'PatientOptimWrapper'])
class PatientOptimWrapper(mmengine.optim.OptimWrapper):
    """mmengine's ``OptimWrapper``, and what that name means in a config, but the norm that ``clip_grad`` finds is not
    read at every step: :class:`LazyRuntimeInfoHook` takes it along with the losses (list ``mmengine.OptimWrapper`` for
    a norm that is in the message hub at once)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._norm: Tensor | None = None

    def _clip_grad(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if parameters:
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
            self._norm = None if norm is None else norm.detach()

    def take_norm(self) -> dict[str, Tensor]:
        """The norm before clipping by its name, unread, if there was a step since it was last taken."""
        norm, self._norm = self._norm, None
        return {} if norm is None else {self.grad_name: norm}


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(PatientOptimWrapper):
    """Forward passes in bfloat16 autocast on the model's own device; parameters and optimizer state stay float32.

    bfloat16 has float32's range, so gradients neither overflow nor vanish and no gradient scaler is needed.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast for ``model``'s forward."""
        device = next(model.parameters()).device
        with super().optim_context(model), torch.autocast(device.type, dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name=['DefaultOptimWrapperConstructor', 'FusedOptimWrapperConstructor'])
class FusedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, and what its name means in a config, which asks for ``fused=True`` where an optimizer has
    it and it pays, unless the config says how (``fused`` or ``foreach``)."""

    optimizer_cfg: dict[str, Any] | None

    def __call__(self, model: nn.Module) -> mmengine.optim.OptimWrapper:
        """The wrapped optimizer of a model's parameters."""
        devices = {parameter.device.type for parameter in model.parameters()}
        if self.optimizer_cfg is not None and may_be_fused(self.optimizer_cfg, devices):
            self.optimizer_cfg = dict(self.optimizer_cfg, fused=True)
        return super().__call__(model)


def may_be_fused(settings: dict[str, Any], devices: set[str]) -> bool:
    """Whether an optimizer's config leaves it open how its steps are computed, and one kernel for all pays.

    Args:
        settings: the optimizer's config.
        devices: types of the devices of its parameters.
    """
    kind = settings.get('type')
    if isinstance(kind, str):
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    if kind is None or len(devices) != 1 or kind.__name__ not in FUSED.get(next(iter(devices)), ()):
        return False
    takes = inspect.signature(kind).parameters
    return 'fused' in takes and not {'fused', 'foreach', 'differentiable'} & set(settings)
