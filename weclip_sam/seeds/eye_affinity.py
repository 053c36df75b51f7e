"""Affinity from a second eye: maps spread along what another frozen encoder (DINO, SAM's own, ...) holds for alike.

CLIP's attention was trained to summarise an image, not to tell its things apart; an encoder that follows appearance
does better. The cosines of its tokens, brought to CLIP's grid, become a transition matrix as attention does in CAA:
softmax at a temperature, Sinkhorn, symmetrised, squared.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import select_layers, suggest_name
from weclip_sam.features import Named, Wanted
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.affinity import AffinityStep
from weclip_sam.seeds.cda import DIRECTIONS, cda_affinity, class_distributions, cosines, named_texts
from weclip_sam.seeds.excel import HEADS, calibrated_wishes
from weclip_sam.structures import SeedState, to_device

DECODER = 'decoder'


def token_affinity(tokens: Tensor, grid: Sequence[int], target: Sequence[int], temperature: float) -> Tensor:
    """B P P: softmax over patches of the cosines of tokens, at a temperature.

    Args:
        tokens: B Q D patch tokens, without a class token.
        grid: (h, w) of the tokens, Q = h * w.
        target: (h, w) of the answer, P = h * w; tokens are resized (bilinear) if it differs.
        temperature: of the softmax; the lower, the fewer patches count.
    """
    tokens = tokens.float()
    if tuple(grid) != tuple(target):
        planes = tokens.transpose(1, 2).unflatten(2, tuple(grid))
        tokens = F.interpolate(planes, tuple(target), mode='bilinear', align_corners=False).flatten(2).transpose(1, 2)
    tokens = F.normalize(tokens, dim=-1)
    with torch.autocast(tokens.device.type, enabled=False):  # a low temperature makes much of small differences
        return (tokens @ tokens.transpose(1, 2) / temperature).softmax(-1)


@SEED_STEPS.register_module()
class EyeAffinity(AffinityStep):
    """Seed step: spread the maps along the affinity of another encoder's tokens, in the place of CAA or RFM.

    Args:
        eye: name of the encoder, or ``decoder``: the decoder's own affinity, once it is heard (before, the maps pass as
            they are).
        block: whose tokens are compared; -1 is the last.
        temperature: of the softmax over their cosines.
        attention: blocks of CLIP (the last n, or indices) whose mean attention it is multiplied with; None for none.
        threshold, rounds, power, boxes_of: see :class:`AttentionAffinity`; no boxes by default.
    """

    name = 'eye'

    def __init__(self, eye: str = 'dino', block: int = -1, temperature: float = 0.3,
                 attention: int | Sequence[int] | None = None, threshold: float | None = None, rounds: int = 3,
                 power: int = 2, boxes_of: str | None = None) -> None:
        super().__init__(threshold, rounds, power, boxes_of)
        if not temperature > 0:
            raise ValueError(f'EyeAffinity temperature: expected a number > 0, got {temperature}')
        self.eye, self.block, self.temperature, self.attention = eye, block, temperature, attention
        self.needs = frozenset({'maps', 'clip'} | ({eye} if eye != DECODER else set()))

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """The tokens of one block, and perhaps CLIP's mean attention."""
        clip = Wanted()
        if self.attention is not None:
            clip = Wanted.mean_attention(encoders['clip'].layers, self.attention)
        if self.eye == DECODER:
            return {'clip': clip}
        layers = encoders[self.eye].layers
        own = Wanted(tokens=frozenset(select_layers([self.block], layers, f'EyeAffinity block of {self.eye!r}')))
        return {'clip': clip | own} if self.eye == 'clip' else {'clip': clip, self.eye: own}

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps`` and features; writes ``maps`` in [0, 1) and ``affinity``."""
        clip = state.features['clip']
        if self.eye == DECODER:
            if state.seg_affinity is None or not state.decoder_heard:
                return state
            affinity = state.seg_affinity.float()
        else:
            own = state.features[self.eye]
            affinity = token_affinity(own.tokens[self.block][:, 1:], own.grid, clip.grid, self.temperature)
        if self.attention is not None:
            affinity = affinity * clip.mean_attention(self.attention)
        return self.spread(state, affinity)


@SEED_STEPS.register_module()
class CdaAffinity(AffinityStep):
    """Seed step CDA: spread the maps among patches that look alike to all classes (see :mod:`weclip_sam.seeds.cda`).

    Args:
        tau: temperature; not published.
        layers: blocks whose mean attention is A_init; the last n, or indices.
        scaling: of the similarities, see :func:`weclip_sam.seeds.cda.class_distributions`.
        calibrated: patch embeddings come from ExCEL's calibrated path over so many last blocks; 0 takes the last
            block's tokens as they are.
        heads: of the calibrated path.
        rounds: of Sinkhorn; None, as described, uses the matrix as it is.
        power: of the matrix; not published.
        direction: ``right``, as printed, multiplies maps by the matrix from the right (so a patch gives to those that
            it attends to); ``left`` lets a patch read from them, as WeCLIP does.
        threshold, boxes_of: see :class:`AttentionAffinity`; no boxes by default.
    """

    name = 'cda'

    def __init__(self, tau: float = 0.02, layers: int | Sequence[int] = 8, scaling: str = 'class', calibrated: int = 0,
                 heads: str = 'mean', rounds: int | None = None, power: int = 1, direction: str = 'right',
                 threshold: float | None = None, boxes_of: str | None = None) -> None:
        super().__init__(threshold, rounds, power, boxes_of)
        cda_affinity(torch.ones(1, 1, 1), torch.ones(1, 1, 1), tau)  # names wrong settings now, not in the first batch
        class_distributions(torch.ones(1, 1, 1), scaling=scaling)
        for what, value, known in (('direction', direction, DIRECTIONS), ('heads', heads, HEADS)):
            if value not in known:
                raise ValueError(f'CdaAffinity {what}: expected one of {known}, got {value!r}.'
                                 f'{suggest_name(str(value), known)}')
        if calibrated < 0:
            raise ValueError(f'CdaAffinity calibrated: expected a number of blocks >= 0, got {calibrated}')
        self.tau, self.layers, self.scaling, self.direction = tau, layers, scaling, direction
        self.calibrated, self.heads = calibrated, heads

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """The mean attention of its blocks, and the tokens that are embedded."""
        layers = encoders['clip'].layers
        tokens = Wanted(tokens=frozenset({layers - 1}))
        if self.calibrated:
            tokens = calibrated_wishes(layers, self.calibrated)
        return {'clip': Wanted.mean_attention(layers, self.layers) | tokens}

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, ``features``, ``text_features`` and ``image_labels``; writes ``maps`` and ``affinity``."""
        clip, features = state.encoders['clip'], state.features['clip']
        embedded = (clip.embed_calibrated(features, self.calibrated, self.heads) if self.calibrated
                    else clip.embed_tokens(features.tokens[-1]))
        index, used = named_texts(state.image_labels, len(state.text_features) - state.image_labels.shape[1])
        index, used = (to_device(values, embedded.device) for values in (index, used))
        similarity = cosines(embedded[:, 1:], state.text_features[index])
        distributions = class_distributions(similarity, used, self.scaling)
        affinity = cda_affinity(distributions, features.mean_attention(self.layers), self.tau)
        return self.spread(state, affinity if self.direction == 'left' else affinity.transpose(1, 2))

