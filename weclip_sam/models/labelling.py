"""Final labels of images whose classes are named: the labels that teach a trained model, and what speaks against them.

They are what the seed pipeline makes with the decoder heard, as in a training step, but at the size of the image: the
encoders look at it as training does, and steps that draw labels (votes of SAM's masks, CRF) work on all its pixels.
"""
from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.models.encoders import stack_banked
from weclip_sam.models.name_scores import name_scores
from weclip_sam.models.predict import as_labels, possible_labels, to_original
from weclip_sam.models.refine import SamAtTest, SamUse, refine_prediction
from weclip_sam.models.weclip import WeClip
from weclip_sam.seeds.labels import background_of_maps, label_pixels
from weclip_sam.seeds.pipeline import SeedPipeline, Watch
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import IGNORE_LABEL, ClassMaps, SeedState, SegSample

# Who may say something else than the label, as bits of a map of doubts.
DOUBTS = {'cam': 1, 'sam': 2, 'decoder': 4}
OF_LABEL = 0.7  # of the probability that a refinement starts from


@dataclass(frozen=True)
class FinalLabels:
    """Labels of one image of H W pixels.

    Attributes:
        labels: H W int64, 0 background, 1..C, 255 ignored.
        confidence: H W float in [0, 1], see :func:`final_labels`; 0 where the label is ignored.
        doubts: H W bool, where somebody says something else: ``cam`` (the maps of CLIP alone, at their best before
            masks and decoder), ``sam`` (the votes of SAM's masks on these maps; if the pipeline has votes) and
            ``decoder`` (what it predicts among the named classes).
        named: by given class (0-based), how well the name fits in [0, 1], see :func:`name_scores`.
        sam: what SAM had to do with it; None where nobody asked for masks.
    """

    labels: Tensor
    confidence: Tensor
    doubts: Mapping[str, Tensor]
    named: Mapping[int, float]
    sam: SamUse | None


@torch.no_grad()
def final_labels(model: WeClip, inputs: Tensor, sample: SegSample, sam: SamAtTest | None = None,
                 refine: SeedPipeline | None = None, watch: Watch = nullcontext) -> FinalLabels:
    """Label one image whose classes are named.

    Where the image is looked at as large as it is, these are to the pixel the labels that :meth:`WeClip.explain_all`
    shows (``seed``), unless they are refined.

    Confidence is the mean of two numbers in [0, 1], of the label at each pixel: its share in the sum of its own score
    and the strongest other one (votes of the mask on top of the pixel, else of the maps; after ``refine``, of the
    refined probabilities), and its probability by the decoder among the named classes. On 60 images of ``tune`` it
    ranks right pixels above wrong ones in 90 % of the pairs (the first number alone in 77 %).

    Args:
        model: trained, with a pipeline; whether the decoder is heard is its own state.
        inputs: 3 H' W' uint8, RGB, as the model looks at it: resized, neither cropped, padded nor flipped.
        sample: as ``PackSample(original=True)`` leaves it: ``original`` (3 H W uint8) and ``image_labels``, perhaps
            ``mask_set`` (at H x W) and ``banked``.
        sam: makes the masks of a sample that brings none, and answers prompts.
        refine: steps that refine a prediction (:func:`weclip_sam.models.refine.refinement`). They start from
            probabilities of which the label has ``OF_LABEL``, and the decoder says where the rest goes. Chosen on 160
            images of ``tune``: see docs/data_formats.md.
        watch: every step of the pipeline runs in the context ``watch(its name)``; encoders and decoder in ``encode``.

    Raises:
        ValueError: a model without a pipeline, or one that leaves no labels or class maps; something that a step needs
            is not there.
    """
    pipeline = model.seeds
    if pipeline is None:
        raise ValueError("this model learns from labels that were made before (labels='offline') and makes none itself")
    data = model.data_preprocessor(dict(inputs=[inputs], data_samples=[sample]))
    images, (sample,) = data['inputs'], data['data_samples']
    size, padded = tuple(sample.original.shape[1:]), tuple(images.shape[-2:])
    use = _find_masks(model, sample, sam)
    with watch('encode'):
        features, decoded = model.see(images, None, stack_banked([sample], padded))
    frame = _original_frame(sample, padded, float(getattr(model.data_preprocessor, 'fill', 0)))

    def run(heard: bool, keep_scores: bool) -> SeedState:
        rgb, padding = frame
        state = model.seed_state(images, [sample], features, rgb=rgb, seg_affinity=decoded.affinity,
                                 seg_logits=decoded.seg_logits, decoder_heard=heard)
        return pipeline(replace(state, padding=padding, keep_scores=keep_scores), watch)

    state, alone = run(model.decoder_heard, True), run(False, False)
    if state.pixel_labels is None or state.maps is None:
        raise ValueError(f'final labels: the pipeline {pipeline!r} leaves no '
                         f'{"labels" if state.pixel_labels is None else "class maps"}; it must make both')
    possible = possible_labels(sample.image_labels, images.device)
    rows = _rows_of(_cut(state.pixel_labels, size), possible)
    by_decoder = to_original(decoded.seg_logits[0, possible], padded, sample).softmax(0)
    if refine is None:
        scores = _cut(_scores(state), size)
    else:
        rows, scores, refined = refine_prediction(refine, _leaning(by_decoder, rows), sample.original, sample, sam,
                                                  owned=True)
        if use is None or refined is None:  # only one of the two has looked at SAM
            use = use or refined
        else:
            use = SamUse(use.masks, use.live, use.seconds + refined.seconds)
    labels = as_labels(rows, possible)
    return FinalLabels(labels, _confidence(rows, scores, by_decoder),
                       _doubts(labels, alone, possible[by_decoder.argmax(0)], 'masks' in model.seeds_need),
                       {} if model.clip is None else name_scores(model.clip, model.text_features, images,
                                                                 sample.image_labels[None])[0], use)


def _find_masks(model: WeClip, sample: SegSample, sam: SamAtTest | None) -> SamUse | None:
    """Give the sample masks if a step reads them and it brings none; what that cost."""
    if 'masks' not in model.seeds_need:
        return None
    live, began = sample.get('mask_set') is None, time.perf_counter()
    if live and sam is not None and (made := sam.masks(sample.original)) is not None:
        sample.mask_set = made
    masks = sample.get('mask_set')
    return None if masks is None else SamUse(len(masks), live, time.perf_counter() - began if live else 0.0)


def _original_frame(sample: SegSample, padded: tuple[int, ...], fill: float) -> tuple[Tensor, Tensor]:
    """1 3 H" W", the image at its own size within a border that corresponds to that of the padded inputs, and
    1 H" W" bool, where the border is."""
    height, width = sample.original.shape[1:]
    across = [max(own, round(own * outer / inner)) for own, outer, inner in
              zip((height, width), padded, sample.img_shape, strict=True)]
    border = (0, across[1] - width, 0, across[0] - height)
    inside = torch.zeros(1, height, width, dtype=torch.bool, device=sample.original.device)
    return F.pad(sample.original[None].float(), border, value=fill), F.pad(inside, border, value=True)


def _cut(planes: Tensor, size: tuple[int, ...]) -> Tensor:
    """... H" W" to what is the image."""
    return planes[..., :size[0], :size[1]]


def _rows_of(labels: Tensor, possible: Tensor) -> Tensor:
    """H W int64: the place of each label (1 H W) among those that are possible; 255 stays."""
    table = torch.full((IGNORE_LABEL + 1,), IGNORE_LABEL, dtype=torch.long, device=labels.device)
    table[possible] = torch.arange(len(possible), device=labels.device)
    return table[labels[0]]


def _scores(state: SeedState) -> Tensor:
    """1+K H" W": what the labels were chosen by, the background's first."""
    size = tuple(state.pixel_labels.shape[1:])
    maps, background = state.chosen_by or (state.maps, background_of_maps(state, state.maps.scores))
    return torch.cat([resize_maps(background, size), resize_maps(maps.scores.clamp(min=0), size)])


def _leaning(by_decoder: Tensor, rows: Tensor) -> Tensor:
    """1+K H W: the decoder's probabilities, leaning towards the labels (H W rows) where these are not ignored."""
    ignored = rows == IGNORE_LABEL
    start = torch.where(ignored, by_decoder, (1 - OF_LABEL) * by_decoder)
    return start.scatter_add_(0, rows.masked_fill(ignored, 0)[None], OF_LABEL * (~ignored[None]).to(start.dtype))


def _confidence(rows: Tensor, scores: Tensor, by_decoder: Tensor) -> Tensor:
    """H W, see :func:`final_labels`. Of 1+K planes none is copied."""
    ignored = rows == IGNORE_LABEL
    place = rows.masked_fill(ignored, 0)[None]
    own = scores.gather(0, place)[0]
    other = torch.zeros_like(own)
    for row, plane in enumerate(scores):
        other = torch.where(place[0] == row, other, torch.maximum(other, plane))
    share = own / (own + other).clamp(min=torch.finfo(own.dtype).tiny)
    return ((share + by_decoder.gather(0, place)[0]) / 2).masked_fill(ignored, 0)


def _doubts(labels: Tensor, alone: SeedState, by_decoder: Tensor, votes: bool) -> dict[str, Tensor]:
    """Who says something else than the labels (H W); ``alone``: the pipeline without the decoder."""
    size, whole = tuple(labels.shape), tuple(alone.pixel_labels.shape[1:])
    maps: ClassMaps = alone.maps.with_scores(resize_maps(alone.maps.scores, whole))
    by_maps = label_pixels(maps, background_of_maps(alone, maps.scores))[0][0]
    said = {'cam': _cut(by_maps, size), **({'sam': _cut(alone.pixel_labels[0], size)} if votes else {}),
            'decoder': by_decoder}
    return {name: other != labels for name, other in said.items()}
