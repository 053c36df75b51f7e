"""Changes of size, place and colour.

A transform is a callable from the sample dict of :class:`ImageLabelDataset` to the same dict. It changes ``image`` and
records what it did to rows and columns in ``frame``; masks and labels stay at the original size until
:class:`PackSample` brings them into the final frame in one exact step. Randomness comes from ``results['rng']`` alone.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from weclip_sam.registry import TRANSFORMS

Results = dict[str, Any]
CLIP_MEAN = (122.77, 116.75, 104.09)  # CLIP's channel means in 0..255: padding that the normalised encoder sees as zero
_FILTERS = {'nearest': Image.Resampling.NEAREST, 'bilinear': Image.Resampling.BILINEAR,
            'bicubic': Image.Resampling.BICUBIC, 'lanczos': Image.Resampling.LANCZOS}


def _check_filter(name: str) -> Image.Resampling:
    if name not in _FILTERS:
        raise ValueError(f'interpolation: expected one of {sorted(_FILTERS)}, got {name!r}')
    return _FILTERS[name]


def _pair(size: int | Sequence[int], name: str) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f'{name}: expected positive sizes (height, width), got {size}')
    return pair


def _range(values: Sequence[float], name: str) -> tuple[float, float]:
    ends = tuple(values) if isinstance(values, Iterable) else (values,)
    if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
        raise ValueError(f'{name}: expected two numbers, 0 < low <= high, got {values}')
    return ends


def _colour(fill: Sequence[float], name: str) -> tuple[float, ...]:
    colour = tuple(fill) if isinstance(fill, Iterable) else (fill,)
    if len(colour) != 3 or not 0 <= min(colour) <= max(colour) <= 255:
        raise ValueError(f'{name}: expected an RGB colour, three numbers in 0..255, got {fill}')
    return colour


def resize(results: Results, height: int, width: int, interpolation: Image.Resampling) -> Results:
    """Resize the image (antialiased when shrinking) and its frame."""
    if (height, width) != results['frame'].size:
        picture = Image.fromarray(np.ascontiguousarray(results['image']))
        results['image'] = np.asarray(picture.resize((width, height), interpolation))
        results['frame'] = results['frame'].resize(height, width)
    return results


def pad(results: Results, top: int, left: int, bottom: int, right: int, fill: Sequence[float]) -> Results:
    """Pad the image with one colour (RGB, 0..255)."""
    if top or left or bottom or right:
        height, width = results['frame'].size
        canvas = np.empty((top + height + bottom, left + width + right, 3), np.uint8)
        canvas[:] = np.rint(np.asarray(fill)).astype(np.uint8)
        canvas[top:top + height, left:left + width] = results['image']
        results['image'] = canvas
        results['frame'] = results['frame'].pad(top, left, bottom, right)
    return results


@TRANSFORMS.register_module()
class ResizeLong:
    """Resize so that the long side has a given length; the short side follows, rounded down but at least 1.

    Args:
        size: pixels, or (low, high) to draw an integer from that range, both ends included.
        interpolation: ``'nearest'``, ``'bilinear'``, ``'bicubic'`` or ``'lanczos'``.
        only_shrink: leave smaller images alone (for photographs of many megapixels).
    """

    def __init__(self, size: int | Sequence[int], interpolation: str = 'bilinear', only_shrink: bool = False) -> None:
        low, high = (size, size) if isinstance(size, int) else tuple(size)
        _range((low, high), 'ResizeLong.size')
        self.low, self.high, self.only_shrink = low, high, only_shrink
        self.filter = _check_filter(interpolation)

    def __call__(self, results: Results) -> Results:
        """Writes ``image`` and ``frame``; draws from ``rng`` only where ``size`` is a range."""
        length = self.low
        if self.high > self.low:
            length = int(results['rng'].integers(self.low, self.high + 1))
        height, width = results['frame'].size
        long_side = max(height, width)
        if self.only_shrink and long_side <= length:
            return results
        return resize(results, max(1, height * length // long_side), max(1, width * length // long_side), self.filter)


@TRANSFORMS.register_module()
class ResizeToMultiple:
    """Resize each side up to the next multiple (CLIP-ES: 16, bicubic), which stretches by less than one patch."""

    def __init__(self, divisor: int = 16, interpolation: str = 'bicubic') -> None:
        self.divisor = _pair(divisor, 'ResizeToMultiple.divisor')[0]
        self.filter = _check_filter(interpolation)

    def __call__(self, results: Results) -> Results:
        """Writes ``image`` and ``frame``; draws nothing."""
        height, width = (-(-side // self.divisor) * self.divisor for side in results['frame'].size)
        return resize(results, height, width, self.filter)


@TRANSFORMS.register_module()
class RandomScale:
    """Resize by a factor drawn evenly from a range (WeCLIP: 0.5 to 2)."""

    def __init__(self, ratio: Sequence[float] = (0.5, 2.0), interpolation: str = 'bilinear') -> None:
        self.ratio = _range(ratio, 'RandomScale.ratio')
        self.filter = _check_filter(interpolation)

    def __call__(self, results: Results) -> Results:
        """Writes ``image`` and ``frame``; one draw from ``rng``."""
        factor = results['rng'].uniform(*self.ratio)
        height, width = (max(1, int(side * factor)) for side in results['frame'].size)
        return resize(results, height, width, self.filter)


@TRANSFORMS.register_module()
class RandomCrop:
    """Cut a window of fixed size at a random place; smaller images are first put at a random place on a canvas.

    Image labels stay those of the whole image: only a pixel mask could tell whether a class was cut away, and training
    has none. The canvas shows in ``padding_mask``, where no label should count.

    Args:
        size: side, or (height, width).
        fill: RGB colour of the canvas, 0..255.
    """

    def __init__(self, size: int | Sequence[int], fill: Sequence[float] = CLIP_MEAN) -> None:
        self.size = _pair(size, 'RandomCrop.size')
        self.fill = _colour(fill, 'RandomCrop.fill')

    def __call__(self, results: Results) -> Results:
        """Writes ``image`` and ``frame``; draws the places from ``rng``."""
        rng = results['rng']
        before, after, starts = [], [], []
        for side, wanted in zip(results['frame'].size, self.size, strict=True):
            room = max(0, wanted - side)
            before.append(int(rng.integers(room + 1)))
            after.append(room - before[-1])
            starts.append(int(rng.integers(side + room - wanted + 1)))
        # Cut first: padding a large image along its short side would copy all of it.
        (top, left), (height, width) = starts, self.size
        results['image'] = results['image'][top:top + height, left:left + width]
        results['frame'] = results['frame'].crop(top, left, height, width)
        return pad(results, before[0], before[1], after[0], after[1], self.fill)


@TRANSFORMS.register_module()
class RandomFlip:
    """Exchange left and right with a probability."""

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'RandomFlip.prob: expected 0..1, got {prob}')
        self.prob = prob

    def __call__(self, results: Results) -> Results:
        """Writes ``image``, ``frame`` and ``flip``; one draw from ``rng``."""
        if results['rng'].random() < self.prob:
            results['image'] = results['image'][:, ::-1]
            results['frame'] = results['frame'].flip()
            results['flip'] = not results.get('flip', False)
        return results


@TRANSFORMS.register_module()
class ColorJitter:
    """Light changes of brightness, contrast, saturation and hue.

    Args:
        brightness, contrast, saturation: each factor is drawn evenly from 1 - x to 1 + x.
        hue: turn of the colour circle, drawn evenly from -x to x (1 is the full circle).
        prob: how often anything is done at all.
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.02,
                 prob: float = 0.8) -> None:
        for name, value in dict(brightness=brightness, contrast=contrast, saturation=saturation, prob=prob).items():
            if not 0 <= value <= 1:
                raise ValueError(f'ColorJitter.{name}: expected 0..1, got {value}')
        if not 0 <= hue <= 0.5:
            raise ValueError(f'ColorJitter.hue: expected 0..0.5, got {hue}')
        self.strengths = (brightness, contrast, saturation)
        self.hue, self.prob = hue, prob

    def __call__(self, results: Results) -> Results:
        """Writes ``image`` alone; five draws from ``rng``, whatever happens."""
        draws = results['rng'].uniform(-1, 1, 4)
        if results['rng'].random() >= self.prob:
            return results
        picture = Image.fromarray(np.ascontiguousarray(results['image']))
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhancer, strength, draw in zip(enhancers, self.strengths, draws[:3], strict=True):
            if strength:
                picture = enhancer(picture).enhance(1 + strength * float(draw))
        if self.hue:
            hue, saturation, value = picture.convert('HSV').split()
            turn = round(self.hue * float(draws[3]) * 255)
            hue = hue.point([(level + turn) % 256 for level in range(256)])
            picture = Image.merge('HSV', (hue, saturation, value)).convert('RGB')
        results['image'] = np.asarray(picture)
        return results
