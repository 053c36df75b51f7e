"""From class maps to pixel labels: background score, winner, and which pixels are too unsure to teach anything."""
from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.scores import background_score, resize_maps, segment_max
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL, ClassMaps, SeedState, foreground_label, to_device


def best_foreground(scores: Tensor, sample_index: Tensor, batch_size: int) -> Tensor:
    """B H W: the highest score of any present class (0 for an image without classes).

    Args:
        scores: K H W float, not negative.
        sample_index: K int64.
        batch_size: B.
    """
    best = segment_max(scores.flatten(1), sample_index, batch_size)
    return best.clamp(min=0).view(batch_size, *scores.shape[1:])


def background_of_maps(state: SeedState, scores: Tensor, power: float = 1.0) -> Tensor:
    """B H W background score for ``scores`` (the state's maps, perhaps resized): the state's own, resized alike, or
    ``(1 - best class) ** power`` if there is none."""
    if state.background is not None:
        return resize_maps(state.background, scores.shape[1:])
    best = best_foreground(scores, state.maps.sample_index, state.image_labels.shape[0])
    return background_score(best, 'power', power)


def in_one_piece(background: Tensor, scores: Tensor) -> Tensor:
    """1+K H W: one image's background before its maps; no copy where they lie so in memory, as a prediction's do.

    Args:
        background: 1 H W.
        scores: K H W.
    """
    first, rest = background.contiguous(), scores.contiguous()
    if first.untyped_storage().data_ptr() == rest.untyped_storage().data_ptr() and first.dtype == rest.dtype and \
            first.storage_offset() + first.numel() == rest.storage_offset():
        return first.as_strided((1 + len(rest), *rest.shape[1:]), first.stride())
    return torch.cat([first, rest])


def label_pixels(maps: ClassMaps, background: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The winner at every pixel among an image's own classes and the background; no loop over images.

    A tie goes to the background, then to the class that comes first.

    Args:
        maps: K pairs with scores H W.
        background: B H W.

    Returns:
        labels B H W int64 (0 background, 1..C), confidence B H W (the winning score) and margin B H W (its lead over
        the runner-up; an image without classes has none to fear, its runner-up scores 0).
    """
    labels, confidence, best, winner = _winners(maps, background)
    place = torch.arange(len(maps.scores), device=labels.device)[:, None]
    losers = maps.scores.float().flatten(1).masked_fill(place == winner[maps.sample_index], -torch.inf)
    second = segment_max(losers, maps.sample_index, len(background))
    rest = background.float().flatten(1)
    runner_up = torch.where(best > rest, torch.maximum(second, rest), best).clamp(min=0)
    return labels, confidence, confidence - runner_up.view(confidence.shape)


def _winners(maps: ClassMaps, background: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """labels B H W and confidence B H W of :func:`label_pixels`, and per pixel B H*W the best class's score (-inf in an
    image without classes) and its row among the K maps (K where there is none)."""
    check_shape('scores: K H W; sample_index: K; class_index: K; background: B H W', scores=maps.scores,
                sample_index=maps.sample_index, class_index=maps.class_index, background=background)
    flat, index, batch = maps.scores.float().flatten(1), maps.sample_index, len(background)
    best = segment_max(flat, index, batch)
    # Of the classes that reach the best score the first has the highest rank.
    rank = torch.arange(len(flat), 0, -1, device=flat.device, dtype=flat.dtype)[:, None]
    first = segment_max(rank * (flat == best[index]), index, batch)
    rest = background.float().flatten(1)
    winner = (len(flat) - first.clamp(min=0) * (best > rest)).long()
    labels = F.pad(foreground_label(maps.class_index), (0, 1), value=BACKGROUND_LABEL)[winner]
    confidence = torch.maximum(best, rest)
    return labels.view(background.shape), confidence.view(background.shape), best, winner


def label_surely(maps: ClassMaps, background: Tensor, min_confidence: float = 0.0,
                 min_margin: float = 0.0) -> tuple[Tensor, Tensor]:
    """labels and confidence of :func:`label_pixels` after :func:`ignore_unsure`; what no threshold asks for is not
    worked out."""
    if min_margin == 0:
        labels, confidence, _, _ = _winners(maps, background)
        return (labels if min_confidence == 0 else labels.masked_fill(confidence < min_confidence, IGNORE_LABEL),
                confidence)
    labels, confidence, margin = label_pixels(maps, background)
    return ignore_unsure(labels, confidence, margin, min_confidence, min_margin), confidence


def ignore_unsure(labels: Tensor, confidence: Tensor, margin: Tensor, min_confidence: float = 0.0,
                  min_margin: float = 0.0) -> Tensor:
    """Set labels to 255 where the winning score is below ``min_confidence`` or leads by less than ``min_margin``.

    Args:
        labels, confidence, margin: B H W, from :func:`label_pixels`.
    """
    unsure = (confidence < min_confidence) | (margin < min_margin)
    return labels.masked_fill(unsure, IGNORE_LABEL)


@SEED_STEPS.register_module()
class IgnoreDisagreement:
    """Seed step: ignore (255) the pixels to which the class maps by themselves give another label.

    After votes of SAM's masks, what is left is what CAM and masks agree on.

    Args:
        background_power: q of the maps' background score ``(1 - max) ** q``.
    """

    needs, gives = frozenset({'maps', 'pixel_labels'}), frozenset({'pixel_labels'})

    def __init__(self, background_power: float = 1.0) -> None:
        background_score(torch.zeros(0), 'power', background_power)  # names a wrong power now, not in the first batch
        self.background_power = background_power

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, ``background`` and ``pixel_labels``; writes ``pixel_labels``; ``confidence`` stays."""
        maps = state.maps.with_scores(resize_maps(state.maps.scores, tuple(state.pixel_labels.shape[-2:])))
        labels, _ = label_surely(maps, background_of_maps(state, maps.scores, self.background_power))
        return dataclasses.replace(
            state, pixel_labels=torch.where(labels == state.pixel_labels, state.pixel_labels, IGNORE_LABEL))


@SEED_STEPS.register_module()
class PixelLabels:
    """Seed step: write ``pixel_labels`` and ``confidence`` from the current maps, at the size of ``rgb``.

    Args:
        background_power: q of ``(1 - max) ** q``; used unless an earlier step (PAR, CRF) left a background score.
        min_confidence: labels whose winning score is lower are ignored (255); 0 ignores none.
        min_margin: labels whose winner leads by less are ignored; 0 ignores none.
        ignore_unlabelled: ignore every pixel of an image without classes, rather than teach that it is all background.
    """

    needs, gives = frozenset({'maps'}), frozenset({'pixel_labels'})

    def __init__(self, background_power: float = 1.0, min_confidence: float = 0.0, min_margin: float = 0.0,
                 ignore_unlabelled: bool = False) -> None:
        for name, value in (('min_confidence', min_confidence), ('min_margin', min_margin)):
            if not 0 <= value <= 1:
                raise ValueError(f'PixelLabels {name}: expected a number in [0, 1], got {value}')
        background_score(torch.zeros(0), 'power', background_power)  # names a wrong power now, not in the first batch
        self.background_power, self.ignore_unlabelled = background_power, ignore_unlabelled
        self.min_confidence, self.min_margin = min_confidence, min_margin

    def __call__(self, state: SeedState) -> SeedState:
        """Also reads ``background``; without ``rgb`` the labels have the size of ``images``. With ``keep_scores`` it
        writes ``chosen_by``, too."""
        picture = state.images if state.rgb is None else state.rgb
        maps = state.maps.with_scores(resize_maps(state.maps.scores, tuple(picture.shape[-2:])))
        background = background_of_maps(state, maps.scores, self.background_power)
        labels, confidence = label_surely(maps, background, self.min_confidence, self.min_margin)
        if self.ignore_unlabelled:
            nameless = ~to_device(state.image_labels, labels.device).any(1)
            labels = labels.masked_fill(nameless[:, None, None], IGNORE_LABEL)
        if state.keep_scores:
            state = dataclasses.replace(state, chosen_by=(maps, background))
        return dataclasses.replace(state, pixel_labels=labels, confidence=confidence)
