"""What every model that makes pseudo labels holds: frozen encoders, names, SAM masks, and the seed pipeline."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from weclip_sam.features import Wanted
from weclip_sam.foundation.attributes import load_attributes, with_attributes
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.mask_generator import MaskGenerator
from weclip_sam.foundation.text import text_features
from weclip_sam.models.encoders import Encoders
from weclip_sam.models.frozen import WithFrozen
from weclip_sam.models.offline import pad_to
from weclip_sam.models.prompts import load_prompts
from weclip_sam.registry import MODELS
from weclip_sam.seeds.pipeline import SeedPipeline, first_in_need, missing
from weclip_sam.structures import MaskSet, SeedState, SegSample


class WithSeeds(WithFrozen):
    """A model with frozen encoders, the data set's names as text features, and (unless ``seeds`` is None) a pipeline.

    Args:
        clip: config of a :class:`FrozenClip`; None for pipelines that only read labels and masks.
        seeds: steps of the :class:`SeedPipeline`; None for a model that makes no labels.
        vocabulary: ``classes``, ``prompt_names`` and ``background_nouns``. The tools take it from the data set when it
            is not given.
        templates: prompt templates; their text features are averaged.
        prompts: file of learnt prompts, as training a :class:`PromptTuner` leaves it; used instead of templates.
        mask_generator: config of a :class:`MaskGenerator` that makes masks live for samples that bring none.
        data_preprocessor: see :class:`SegDataPreprocessor`; by default it pads to CLIP's patch size.
        encoders: configs of further frozen encoders by name, see :class:`Encoders`.
        attributes: file of sentences about the classes, whose bank moves their texts (ExCEL), see
            :mod:`weclip_sam.foundation.attributes`.
        attribute_centres: attributes that the sentences are clustered to.

    Raises:
        ValueError: no vocabulary, or steps that need an encoder or labels that will not be there.
    """

    encoders: Encoders
    text_features: Tensor  # None without CLIP
    mask_generator: MaskGenerator | None
    seeds: SeedPipeline | None
    seeds_need: frozenset[str]
    seeds_want: dict[bool, dict[str, Wanted | None]]  # of the encoders, by whether the decoder is heard
    takes_labels = False  # whether samples may bring pixel_labels to start from

    def __init__(self, clip: dict | None, seeds: Sequence[dict] | None, vocabulary: dict | None,
                 templates: Sequence[str] = ('a clean origami {}.',), prompts: str | None = None,
                 mask_generator: dict | None = None, data_preprocessor: dict | None = None,
                 encoders: dict | None = None, attributes: str | None = None, attribute_centres: int = 112) -> None:
        held = Encoders({**({} if clip is None else {'clip': clip}), **(encoders or {})})
        frozen: FrozenClip | None = held.get('clip')
        divisor = 1 if frozen is None else frozen.patch_size
        super().__init__(data_preprocessor=data_preprocessor or dict(type='SegDataPreprocessor', divisor=divisor))
        if not vocabulary:
            raise ValueError(f'{type(self).__name__}: vocabulary is missing; give dict(classes=..., prompt_names=..., '
                             'background_nouns=...) or start through the tools, which take it from the data set')
        self.classes = tuple(vocabulary['classes'])
        self.hold('encoders', held)
        features = None
        if frozen is not None:
            names = [*vocabulary['prompt_names'], *vocabulary['background_nouns']]
            features = text_features(frozen, names, templates) if prompts is None else \
                load_prompts(prompts, frozen, vocabulary['prompt_names'])
        if attributes is not None:
            if frozen is None or features is None:
                raise ValueError(f'{type(self).__name__}: attributes move the texts of a CLIP, and there is none')
            bank, count = load_attributes(attributes, frozen, self.classes, attribute_centres), len(self.classes)
            features = torch.cat([with_attributes(features[:count], bank), features[count:]])
        self.register_buffer('text_features', features, persistent=False)
        self.mask_generator = None
        if mask_generator is not None:
            self.mask_generator = MODELS.build(mask_generator)
            self.hold('sam', self.mask_generator.sam)
        self.seeds = None if seeds is None else SeedPipeline(seeds)
        self.seeds_need = frozenset() if self.seeds is None else self.seeds.needs
        there = {*held, 'masks', 'rgb', *(['pixel_labels'] if self.takes_labels else [])}
        steps = () if self.seeds is None else self.seeds.steps
        for need in sorted(self.seeds_need - there):
            raise ValueError(f'{type(self).__name__}: {missing(first_in_need(steps, need), need)}')
        self.seeds_want = {heard: {} if self.seeds is None else self.seeds.wants(held.networks, heard)
                           for heard in (False, True)}

    @property
    def clip(self) -> FrozenClip | None:
        """The frozen CLIP, or None."""
        return self.encoders.get('clip')

    def seed_state(self, inputs: Tensor, data_samples: Sequence[SegSample], features: Mapping[str, Any],
                   rgb: Tensor | None = None, **more: Any) -> SeedState:
        """The state that a pipeline starts from; reads images, image labels and SAM masks, never a pixel mask.

        Args:
            inputs: B 3 H W float, RGB in 0..255; what ``features`` were made of.
            data_samples: with ``image_labels`` and perhaps ``mask_set``.
            features: of ``inputs`` by encoder.
            rgb: B 3 H' W', the images at the size that labels shall have and masks come in; ``inputs`` if None.
            more: other fields of :class:`SeedState`.
        """
        padding = self._padding(inputs, data_samples) if rgb is None else None
        rgb = inputs if rgb is None else rgb
        masks: Any = self._masks(rgb, data_samples)  # or None: a step that needs them is checked before it runs
        return SeedState(
            images=inputs if self.clip is None else self.clip.normalize(inputs),
            image_labels=torch.stack([s.image_labels for s in data_samples]), features=features,
            encoders=self.encoders, text_features=self.text_features, masks=masks, rgb=rgb, padding=padding, **more)

    @staticmethod
    def _padding(inputs: Tensor, data_samples: Sequence[SegSample]) -> Tensor | None:
        """B H W: where the samples are padded; None where they do not say."""
        planes = [s.get('padding_mask') for s in data_samples]
        if any(plane is None for plane in planes):
            return None
        return torch.stack([pad_to(plane, inputs.shape[-2:], True) for plane in planes])

    def _masks(self, rgb: Tensor, data_samples: Sequence[SegSample]) -> MaskSet | None:
        """The samples' masks, padded to the images, if a step reads them; live ones where a sample has none and there
        is a generator."""
        if 'masks' not in self.seeds_need:
            return None
        sets = [s.get('mask_set') for s in data_samples]
        if self.mask_generator is not None and (lacking := [n for n, s in enumerate(sets) if s is None]):
            made = self.mask_generator.generate_batch([rgb[n].byte().permute(1, 2, 0) for n in lacking])
            for n, masks in zip(lacking, made, strict=True):
                sets[n] = masks
        if any(s is None for s in sets):
            return None
        size = tuple(rgb.shape[-2:])
        return MaskSet.stack([s.padded(size) for s in sets]).to(rgb.device)
