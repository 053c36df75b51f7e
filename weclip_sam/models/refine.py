"""What is done to a prediction: a list of seed steps, with SAM's masks and answers where steps ask for them.

SAM is no part of the model: masks come with the sample, from a bank, or are made when they are needed.
"""
from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.datasets.frame import Frame
from weclip_sam.foundation.mask_generator import MaskGenerator
from weclip_sam.foundation.sam_prompts import PromptedImage
from weclip_sam.io.images import fit_within
from weclip_sam.registry import MODELS
from weclip_sam.seeds.labels import background_of_maps, in_one_piece
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.structures import ClassMaps, MaskSet, SeedState, SegSample

OF_SAM = frozenset({'masks', 'prompter'})  # what only SAM can give to a step
MAKING = 'masks and what answers prompts'  # the part of the work before the steps
LIVE_SIDE = 2048  # long side at which masks of larger images are made


class SamUse(NamedTuple):
    """What SAM had to do with the refinement of one prediction.

    Attributes:
        masks: how many the image has; None where no step asked for any.
        live: whether they were made for this prediction.
        seconds: making them and the steps that look at SAM.
    """

    masks: int | None
    live: bool
    seconds: float


class SamAtTest:
    """A SAM for predictions, loaded when it is needed.

    Args:
        generator: config of a :class:`MaskGenerator`; None where masks come with the samples alone.
    """

    def __init__(self, generator: Mapping[str, Any] | None = None) -> None:
        self.config = None if generator is None else dict(generator)
        self._built: MaskGenerator | None = None

    def load(self, device: torch.device | str) -> MaskGenerator | None:
        """The generator on a device, or None where there is none.

        Raises:
            ValueError, FileNotFoundError: as :class:`FrozenSam`.
        """
        if self.config is not None and self._built is None:
            self._built = MODELS.build(self.config)
        return None if self._built is None else self._built.to(device)

    def masks(self, rgb: Tensor) -> MaskSet | None:
        """Masks of an image 3 H W uint8, as bits; None without a generator.

        Those of an image with a longer side than ``LIVE_SIDE`` are made at that size and enlarged: whatever its size,
        they take little more memory than they do as bits.
        """
        generator = self.load(rgb.device)
        if generator is None:
            return None
        size = int(rgb.shape[1]), int(rgb.shape[2])
        smaller = fit_within(size, LIVE_SIDE)
        if smaller == size:
            return generator.generate(rgb.permute(1, 2, 0)).packed()
        seen = F.interpolate(rgb[None].float(), smaller, mode='bilinear', antialias=True)[0].round().byte()
        made = generator.generate(seen.permute(1, 2, 0)).packed().to('cpu')
        return Frame.whole(*smaller).resize(*size).take_masks(made).to(rgb.device)

    def prompter(self, rgb: Tensor) -> PromptedImage | None:
        """Who answers prompts on an image 3 H W uint8; None without a generator."""
        generator = self.load(rgb.device)
        return None if generator is None else PromptedImage(generator.sam, rgb)


def refinement(test: Mapping[str, Any]) -> SeedPipeline | None:
    """The steps that refine a prediction: those of ``refine``, then the CRF of ``crf``; None where there are none.

    They are seed steps: what is done to class maps to make labels of them can be done to a prediction.
    """
    steps = refinement_steps(test)
    return SeedPipeline(steps) if steps else None


def refinement_steps(test: Mapping[str, Any]) -> list[Any]:
    """What :func:`refinement` builds: steps, or their configs."""
    crf = test.get('crf')
    return [*(test.get('refine') or ()), *([] if crf is None else [dict(type='Crf', normalise=False, crf=dict(crf))])]


def asks_sam(steps: SeedPipeline | None, sample: SegSample) -> bool:
    """Whether something must be made by SAM before the steps can run on a sample."""
    needs = frozenset() if steps is None else steps.needs
    return 'prompter' in needs or 'masks' in needs and _brought(sample) is None


def _brought(sample: SegSample) -> MaskSet | None:
    return sample.get('original_masks', sample.get('mask_set'))


def refine_prediction(steps: SeedPipeline, probabilities: Tensor, rgb: Tensor, sample: SegSample,
                      sam: SamAtTest | None = None, owned: bool = False) -> tuple[Tensor, Tensor, SamUse | None]:
    """Run refinement steps on the prediction of one image.

    To the steps the prediction is what class maps are to seed steps: ``maps`` hold the probabilities of all classes,
    ``background`` that of the background, ``masks`` the SAM masks that the sample brings or else those that ``sam``
    makes (at the original size), ``prompter`` a SAM that answers prompts.
    What they leave in ``pixel_labels`` is the refined prediction, or else the winner of the maps.

    Args:
        steps: see :func:`refinement`.
        probabilities: C+1 H W, background first.
        rgb: 3 H W in 0..255.
        sample: of the image.
        sam: where masks come from that the sample does not bring.
        owned: whether ``probabilities`` may be written over.

    Returns:
        labels H W int64, probabilities C+1 H W, and what SAM did (None where no step looks at it).
    """
    clock = _Clock(steps.steps, probabilities.device)
    given: dict[str, Any] = dict(masks=_brought(sample), prompter=None)
    live = False
    if clock.steps and sam is not None:
        with clock.watch(MAKING):
            pixels = rgb if rgb.dtype == torch.uint8 else rgb.round().byte()
            if 'masks' in steps.needs and given['masks'] is None:
                given['masks'] = sam.masks(pixels)
                live = given['masks'] is not None
            if 'prompter' in steps.needs:
                given['prompter'] = sam.prompter(pixels)
    classes, device = len(probabilities) - 1, probabilities.device
    if 'rgb' in steps.needs:
        given['rgb'] = rgb[None].float()
    state = steps(SeedState(
        images=rgb[None],
        image_labels=torch.ones(1, classes, dtype=torch.bool), background=probabilities[:1], maps=ClassMaps(
            probabilities[1:], torch.zeros(classes, dtype=torch.long, device=device),
            torch.arange(classes, device=device)), owned=owned, **given), clock.watch)
    refined = in_one_piece(background_of_maps(state, state.maps.scores), state.maps.scores)
    labels = refined.argmax(0) if state.pixel_labels is None else state.pixel_labels[0]
    if not clock.steps:
        return labels, refined, None
    count = len(given['masks']) if 'masks' in steps.needs else None
    return labels, refined, SamUse(count, live, clock.seconds)


class _Clock:
    """Seconds of the steps that look at SAM, and of what is made for them."""

    def __init__(self, steps: Iterable[Any], device: torch.device) -> None:
        self.steps = {type(step).__name__ for step in steps if getattr(step, 'needs', frozenset()) & OF_SAM}
        self.device, self.seconds = device, 0.0

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Count what happens meanwhile if it is one of those steps."""
        start = self._now()
        yield
        if name in self.steps or name == MAKING:
            self.seconds += self._now() - start

    def _now(self) -> float:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
