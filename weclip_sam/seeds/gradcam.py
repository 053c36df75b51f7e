"""Softmax-GradCAM (CLIP-ES, section 3.1): where in the image CLIP sees each named class.

For a present class c, y_c is its softmax probability among the image's own classes and the background nouns, A (P D)
the first layer norm's output in the last block, w_c = mean over patches of dy_c/dA, and M_c = relu(sum_d w_cd A_d).
All (image, class) pairs of a batch are one computation: the last block runs once an image, and the gradients of its
classes come out of one pass back through it, written out (``FrozenClip.localise``) or by autograd.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.choices import COMPETITORS
from weclip_sam.features import ClipFeatures, Named, Wanted, joined
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.scores import SOFTMAXES, masked_softmax
from weclip_sam.structures import ClassMaps, SeedState, to_device

SCALE_EPS = 1e-7


def present_pairs(image_labels: Tensor, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Flatten the named classes of a batch.

    Args:
        image_labels: B C bool, on the host: elsewhere their number would have to be waited for.
        device: where the result goes; that of ``image_labels`` if None.

    Returns:
        sample_index K and class_index K, int64, by image and then by class.
    """
    check_shape('image_labels: B C', image_labels=image_labels)
    pairs = to_device(image_labels.nonzero(), device or image_labels.device)
    return pairs[:, 0], pairs[:, 1]


def stretch(maps: Tensor, rounds: int = 1) -> Tensor:
    """Scale every K h w map by ``(x - min) / (max(x - min) + 1e-7)``, ``rounds`` (one or more) times.

    The published GradCAM does it twice, which leaves the maximum just below one (254 of 255 in ``uint8``), and that
    decides which pixels pass the box threshold. Unlike :func:`weclip_sam.seeds.scores.min_max` nothing is clipped.
    """
    maps = maps - maps.amin((-2, -1), keepdim=True)
    for _ in range(rounds):  # their minimum stays zero
        maps = maps / (maps.amax((-2, -1), keepdim=True) + SCALE_EPS)
    return maps


def class_probabilities(logits: Tensor, image_labels: Tensor, competitors: str = 'present',
                        softmax: str = 'exact') -> Tensor:
    """Softmax among the classes that compete.

    Args:
        logits: K C+G, scaled cosines of each pair's image with all classes, then all background nouns.
        image_labels: K C bool, the classes named for each pair's image.
        competitors: ``present``: the image's own classes and all background nouns (published). ``all``: absent classes
            too. ``present_foreground``: the image's own classes alone.
        softmax: variant of :func:`weclip_sam.seeds.scores.masked_softmax`.

    Returns:
        K C+G, 0 for those who do not compete.
    """
    return masked_softmax(logits, competing(image_labels, logits.shape[1], competitors), softmax)


def competing(image_labels: Tensor, texts: int, competitors: str = 'present') -> Tensor:
    """N ``texts`` bool: who competes in images with these names (N C bool), see :func:`class_probabilities`."""
    if competitors not in COMPETITORS:
        raise ValueError(f'competitors: expected one of {COMPETITORS}, got {competitors!r}.'
                         f'{suggest_name(competitors, COMPETITORS)}')
    nouns = image_labels.new_full((len(image_labels), texts - image_labels.shape[1]),
                                  competitors != 'present_foreground')
    return torch.cat([image_labels | (competitors == 'all'), nouns], 1)


def class_scores(logits: Tensor, image_labels: Tensor, class_index: Tensor, competitors: str = 'present',
                 softmax: str = 'exact') -> Tensor:
    """K: the score y_c of each pair, whose gradient makes the map: its probability (:func:`class_probabilities`).

    With ``present_foreground`` an image with a single class has a constant probability; its logit is taken instead, as
    FMA-WSSS does.
    """
    scores = class_probabilities(logits, image_labels, competitors, softmax).gather(1, class_index[:, None])[:, 0]
    if competitors == 'present_foreground':
        alone = image_labels.sum(1) == 1
        scores = torch.where(alone, logits.gather(1, class_index[:, None])[:, 0], scores)
    return scores


def score_gradients(logits: Tensor, allowed: Tensor, picked: Tensor, softmax: str = 'exact',
                    alone: Tensor | None = None) -> Tensor:
    """Gradients of scores y_c (:func:`class_scores`) with respect to the logits: y_c (1 - p) at c, -y_c p elsewhere.

    Args:
        logits: B C+G, of each image.
        allowed: B C+G bool, who competes (:func:`competing`).
        picked: B N C+G, 1 at the class of each of N scores; one without any has gradient zero.
        softmax: see :func:`class_probabilities`.
        alone: B bool, images whose score is the class's logit itself, or None.

    Returns:
        B N C+G.
    """
    p = masked_softmax(logits, allowed, softmax)
    scores = picked @ p[..., None]  # B N 1
    if softmax == 'fma':  # what its probabilities lack of one hangs on the largest logit of all
        top = logits == logits.amax(-1, keepdim=True)
        p = p + (1 - p.sum(-1, keepdim=True)) * top / top.sum(-1, keepdim=True)
    gradients = scores * (picked - p[:, None])
    return gradients if alone is None else torch.where(alone[:, None, None], picked, gradients)


def localisation_logits(clip: Any, tokens: Tensor, text_features: Tensor, activations: Tensor | None = None,
                        padding: Tensor | None = None) -> Tensor:
    """N C+G: ``exp(logit_scale) * v . t`` with v the normalised mean patch embedding, as in CLIP-ES.

    Args:
        clip: the frozen encoder.
        tokens, activations, padding: see ``FrozenClip.finish``.
        text_features: C+G E unit rows.
    """
    embedding, _ = clip.finish(tokens, activations) if padding is None else clip.finish(tokens, activations, padding)
    return clip.logit_scale * embedding @ text_features.float().T


def gradcam(clip: Any, features: ClipFeatures, text_features: Tensor, image_labels: Tensor, *, signed: bool = False,
            create_graph: bool = False, competitors: str = 'present', softmax: str = 'exact') -> ClassMaps:
    """Softmax-GradCAM of every present (image, class) pair of a batch.

    Runs in float32 whatever autocast says, as gradients of probabilities underflow in half precision; the last block's
    products alone follow autocast to bfloat16 (``FrozenClip.localise``). Its attention is the encoder's, if that kept
    it (``ClipFeatures.heads``).

    Args:
        clip: the frozen encoder: ``logit_scale`` and either ``localise`` and ``pairs_at_once`` (the last block's
            gradient written out) or ``last_ln1`` and ``finish`` (differentiated by autograd, once a pair).
        features: of B images.
        text_features: C+G E unit rows, classes first, background nouns after.
        image_labels: B C bool, on the host (elsewhere they make it wait).
        signed: return the raw map without relu and scaling (FMA-WSSS learns on it).
        create_graph: keep the graph, so that the maps can be differentiated with respect to ``text_features`` (the
            activations themselves are constants). Second order, so always by autograd.
        competitors, softmax: see :func:`class_probabilities` and :func:`class_scores`.

    Returns:
        :class:`ClassMaps` with K h w scores: in [0, 1) and scaled twice as published, or signed.

    Raises:
        ValueError: labels of other images or more classes than text features.
    """
    tokens = features.last_block_input
    check_shape('tokens: B T D; image_labels: B C', tokens=tokens, image_labels=image_labels)
    if text_features.shape[0] < image_labels.shape[1]:
        raise ValueError(f'text_features: expected at least {image_labels.shape[1]} rows (one per class), '
                         f'got shape {tuple(text_features.shape)}')
    options: dict[str, Any] = dict(competitors=competitors, softmax=softmax)
    sample_index, class_index = present_pairs(image_labels, tokens.device)
    written_out = hasattr(clip, 'localise') and not create_graph
    if written_out:
        maps = _written_out(clip, features, text_features, image_labels, **options)
    with torch.enable_grad(), torch.autocast(tokens.device.type, enabled=False):
        if not written_out:
            maps = _by_autograd(clip, features, text_features, image_labels, create_graph, options)
        maps = maps.unflatten(1, features.grid)
        if not signed:
            maps = stretch(maps.relu(), rounds=2)
    return ClassMaps(maps if create_graph else maps.detach(), sample_index, class_index)


def _by_autograd(clip: Any, features: ClipFeatures, text_features: Tensor, image_labels: Tensor, create_graph: bool,
                 options: dict[str, Any]) -> Tensor:
    """K P raw maps: the last block forwards and backwards for every pair."""
    tokens = features.last_block_input
    sample_index, class_index = present_pairs(image_labels, tokens.device)
    labels = to_device(image_labels, tokens.device)[sample_index]
    pair_tokens = tokens.detach().float()[sample_index]
    activations = clip.last_ln1(pair_tokens).detach().requires_grad_()
    padding = None if features.padding is None else features.padding[sample_index]
    logits = localisation_logits(clip, pair_tokens, text_features, activations, padding)
    scores = class_scores(logits, labels, class_index, **options)
    (gradient,) = torch.autograd.grad(scores.sum(), activations, create_graph=create_graph)
    return torch.einsum('kd,kpd->kp', gradient[:, 1:].mean(1), activations.detach()[:, 1:])


@torch.no_grad()
def _written_out(clip: Any, features: ClipFeatures, text_features: Tensor, image_labels: Tensor, competitors: str,
                 softmax: str) -> Tensor:
    """K P raw maps: the last block once an image, as many images together as ``clip`` says, and one way back for all
    their classes. Images with fewer classes than the one with most are filled up with scores of gradient zero."""
    tokens = features.last_block_input
    counts = [len(labels.nonzero()) for labels in image_labels]  # of tensors on the host, so nobody waits
    most = max(counts, default=0)
    if not most:
        return tokens.new_zeros(0, tokens.shape[1] - 1, dtype=torch.float32)
    images, classes = image_labels.nonzero().unbind(1)
    picked = torch.zeros(len(tokens), most, len(text_features))
    picked[images, image_labels.cumsum(1)[image_labels] - 1, classes] = 1
    picked = to_device(picked, tokens.device)
    allowed = to_device(competing(image_labels, len(text_features), competitors), tokens.device)
    alone = to_device(image_labels.sum(1) == 1, tokens.device) if competitors == 'present_foreground' else None
    texts, heads = clip.logit_scale * text_features.float(), features.heads.get(len(features.tokens) - 1)
    step = max(1, clip.pairs_at_once(tokens) // most)
    tables: list[Tensor] = []
    place: list[int] = []  # of each pair among the rows of all tables
    for start in range(0, len(tokens), step):
        some = slice(start, start + step)
        own, filled = max(counts[some]), sum(map(len, tables))
        if own:
            block = clip.localise(tokens[some], None if features.padding is None else features.padding[some],
                                  None if heads is None else heads.of(some))
            tables.append(_maps_of(block, texts, allowed[some], picked[some, :own], softmax,
                                   None if alone is None else alone[some]))
            place += [filled + row * own + rank for row, count in enumerate(counts[some]) for rank in range(count)]
    return joined(tables)[to_device(torch.tensor(place), tokens.device)]


def _maps_of(block: Any, texts: Tensor, allowed: Tensor, picked: Tensor, softmax: str, alone: Tensor | None) -> Tensor:
    """B*N P raw maps of the N classes ``picked`` (or none in a place) of each image whose last block this is."""
    with torch.autocast(texts.device.type, enabled=False):
        gradients = score_gradients(block.embedding @ texts.T, allowed, picked, softmax, alone)
        return (block.mean_gradient(gradients @ texts) @ block.activations.mT).flatten(0, 1)


@SEED_STEPS.register_module()
class GradCam:
    """Seed step: make ``maps`` from features, names and image labels.

    Args:
        competitors, softmax: see :func:`class_probabilities` and :func:`class_scores`.
        signed: keep the raw map, without relu and scaling (FMA-WSSS; its other steps clip and scale themselves).
        skip: blocks left out before the last one, which then reads the output of an earlier block, for later steps,
            too. WeCLIP+ on VOC skips 1, probably by a slip.
    """

    needs, gives = frozenset({'clip'}), frozenset({'maps'})

    def __init__(self, competitors: str = 'present', softmax: str = 'exact', signed: bool = False,
                 skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f'GradCam skip: expected a number of blocks >= 0, got {skip}')
        self.skip = skip
        for name, value, known in (('competitors', competitors, COMPETITORS), ('softmax', softmax, SOFTMAXES)):
            if value not in known:
                raise ValueError(f'GradCam {name}: expected one of {known}, got {value!r}.{suggest_name(value, known)}')
        self.options: dict[str, Any] = dict(competitors=competitors, softmax=softmax, signed=signed)

    def wants(self, encoders: Named, decoder_heard: bool = False) -> dict[str, Wanted]:
        """What enters the last block, and what its attention makes of it; where blocks are left out, its attention
        itself, whose share in means is taken back."""
        layers = encoders['clip'].layers
        last = frozenset({layers - 1})
        wanted = Wanted.last_block_input(layers - self.skip)
        return {'clip': wanted | (Wanted(attentions=last) if self.skip else Wanted(heads=last))}

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``features``, ``text_features`` and ``image_labels``; writes ``maps``, one score a patch."""
        clip, features = state.encoders['clip'], state.features['clip']
        if self.skip:
            tokens = features.tokens[-2 - self.skip]
            _, attention = clip.finish(tokens.float(), padding=features.padding)
            features = features.entering_last_block(tokens, attention)
            state = replace(state, features={**state.features, 'clip': features})
        return state.with_maps('gradcam', gradcam(clip, features, state.text_features, state.image_labels,
                                                  **self.options))
