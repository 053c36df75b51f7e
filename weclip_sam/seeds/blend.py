"""Joining the maps of two steps: what one adds to the other stays, what only one of them says is halved."""
from __future__ import annotations

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.structures import SeedState


@SEED_STEPS.register_module()
class BlendMaps:
    """Seed step: a weighted mean of the current maps and those of an earlier step.

    Affinity carries a class from its telling part to the rest of the object, and with it some of the class to whatever
    looks alike; the maps before it know better what is *not* the class. WeCLIP-SAM lets SAM's masks vote on the mean of
    the two.

    Args:
        earlier: name of the earlier step in the state's history, such as ``'gradcam'``.
        weight: of the current maps, in [0, 1].
    """

    def __init__(self, earlier: str = 'gradcam', weight: float = 0.5) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f'BlendMaps weight: expected a number in [0, 1], got {weight}')
        self.earlier, self.weight = earlier, weight

    def __call__(self, state: SeedState) -> SeedState:
        if state.maps is None or self.earlier not in state.history:
            raise ValueError(f'BlendMaps: no earlier step left maps called {self.earlier!r}; there are '
                             f'{sorted(state.history)}.{suggest_name(self.earlier, state.history)}')
        earlier = state.history[self.earlier].scores
        if earlier.shape != state.maps.scores.shape:
            raise ValueError(f'BlendMaps: the maps of {self.earlier!r} are {tuple(earlier.shape[1:])}, the current '
                             f'ones {tuple(state.maps.scores.shape[1:])}; put BlendMaps before steps that upsample')
        mean = self.weight * state.maps.scores + (1 - self.weight) * earlier
        return state.with_maps('blend', state.maps.with_scores(mean))
