"""FMA-WSSS's use of attention affinity: signed maps, boxes from their scores, and a say in what the outside reads."""
from __future__ import annotations

from collections.abc import Sequence

from weclip_sam.checks import suggest_name
from weclip_sam.features import Named, Wanted
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.affinity import SOURCES, check_flow, propagate, transition_matrix
from weclip_sam.seeds.boxes import box_masks
from weclip_sam.seeds.scores import min_max
from weclip_sam.structures import SeedState

SPREADS = ('cam', 'score')


@SEED_STEPS.register_module()
class FmaAffinity:
    """Seed step: spread signed class maps along the mean attention of the last blocks.

    Boxes are those of the maps' scores (clipped at zero, min-max). Unlike :class:`AttentionAffinity` the result is not
    scaled: SAMS clips and normalises it per mask.

    Args:
        layers: the last n blocks, or block indices.
        threshold: of the boxes. Paper: 0.4 for the coarse seeds, 0.5 for the fine ones (VOC), 0.7 (COCO).
        rounds: of Sinkhorn. Paper: 1.
        power: of the transition matrix (the authors' ``n_iters``). Paper: 2. With 0 nothing flows, boxes or not.
        spread: ``score`` (coarse seeds) lets the scores flow, ``cam`` (fine seeds) the signed maps.
        inside, outside: what patches inside (outside) the boxes read, see :func:`propagate`.
        use_boxes: False lets everybody read everything.
    """

    needs, gives = frozenset({'maps', 'clip'}), frozenset({'maps'})

    def __init__(self, layers: int | Sequence[int] = 8, threshold: float = 0.4, rounds: int = 1, power: int = 2,
                 spread: str = 'score', inside: str = 'inside', outside: str = 'inside',
                 use_boxes: bool = True) -> None:
        for name, value, known in (('spread', spread, SPREADS), ('inside', inside, SOURCES),
                                   ('outside', outside, SOURCES)):
            if value not in known:
                raise ValueError(f'FmaAffinity {name}: expected one of {known}, got {value!r}.'
                                 f'{suggest_name(value, known)}')
        if not 0 <= threshold <= 1:
            raise ValueError(f'FmaAffinity threshold: expected a share in [0, 1], got {threshold}')
        check_flow('FmaAffinity', rounds, power)
        self.layers, self.threshold, self.rounds, self.power = layers, threshold, rounds, power
        self.spread, self.inside, self.outside, self.use_boxes = spread, inside, outside, use_boxes

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """The mean attention of its blocks; nothing where nothing flows."""
        return {'clip': Wanted() if self.power == 0 else
                Wanted.mean_attention(encoders['clip'].layers, self.layers)}

    def __call__(self, state: SeedState) -> SeedState:
        """Reads signed ``maps`` and CLIP's attentions; writes ``maps``, not scaled, and (power > 0) ``affinity``."""
        maps, features = state.maps, state.features['clip']
        if tuple(maps.scores.shape[1:]) != tuple(features.grid):
            raise ValueError(f'FmaAffinity needs class maps on the grid of patches {tuple(features.grid)}: put it '
                             'right behind GradCam(signed=True)')
        scores = min_max(maps.scores)
        flowing = scores if self.spread == 'score' else maps.scores
        if self.power == 0:
            return state.with_maps('affinity', maps.with_scores(flowing))
        transition = transition_matrix(features.mean_attention(self.layers), self.rounds, self.power)
        boxes = box_masks(scores, self.threshold) if self.use_boxes else None
        flown = propagate(transition, flowing, maps.sample_index, boxes, self.inside, self.outside)
        return state.with_maps('affinity', maps.with_scores(flown), affinity=transition)
