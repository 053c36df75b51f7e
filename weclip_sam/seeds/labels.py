"""From class maps to pixel labels: background score, winner, and which pixels are too unsure to teach anything."""
from __future__ import annotations

import dataclasses

import torch
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
    check_shape('scores: K H W; sample_index: K; class_index: K; background: B H W', scores=maps.scores,
                sample_index=maps.sample_index, class_index=maps.class_index, background=background)
    shape, batch = background.shape, len(background)
    flat, index = maps.scores.float().flatten(1), maps.sample_index
    best = segment_max(flat, index, batch)
    place = torch.arange(len(flat), device=flat.device)[:, None]
    nobody = len(flat)
    wins = flat == best[index]
    winner = segment_max(torch.where(wins, -place, -nobody).to(flat), index, batch).clamp(min=-nobody).neg().long()
    second = segment_max(flat.masked_fill(place == winner[index], -torch.inf), index, batch)
    label_of = torch.cat([foreground_label(maps.class_index), maps.class_index.new_full((1,), BACKGROUND_LABEL)])
    rest = background.float().flatten(1)
    foreground = best > rest
    labels = torch.where(foreground, label_of[winner], BACKGROUND_LABEL)
    confidence = torch.maximum(best, rest)
    runner_up = torch.where(foreground, torch.maximum(second, rest), best).clamp(min=0)
    return labels.view(shape), confidence.view(shape), (confidence - runner_up).view(shape)


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
        self.background_power = background_power

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, ``background`` and ``pixel_labels``; writes ``pixel_labels``; ``confidence`` stays."""
        maps = state.maps.with_scores(resize_maps(state.maps.scores, tuple(state.pixel_labels.shape[-2:])))
        labels, _, _ = label_pixels(maps, background_of_maps(state, maps.scores, self.background_power))
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
        self.background_power, self.ignore_unlabelled = background_power, ignore_unlabelled
        self.min_confidence, self.min_margin = min_confidence, min_margin

    def __call__(self, state: SeedState) -> SeedState:
        """Also reads ``background``; without ``rgb`` the labels have the size of ``images``."""
        picture = state.images if state.rgb is None else state.rgb
        maps = state.maps.with_scores(resize_maps(state.maps.scores, tuple(picture.shape[-2:])))
        background = background_of_maps(state, maps.scores, self.background_power)
        labels, confidence, margin = label_pixels(maps, background)
        labels = ignore_unsure(labels, confidence, margin, self.min_confidence, self.min_margin)
        if self.ignore_unlabelled:
            nameless = ~to_device(state.image_labels, labels.device).any(1)
            labels = labels.masked_fill(nameless[:, None, None], IGNORE_LABEL)
        return dataclasses.replace(state, pixel_labels=labels, confidence=confidence)
