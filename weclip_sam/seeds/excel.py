"""ExCEL's training-free maps: patches against texts, without a gradient.

Patch tokens come from a calibrated second path through CLIP's last blocks (``foundation/calibrated.py``), the class
token from the ordinary one. With p = softmax(2 f_CLS . T) and w = p / mean(p)::

    S_nk <- w_k S_nk - mean_j(w_j S_nj),        S = F T^T

min-maxed for each text over the patches (published: over all tokens); what belongs to every text alike is gone, and
texts that the whole image does not look like count little.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.features import Named, Wanted
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.gradcam import present_pairs
from weclip_sam.structures import ClassMaps, SeedState, to_device

NORMALISATIONS = ('channels', 'tokens')
TEXTS = ('present', 'all')
STRETCHES = ('patches', 'tokens')
HEADS = ('mean', 'sum')
SHARPNESS = 2.0  # of the class token's softmax, published


def similarity_maps(embeddings: Tensor, text_features: Tensor, used: Tensor | None = None,
                    normalise: str = 'channels', stretch: str = 'patches') -> Tensor:
    """What each patch looks like, beyond what it looks like to all texts.

    Args:
        embeddings: B 1+P E, the class token first.
        text_features: N E, or B N E, unit rows.
        used: B N bool, texts that count for each image; None for all.
        normalise: ``channels`` makes every token a unit vector; ``tokens``, as published, every channel over the tokens
            of an image, class token included.
        stretch: over what each text is min-maxed: ``patches``, or ``tokens``, as published. The class token is often
            the extreme; then no patch comes near 1, and background wins where a class should.

    Returns:
        B 1+P N in [0, 1].

    Raises:
        ValueError: a choice that does not exist.
    """
    check_shape('embeddings: B T E', embeddings=embeddings)
    for name, value, known in (('normalise', normalise, NORMALISATIONS), ('stretch', stretch, STRETCHES)):
        if value not in known:
            raise ValueError(f'ExCEL {name}: expected one of {known}, got {value!r}.{suggest_name(value, known)}')
    tokens = F.normalize(embeddings.float(), dim=2 if normalise == 'channels' else 1)
    with torch.autocast(tokens.device.type, enabled=False):  # what is left below are small differences of these numbers
        similarity = tokens @ text_features.float().transpose(-2, -1)
    after = stand_out(similarity, class_weights(similarity[:, 0], used), used)
    among = after[:, 1:] if stretch == 'patches' else after
    low, high = among.amin(1, keepdim=True), among.amax(1, keepdim=True)
    return ((after - low) / (high - low).clamp(min=torch.finfo(after.dtype).tiny)).clamp(0, 1)


def class_weights(similarity: Tensor, used: Tensor | None = None) -> Tensor:
    """w = p / mean(p), B N, from the class token's B N similarity with the texts; texts that are not used get zero."""
    logits = SHARPNESS * similarity
    if used is None:
        return logits.softmax(-1) * similarity.shape[-1]
    return logits.masked_fill(~used, -torch.inf).softmax(-1) * used.sum(-1, keepdim=True)


def stand_out(similarity: Tensor, weights: Tensor, used: Tensor | None = None) -> Tensor:
    """``w_k S_nk - mean_j(w_j S_nj)``, B T N; the mean runs over the texts that are used."""
    weighed = similarity * weights[:, None]
    count = weighed.shape[-1] if used is None else used.sum(-1)[:, None, None]
    return weighed - weighed.sum(-1, keepdim=True) / count


def calibrated_wishes(layers: int, blocks: int) -> Wanted:
    """The tokens that enter each of the last ``blocks`` of ``layers`` blocks, and the last block's.

    Raises:
        ValueError: fewer than one block, or nothing enters the first of them that an encoder keeps.
    """
    if not 0 < blocks < layers:
        raise ValueError(f'calibrated blocks: expected a number from 1 to {layers - 1} (the encoder has {layers}), got '
                         f'{blocks}')
    return Wanted(tokens=frozenset(range(layers - blocks - 1, layers)))


@SEED_STEPS.register_module()
class ExcelMaps:
    """Seed step: ExCEL's training-free maps, in the place of GradCAM; its cost does not grow with the classes.

    Args:
        blocks: the last n blocks of CLIP that are calibrated; published: 5.
        heads: ``mean`` of the heads' calibrated matrices, or their ``sum``, as published.
        normalise: see :func:`similarity_maps`; published: ``tokens``.
        texts: which texts stand out against each other: ``present``, the image's own classes and the background nouns,
            or ``all``, as published.
        stretch: see :func:`similarity_maps`; published: ``tokens``.
    """

    needs, gives = frozenset({'clip'}), frozenset({'maps'})

    def __init__(self, blocks: int = 5, heads: str = 'mean', normalise: str = 'channels',
                 texts: str = 'present', stretch: str = 'patches') -> None:
        for name, value, known in (('heads', heads, HEADS), ('normalise', normalise, NORMALISATIONS),
                                   ('texts', texts, TEXTS), ('stretch', stretch, STRETCHES)):
            if value not in known:
                raise ValueError(f'ExcelMaps {name}: expected one of {known}, got {value!r}.'
                                 f'{suggest_name(str(value), known)}')
        if blocks < 1:
            raise ValueError(f'ExcelMaps blocks: expected a number >= 1, got {blocks}')
        self.blocks, self.heads, self.normalise = blocks, heads, normalise
        self.texts, self.stretch = texts, stretch

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """What enters the calibrated blocks, and the last block's tokens."""
        return {'clip': calibrated_wishes(encoders['clip'].layers, self.blocks)}

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``features``, ``text_features`` and ``image_labels``; writes ``maps``, one score a patch in [0, 1]."""
        features = state.features['clip']
        embeddings = state.encoders['clip'].embed_calibrated(features, self.blocks, self.heads)
        used = None
        if self.texts == 'present':
            nouns = len(state.text_features) - state.image_labels.shape[1]
            used = to_device(F.pad(state.image_labels, (0, nouns), value=True), embeddings.device)
        maps = similarity_maps(embeddings, state.text_features, used, self.normalise, self.stretch)
        sample_index, class_index = present_pairs(state.image_labels, embeddings.device)
        scores = maps[:, 1:].transpose(1, 2)[sample_index, class_index].unflatten(1, features.grid)
        return state.with_maps('excel', ClassMaps(scores, sample_index, class_index))
