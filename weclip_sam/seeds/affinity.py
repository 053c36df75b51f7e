"""Affinity from attention: maps spread along what CLIP, or the decoder, holds for the same thing.

CAA (class-aware attention-based affinity, CLIP-ES section 3.3) averages the attention of the last blocks. RFM
(refinement module, WeCLIP section 3.3) chooses among them by the decoder's own affinity and multiplies by it. Both then
make the attention doubly stochastic (Sinkhorn), symmetric, square it, and let scores flow out of each class's boxes.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weclip_sam.checks import check_shape, select_layers, suggest_name
from weclip_sam.features import Named, Wanted, mean_of
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.boxes import above_threshold, box_masks
from weclip_sam.seeds.gradcam import stretch
from weclip_sam.structures import SeedState

SELECTIONS = ('published', 'row_normalised')
SOURCES = ('inside', 'outside', 'all')
COUNT_EPS = 1e-5


def mean_attention(attentions: Tensor, layers: int | Sequence[int] = 8) -> Tensor:
    """B P P mean over blocks of L B P P patch-to-patch attentions (class token dropped, rows not renormalised).

    Args:
        attentions: L B P P, from :meth:`ClipFeatures.patch_attentions`.
        layers: the last n blocks, or block indices.
    """
    check_shape('attentions: L B P P', attentions=attentions)
    # One by one, as a list for an index would be sent to the device while the host waits.
    return mean_of([attentions[index] for index in select_layers(layers, len(attentions), 'attention layers')])


def attention_distance(attentions: Tensor | Sequence[Tensor], seg_affinity: Tensor,
                       selection: str = 'published') -> Tensor:
    """L B: how far each block's attention is from the decoder's affinity A_f (WeCLIP eq. 5), by one of two measures.

    ``published``: d_l = sum(A_f - A_l), signed. As attention rows sum to one, A_f cancels when blocks are compared:
    what decides is how much attention patches give the class token. ``row_normalised``: d_l = sum |A_f - A_l| on maps
    whose rows are made to sum to one, which does compare.

    Args:
        attentions: L B P P, or L times B P P: patch-to-patch attentions of the candidate blocks.
        seg_affinity: B P P in [0, 1].
        selection: one of the two names above.
    """
    seg_affinity = seg_affinity.detach().float()
    for attention in attentions:
        check_shape('attentions: B P P; seg_affinity: B P P', attentions=attention, seg_affinity=seg_affinity)
    if selection == 'published':
        return torch.stack([(seg_affinity - attention).sum((-2, -1)) for attention in attentions])
    if selection == 'row_normalised':
        seg_affinity = _rows_to_one(seg_affinity)
        return torch.stack([(seg_affinity - _rows_to_one(attention.float())).abs().sum((-2, -1))
                            for attention in attentions])
    raise ValueError(f'selection: expected one of {SELECTIONS}, got {selection!r}.'
                     f'{suggest_name(selection, SELECTIONS)}')


def choose_attention(attentions: Tensor | Sequence[Tensor], seg_affinity: Tensor,
                     selection: str = 'published') -> tuple[Tensor, Tensor]:
    """RFM's choice (WeCLIP eq. 5-7): per image, average the blocks with d_l <= mean(d), times the decoder's affinity.

    Args:
        attentions, seg_affinity, selection: see :func:`attention_distance`.

    Returns:
        attention B P P, the mean of the kept blocks times ``seg_affinity``, and kept L B bool (at least one block per
        image, whatever rounding does).
    """
    distance = attention_distance(attentions, seg_affinity, selection)
    kept = (distance <= distance.mean(0)) | (distance == distance.amin(0))
    shares = (kept / (kept.sum(0) + COUNT_EPS))[..., None, None]
    total = attentions[0].float() * shares[0]
    for attention, share in zip(attentions[1:], shares[1:], strict=True):
        total.addcmul_(attention.float(), share)
    return total.mul_(seg_affinity.detach()), kept


def _rows_to_one(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True).clamp(min=1e-12)


def sinkhorn(attention: Tensor, rounds: int = 3) -> Tensor:
    """Divide ... P P by its column sums, then by its row sums, ``rounds`` times.

    A column or row of zeros (a patch that is padding) stays zero.
    """
    tiny = torch.finfo(attention.dtype).tiny
    out = None if attention.requires_grad else torch.empty_like(attention)  # one matrix for all rounds
    for dim in (-2, -1) * rounds:
        attention = torch.div(attention, attention.sum(dim, keepdim=True).clamp(min=tiny), out=out)
    return attention


def transition_matrix(attention: Tensor, rounds: int | None = 3, power: int = 2) -> Tensor:
    """... P P: Sinkhorn, symmetrise, raise to a matrix power (CLIP-ES, WeCLIP: 3 rounds, squared; FMA-WSSS: 1 round).

    With ``rounds=None`` the matrix is raised to its power as it is, neither balanced nor symmetrised.

    Raises:
        ValueError: see :func:`check_flow`.
    """
    check_flow('transition matrix', rounds, power)
    with torch.autocast(attention.device.type, enabled=False):
        balanced = attention.float()
        if rounds is not None:
            balanced = sinkhorn(balanced, rounds)
            balanced = (balanced + balanced.transpose(-2, -1)).div_(2)
        return torch.linalg.matrix_power(balanced, power)


def check_flow(who: str, rounds: int | None, power: int) -> None:
    """Whether a matrix can be made with these settings.

    Raises:
        ValueError: fewer than no rounds of Sinkhorn, or a negative power, which would be an inverse.
    """
    if rounds is not None and rounds < 0 or power < 0:
        raise ValueError(f'{who}: expected rounds >= 0 and power >= 0, got {rounds} and {power}')


def propagate(transition: Tensor, maps: Tensor, sample_index: Tensor, boxes: Tensor | None = None,
              inside: str = 'inside', outside: str = 'inside') -> Tensor:
    """Let scores flow: M'_c = (T with a mask on what each patch may read) . M_c.

    Args:
        transition: B P P.
        maps: K h w, also signed ones.
        sample_index: K, the image of each map.
        boxes: K h w bool, or None for no mask at all.
        inside, outside: what patches inside (outside) the boxes read: patches ``'inside'``, ``'outside'`` or ``'all'``.
            Published by CLIP-ES: everybody reads inside the boxes, so a mask on the columns.

    Returns:
        K h w, not normalised.
    """
    check_shape('transition: B P P; maps: K h w; sample_index: K', transition=transition, maps=maps,
                sample_index=sample_index)
    for name, value in (('inside', inside), ('outside', outside)):
        if value not in SOURCES:
            raise ValueError(f'{name}: expected one of {SOURCES}, got {value!r}.{suggest_name(value, SOURCES)}')
    values = maps.float().flatten(1)
    if boxes is None:
        return _flow(transition, values, sample_index).view(maps.shape)
    in_box = boxes.flatten(1)
    if inside == outside == 'inside':
        return _flow(transition, values * in_box, sample_index).view(maps.shape)
    reads = {'inside': _flow(transition, values * in_box, sample_index),
             'outside': _flow(transition, values * ~in_box, sample_index)}
    reads['all'] = reads['inside'] + reads['outside']
    return torch.where(in_box, reads[inside], reads[outside]).view(maps.shape)


def _flow(transition: Tensor, values: Tensor, sample_index: Tensor) -> Tensor:
    """K P: the image's matrix (of B P P) times each of K P ``values``.

    The values of other images are zeros in a B K P table, which costs less than K copies of matrices, and how many maps
    an image has need not be known on the host.
    """
    own = torch.arange(len(transition), device=sample_index.device)[:, None] == sample_index  # B K
    with torch.autocast(values.device.type, enabled=False):
        flown = torch.bmm(own[..., None] * values, transition.float().transpose(1, 2))
    return flown.gather(0, sample_index[None, :, None].expand(1, *values.shape))[0]


class AffinityStep:
    """What steps that spread maps share: from an affinity of patches to propagated maps.

    Args:
        threshold, power, boxes_of: see :class:`AttentionAffinity`.
        rounds: of Sinkhorn; None takes the matrix as it is, neither balanced nor symmetrised, to its power.
    """

    name: str
    needs, gives = frozenset({'maps', 'clip'}), frozenset({'maps'})

    def __init__(self, threshold: float | None, rounds: int | None, power: int, boxes_of: str | None) -> None:
        if threshold is not None:
            above_threshold(torch.zeros(0, 1, 1), threshold)  # names a wrong threshold now, not in the first batch
        check_flow(type(self).__name__, rounds, power)
        self.threshold, self.rounds, self.power, self.boxes_of = threshold, rounds, power, boxes_of

    def spread(self, state: SeedState, attention: Tensor) -> SeedState:
        """The state with maps that flowed along ``attention`` (B P P), stretched to [0, 1)."""
        maps, grid = state.maps, tuple(state.features['clip'].grid)
        if tuple(maps.scores.shape[1:]) != grid:
            raise ValueError(f'{type(self).__name__} works on patches: maps are {tuple(maps.scores.shape[1:])}, the '
                             f'grid is {grid}; put it before steps that upsample')
        transition = transition_matrix(attention, self.rounds, self.power)
        boxes = None if self.threshold is None else box_masks(self._maps_in_boxes(state), self.threshold)
        refined = propagate(transition, maps.scores, maps.sample_index, boxes)
        return state.with_maps(self.name, maps.with_scores(stretch(refined)), affinity=transition)

    def _maps_in_boxes(self, state: SeedState) -> Tensor:
        if self.boxes_of is None:
            return state.maps.scores
        if self.boxes_of not in state.history:
            raise ValueError(f'{type(self).__name__} boxes_of: no earlier step left maps called {self.boxes_of!r}; '
                             f'there are {sorted(state.history)}.{suggest_name(self.boxes_of, state.history)}')
        return state.history[self.boxes_of].scores


@SEED_STEPS.register_module()
class AttentionAffinity(AffinityStep):
    """Seed step CAA: spread the maps along the mean attention of some blocks, out of each class's boxes.

    Writes ``maps`` scaled to [0, 1) (CLIP-ES scales before it upsamples) and ``affinity``.

    Args:
        layers: the last n blocks, or block indices. Published: 8.
        threshold: of the boxes; 0.4 on VOC, 0.7 on COCO. None lets scores flow from everywhere (WeCLIP+ on VOC).
        rounds: of Sinkhorn.
        power: of the transition matrix.
        boxes_of: name of the earlier step whose maps have the boxes; None takes the current ones.
    """

    name = 'affinity'

    def __init__(self, layers: int | Sequence[int] = 8, threshold: float | None = 0.4, rounds: int = 3, power: int = 2,
                 boxes_of: str | None = None) -> None:
        super().__init__(threshold, rounds, power, boxes_of)
        self.layers = layers

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """The mean attention of its blocks."""
        return {'clip': Wanted.mean_attention(encoders['clip'].layers, self.layers)}

    def __call__(self, state: SeedState) -> SeedState:
        return self.spread(state, state.features['clip'].mean_attention(self.layers))


@SEED_STEPS.register_module()
class RfmAffinity(AffinityStep):
    """Seed step RFM: as CAA, but once the curriculum allows, on attention chosen and weighed by the decoder's affinity.

    Deliberate difference from the public code: the switch is ``state.decoder_heard``, set by a hook from training
    iterations, not a counter that also counts validation passes.

    Args:
        layers: candidate blocks; published: the last 6 on VOC, 10 on COCO.
        warmup_layers: blocks averaged before the switch; published: 8.
        selection: see :func:`choose_attention`.
        threshold, rounds, power, boxes_of: see :class:`AttentionAffinity`.
    """

    name = 'affinity'

    def __init__(self, layers: int | Sequence[int] = 6, warmup_layers: int | Sequence[int] = 8,
                 selection: str = 'published', threshold: float | None = 0.4, rounds: int = 3, power: int = 2,
                 boxes_of: str | None = None) -> None:
        super().__init__(threshold, rounds, power, boxes_of)
        if selection not in SELECTIONS:
            raise ValueError(f'RfmAffinity selection: expected one of {SELECTIONS}, got {selection!r}.'
                             f'{suggest_name(selection, SELECTIONS)}')
        self.layers, self.warmup_layers, self.selection = layers, warmup_layers, selection

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """A mean before the switch; the candidates one by one after it."""
        layers = encoders['clip'].layers
        if not decoder_heard:
            return {'clip': Wanted.mean_attention(layers, self.warmup_layers)}
        return {'clip': Wanted(attentions=frozenset(select_layers(self.layers, layers, 'RFM layers')))}

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, CLIP's attentions and ``seg_affinity``; writes ``maps`` in [0, 1) and ``affinity``."""
        features = state.features['clip']
        if state.decoder_heard and state.seg_affinity is not None:
            candidates = [features.patch_attention(block)
                          for block in select_layers(self.layers, len(features.attentions), 'RFM layers')]
            attention, _ = choose_attention(candidates, state.seg_affinity, self.selection)
        else:
            attention = features.mean_attention(self.warmup_layers)
        return self.spread(state, attention)
