"""The two-stage systems' first stage: a seed pipeline without anything that is trained."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.commands import tool
from weclip_sam.models.encoders import stack_banked
from weclip_sam.models.seeding import WithSeeds
from weclip_sam.registry import MODELS
from weclip_sam.seeds.pipeline import SeedPipeline, Watch
from weclip_sam.structures import SeedState, SegSample


@MODELS.register_module()
class SeedMaker(WithSeeds):
    """Images and names, or somebody's labels, to pseudo labels at the size of the image files.

    CLIP-ES and FMA-WSSS are pipelines that start from frozen CLIP. SEPL starts from the labels of another method: the
    samples bring ``pixel_labels``, and without a step that looks at CLIP, ``clip`` is None.

    CLIP sees the image stretched (bicubic) to whole patches, as CLIP-ES does; everything that makes labels (CRF, SAM
    votes, merging) works at the size of the file.

    Args:
        seeds: steps of the :class:`SeedPipeline`; they must end in labels.
        clip, vocabulary, templates, prompts, mask_generator, encoders, attributes, attribute_centres: see
            :class:`WithSeeds`.

    Raises:
        ValueError: no vocabulary, or steps that need an encoder which is not there.
    """

    seeds: SeedPipeline
    takes_labels = True

    def __init__(self, seeds: Sequence[dict], clip: dict | None = None, vocabulary: dict | None = None,
                 templates: Sequence[str] = ('a clean origami {}.',), prompts: str | None = None,
                 mask_generator: dict | None = None, encoders: dict | None = None, attributes: str | None = None,
                 attribute_centres: int = 112) -> None:
        super().__init__(clip, seeds, vocabulary, templates, prompts, mask_generator, dict(type='SegDataPreprocessor'),
                         encoders, attributes, attribute_centres)
        settled = [step.settled() for step in self.seeds.steps if hasattr(step, 'settled')]
        card = [seeds, settled, clip, vocabulary, list(templates), mask_generator, *([encoders] if encoders else []),
                *([attribute_centres] if attributes else [])]
        self._card = json.dumps(card, sort_keys=True, default=str)
        self._text_files = [file for file in (prompts, attributes) if file is not None]
        self.starts_from_labels = 'pixel_labels' in self.seeds_need

    def loss(self, inputs: Tensor, data_samples: list[SegSample]) -> dict[str, Tensor]:
        """There is nothing to train.

        Raises:
            ValueError: always.
        """
        raise ValueError('SeedMaker makes labels from images and their names and trains nothing: run it through '
                         f'{tool("make_seeds")}')

    tensor = loss

    def predict(self, inputs: Tensor, data_samples: list[SegSample]) -> list[SegSample]:
        """Add ``prediction``, the pseudo labels, to every sample."""
        for sample, labels in zip(data_samples, self.make(inputs, data_samples).pixel_labels, strict=True):
            sample.prediction = labels
        return data_samples

    @torch.no_grad()
    def make(self, inputs: Tensor, data_samples: Sequence[SegSample], watch: Watch = nullcontext) -> SeedState:
        """Run the pipeline on images of one size.

        Args:
            inputs: B 3 H W, RGB in 0..255 (any dtype).
            data_samples: with ``image_labels``; ``original`` (3 H0 W0, from ``PackSample(original=True)``; without it
                ``inputs`` count as the original), ``mask_set`` and ``pixel_labels`` at H0 W0 where steps need them.
            watch: see :class:`SeedPipeline`; CLIP's part is called ``encode``.

        Returns:
            The last state; ``pixel_labels`` is B H0 W0.

        Raises:
            ValueError: what a step needs is missing, masks of another size, or steps that end without labels of that
                size.
        """
        data = self.data_preprocessor.cast_data(dict(inputs=inputs, data_samples=list(data_samples)))
        inputs, samples = data['inputs'].float(), data['data_samples']
        rgb = torch.stack([s.get('original', image) for s, image in zip(samples, inputs, strict=True)]).float()
        for sample in samples if 'masks' in self.seeds_need else ():
            if (masks := sample.get('mask_set')) is not None and masks.size != tuple(rgb.shape[2:]):
                raise ValueError(f'SeedMaker: the masks of {sample.get("image_id")!r} are {masks.size}, the image is '
                                 f'{tuple(rgb.shape[2:])} (height, width); they are made at the size of the file')
        features = {}
        if len(self.encoders):
            stretched = stretch_to_multiple(inputs, 1 if self.clip is None else self.clip.patch_size)
            # What a bank gives is in the frame of the inputs as they came.
            banked = stack_banked(samples, inputs.shape[-2:]) if stretched is inputs else {}
            inputs = stretched
            with watch('encode'):
                features = self.encoders(inputs, self.seeds_want[False], banked)
        labels = [s.get('pixel_labels') for s in samples]
        state = self.seed_state(inputs, samples, features, rgb, pixel_labels=(
            None if any(each is None for each in labels) else torch.stack(labels).long()))
        state = self.seeds(state, watch)
        if state.pixel_labels is None or state.pixel_labels.shape[1:] != rgb.shape[2:]:
            came = 'none' if state.pixel_labels is None else tuple(state.pixel_labels.shape[1:])
            raise ValueError(f'SeedMaker: the pipeline {self.seeds!r} must end in labels at the size of the image '
                             f'{tuple(rgb.shape[2:])}, got {came}; end it with PixelLabels, Crf, SamVote or SeplMerge')
        return state

    def fingerprint(self) -> str:
        """Hash of what decides the labels besides the images: steps, names, CLIP's weights, learnt prompts, attributes.
        """
        digest = hashlib.blake2b(self._card.encode(), digest_size=16)
        for file in self._text_files:
            digest.update(Path(file).read_bytes())
        learnt = [self.seeds] if len(self.seeds.state_dict()) else []
        for network in (*self.encoders.networks.values(), *learnt):
            for name, value in sorted(network.state_dict().items()):
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        if self.mask_generator is not None:
            digest.update(self.mask_generator.fingerprint().encode())
        return digest.hexdigest()


def stretch_to_multiple(images: Tensor, divisor: int) -> Tensor:
    """Resize B 3 H W (0..255) up to the next multiple of ``divisor`` each side; unchanged if it fits.

    Bicubic as Pillow's, which CLIP-ES uses: torch's filter has Pillow's coefficients with ``antialias`` alone.
    """
    size = tuple(-(-side // divisor) * divisor for side in images.shape[-2:])
    if size == tuple(images.shape[-2:]):
        return images
    return F.interpolate(images, size, mode='bicubic', align_corners=False, antialias=True).round().clamp(0, 255)
