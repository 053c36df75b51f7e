"""Which prompt template suits one's own images: sharpness-based selection (CLIP-ES, section 3.2).

A good template lets CLIP see all classes of an image alike. Over the images with several classes, sharpness is the sum
of the variances of these classes' softmax scores over the sum of their means; the template with the lowest wins. Only
image labels are used.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.features import Wanted
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.models.seed_maker import stretch_to_multiple
from weclip_sam.seeds.gradcam import class_probabilities


def sharpness(scores: Tensor, image_labels: Tensor) -> Tensor:
    """Sum of variances over sum of means of the named classes' scores.

    Args:
        scores: N C in [0, 1].
        image_labels: N C bool; images with fewer than two classes are left out.

    Returns:
        Scalar; lower is better.

    Raises:
        ValueError: no image has two classes.
    """
    check_shape('scores: N C; image_labels: N C', scores=scores, image_labels=image_labels)
    count = image_labels.sum(1)
    several = count >= 2
    if not several.any():
        raise ValueError('sharpness compares the classes within an image, but no image has two; choose the template by '
                         'the scores of seeds, or add images with several classes')
    named, count = image_labels[several].to(scores), count[several]
    mean = (scores[several] * named).sum(1) / count
    variance = ((scores[several] - mean[:, None]).square() * named).sum(1) / count
    return variance.sum() / mean.sum()


@torch.no_grad()
def localisation_embeddings(clip: FrozenClip, dataset: Any, indices: Sequence[int],
                            progress: Callable[[int], None] = lambda done: None) -> Tensor:
    """N E of unit norm: the mean patch embeddings that GradCAM reads its scores from.

    Args:
        clip: the frozen encoder.
        dataset: items with ``inputs`` 3 H W uint8; any size, stretched to whole patches.
        indices: which images.
        progress: called with the number of images done.
    """
    device = clip.logit_scale.device
    found = []
    for done, index in enumerate(indices, start=1):
        image = stretch_to_multiple(dataset[index]['inputs'][None].to(device).float(), clip.patch_size)
        features = clip(image, wanted=Wanted.last_block_input(clip.layers))
        found.append(clip.finish(features.last_block_input)[0])
        progress(done)
    return torch.cat(found)


@torch.no_grad()
def rank_templates(clip: FrozenClip, embeddings: Tensor, image_labels: Tensor, vocabulary: dict[str, Sequence[str]],
                   templates: Sequence[str], competitors: str = 'present') -> list[dict[str, Any]]:
    """Sharpness of every template, the best first.

    Args:
        clip: the frozen encoder.
        embeddings: N E from :func:`localisation_embeddings`.
        image_labels: N C bool.
        vocabulary: ``prompt_names`` (C) and ``background_nouns`` (G).
        templates: sentences with one ``{}``.
        competitors: among whom the softmax is taken, see :func:`weclip_sam.seeds.gradcam.class_probabilities`; by
            default those that GradCAM compares, the image's classes and the background nouns.

    Returns:
        One ``dict(template=, sharpness=, mean_score=)`` per template; the mean score is over all named classes. Equal
        sharpness keeps the order given.
    """
    image_labels = image_labels.to(embeddings.device)
    names = [*vocabulary['prompt_names'], *vocabulary['background_nouns']]
    rows = []
    for template in dict.fromkeys(templates):
        text = text_features(clip, names, [template])
        scores = class_probabilities(clip.logit_scale * embeddings @ text.T, image_labels, competitors)
        scores = scores[:, :image_labels.shape[1]]
        rows.append(dict(template=template, sharpness=sharpness(scores, image_labels).item(),
                         mean_score=scores[image_labels].mean().item()))
    return sorted(rows, key=lambda row: row['sharpness'])
