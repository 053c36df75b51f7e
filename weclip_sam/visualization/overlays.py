"""Pictures of label maps and heat maps over photographs: arrays in, arrays out."""
from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from weclip_sam.structures import IGNORE_LABEL

_ROWS = 256


def enlarge(image: np.ndarray, size: Sequence[int], smooth: bool = True) -> np.ndarray:
    """Resize H W [3] to ``size`` (height, width): smoothly for photographs and scores, by nearest pixel for labels."""
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((size[1], size[0]), how))
    if not smooth:
        # Labels of any integer type: an index map keeps their values exactly.
        rows = np.arange(size[0]) * image.shape[0] // size[0]
        columns = np.arange(size[1]) * image.shape[1] // size[1]
        return image[rows][:, columns]
    resized = Image.fromarray(image.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def enlarge_labels(labels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """H W uint8 labels at another ``size`` (height, width). Enlarged, outlines become smooth: at each pixel that label
    wins which covers most of its surroundings (bilinear), of equals the smallest. Shrunk, it is the nearest pixel's."""
    if labels.shape == tuple(size):
        return labels
    if size[0] < labels.shape[0] or size[1] < labels.shape[1]:
        return enlarge(labels, size, smooth=False)
    most, winner = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for label in np.unique(labels):  # one after another: of a photo of many megapixels few planes fit
        cover = cv2.resize(np.where(labels == label, np.uint8(255), np.uint8(0)), (size[1], size[0]),
                           interpolation=cv2.INTER_LINEAR)
        winner[cover > most] = label
        np.maximum(most, cover, out=most)
    return winner


def outline_width(height: int, width: int) -> int:
    """How wide outlines are in pixels, so that they look alike on small and large pictures: 1 for 500 x 375, 8 for
    4000 x 3000."""
    return max(1, round(math.sqrt(height * width) / 450))


def boundaries(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """H W bool: pixels with another label within ``width`` pixels of their row or column."""
    small = labels.size == 0 or (labels.min() >= 0 and labels.max() <= 255)
    values = np.ascontiguousarray(labels, np.uint8 if small else np.float32)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (2 * width + 1, 2 * width + 1))
    return cv2.dilate(values, cross) != cv2.erode(values, cross)


def stripes(height: int, width: int, period: int = 8, top: int = 0) -> np.ndarray:
    """H W bool: diagonal stripes, the sign for pixels that do not count; ``top`` rows of them are above these."""
    return (np.arange(top, top + height)[:, None] + np.arange(width)) % period < period // 2


def overlay_labels(rgb: np.ndarray, labels: np.ndarray, colors: np.ndarray, alpha: float = 0.55,
                   contour: int | None = 1) -> np.ndarray:
    """Labels as colour over a photograph, each region with a light outline; 255 is striped.

    Args:
        rgb: H W 3 uint8.
        labels: H W integers in [0, len(colors)) or 255.
        colors: N 3 uint8; label 0 (background) is left as it is, a little darker.
        alpha: strength of the colour in [0, 1].
        contour: width of the outlines in pixels; 0 for none, None for :func:`outline_width` of the picture.

    Returns:
        H W 3 uint8.

    Raises:
        ValueError: sizes differ or a label has no colour.
    """
    if rgb.shape[:2] != labels.shape:
        raise ValueError(f'overlay_labels: image {rgb.shape[:2]} and labels {labels.shape} must have one size')
    known = np.where(labels == IGNORE_LABEL, 0, labels)
    if known.min() < 0 or known.max() >= len(colors):
        raise ValueError(f'overlay_labels: labels {known.min()}..{known.max()} but only {len(colors)} colours')
    if contour is None:
        contour = outline_width(*labels.shape)
    edge = boundaries(labels, contour) & (known > 0) if contour else np.zeros(labels.shape, bool)
    period = 8 * outline_width(*labels.shape)
    picture = np.empty((*labels.shape, 3), np.uint8)
    for top in range(0, len(labels), _ROWS):  # floats of a few rows at a time, not of a large photo
        rows = slice(top, top + _ROWS)
        picture[rows] = _mixed(rgb[rows], known[rows], labels[rows] == IGNORE_LABEL, edge[rows], colors, alpha,
                               stripes(len(labels[rows]), labels.shape[1], period, top))
    return picture


def _mixed(rgb: np.ndarray, known: np.ndarray, ignored: np.ndarray, edge: np.ndarray, colors: np.ndarray, alpha: float,
           striped: np.ndarray) -> np.ndarray:
    tint = colors.astype(np.float32)[known]
    # Mostly grey beneath, or a blue label on a blue sea could not be seen.
    picture = 0.3 * rgb.astype(np.float32) + 0.7 * _grey(rgb)
    picture = np.where((known > 0)[..., None], (1 - alpha) * picture + alpha * tint, 0.72 * picture)
    picture[ignored] = 0.5 * rgb[ignored] + 60.0
    picture[ignored & striped] = 0.35 * rgb[ignored & striped] + 160.0
    picture[edge] = 0.35 * tint[edge] + 0.65 * 255
    return picture.clip(0, 255).round().astype(np.uint8)


def overlay_class_maps(rgb: np.ndarray, maps: np.ndarray, class_index: Sequence[int], colors: np.ndarray) -> np.ndarray:
    """Several classes' score maps in one picture: each pixel has its best class's colour, as strong as the score.

    Args:
        rgb: H W 3 uint8, shown in grey beneath.
        maps: K H W in [0, 1].
        class_index: the K classes, 0-based (class c has colour c + 1).
        colors: C+1 3 uint8.

    Returns:
        H W 3 uint8.
    """
    grey = _grey(rgb)
    if len(maps) == 0:
        return (0.6 * grey).round().astype(np.uint8)
    maps = np.clip(maps, 0, 1)
    best, strength = maps.argmax(0), maps.max(0)[..., None]
    tint = colors[np.asarray(class_index)[best] + 1].astype(np.float32)
    # Strong scores go on towards white, so that the peak of a map stands out of its plateau.
    tint += (255 - tint) * np.clip((strength - 0.75) / 0.25, 0, 1) * 0.55
    weight = 0.9 * strength ** 0.9
    picture = (1 - weight) * (0.6 * grey) + weight * tint
    return picture.clip(0, 255).round().astype(np.uint8)


def _grey(rgb: np.ndarray) -> np.ndarray:
    return (rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None].repeat(3, -1)
