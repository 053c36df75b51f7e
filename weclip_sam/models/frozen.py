"""Foundation models inside a trained model: they move with it, but are neither trained, wrapped nor saved."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from weclip_sam.models.base import TrainedModel


class WithFrozen(TrainedModel):
    """A mmengine model that uses frozen networks.

    Networks given to :meth:`hold` follow ``.to(device)`` and the like. They are no submodules: their parameters are not
    in ``parameters()`` or ``state_dict()``, so optimizers, checkpoints and distributed wrappers see the trained part
    alone, and nothing puts them into training mode.
    """

    def __init__(self, data_preprocessor: dict | nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(data_preprocessor=data_preprocessor, **kwargs)
        self._held: list[tuple[str, nn.Module]] = []

    def hold(self, name: str, network: nn.Module) -> None:
        """Keep a frozen network as attribute ``name``."""
        network.requires_grad_(False).eval()
        object.__setattr__(self, name, network)
        self._held.append((name, network))

    def _apply(self, fn: Callable, *args: Any, **kwargs: Any) -> nn.Module:
        for _, network in self._held:
            network._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)
