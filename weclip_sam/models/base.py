"""What mmengine's Runner asks of every trained model, said once."""
from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from weclip_sam.models.predict import predict_samples, prediction_settings
from weclip_sam.models.refine import SamAtTest
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample

MODES = ('loss', 'predict', 'tensor')


class TrainedModel(BaseModel):
    """A mmengine model whose modes are methods: ``loss``, ``predict`` and ``tensor``."""

    data_preprocessor: BaseDataPreprocessor

    def __init__(self, data_preprocessor: dict | nn.Module | None = None, **kwargs: Any) -> None:
        if isinstance(data_preprocessor, dict):
            # mmengine looks in the current default scope alone, which only a Runner sets to this package's.
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor, **kwargs)

    def forward(self, inputs: Tensor, data_samples: list[SegSample] | None = None, mode: str = 'tensor') -> Any:
        """Run the method called ``mode``.

        Args:
            inputs: B 3 H W float, RGB in 0..255.
            data_samples: what else is known of each image.
            mode: ``loss`` (a dict of losses), ``predict`` (the samples with what was predicted) or ``tensor`` (the
                network's plain output).

        Raises:
            ValueError: another mode.
        """
        if mode not in MODES:
            raise ValueError(f'mode: expected one of {MODES}, got {mode!r}')
        return getattr(self, mode)(inputs, data_samples)

    def parse_losses(self, losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of what is called a loss, and all that is shown; scalars, as this package's are, pass as they are."""
        if not all(isinstance(value, Tensor) and value.dim() == 0 for value in losses.values()):
            return super().parse_losses(losses)
        total: Any = functools.reduce(torch.add, (value for name, value in losses.items() if 'loss' in name))
        return total, OrderedDict(loss=total, **losses)


class Segments:
    """A model that labels every pixel: :meth:`tensor` gives logits, and ``test_cfg`` says what is made of them."""

    test_cfg: dict[str, Any]
    tensor: Callable[..., Tensor]  # the model's own
    _sam: SamAtTest

    def set_test(self, test: Mapping[str, Any] | None, divisor: int) -> None:
        """Call it once, when the model is built.

        Args:
            test: see :func:`weclip_sam.models.predict.predict_samples`.
            divisor: sides of inputs must be divisible by it (the patch size).

        Raises:
            ValueError: an unknown setting or refinement step.
        """
        self.test_cfg, self.divisor = prediction_settings(test), divisor
        self._sam = SamAtTest(self.test_cfg['mask_generator'])

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[SegSample]) -> list[SegSample]:
        """Add ``prediction`` (H W int64, original size) to every sample."""
        return predict_samples(self.tensor, inputs, data_samples, self.test_cfg, self.divisor, self.sam_at_test())

    def sam_at_test(self) -> SamAtTest:
        """The SAM of ``test_cfg``, which others change; loaded once, when a prediction needs it."""
        generator = self.test_cfg.get('mask_generator')
        if self._sam.config != generator:
            self._sam = SamAtTest(generator)
        return self._sam
