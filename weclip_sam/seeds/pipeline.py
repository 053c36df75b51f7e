"""The seed pipeline: a list of steps from a config, each a function of the state."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.features import Named, Wanted, wanted_by_all, wishes
from weclip_sam.registry import SEED_STEPS
from weclip_sam.structures import SeedState

Watch = Callable[[str], AbstractContextManager]

# What a step may need besides an encoder, and where it comes from.
SOURCES = {
    'maps': 'class maps: put a step that makes them (GradCam) before it',
    'masks': 'SAM masks: give a mask bank or a mask generator (of a prediction: model.test.mask_generator); an image '
             'without any brings an empty MaskSet',
    'pixel_labels': 'labels: put a step that makes them (PixelLabels, SamVote) before it, or start from label PNGs',
    'rgb': 'the colours of the images: set SeedState.rgb (B 3 H W, 0..255)',
    'prompter': 'a SAM that answers prompts, as predictions have it: list it in model.test.refine, and give '
                'model.test.mask_generator'}


class SeedStep(Protocol):
    """A function from one state to the next, registered in ``SEED_STEPS``.

    A step says as class attributes what it reads, ``needs``, and what it leaves for later steps, ``gives``: any of
    ``maps``, ``masks``, ``pixel_labels``, ``rgb``, ``prompter`` (fields of :class:`SeedState`), and in ``needs`` also
    names of encoders (``clip``, ...), whose features it finds in ``state.features``. Every check and message follows
    from that.
    Where it depends on the step's arguments, the attributes are set on the instance.

    ``wants(encoders, decoder_heard)``, where a step has it, returns what exactly it reads of each encoder
    (:class:`~weclip_sam.features.Wanted` by name), so that nothing else is computed; without it, everything is.

    A step with parameters is an ``nn.Module``: it moves with the model, is saved with it, runs with gradient, and
    leaves what it learns from in ``state.losses``. ``settled()``, where a step has it, returns what decides its result
    besides its arguments (the CRF's backend); labels made before are made anew when it changes.
    """

    needs: frozenset[str]
    gives: frozenset[str]

    def __call__(self, state: SeedState) -> SeedState:
        """The next state (``dataclasses.replace``); the one given is not changed."""


class SeedPipeline(nn.Module):
    """Image and class names to pixel labels, by the same steps in training and in offline seed making.

    Args:
        steps: configs of registered seed steps, ``dict(type='GradCam', ...)``, or callables; they run in order.

    Attributes:
        needs: what has to be there before the first step: fields of the state and names of encoders.

    Raises:
        ValueError: no steps, or an unknown step (with the nearest known name).
    """

    def __init__(self, steps: Sequence[Mapping[str, Any] | SeedStep]) -> None:
        super().__init__()
        if not steps:
            raise ValueError("seed pipeline: expected at least one step, e.g. steps=[dict(type='GradCam')]")
        self.steps = [_build(step) if isinstance(step, Mapping) else step for step in steps]
        for index, step in enumerate(self.steps):
            if isinstance(step, nn.Module):
                self.add_module(str(index), step)
        self.needs = _needs(self.steps)

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted | None]:
        """What the steps together read of each encoder, by name; None stands for everything.

        Args:
            encoders: by name, with ``layers``.
            decoder_heard: see :class:`SeedState`.
        """
        return wanted_by_all(wishes(step, getattr(step, 'needs', ()), encoders, decoder_heard) for step in self.steps)

    def __call__(self, state: SeedState, watch: Watch = nullcontext) -> SeedState:
        """Run all steps without gradient (GradCAM makes its own). The state given is not changed.

        Args:
            state: what the first step reads.
            watch: every step runs in the context ``watch(name of the step)``, for measuring.

        Raises:
            ValueError: something that a step needs is not there.
        """
        check_shape('images: B 3 H W; image_labels: B C', images=state.images, image_labels=state.image_labels)
        learning = torch.is_grad_enabled()
        with torch.no_grad():
            for step in self.steps:
                check_needs(step, state)
                with watch(type(step).__name__), torch.set_grad_enabled(learning and isinstance(step, nn.Module)):
                    state = step(state)
        return state

    def __repr__(self) -> str:
        return f'SeedPipeline({" -> ".join(type(step).__name__ for step in self.steps)})'


def steps_need(steps: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """What a pipeline of these configs needs from outside, see :class:`SeedPipeline`."""
    return _needs([_build(step) for step in steps])


def check_needs(step: SeedStep, state: SeedState) -> None:
    """Whether everything is there that ``step`` needs.

    Raises:
        ValueError: naming the step, what is missing, and where it comes from.
    """
    for need in sorted(getattr(step, 'needs', ())):
        if (getattr(state, need) if need in SOURCES else state.features.get(need)) is None:
            raise ValueError(missing(step, need))


def missing(step: SeedStep, need: str) -> str:
    """The message that something a step needs is missing."""
    source = SOURCES.get(need) or (
        f"the features of the encoder {need!r}: give the model clip=dict(type='FrozenClip', ...)" if need == 'clip' else
        f"the features of the encoder {need!r}: give the model encoders=dict({need}=dict(type=...))")
    return f'{type(step).__name__} needs {source}'


def first_in_need(steps: Iterable[SeedStep], need: str) -> SeedStep:
    """The first of ``steps`` that needs something."""
    return next(step for step in steps if need in getattr(step, 'needs', ()))


def _needs(steps: Iterable[SeedStep]) -> frozenset[str]:
    needs: set[str] = set()
    given: set[str] = set()
    for step in steps:
        needs |= set(getattr(step, 'needs', ())) - given
        given |= set(getattr(step, 'gives', ()))
    return frozenset(needs)


def _build(step: Mapping[str, Any]) -> SeedStep:
    name = step.get('type')
    if isinstance(name, str) and SEED_STEPS.get(name) is None:
        known = sorted(SEED_STEPS.module_dict)
        raise ValueError(f'unknown seed step {name!r}.{suggest_name(name, known)} Known: {", ".join(known)}; a step of '
                         "your own is known once the config's custom_imports names its module")
    return SEED_STEPS.build(dict(step))
