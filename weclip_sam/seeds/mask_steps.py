"""Seed steps that work with SAM's masks: which of them count, and their votes."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.labels import label_pixels
from weclip_sam.seeds.mask_blocks import row_blocks
from weclip_sam.seeds.sams import (
    EXTENTS,
    NORMALISATIONS,
    UNCOVERED,
    painting_order,
    sam_vote,
    thin_masks,
    voted_scores,
)
from weclip_sam.seeds.scores import background_score, resize_maps, segment_max
from weclip_sam.structures import IGNORE_LABEL, ClassMaps, SeedState


@SEED_STEPS.register_module()
class RockSandWater:
    """Seed step: thin the masks out so that they hardly overlap (FMA-WSSS), see :func:`thin_masks`.

    Masks that go are emptied rather than taken out, so that the step need not wait to know how many are left; a mask
    without pixels neither votes nor is voted on.

    Args:
        threshold: a mask goes if one mask of a higher level covers at least this share of it. Published: 0.3.
    """

    needs, gives = frozenset({'masks'}), frozenset({'masks'})

    def __init__(self, threshold: float = 0.3) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f'RockSandWater threshold: expected a share of the area in [0, 1], got {threshold}')
        self.threshold = threshold

    def __call__(self, state: SeedState) -> SeedState:
        """Reads and writes ``masks`` alone; as many as before, some of them empty now."""
        kept = thin_masks(state.masks, self.threshold)
        return dataclasses.replace(state, masks=state.masks.emptied(kept))


@SEED_STEPS.register_module()
class SamVote:
    """Seed step: SAM masks vote on the class maps. Reads ``maps`` and ``masks``, writes ``pixel_labels`` and
    ``confidence`` (B H W, the masks' size).

    Args:
        normalisation, gamma, background, background_value, priority: see :func:`sam_vote`.
        uncovered: pixels without a mask become ``background`` (published), ``ignore`` (255), or ``keep`` the labels
            that an earlier step wrote.
        extent: ``image``: what no mask covers takes part in the min-max, and (with ``uncovered='background'``) an image
            without any mask gets the labels of its maps: a name is never lost because masks are few. ``masks``: as
            published.

    Confidence where nothing was painted: the pixel's own background score for ``background``, 0 for ``ignore``, the
    earlier step's for ``keep``. With ``state.keep_scores`` it also writes ``chosen_by``, see :func:`voted_scores`.
    """

    needs, gives = frozenset({'maps', 'masks'}), frozenset({'pixel_labels'})

    def __init__(self, normalisation: str = 'relu_mean', gamma: float = 1.0, background: str = 'power',
                 background_value: float = 0.6, priority: Sequence[str] = ('level_bigger', 'confidence_bigger'),
                 uncovered: str = 'background', extent: str = 'image') -> None:
        for name, value, known in (('normalisation', normalisation, NORMALISATIONS),
                                   ('background', background, ('power', 'threshold')),
                                   ('uncovered', uncovered, UNCOVERED), ('extent', extent, EXTENTS)):
            if value not in known:
                raise ValueError(f'SamVote {name}: expected one of {known}, got {value!r}.'
                                 f'{suggest_name(str(value), known)}')
        painting_order(priority, *torch.zeros(3, 0))  # names unknown keys now, not in the first batch
        background_score(torch.zeros(0), background, background_value)
        self.settings: dict[str, Any] = dict(normalisation=normalisation, gamma=gamma, background=background,
                                             background_value=background_value, priority=tuple(priority),
                                              extent=extent)
        self.uncovered = uncovered
        if uncovered == 'keep':
            self.needs = self.needs | {'pixel_labels'}

    def __call__(self, state: SeedState) -> SeedState:
        batch_size = state.image_labels.shape[0]
        maps = state.maps.with_scores(resize_maps(state.maps.scores, state.masks.size))
        labels, confidence, covered, votes, order = sam_vote(maps, state.masks, batch_size, padding=state.padding,
                                                             **self.settings)
        if state.keep_scores:
            scores, rest = voted_scores(maps, self._background_confidence(maps, batch_size), state.masks, votes, order)
            state = dataclasses.replace(state, chosen_by=(maps.with_scores(scores), rest))
        if self.uncovered == 'background':
            background = self._background_confidence(maps, batch_size)
            confidence = torch.where(covered, confidence, background)
            if self.settings['extent'] == 'image':
                self._label_without_masks(maps, background, covered, labels, confidence)
        elif self.uncovered == 'ignore':
            labels = torch.where(covered, labels, IGNORE_LABEL)
        else:
            labels, confidence = self._keep(state, labels, confidence, covered)
        return dataclasses.replace(state, pixel_labels=labels, confidence=confidence)

    def _background_confidence(self, maps: ClassMaps, batch_size: int) -> Tensor:
        best = segment_max(maps.scores.flatten(1), maps.sample_index, batch_size).clamp(0, 1)
        score = background_score(best, self.settings['background'], self.settings['background_value'])
        return score.view(batch_size, *maps.scores.shape[1:])

    @staticmethod
    def _label_without_masks(maps: ClassMaps, background: Tensor, covered: Tensor, labels: Tensor,
                             confidence: Tensor) -> None:
        """Images without any mask get the labels of their maps, written into ``labels`` and ``confidence``."""
        none = ~covered.flatten(1).any(1)[:, None, None]
        if none.device.type == 'cpu' and not none.any():
            return  # elsewhere, to look is to wait
        height, width = labels.shape[1:]
        for rows in row_blocks(height, width):
            by_maps, sure, _ = label_pixels(maps.with_scores(maps.scores[:, rows]), background[:, rows])
            labels[:, rows] = torch.where(none, by_maps, labels[:, rows])
            confidence[:, rows] = torch.where(none, sure, confidence[:, rows])

    @staticmethod
    def _keep(state: SeedState, labels: Tensor, confidence: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
        if state.pixel_labels.shape != labels.shape:
            raise ValueError(f"SamVote(uncovered='keep') needs labels of shape {tuple(labels.shape)} from an earlier "
                             f'step (PixelLabels), got {tuple(state.pixel_labels.shape)}')
        earlier = torch.zeros_like(confidence) if state.confidence is None else state.confidence
        return torch.where(covered, labels, state.pixel_labels), torch.where(covered, confidence, earlier)
