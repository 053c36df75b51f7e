"""Names to text features: templates filled, encoded, averaged."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.foundation.clip import FrozenClip

DEFAULT_TEMPLATES = ('a clean origami {}.',)


@torch.no_grad()
def text_features(clip: FrozenClip, names: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES,
                  chunk: int = 256) -> Tensor:
    """Encode every name in every template and fuse the templates, as CLIP-ES does.

    Each sentence is normalised, the templates of one name are averaged, and the mean is normalised again. Synonyms
    are fused by writing them into one name (``'person with clothes,people,human'``), not by averaging.

    Args:
        clip: the frozen encoder.
        names: N names as they shall stand in the sentence.
        templates: sentences with one ``{}`` each.
        chunk: sentences encoded at a time.

    Returns:
        N E, unit norm.

    Raises:
        ValueError: no name, no template, or a template without exactly one ``{}``.
    """
    if isinstance(names, str) or isinstance(templates, str):
        raise ValueError('names and templates are lists of strings, not one string')
    if not names or not templates:
        raise ValueError(f'text features need names and templates, got {len(names)} and {len(templates)}')
    for template in templates:
        if template.count('{}') != 1:
            raise ValueError(f"template {template!r} must have exactly one '{{}}' where the name goes")
    sentences = [template.replace('{}', name) for name in names for template in templates]
    parts = [clip.encode_text(clip.tokenize(sentences[i:i + chunk])) for i in range(0, len(sentences), chunk)]
    embeddings = F.normalize(torch.cat(parts), dim=-1).view(len(names), len(templates), -1)
    return F.normalize(embeddings.mean(1), dim=-1)
