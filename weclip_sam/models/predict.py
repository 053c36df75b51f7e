"""From images to labels at the size of the file: several scales, logits on a padded input, refinement."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.io.threads import each_on_one_core
from weclip_sam.models.refine import SamAtTest, asks_sam, refine_prediction, refinement
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL, SegSample, foreground_label, to_device

_FITS = ('crop', 'resize')
BORDERS = ('pad', 'cut')
SMALL = 1 << 21  # numbers of an image's probabilities up to which images are refined side by side
_LARGEST = 1 << 25  # logits at the size of the file that are held at once: 128 MB; a VOC or COCO image needs fewer
TEST_DEFAULTS: dict[str, Any] = dict(scales=(1.0,), flip=False, border='pad', crf=None, refine=(), beside={},
                                     mask_generator=None, probabilities=False, confidence=False, named=False)


def prediction_settings(test: Mapping[str, Any] | None) -> dict[str, Any]:
    """A model's ``test`` settings with the defaults of :func:`predict_samples`.

    Raises:
        ValueError: an unknown setting, border or ``fit``, scales that are none, or a refinement step that does not
            exist or takes no such arguments.
    """
    settings, known = TEST_DEFAULTS | dict(test or {}), (*TEST_DEFAULTS, 'fit')
    for name in settings:
        if name not in known:
            raise ValueError(f'test: there is no setting {name!r}.{suggest_name(str(name), known)} Known: '
                             f'{", ".join(known)}')
    if settings['border'] not in BORDERS:
        raise ValueError(f"test.border: expected one of {BORDERS}, got {settings['border']!r}."
                         f"{suggest_name(str(settings['border']), BORDERS)}")
    _check_scales(settings['scales'], settings.get('fit', _FITS[0]))
    for steps in (settings, *(dict(refine=steps) for steps in settings['beside'].values())):
        refinement(steps)
    return settings


def _check_scales(scales: Sequence[float], fit: str) -> None:
    if not scales or any(not scale > 0 for scale in scales):
        raise ValueError(f'scales must be positive numbers, at least one, got {tuple(scales)}')
    if fit not in _FITS:
        raise ValueError(f"fit must be one of {_FITS}, got '{fit}'.{suggest_name(fit, _FITS)}")


def predict_samples(forward: Callable[[Tensor], Tensor], inputs: Tensor, data_samples: list[SegSample],
                    test: Mapping[str, Any], multiple: int = 1, sam: SamAtTest | None = None) -> list[SegSample]:
    """Add ``prediction`` (H W int64, original size) to every sample.

    Logits are enlarged some classes at a time, so memory does not grow with classes times pixels of the file; it does
    where probabilities or a refinement are asked for, which need all of them (C+1 floats a pixel, and what the steps
    take; of an image with ``named`` classes only theirs).

    Args:
        forward: B 3 H W, RGB in 0..255, to logits B C+1 h w.
        inputs: B 3 H W float, padded as :class:`SegDataPreprocessor` does.
        data_samples: with ``content_box`` and ``ori_shape``; for refinement by SAM perhaps with ``original`` and
            ``original_masks`` (or ``mask_set``, if it has the original size), see :class:`SegSample`.
        test: ``scales`` and ``flip``; keys of ``multi_scale_logits`` such as ``fit`` are passed on. ``refine`` is a
            list of seed steps that refine the prediction, in this order, ``crf`` (None, or arguments of
            :func:`weclip_sam.seeds.crf.dense_crf`) one more at its end. ``beside``: further lists of steps by name,
            whose labels become ``prediction_<name>``. ``probabilities`` also gives every sample
            ``probabilities`` (C+1 H W in [0, 1], original size), ``confidence`` gives it ``confidence`` (H W in
            [0, 1], original size: the probability of the label). ``named`` makes classes impossible that the sample's
            ``image_labels`` do not name: their probability is zero, and the others are scaled to sum to one before
            anything is refined. ``border`` says what happens to images that are no
            whole number of patches: ``pad`` (the default) completes the last patch, so that every pixel is seen;
            ``cut``, as published by WeCLIP, leaves the rest of the right and lower edge unseen and stretches what is
            left over the whole image (5 % of the labels change on 500 x 375). ``mask_generator`` is for ``sam``.
        multiple: sides must be divisible by it (the patch size).
        sam: makes what steps ask of SAM and samples do not bring; samples then have ``sam`` (:class:`SamUse`).

    Raises:
        ValueError: ``border='cut'`` for a batch of images of several sizes; a step that lacks what it needs, or masks
            that are not of the image.
    """
    settings = dict(TEST_DEFAULTS) | dict(test)
    steps = refinement(settings)
    beside = {name: refinement(dict(refine=others, crf=None)) for name, others in settings['beside'].items()}
    keep, surely, named = (settings.pop(key) for key in ('probabilities', 'confidence', 'named'))
    cut = settings.pop('border') == 'cut'
    for key in ('crf', 'refine', 'beside', 'mask_generator'):
        del settings[key]
    seen = _without_padding(inputs, data_samples) if cut else inputs
    logits = multi_scale_logits(forward, seen, multiple=multiple, **settings)

    def label(image: tuple[Tensor, Tensor, SegSample]) -> None:
        rgb, maps, sample = image
        possible = possible_labels(sample.image_labels, maps.device) if named else None
        own = maps if possible is None else maps[possible]
        enlarged = partial(_stretched if cut else to_original, padded=inputs.shape[-2:], sample=sample)
        if steps is None and not keep and not beside:
            labels, sure = _winners(own, enlarged, sample, surely)
            sample.prediction = as_labels(labels, possible)
            if sure is not None:
                sample.confidence = sure
            return
        probabilities = _probabilities(own, enlarged, sample)
        picture = sample.get('original')
        if picture is None:
            picture = to_original(rgb, inputs.shape[-2:], sample).clamp(0, 255)
        for name, others in beside.items():
            labels = probabilities.argmax(0) if others is None else \
                refine_prediction(others, probabilities, picture, sample, sam)[0]
            sample.set_field(as_labels(labels, possible), f'prediction_{name}')
        if steps is None:
            labels = probabilities.argmax(0)
        else:
            labels, probabilities, use = refine_prediction(steps, probabilities, picture, sample, sam, owned=True)
            if use is not None:
                sample.set_field(use, 'sam')
        sample.prediction = as_labels(labels, possible)
        if surely:
            sample.confidence = probability_of(labels, probabilities)
        if keep:
            sample.probabilities = probabilities if possible is None else \
                probabilities.new_zeros(len(maps), *probabilities.shape[1:]).index_copy_(0, possible, probabilities)
    if sam is not None and any(asks_sam(each, sample) for each in (steps, *beside.values()) for sample in data_samples):
        sam.load(inputs.device)  # once, before images are worked on side by side
    images = zip(inputs, logits, data_samples, strict=True)
    # The CRF of a small image consists of operators that are too small to share.
    refined = steps is not None or any(others is not None for others in beside.values())
    small = refined and all(logits.shape[1] * math.prod(s.ori_shape) <= SMALL for s in data_samples)
    for _ in each_on_one_core(label, images, inputs.device) if small else map(label, images):
        pass
    return data_samples


def _without_padding(inputs: Tensor, data_samples: Sequence[SegSample]) -> Tensor:
    boxes = {tuple(sample.content_box) for sample in data_samples}
    if len(boxes) != 1:
        raise ValueError(f"test.border='cut' wants images of one size in a batch, got {len(boxes)} sizes; set the test "
                         'loader to batch_size=1')
    (top, left, bottom, right), = boxes
    return inputs[..., top:bottom, left:right]


def _stretched(maps: Tensor, padded: Sequence[int], sample: SegSample) -> Tensor:
    """N h w maps over the whole original image, N H W, whatever of its right and lower edge they have not seen."""
    return _resized(maps[None], sample.ori_shape)[0]


def possible_labels(image_labels: Tensor, device: torch.device | str) -> Tensor:
    """1+K int64 on a device: the background and the labels of the classes that are named (C bool, on the host)."""
    return to_device(F.pad(foreground_label(image_labels.nonzero()[:, 0]), (1, 0), value=BACKGROUND_LABEL), device)


def as_labels(rows: Tensor, possible: Tensor | None) -> Tensor:
    """H W int64: of rows of ``possible`` labels (255: ignored) the labels; of all labels, what is given."""
    if possible is None:
        return rows
    table = torch.full((IGNORE_LABEL + 1,), IGNORE_LABEL, dtype=torch.long, device=rows.device)
    table[:len(possible)] = possible
    return table[rows]


def probability_of(labels: Tensor, probabilities: Tensor) -> Tensor:
    """H W: of the label of each pixel (H W) its probability (C+1 H W); 0 where it is ignored."""
    ignored = labels == IGNORE_LABEL
    own = probabilities.gather(0, labels.masked_fill(ignored, BACKGROUND_LABEL)[None])[0]
    return own.masked_fill(ignored, 0)


def _winners(maps: Tensor, enlarged: Callable[[Tensor], Tensor], sample: SegSample, surely: bool = False
             ) -> tuple[Tensor, Tensor | None]:
    """H W int64: ``enlarged(maps).argmax(0)``, to the last tie, with few of the enlarged maps in memory at a time; if
    asked for, also H W their probability by the softmax of all maps, summed up as it goes."""
    height, width = sample.ori_shape
    step = max(1, _LARGEST // (height * width))
    part = enlarged(maps[:step])
    best, labels = part.max(0)
    total = (part - best).exp_().sum(0) if surely else None
    for first in range(step, len(maps), step):
        part = enlarged(maps[first:first + step])
        values, further = part.max(0)
        labels = torch.where(values > best, further.add_(first), labels)
        higher = torch.maximum(best, values)
        if total is not None:
            total = total * (best - higher).exp_() + (part - higher).exp_().sum(0)
        best = higher
    return labels, None if total is None else total.reciprocal_()


def _probabilities(maps: Tensor, enlarged: Callable[[Tensor], Tensor], sample: SegSample) -> Tensor:
    """C+1 H W: the softmax of ``enlarged(maps)``, with few of the enlarged maps beside it in memory at a time."""
    height, width = sample.ori_shape
    scores = torch.empty(len(maps), height, width, device=maps.device)
    for part, out in zip(*(of.split(max(1, _LARGEST // (height * width))) for of in (maps, scores)), strict=True):
        out.copy_(enlarged(part))
    return torch.softmax(scores, 0, out=scores)


def predicted_labels(logits: Tensor, padded: Sequence[int], sample: SegSample) -> Tensor:
    """H W int64, original size: what wins after :func:`to_original` of C+1 h w ``logits``, in little memory."""
    return _winners(logits, partial(to_original, padded=padded, sample=sample), sample)[0]


def to_original(maps: Tensor, padded: Sequence[int], sample: SegSample) -> Tensor:
    """Resize N h w maps over a padded input to the original image, N H W."""
    if not len(maps):  # an image without a label has no class maps
        return maps.float().new_zeros(0, *sample.ori_shape)
    maps = F.interpolate(maps[None].float(), tuple(padded), mode='bilinear', align_corners=False)
    top, left, bottom, right = sample.content_box
    maps = maps[..., top:bottom, left:right]
    return F.interpolate(maps, tuple(sample.ori_shape), mode='bilinear', align_corners=False)[0]


def labels_to_original(labels: Tensor, sample: SegSample) -> Tensor:
    """The same for H W labels, nearest."""
    top, left, bottom, right = sample.content_box
    labels = labels[None, None, top:bottom, left:right].float()
    return F.interpolate(labels, tuple(sample.ori_shape), mode='nearest-exact')[0, 0].long()


def multi_scale_logits(forward: Callable[[Tensor], Tensor], images: Tensor, scales: Sequence[float] = (1.0,),
                       flip: bool = False, multiple: int = 1, fit: str = 'crop') -> Tensor:
    """Fuse the logits of several scaled and mirrored copies of a batch (WeCLIP's test protocol).

    Per scale the mean over the image and its mirror image is taken (mirrored back); the scales' means are resized
    bilinearly to the grid of scale 1 and averaged.

    Args:
        forward: images B 3 H' W' -> logits B N h' w'; called with 2B images when ``flip`` is set.
        images: B 3 H W, at scale 1.
        scales: factors; published 1.0 and 0.75.
        flip: also look at the mirror image.
        multiple: the patch size that H' and W' must be divisible by; 1 for a forward that takes any size.
        fit: how a scaled size becomes divisible. ``'crop'``: rounded down, the rest of the right and lower edge is cut
            off before the forward (of the mirror image, too), as a strided convolution does in the published code;
            the grid of that scale then misses up to one patch at these edges. ``'resize'``: scaled to the nearest
            multiple instead, so all grids cover the same picture; better where images are small.

    Returns:
        B N h w, where h and w are the grid of scale 1.

    Raises:
        ValueError: no scale, a scale that is not positive or leaves less than one patch, an unknown ``fit``.
    """
    _check_scales(scales, fit)
    means, grid = [], None
    for scale in scales:
        scaled = _scaled(images, scale, multiple, fit)
        # Mirrored before anything is cut off: of the mirror image the picture's left edge is lost, as published.
        used = _cut(torch.cat([scaled, scaled.flip(-1)]) if flip else scaled, multiple)
        logits = forward(used)
        if grid is None:
            grid = _grid_of_scale_one(images, used, logits, scale)
        logits = _resized(logits, grid)
        if flip:
            straight, mirrored = logits.chunk(2)
            logits = (straight + mirrored.flip(-1)) / 2
        means.append(logits)
    return torch.stack(means).mean(0)


def _scaled(images: Tensor, scale: float, multiple: int, fit: str) -> Tensor:
    height, width = images.shape[-2:]
    if fit == 'resize':
        size = tuple(max(round(side * scale / multiple), 1) * multiple for side in (height, width))
        return _resized(images, size)
    if min(int(height * scale), int(width * scale)) < multiple:
        raise ValueError(f'scale {scale} makes images of {height} x {width} smaller than one patch of {multiple}; '
                         'leave it out or enlarge the images')
    if scale != 1:
        # The factor itself, not the ratio of the rounded sizes, places the samples: so does the published code.
        images = F.interpolate(images, scale_factor=scale, mode='bilinear', align_corners=False)
    return images


def _cut(images: Tensor, multiple: int) -> Tensor:
    height, width = (side // multiple * multiple for side in images.shape[-2:])
    return images[..., :height, :width]


def _grid_of_scale_one(images: Tensor, scaled: Tensor, logits: Tensor, scale: float) -> tuple[int, ...]:
    """h, w of the logits at scale 1; where that scale is not asked for, from the ratio of image and grid."""
    if scale == 1:
        return tuple(logits.shape[-2:])
    return tuple(max(round(side * cells / used), 1)
                 for side, used, cells in zip(images.shape[-2:], scaled.shape[-2:], logits.shape[-2:],
                                              strict=True))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps.float(), tuple(size), mode='bilinear', align_corners=False)
