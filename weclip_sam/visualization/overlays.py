"""Pictures of label maps and heat maps over photographs: arrays in, arrays out."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from weclip_sam.structures import IGNORE_LABEL


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


def boundaries(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """H W bool: pixels within ``width`` of another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    for step in range(1, width + 1):
        across, down = labels[:, step:] != labels[:, :-step], labels[step:] != labels[:-step]
        edge[:, step:] |= across
        edge[:, :-step] |= across
        edge[step:] |= down
        edge[:-step] |= down
    return edge


def stripes(height: int, width: int, period: int = 8) -> np.ndarray:
    """H W bool: diagonal stripes, the sign for pixels that do not count."""
    return (np.arange(height)[:, None] + np.arange(width)) % period < period // 2


def overlay_labels(rgb: np.ndarray, labels: np.ndarray, colors: np.ndarray, alpha: float = 0.55,
                   contour: int = 1) -> np.ndarray:
    """Labels as colour over a photograph, each region with a light outline; 255 is striped.

    Args:
        rgb: H W 3 uint8.
        labels: H W integers in [0, len(colors)) or 255.
        colors: N 3 uint8; label 0 (background) is left as it is, a little darker.
        alpha: strength of the colour in [0, 1].
        contour: width of the outlines in pixels; 0 for none.

    Returns:
        H W 3 uint8.

    Raises:
        ValueError: sizes differ or a label has no colour.
    """
    if rgb.shape[:2] != labels.shape:
        raise ValueError(f'overlay_labels: image {rgb.shape[:2]} and labels {labels.shape} must have one size')
    ignored = labels == IGNORE_LABEL
    known = np.where(ignored, 0, labels)
    if known.min() < 0 or known.max() >= len(colors):
        raise ValueError(f'overlay_labels: labels {known.min()}..{known.max()} but only {len(colors)} colours')
    # Mostly grey beneath, or a blue label on a blue sea could not be seen.
    picture = 0.3 * rgb + 0.7 * _grey(rgb)
    foreground = (known > 0)[..., None]
    picture = np.where(foreground, (1 - alpha) * picture + alpha * colors[known], 0.72 * picture)
    striped = ignored & stripes(*labels.shape)
    picture[ignored] = 0.5 * rgb[ignored] + 60.0
    picture[striped] = 0.35 * rgb[striped] + 160.0
    if contour:
        edge = boundaries(labels, contour) & ~ignored
        bright = 0.35 * colors[known].astype(np.float32) + 0.65 * 255
        picture = np.where((edge & (known > 0))[..., None], bright, picture)
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
