"""Seed steps that change which SAM masks the later steps see."""
from __future__ import annotations

import dataclasses

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.sams import thin_masks
from weclip_sam.structures import SeedState


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
