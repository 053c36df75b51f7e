"""Seed steps that change which SAM masks the later steps see."""
from __future__ import annotations

import dataclasses

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.sams import rock_sand_water
from weclip_sam.structures import SeedState


@SEED_STEPS.register_module()
class RockSandWater:
    """Seed step: thin the masks out so that they hardly overlap (FMA-WSSS), see :func:`rock_sand_water`.

    It asks the host which levels there are, so on a GPU every batch waits once for it.

    Args:
        threshold: a mask goes if one mask of a higher level covers at least this share of it. Published: 0.3.
    """

    def __init__(self, threshold: float = 0.3) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f'RockSandWater threshold: expected a share of the area in [0, 1], got {threshold}')
        self.threshold = threshold

    def __call__(self, state: SeedState) -> SeedState:
        if state.masks is None:
            raise ValueError('RockSandWater needs SAM masks: give a mask bank or a mask generator')
        return dataclasses.replace(state, masks=state.masks.select(rock_sand_water(state.masks, self.threshold)))
