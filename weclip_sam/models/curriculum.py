"""The curriculum: from which iteration on the seed steps may listen to the decoder (WeCLIP section 3.3)."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WithCurriculum(nn.Module):
    """A model that knows how far its training has come; saved with it, restored by loading, moved by a hook.

    Attributes:
        rfm_start: iteration (0-based) from which the decoder is heard.
        progress: buffer, the iteration the model was last told.
        brings_hooks: configs of hooks that :func:`weclip_sam.engine.start.launch.build_runner` adds to a run.
    """

    brings_hooks = (dict(type='CurriculumHook'),)
    progress: Tensor

    def start_curriculum(self, rfm_start: int) -> None:
        """Call it once, when the model is built."""
        self.rfm_start = rfm_start
        self.register_buffer('progress', torch.zeros((), dtype=torch.long))
        self._iteration = -1  # on the host: asking the buffer would wait for the device in every step

    def set_progress(self, iteration: int) -> None:
        """Called before every training iteration (0-based)."""
        self.progress.fill_(iteration)
        self._iteration = iteration

    @property
    def decoder_heard(self) -> bool:
        """Whether the seed steps listen to the decoder at this point of the training."""
        return self._iteration >= self.rfm_start

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if (saved := state_dict.get(f'{prefix}progress')) is not None:
            self._iteration = int(saved)
