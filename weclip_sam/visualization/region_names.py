"""Names on regions: each class's name once, where its largest region is thickest."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization.legend import label_name
from weclip_sam.visualization.text import halo, write_on, written

_LOOKED_AT = 1024  # regions are looked for on labels of at most this side: a name need not stand more exactly
_WITHIN = 0.6  # of a name's area that must lie on its region
_SMALLEST = 11  # letters in pixels

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class InnerPoint:
    """The point of a class's largest connected region that is farthest from its edge.

    Attributes:
        label: of the class.
        x, y: in pixels; the middle of the first pixel is (0.5, 0.5).
        radius: to the edge of the region or of the picture, pixels.
        area: of the region, pixels.
    """

    label: int
    x: float
    y: float
    radius: float
    area: float


def inner_points(labels: np.ndarray) -> list[InnerPoint]:
    """Of H W labels, for every class that occurs (neither 0 nor 255), the largest region first."""
    step = -(-max(labels.shape) // _LOOKED_AT)
    seen = np.ascontiguousarray(labels[step // 2::step, step // 2::step])
    points = []
    for label in np.unique(seen):
        if label in (0, IGNORE_LABEL):
            continue
        _, regions, stats, _ = cv2.connectedComponentsWithStats((seen == label).astype(np.uint8), connectivity=4)
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        left, top, width, height, area = (int(value) for value in stats[largest])
        region = (regions[top:top + height, left:left + width] == largest).astype(np.uint8)
        # A frame of zeros: the end of the picture is an edge, too.
        depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        # Of a band everything along its middle is as deep: the middle of that.
        deepest = np.argwhere(depth >= 0.98 * depth.max())
        y, x = deepest[((deepest - deepest.mean(0)) ** 2).sum(1).argmin()].tolist()
        points.append(InnerPoint(int(label), (left + x) * step + step // 2 + 0.5, (top + y) * step + step // 2 + 0.5,
                                 float(depth.max()) * step, area * step ** 2))
    return sorted(points, key=lambda point: (-point.area, point.label))


def write_region_names(picture: Image.Image, labels: np.ndarray, names: Sequence[str], size: int) -> list[int]:
    """Write every class's name once on its largest region.

    A name is left out where its region is too small for it, or another name is in its place: the legend has it.

    Args:
        picture: RGB; it is drawn on.
        labels: H W, of the picture's size.
        names: by label, background first.
        size: of the letters in pixels; they may become a quarter smaller.

    Returns:
        The labels whose names were written.
    """
    taken: list[Box] = []
    done = []
    for point in inner_points(labels):
        for letters in (size, max(round(0.75 * size), _SMALLEST)):
            text, font = written(label_name(point.label, names), letters, f'label {point.label}')
            rim = halo(letters)
            left, top, right, bottom = font.getbbox(text, anchor='mm', stroke_width=rim)
            # Moved so far that nothing of it lies outside of the picture.
            x = min(max(point.x, -left), picture.width - right)
            y = min(max(point.y, -top), picture.height - bottom)
            box = (x + left, y + top, x + right, y + bottom)
            if _fits(box, labels, point) and not any(_meet(box, other) for other in taken):
                write_on(picture, (x, y), text, font)
                taken.append(box)
                done.append(point.label)
                break
    return done


def _fits(box: Box, labels: np.ndarray, point: InnerPoint) -> bool:
    """Whether a name in this box is within the picture, and says of which region it is."""
    left, top, right, bottom = box
    if left < 0 or top < 0 or right > labels.shape[1] or bottom > labels.shape[0]:
        return False  # wider than the picture
    beneath = labels[int(top):max(int(bottom), int(top) + 1), int(left):max(int(right), int(left) + 1)]
    return bool((beneath == point.label).mean() >= _WITHIN)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
