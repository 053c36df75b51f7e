"""CDA: patches belong together where they look alike to all classes (class-distribution-aware affinity of CD-CLIP).

From its description; there is no public code. S are the cosines between patches and texts, min-maxed; p_i =
softmax(S_i) is a distribution over the texts for each patch; and

    A = softmax_j((1 - JS(p_i || p_j)) / tau) * A_init        (JS: Jensen-Shannon distance, natural logarithm)

with the mean attention as A_init. As S lies in [0, 1] the distances stay below about 0.06: at tau = 1 the weights of a
row differ by 6 % at most, so tau lies near 0.02.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.seeds.scores import masked_softmax

SCALINGS = ('class', 'all')
DIRECTIONS = ('right', 'left')
BLOCK_ENTRIES = 1 << 24  # pairs of patches times texts at a time: 64 MB each in float32


def cosines(patches: Tensor, text_features: Tensor) -> Tensor:
    """B P N cosines of B P E patch embeddings with N E (or B N E) texts, neither of unit norm by need."""
    with torch.autocast(patches.device.type, enabled=False):  # they differ little, and are stretched to [0, 1]
        return F.normalize(patches.float(), dim=-1) @ F.normalize(text_features.float(), dim=-1).transpose(-2, -1)


def class_distributions(similarity: Tensor, allowed: Tensor | None = None, scaling: str = 'class') -> Tensor:
    """p_i: softmax over the texts of the min-maxed cosines of every patch.

    Args:
        similarity: B P N.
        allowed: B N bool, the texts that count for each image; None for all.
        scaling: ``class`` stretches the column of each text to [0, 1] over the patches, ``all`` all of an image's at
            once (the description leaves it open).

    Returns:
        B P N, rows sum to one; texts that are not allowed get zero.
    """
    check_shape('similarity: B P N', similarity=similarity)
    if scaling not in SCALINGS:
        raise ValueError(f'CDA scaling: expected one of {SCALINGS}, got {scaling!r}.{suggest_name(scaling, SCALINGS)}')
    low, high = similarity, similarity
    if scaling == 'all' and allowed is not None:
        low, high = (similarity.masked_fill(~allowed[:, None], end) for end in (torch.inf, -torch.inf))
    axes = (1,) if scaling == 'class' else (1, 2)
    low, high = low.amin(axes, keepdim=True), high.amax(axes, keepdim=True)
    scaled = (similarity - low) / (high - low).clamp(min=torch.finfo(similarity.dtype).tiny)
    return masked_softmax(scaled, None if allowed is None else allowed[:, None].expand_as(scaled))


def jensen_shannon(distributions: Tensor) -> Tensor:
    """B P P distances JS(p_i || p_j) in [0, ln 2] of B P N distributions; rows are done in blocks of bounded size."""
    _, patches, texts = distributions.shape
    own = torch.special.entr(distributions).sum(-1)
    rows = max(1, BLOCK_ENTRIES // (len(distributions) * patches * texts))
    # JS is the entropy of the mean less the mean of the entropies.
    between = [torch.special.entr((block[:, :, None] + distributions[:, None]) / 2).sum(-1)
               for block in distributions.split(rows, 1)]
    return (torch.cat(between, 1) - (own[:, :, None] + own[:, None]) / 2).clamp(min=0)


def cda_affinity(distributions: Tensor, attention: Tensor, tau: float = 0.02) -> Tensor:
    """B P P: the attention, weighed by how alike two patches are to all texts; rows are not made to sum to one again.

    Args:
        distributions: B P N.
        attention: B P P, A_init.
        tau: temperature of the weights; not published.
    """
    if not tau > 0:
        raise ValueError(f'CDA tau: expected a number > 0, got {tau}')
    return ((1 - jensen_shannon(distributions)) / tau).softmax(-1) * attention


def named_texts(image_labels: Tensor, nouns: int) -> tuple[Tensor, Tensor]:
    """The texts that count for each image, its own classes and all background nouns, packed to the left.

    Args:
        image_labels: B C bool, on the host.
        nouns: G.

    Returns:
        index B N int64 into the C+G texts and used B N bool, both on the host; N is the most that an image has, at
        least one.
    """
    allowed = F.pad(image_labels, (0, nouns), value=True)
    most = max(1, int(allowed.sum(1).amax())) if len(allowed) else 1  # a batch may name nothing at all
    order = torch.argsort(allowed.int(), dim=1, descending=True, stable=True)[:, :most]
    return order, allowed.gather(1, order)
