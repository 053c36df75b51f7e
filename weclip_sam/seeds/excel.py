"""ExCEL's training-free maps: patches against texts, without a gradient (METHODS section 7).

Patch tokens come from a calibrated second path through CLIP's last blocks (``foundation/calibrated.py``), the class
token from the ordinary one. With p = softmax(2 f_CLS . T) and w = p / mean(p)::

    S_nk <- w_k S_nk - mean_j(w_j S_nj),        S = F T^T

min-maxed for each text over all tokens; what belongs to every text alike is gone, and texts that the whole image does
not look like count little.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name

NORMALISATIONS = ('channels', 'tokens')
SHARPNESS = 2.0  # of the class token's softmax, published


def similarity_maps(embeddings: Tensor, text_features: Tensor, used: Tensor | None = None,
                    normalise: str = 'channels') -> Tensor:
    """What each patch looks like, beyond what it looks like to all texts.

    Args:
        embeddings: B 1+P E, the class token first.
        text_features: N E, or B N E, unit rows.
        used: B N bool, texts that count for each image; None for all.
        normalise: ``channels`` makes every token a unit vector; ``tokens``, as published, every channel over the tokens
            of an image, class token included.

    Returns:
        B 1+P N in [0, 1]: min-maxed over the tokens for each text (the class token is often the extreme).
    """
    check_shape('embeddings: B T E', embeddings=embeddings)
    if normalise not in NORMALISATIONS:
        raise ValueError(f'ExCEL normalise: expected one of {NORMALISATIONS}, got {normalise!r}.'
                         f'{suggest_name(normalise, NORMALISATIONS)}')
    tokens = F.normalize(embeddings.float(), dim=2 if normalise == 'channels' else 1)
    similarity = tokens @ text_features.float().transpose(-2, -1)
    after = stand_out(similarity, class_weights(similarity[:, 0], used), used)
    low, high = after.amin(1, keepdim=True), after.amax(1, keepdim=True)
    return (after - low) / (high - low).clamp(min=torch.finfo(after.dtype).tiny)


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
