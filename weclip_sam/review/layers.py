"""The pictures that the review page lays over each other: small, of one shape, each empty where it says nothing."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from weclip_sam.io.images import read_image
from weclip_sam.review import SIDE
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL
from weclip_sam.visualization.overlays import boundaries, enlarge, stripes

# How the doubts of each are hatched; by their directions alone they can be told apart.
HATCHES = {'cam': (255, 176, 0), 'sam': (0, 212, 255), 'decoder': (255, 92, 220)}
_PERIOD, _LINE, _EDGE = 14, 3, 1  # pixels from line to line, of a line and of its dark edge
_UNSURE = (38, 0, 66)
_LEVELS = 8  # of confidence that are told apart


def shown_size(size: Sequence[int], side: int = SIDE) -> tuple[int, int]:
    """(height, width) at which layers are drawn: the long side is ``side``, of small images, too, or hatches would be
    coarse."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def photo_layer(path: Path, side: int = SIDE) -> bytes:
    """A photo as JPEG, its long side at most ``side``.

    Raises:
        ImageReadError: it cannot be used.
    """
    buffer = BytesIO()
    read_image(path, max_side=side).save(buffer, format='JPEG', quality=80)
    return buffer.getvalue()


def label_layer(labels: np.ndarray, palette: Sequence[Sequence[int]], side: int = SIDE) -> bytes:
    """Labels as flat colours with light outlines; the background is clear, 255 striped.

    Args:
        labels: H W uint8.
        palette: RGB triples by label.
        side: of the picture.
    """
    labels = enlarge(labels, shown_size(labels.shape, side), smooth=False)
    colours = np.zeros((256, 4), np.uint8)
    colours[:len(palette), :3] = np.asarray(palette, np.uint8)[:256]
    colours[:, 3] = 255
    colours[BACKGROUND_LABEL] = 0
    colours[IGNORE_LABEL] = (235, 235, 235, 255)
    picture = colours[labels]
    ignored, striped = labels == IGNORE_LABEL, stripes(labels.shape[0], labels.shape[1], 12)
    picture[ignored & ~striped] = (60, 60, 60, 150)
    edge = boundaries(labels) & (labels != BACKGROUND_LABEL) & ~ignored
    picture[edge, :3] = 255 - (255 - picture[edge, :3]) // 3
    return _webp(picture)


def confidence_layer(sure: np.ndarray, side: int = SIDE) -> bytes:
    """Where a label is unsure, dark: the darker, the less sure.

    Args:
        sure: H W in [0, 1].
        side: of the pictures beside it; this one is half as large, and as smooth.
    """
    small = np.clip(enlarge(sure.astype(np.float32), shown_size(sure.shape, side // 2)), 0, 1)
    levels = np.floor((1 - small) * (_LEVELS - 1) + 0.5) / (_LEVELS - 1)
    picture = np.zeros((*small.shape, 4), np.uint8)
    picture[..., :3] = _UNSURE
    picture[..., 3] = np.round(235 * levels)
    picture[picture[..., 3] == 0] = 0
    return _webp(picture)


def doubt_layers(doubts: Mapping[str, np.ndarray], side: int = SIDE) -> dict[str, bytes]:
    """By who says something else than the label, the pixels concerned, hatched; who agrees everywhere is left out.

    Args:
        doubts: H W bool each.
        side: of the pictures.
    """
    layers = {}
    for who, where in doubts.items():
        if who in HATCHES and where.any():
            shown = enlarge(where.astype(np.uint8), shown_size(where.shape, side), smooth=False) > 0
            line, edge = _hatch(who, shown.shape[0], shown.shape[1])
            picture = np.zeros((*shown.shape, 4), np.uint8)
            picture[shown & edge] = (0, 0, 0, 200)
            picture[shown & line] = (*HATCHES[who], 255)
            layers[who] = _webp(picture)
    return layers


def _hatch(who: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two H W bool: the lines of a hatch, and the lines with their edges."""
    down, right = np.ogrid[:height, :width]
    step = {'cam': down + right, 'sam': right - down, 'decoder': down + 0 * right}[who] % _PERIOD
    return (step >= _EDGE) & (step < _EDGE + _LINE), step < _LINE + 2 * _EDGE


def _webp(rgba: np.ndarray) -> bytes:
    """Without loss. No PNG: in a folder of label PNGs it would be taken for one of them."""
    buffer = BytesIO()
    Image.fromarray(rgba, 'RGBA').save(buffer, format='WEBP', lossless=True, method=0)
    return buffer.getvalue()
