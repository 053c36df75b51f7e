"""An overlay that explains itself: names on its regions, a legend below, and words where there is nothing to see."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization.legend import PAPER, draw_legend
from weclip_sam.visualization.overlays import enlarge, overlay_labels
from weclip_sam.visualization.region_names import write_region_names
from weclip_sam.visualization.text import write_across

_LEAST = 320  # the long side of a picture with words on it, in pixels
_SMALLEST = 13  # letters in pixels

ONLY_BACKGROUND, ONLY_IGNORED = 'only background: no class here', 'nothing but ignored pixels'


def text_size(height: int, width: int) -> int:
    """Letters in pixels, readable where the whole picture is seen at once: 13 up to 900 x 500, 67 at 4000 x 3000."""
    return max(_SMALLEST, round(math.sqrt(height * width) / 52))


def in_words(labels: np.ndarray) -> str:
    """What is to be said of labels without any class; empty where there is one."""
    found = set(np.unique(labels).tolist())
    if found - {0, IGNORE_LABEL}:
        return ''
    return ONLY_BACKGROUND if 0 in found else ONLY_IGNORED


def explained_overlay(rgb: np.ndarray, labels: np.ndarray, colors: np.ndarray, names: Sequence[str],
                      alpha: float = 0.55, legend: bool = True, region_names: bool = True) -> np.ndarray:
    """:func:`overlay_labels` with words: outlines, names and legend are as large as the picture asks for.

    Args:
        rgb: H W 3 uint8.
        labels: H W integers in [0, len(colors)) or 255.
        colors: N 3 uint8 by label.
        names: N by label, background first; what no font has is written as ``label 3``, see
            :mod:`weclip_sam.visualization.text`.
        alpha: strength of the colour in [0, 1].
        legend: what colour is what, in a strip below the picture, the largest class first.
        region_names: each class's name on its largest region, if it has room there.

    Returns:
        H' W' 3 uint8. With neither legend nor names, it is of the image's size. A picture with words whose long side
        has less than 320 pixels is enlarged by the least whole number that gives it so many; a legend adds its height,
        and to a very narrow picture some width.

    Raises:
        ValueError: sizes differ or a label has no colour.
    """
    if not legend and not region_names:
        return overlay_labels(rgb, labels, colors, alpha, contour=None)
    if rgb.shape[:2] != labels.shape:
        raise ValueError(f'explained_overlay: image {rgb.shape[:2]} and labels {labels.shape} must have one size')
    times = max(1, -(-_LEAST // max(labels.shape)))
    if times > 1:
        size = (times * labels.shape[0], times * labels.shape[1])
        rgb, labels = enlarge(rgb, size), labels.repeat(times, 0).repeat(times, 1)
    picture = Image.fromarray(overlay_labels(rgb, labels, colors, alpha, contour=None))
    letters, nothing = text_size(*labels.shape), in_words(labels)
    if region_names and nothing:
        write_across(picture, nothing, letters)
    elif region_names:
        write_region_names(picture, labels, names, letters)
    if not legend:
        return np.asarray(picture)
    counts = np.bincount(labels.reshape(-1), minlength=256)
    counts[0] = 0
    occurring = sorted(np.flatnonzero(counts).tolist(), key=lambda label: (label == IGNORE_LABEL, -counts[label]))
    margin = round(0.6 * letters)
    width = max(picture.width, min(_LEAST, 12 * letters))
    strip = draw_legend(occurring, colors, names, width - 2 * margin, letters, [nothing] if nothing else ())
    page = Image.new('RGB', (width, picture.height + len(strip) + 2 * margin), PAPER)
    page.paste(picture, (0, 0))
    page.paste(Image.fromarray(strip), (margin, picture.height + margin))
    return np.asarray(page)
