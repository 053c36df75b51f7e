"""The seed pipeline: a list of steps from a config, each a function of the state."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.structures import SeedState

SeedStep = Callable[[SeedState], SeedState]
Watch = Callable[[str], AbstractContextManager]


class SeedPipeline:
    """Image and class names to pixel labels, by the same steps in training and in offline seed making.

    Args:
        steps: configs of registered seed steps, ``dict(type='GradCam', ...)``, or callables; they run in order.

    Raises:
        ValueError: no steps, or an unknown step (with the nearest known name).
    """

    def __init__(self, steps: Sequence[dict[str, Any] | SeedStep]) -> None:
        if not steps:
            raise ValueError("seed pipeline: expected at least one step, e.g. steps=[dict(type='GradCam')]")
        self.steps: list[SeedStep] = [step if callable(step) else _build(step) for step in steps]

    def __call__(self, state: SeedState, watch: Watch = nullcontext) -> SeedState:
        """Run all steps without gradient (GradCAM makes its own). The state given is not changed.

        Args:
            state: what the first step reads.
            watch: every step runs in the context ``watch(name of the step)``, for measuring.
        """
        check_shape('images: B 3 H W; image_labels: B C', images=state.images, image_labels=state.image_labels)
        with torch.no_grad():
            for step in self.steps:
                with watch(type(step).__name__):
                    state = step(state)
        return state

    def __repr__(self) -> str:
        return f'SeedPipeline({" -> ".join(type(step).__name__ for step in self.steps)})'


def _build(step: dict[str, Any]) -> SeedStep:
    name = step.get('type')
    if isinstance(name, str) and SEED_STEPS.get(name) is None:
        known = sorted(SEED_STEPS.module_dict)
        raise ValueError(f'unknown seed step {name!r}.{suggest_name(name, known)} Known: {", ".join(known)}')
    return SEED_STEPS.build(dict(step))
