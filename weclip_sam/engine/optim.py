"""Mixed precision that needs no loss scaling and runs on CPUs too."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from weclip_sam.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 autocast on the model's own device; parameters and optimizer state stay float32.

    bfloat16 has float32's range, so gradients neither overflow nor vanish and no gradient scaler is needed.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast for ``model``'s forward."""
        device = next(model.parameters()).device
        with super().optim_context(model), torch.autocast(device.type, dtype=torch.bfloat16):
            yield
