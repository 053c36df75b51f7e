"""WeCLIP and WeCLIP-SAM: one light decoder on frozen CLIP tokens, taught by labels made on the fly."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.features import BankedTokens, wanted_by_all, wishes
from weclip_sam.models.agreement import Agreement
from weclip_sam.models.base import Segments
from weclip_sam.models.curriculum import WithCurriculum
from weclip_sam.models.decoder import DecoderOutput, WeClipDecoder
from weclip_sam.models.encoders import stack_banked
from weclip_sam.models.fixed_shapes import FixedShape
from weclip_sam.models.losses import affinity_labels, affinity_loss, segmentation_loss
from weclip_sam.models.offline import offline_labels
from weclip_sam.models.predict import labels_to_original, predicted_labels, to_original
from weclip_sam.models.seeding import WithSeeds
from weclip_sam.registry import MODELS
from weclip_sam.seeds.labels import background_of_maps, label_pixels
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import IGNORE_LABEL, ClassMaps, SeedState, SegSample

LABELS = ('online', 'offline')
PADDINGS = ('ignore', 'teach')


@MODELS.register_module()
class WeClip(WithCurriculum, Segments, WithSeeds):
    """The single-stage model (WeCLIP, section 3).

    Which system it is depends on ``seeds`` alone: with SAM votes in the pipeline it is WeCLIP-SAM, with RFM and PAR it
    is WeCLIP as published.

    Args:
        clip: config of a :class:`FrozenClip`.
        decoder: config of a :class:`WeClipDecoder`; sizes that follow from encoder and vocabulary are filled in.
        seeds: steps of the :class:`SeedPipeline` that makes the training labels.
        vocabulary, templates, prompts, mask_generator, data_preprocessor, encoders, attributes, attribute_centres: see
            :class:`WithSeeds`.
        rfm_start: iteration from which RFM may use the decoder's own affinity. Published: 15,000 (VOC), 40,000 (COCO).
        affinity_weight: weight of the affinity loss. Published: 0.1.
        affinity_radius: pairs of patches farther apart than this teach nothing. Published: 8.
        test: scales, flip and refinement of predictions, see :func:`weclip_sam.models.predict.predict_samples`.
        padding: what training does with borders that random crops add: ``ignore`` teaches nothing there; ``teach``, as
            published, labels them like the rest (with black borders: the crop's ``fill=(0, 0, 0)``).
        agreement: further losses and labels that the decoder corrects, see :class:`Agreement`; none by default.
        labels: ``online`` makes the training labels with ``seeds``; ``offline`` reads each sample's ``pixel_labels``
            (the data set's ``pixel_labels=folder``): the same decoder as a second stage, which shows what labels made
            on the fly bring.

    Deliberate differences from the public code, each with the published way by name:

    - Images that are no whole number of patches are padded at test; published: ``test.border='cut'``.
    - Padded borders teach nothing (a quarter of 320-pixel crops of 500 x 375 has some); published: ``padding='teach'``
      and ``fill=(0, 0, 0)`` of the crop.
    - The switch of RFM counts training iterations; the public code also counts validation passes (its VOC switch is at
      iteration 9,145): set ``rfm_start``.
    - CLIP's own mean and standard deviation; published: ImageNet's, ``clip.mean`` and ``clip.std``.
    - Attention's output projection is not rounded to float16, and validation runs without dropout: not to be had.
    - Image labels are the data set's, never read off the ground truth of the crop; classes that a crop has lost are
      still named.

    Raises:
        ValueError: no vocabulary, unknown ``labels`` or ``padding``, ``seeds`` that do not go with them, or an encoder
            that is not there.
    """

    decoder: WeClipDecoder
    _fixed: FixedShape | None = None

    def __init__(self, clip: dict, decoder: dict, seeds: Sequence[dict] | None = None, vocabulary: dict | None = None,
                 templates: Sequence[str] = ('a clean origami {}.',), prompts: str | None = None,
                 rfm_start: int = 15_000, affinity_weight: float = 0.1, affinity_radius: int = 8,
                 mask_generator: dict | None = None, test: dict | None = None, labels: str = 'online',
                 data_preprocessor: dict | None = None, encoders: dict | None = None,
                 padding: str = 'ignore', agreement: dict | None = None, attributes: str | None = None,
                 attribute_centres: int = 112) -> None:
        if padding not in PADDINGS:
            raise ValueError(f'WeClip padding: expected one of {PADDINGS}, got {padding!r}.'
                             f'{suggest_name(padding, PADDINGS)}')
        if labels not in LABELS:
            raise ValueError(f'WeClip labels: expected one of {LABELS}, got {labels!r}.{suggest_name(labels, LABELS)}')
        if (labels == 'online') != (seeds is not None):
            raise ValueError("WeClip: labels='online' needs seeds (the steps that make labels), labels='offline' none")
        super().__init__(clip, seeds, vocabulary, templates, prompts, mask_generator, data_preprocessor, encoders,
                         attributes, attribute_centres)
        self.decoder = self._build_decoder(decoder)
        self.decoder_wants = wishes(self.decoder, self.decoder.reads, self.encoders.networks, False)
        self.affinity_weight, self.affinity_radius = affinity_weight, affinity_radius
        self.agreement = Agreement(**(agreement or {}))
        if self.agreement.mutual_weight and len(getattr(self.decoder, 'branch_names', ())) < 2:
            raise ValueError('WeClip agreement: mutual_weight needs a decoder with at least two branches '
                             "(decoder=dict(type='BranchDecoder', branches=dict(clip=..., dino=...)))")
        self.teaches_padding = padding == 'teach'
        self.start_curriculum(rfm_start)
        self.set_test(test, self.encoders['clip'].patch_size)

    def _build_decoder(self, settings: dict) -> WeClipDecoder:
        """Sizes that follow from encoder and vocabulary are filled in."""
        first = settings.get('encoder', 'clip')
        read = [*settings['branches']] if 'branches' in settings else [first, *settings.get('beside', ())]
        for name in read:
            if name not in self.encoders:
                raise ValueError(f'WeClip decoder: no encoder is called {name!r}; there are {sorted(self.encoders)}.'
                                 f'{suggest_name(name, self.encoders)}')
        sizes = {name: (self.encoders[name].width, self.encoders[name].layers) for name in read}
        known: dict[str, Any] = dict(num_classes=len(self.classes))
        if 'branches' not in settings:
            known |= dict(encoder_width=sizes[first][0], encoder_layers=sizes[first][1])
        if 'branches' in settings or 'beside' in settings:
            known |= dict(encoder_sizes=sizes)
        return MODELS.build(known | dict(settings))

    def tensor(self, inputs: Tensor, data_samples: list[SegSample] | None = None) -> Tensor:
        """B 3 H W, RGB in 0..255 -> logits B C+1 h w."""
        return self._decode(self.encoders(inputs, self.decoder_wants), inputs).seg_logits

    def see(self, inputs: Tensor, decoder_heard: bool | None,
            banked: Mapping[str, BankedTokens] | None = None) -> tuple[dict[str, Any], DecoderOutput]:
        """What the encoders and the decoder make of B 3 H W, RGB in 0..255: the part of a step whose shapes depend on
        the images' shape alone. Of the features there is what the decoder and, heard or not (None: in either case), the
        seed steps read; those that are ``banked`` are taken as they are."""
        cases = (False, True) if decoder_heard is None else (decoder_heard,)
        wanted = wanted_by_all([self.decoder_wants, *(self.seeds_want[case] for case in cases)])
        features = self.encoders(inputs, wanted, banked)
        return features, self._decode(features, inputs)

    def _decode(self, features: Mapping[str, Any], inputs: Tensor) -> DecoderOutput:
        return self.decoder({**features, 'image': inputs})

    def fix_shape(self, **options: Any) -> None:
        """From now on training compiles :meth:`see` for the shape of its batches; ``options`` of :class:`FixedShape`.
        """
        self._fixed = FixedShape(self.see, **options)

    def loss(self, inputs: Tensor, data_samples: list[SegSample]) -> dict[str, Tensor]:
        """Losses of one batch: WeCLIP's, and those of ``agreement``.

        Args:
            inputs: B 3 H W float, RGB in 0..255.
            data_samples: image labels, padding masks and, where the pipeline votes with them, SAM masks.
        """
        banked = stack_banked(data_samples, inputs.shape[-2:])
        features, decoded = (self._fixed or self.see)(inputs, self.decoder_heard, banked)
        losses = {}
        if self.seeds is None:
            labels, padding = offline_labels(data_samples, inputs), self._padding(inputs, data_samples)
        else:
            state = self.make_seeds(inputs, data_samples, features, decoded, self.decoder_heard)
            labels, padding, losses = state.pixel_labels, state.padding, state.losses
        if padding is not None and not self.teaches_padding:
            labels = labels.masked_fill(padding, IGNORE_LABEL)
        pairs = affinity_labels(labels, features[self.decoder.encoder].grid, self.affinity_radius)
        named = torch.stack([s.image_labels for s in data_samples])
        taught = self.agreement.replaced(labels, decoded.seg_logits, named, self._iteration)
        return dict(loss_seg=segmentation_loss(decoded.seg_logits, taught),
                    loss_affinity=self.affinity_weight * affinity_loss(decoded.affinity, pairs),
                    **self.agreement.losses(decoded.seg_logits, decoded.branches, taught),
                    **{f'loss_{name}': value for name, value in losses.items()})

    # ---- seeds -----------------------------------------------------------------------------------------------------

    def make_seeds(self, inputs: Tensor, data_samples: list[SegSample], features: Mapping[str, Any],
                   decoded: DecoderOutput, decoder_heard: bool) -> SeedState:
        """Run the seed pipeline on a batch; reads images, image labels and SAM masks, never a pixel mask.

        Args:
            inputs, data_samples, features: see :meth:`seed_state`.
            decoded: the decoder's affinity and predictions; labels have no gradient towards them.
            decoder_heard: whether the steps may listen to the decoder already.

        Raises:
            ValueError: a model that learns from offline labels, or steps that end without labels.
        """
        if self.seeds is None:
            raise ValueError("WeClip.make_seeds: a model with labels='offline' has no steps that make labels; give it "
                             "seeds and labels='online'")
        state = self.seeds(self.seed_state(
            inputs, data_samples, features, seg_affinity=decoded.affinity.detach(),
            seg_logits=decoded.seg_logits.detach(), decoder_heard=decoder_heard))
        if state.pixel_labels is None:
            raise ValueError(f'WeClip: the pipeline {self.seeds!r} must end in labels, and leaves none; end it with '
                             'PixelLabels, Crf, SamVote or SeplMerge')
        return state

    def explain(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the model sees in the first image of a collated batch, see :meth:`explain_all`."""
        return self.explain_all(dict(inputs=batch['inputs'][:1], data_samples=batch['data_samples'][:1]))[0]

    @torch.no_grad()
    def class_maps(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Of the first image of a collated batch ``cam`` and ``cam_classes`` alone, as :meth:`explain` has them.

        Only the steps up to the one that makes the first maps run: masks that later ones vote with need not be there.

        Raises:
            ValueError: a model that learns from offline labels, or whose steps make no class maps.
        """
        if self.seeds is None:
            raise ValueError("WeClip.class_maps: a model with labels='offline' has no steps that make class maps")
        data = self.data_preprocessor(dict(inputs=batch['inputs'][:1], data_samples=batch['data_samples'][:1]))
        inputs, (sample,) = data['inputs'], data['data_samples']
        features, decoded = self.see(inputs, self.decoder_heard, stack_banked([sample], inputs.shape[-2:]))
        state = self.seed_state(inputs, [sample], features, seg_affinity=decoded.affinity,
                                seg_logits=decoded.seg_logits, decoder_heard=self.decoder_heard)
        for step in self.seeds.steps:
            state = SeedPipeline([step])(state)
            if state.history:
                break
        else:
            raise ValueError(f'WeClip.class_maps: no step of the pipeline {self.seeds!r} leaves class maps; put one '
                             'that makes them (GradCam, ExcelMaps) first')
        first = next(iter(state.history.values()))
        return dict(cam=to_original(first.scores, inputs.shape[-2:], sample), cam_classes=first.class_index)

    @torch.no_grad()
    def explain_all(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """What the model sees in each image of a collated batch, at its original size.

        Returns:
            For each ``cam`` (K H W class maps in [0, 1]; none where no step makes any) and ``cam_classes`` (K int64,
            0-based), ``seed`` and ``prediction`` (H W int64), and ``stages``: labels H W after every step of the
            pipeline that changes the maps. A model that learns from offline labels has its ``prediction`` alone. Labels
            are those that are taught at this point of the training: whether the decoder is heard is the model's own
            state.
        """
        data = self.data_preprocessor(batch)
        inputs, samples = data['inputs'], data['data_samples']
        features, decoded = self.see(inputs, self.decoder_heard, stack_banked(samples, inputs.shape[-2:]))
        size = inputs.shape[-2:]
        seen: list[dict[str, Any]] = [dict(prediction=predicted_labels(logits, size, sample))
                                      for logits, sample in zip(decoded.seg_logits, samples, strict=True)]
        if self.seeds is None:
            return seen
        state = self.make_seeds(inputs, samples, features, decoded, self.decoder_heard)
        stages = {}
        for name, maps in state.history.items():
            maps = maps.with_scores(resize_maps(maps.scores, size))
            background = background_of_maps(replace(state, maps=maps, background=None), maps.scores)
            stages[name] = label_pixels(maps, background)[0]
        first = next(iter(state.history.values()), _no_maps(inputs))
        for index, (sample, shown) in enumerate(zip(samples, seen, strict=True)):
            own = first.sample_index == index
            shown.update(
                cam=to_original(first.scores[own], size, sample), cam_classes=first.class_index[own],
                seed=labels_to_original(state.pixel_labels[index], sample),
                stages={name: labels_to_original(labels[index], sample) for name, labels in stages.items()})
        return seen


def _no_maps(inputs: Tensor) -> ClassMaps:
    """What there is to show of a pipeline that draws labels without class maps."""
    none = inputs.new_zeros(0, dtype=torch.long)
    return ClassMaps(inputs.new_zeros(0, *inputs.shape[2:]), none, none)
