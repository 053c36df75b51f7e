"""SAM when the model is used: all masks of an image vote on the model's probabilities.

A decoder on patches knows what is where, but not where it ends; SAM's masks end where things do. Each mask takes the
mean probability of every class over its pixels, and a pixel takes the mean of the masks that cover it.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.labels import background_of_maps, in_one_piece
from weclip_sam.seeds.mask_blocks import Group, groups, mask_means
from weclip_sam.structures import ClassMaps, MaskSet, SeedState

RULES = ('mean', 'surest')


def vote_probabilities(probabilities: Tensor, masks: MaskSet, rule: str = 'mean', weight: float = 1.0,
                       out: Tensor | None = None) -> Tensor:
    """Probabilities of one image after its masks have voted.

    Args:
        probabilities: C+1 H W, background first.
        masks: of the image, at H x W.
        rule: ``mean`` gives a pixel the mean of the masks over it; ``surest`` that of the mask whose highest mean is
            highest.
        weight: of the masks against the pixel's own probabilities, in [0, 1].
        out: where to write, perhaps ``probabilities`` itself; None: a new tensor.

    Returns:
        C+1 H W; pixels that no mask covers keep what they had.
    """
    voted = probabilities.clone() if out is None else out
    if out is not None and out is not probabilities:
        out.copy_(probabilities)
    if images := groups(masks, 1):
        classes = torch.arange(len(probabilities), device=probabilities.device)
        maps = ClassMaps(probabilities, torch.zeros_like(classes), classes)
        means = mask_means(maps, images, signed=False).means  # C+1 M
        for group in images:
            _paint(voted, group, means, rule, weight)
    return voted


def _paint(voted: Tensor, group: Group, means: Tensor, rule: str, weight: float) -> None:
    """Write what the masks of one image say into ``voted`` (C+1 H W), a few rows at a time."""
    own = F.pad(means, (0, 1))[:, group.place[0]]  # C+1 m
    sure = own.amax(0)
    for rows, columns in group.blocks(beside=len(voted)):
        inside = columns.inside[0].to(own.dtype)  # m r
        covered = inside.amax(0) > 0
        if rule == 'mean':
            with torch.autocast(own.device.type, enabled=False):
                answer = own @ inside / inside.sum(0).clamp(min=1)
        else:
            answer = own[:, (inside * sure[:, None]).argmax(0)]
        share = columns.spread((weight * covered)[None])[0].to(voted.dtype)
        voted[:, rows].lerp_(columns.spread(answer).to(voted.dtype), share)


@SEED_STEPS.register_module()
class VotePrediction:
    """Refinement step of predictions (``model.test.refine``): SAM's masks vote on the probabilities.

    Pixels without a mask, and so an image without masks, keep their prediction. Put a CRF before it or after it; which
    is better is a matter of data.

    Args:
        rule, weight: see :func:`vote_probabilities`.
    """

    needs, gives = frozenset({'maps', 'masks'}), frozenset({'maps'})

    def __init__(self, rule: str = 'mean', weight: float = 1.0) -> None:
        if rule not in RULES:
            raise ValueError(f'VotePrediction rule: expected one of {RULES}, got {rule!r}.{suggest_name(rule, RULES)}')
        if not 0 <= weight <= 1:
            raise ValueError(f'VotePrediction weight: expected a number in [0, 1], got {weight}')
        self.rule, self.weight = rule, weight

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps`` and ``background`` of one image, and ``masks``; writes both."""
        if len(state.image_labels) != 1:
            raise ValueError(f'VotePrediction refines one image at a time, got {len(state.image_labels)}')
        scores = state.maps.scores
        if tuple(scores.shape[1:]) != state.masks.size:
            raise ValueError(f'VotePrediction: the prediction is {tuple(scores.shape[1:])}, the masks are '
                             f'{state.masks.size}: they are of another image, or of another size of this one')
        together = in_one_piece(background_of_maps(state, scores), scores)
        voted = vote_probabilities(together, state.masks, self.rule, self.weight, together if state.owned else None)
        return state.with_maps('votes', state.maps.with_scores(voted[1:]), background=voted[:1])
