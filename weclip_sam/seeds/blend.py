"""Joining maps of two sources: what both say stays, what only one of them says is halved."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import SeedState, foreground_label, to_device


@SEED_STEPS.register_module()
class BlendMaps:
    """Seed step: a weighted mean of the current maps and those of earlier steps.

    Affinity carries a class from its telling part to the rest of the object, and with it some of the class to whatever
    looks alike; the maps before it know better what is *not* the class. WeCLIP-SAM lets SAM's masks vote on the mean of
    all.

    Args:
        earlier: name of an earlier step in the state's history, such as ``'gradcam'``, or several names.
        weight: of the current maps, in [0, 1]; the earlier ones share the rest evenly. None: all count the same.
    """

    needs, gives = frozenset({'maps'}), frozenset({'maps'})

    def __init__(self, earlier: str | Sequence[str] = 'gradcam', weight: float | None = None) -> None:
        self.earlier = (earlier,) if isinstance(earlier, str) else tuple(earlier)
        if not self.earlier:
            raise ValueError("BlendMaps earlier: expected the name of an earlier step, such as 'gradcam', or several")
        self.weight = 1 / (1 + len(self.earlier)) if weight is None else weight
        if not 0 <= self.weight <= 1:
            raise ValueError(f'BlendMaps weight: expected a number in [0, 1], got {weight}')

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps`` and ``history``; writes ``maps`` (K h w) and clears ``background``."""
        mean = self.weight * state.maps.scores
        share = (1 - self.weight) / len(self.earlier)
        for name in self.earlier:
            if name not in state.history:
                raise ValueError(f'BlendMaps: no earlier step left maps called {name!r}; there are '
                                 f'{sorted(state.history)}.{suggest_name(name, state.history)}')
            scores = state.history[name].scores
            if scores.shape != mean.shape:
                raise ValueError(f'BlendMaps: the maps of {name!r} are {tuple(scores.shape[1:])}, the current ones '
                                 f'{tuple(mean.shape[1:])}; put BlendMaps before steps that upsample')
            mean = mean + share * scores
        return state.with_maps('blend', state.maps.with_scores(mean))


@SEED_STEPS.register_module()
class BlendPrediction:
    """Seed step: a weighted mean of the current maps and what the decoder itself predicts by now.

    The decoder has seen every image; what it learnt of a class in one corrects the CAM of another. Its probabilities
    are taken among the background and the classes that the image is known to have. SAM's masks, which vote next, keep
    it from merely repeating itself. Before the curriculum's switch, and where there is no decoder (offline seeds), the
    maps pass as they are.

    Args:
        weight: of the prediction, in [0, 1].
    """

    needs, gives = frozenset({'maps'}), frozenset({'maps'})

    def __init__(self, weight: float = 0.5) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f'BlendPrediction weight: expected a number in [0, 1], got {weight}')
        self.weight = weight

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, ``seg_logits`` and ``image_labels``; writes ``maps`` (K h w) and clears ``background``."""
        if state.seg_logits is None or not state.decoder_heard:
            return state
        scores = present_probabilities(state.seg_logits, to_device(state.image_labels, state.seg_logits.device))
        predicted = scores[state.maps.sample_index, foreground_label(state.maps.class_index)]
        # Both on the finer grid of the two: a decoder may answer in steps smaller than a patch.
        grid = [max(sides) for sides in zip(predicted.shape[1:], state.maps.scores.shape[1:], strict=True)]
        predicted, scores = resize_maps(predicted, grid), resize_maps(state.maps.scores, grid)
        mean = self.weight * predicted + (1 - self.weight) * scores
        return state.with_maps('prediction', state.maps.with_scores(mean))


@SEED_STEPS.register_module()
class WeighByPrediction:
    """Seed step: the maps times what the decoder gives each class at each patch (WeCLIP+).

    Put it before the affinity that spreads the maps. As maps are stretched to [0, 1) afterwards only the *shape* of the
    probability matters: a class that the decoder hardly believes in still peaks near one. Before the curriculum's
    switch, and where there is no decoder, the maps pass as they are; WeCLIP+ switches at once (``rfm_start=0``).

    Args:
        classes: the softmax runs over ``all`` classes (published), or the background and those that are ``named``.
    """

    needs, gives = frozenset({'maps'}), frozenset({'maps'})

    def __init__(self, classes: str = 'all') -> None:
        if classes not in ('all', 'named'):
            raise ValueError(f"WeighByPrediction classes: expected 'all' or 'named', got {classes!r}")
        self.classes = classes

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, ``seg_logits`` and ``image_labels``; writes ``maps`` (K h w) and clears ``background``."""
        if state.seg_logits is None or not state.decoder_heard:
            return state
        if self.classes == 'all':
            scores = state.seg_logits.float().softmax(1)
        else:
            scores = present_probabilities(state.seg_logits, to_device(state.image_labels, state.seg_logits.device))
        predicted = scores[state.maps.sample_index, foreground_label(state.maps.class_index)]
        predicted = resize_maps(predicted, state.maps.scores.shape[1:])
        return state.with_maps('weighed', state.maps.with_scores(state.maps.scores * predicted))


def present_probabilities(seg_logits: Tensor, image_labels: Tensor) -> Tensor:
    """Softmax over the background and the classes an image has; the other classes get zero.

    Args:
        seg_logits: B C+1 h w.
        image_labels: B C bool, on the same device.
    """
    present = torch.cat([image_labels.new_ones(len(image_labels), 1), image_labels], 1)
    return seg_logits.float().masked_fill(~present[:, :, None, None], -torch.inf).softmax(1)
