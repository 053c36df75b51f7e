"""Regions as polygons, for tools that know nothing else: one ring a region, holes included.

A polygon runs through the pixels at a region's border, as OpenCV draws it: filled with ``cv2.fillPoly`` it gives the
region back, whether its coordinates were rounded or cut to whole pixels. A hole is joined to what is around it by a
bridge, a line there and back, which has no area.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from weclip_sam.visualization.regions import Regions

# Where in its pixel a vertex lies: below a half, so that whoever rounds and whoever cuts finds the same pixel.
INSIDE = 0.25
FAITHFUL = 0.95  # the least IoU of a region and its polygon
_THIN = 0.15  # half the width of what is one pixel wide


def region_polygon(regions: Regions, number: int, simplify: float) -> np.ndarray:
    """N 2 float64, N >= 3: x and y in pixels of a region's border, see above.

    Args:
        regions: of an image.
        number: which one, from 0.
        simplify: how many pixels the border may move (Douglas-Peucker); 0 keeps every corner. Where the polygon would
            cover the region with an IoU below ``FAITHFUL``, as with a thin one, its border moves less.
    """
    mask = regions.mask(number).astype(np.uint8)
    rings, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    is_hole = levels[0, :, 3] >= 0
    for moved in (simplify, simplify / 2, 0.0) if simplify else (0.0,):
        polygon = _polygon([cv2.approxPolyDP(ring, moved, True)[:, 0] if moved else ring[:, 0] for ring in rings],
                           is_hole) + INSIDE
        if moved == 0 or _covers(polygon, mask) >= FAITHFUL:
            break
    return polygon + regions.boxes[number, :2]


def _polygon(rings: Sequence[np.ndarray], is_hole: np.ndarray) -> np.ndarray:
    border = next(ring for ring, hole in zip(rings, is_hole, strict=True) if not hole).astype(float)
    holes = [ring for ring, hole in zip(rings, is_hole, strict=True) if hole and len(ring) > 2]
    return join_holes(border, holes) if len(border) > 2 else _widened(border)


def _covers(polygon: np.ndarray, mask: np.ndarray) -> float:
    """IoU of a polygon and a mask, h w uint8."""
    filled = cv2.fillPoly(np.zeros_like(mask), [polygon.astype(np.int32)], 1)
    return float((filled & mask).sum() / (filled | mask).sum())


def join_holes(border: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One ring of a border and the holes in it.

    From the left-most vertex of each hole, in the order of these, the bridge goes left to the nearest edge: another
    hole that it might meet there is already joined.
    """
    ring = border
    for hole in sorted((np.roll(hole, -int(np.lexsort((hole[:, 1], hole[:, 0]))[0]), axis=0).astype(float)
                        for hole in holes), key=lambda hole: (hole[0, 0], hole[0, 1])):
        after, at = _edge_to_the_left(ring, hole[0])
        ring = np.concatenate([ring[:after + 1], at[None], hole, hole[:1], at[None], ring[after + 1:]])
    return ring


def _edge_to_the_left(ring: np.ndarray, point: np.ndarray) -> tuple[int, np.ndarray]:
    """The vertex before the nearest edge to the left of a point, and where on it; the nearest vertex if there is none.
    """
    (x1, y1), (x2, y2) = ring.T, np.roll(ring, -1, axis=0).T
    crossed = (np.minimum(y1, y2) <= point[1]) & (point[1] <= np.maximum(y1, y2))
    slope = np.divide(point[1] - y1, y2 - y1, out=np.zeros_like(y1), where=y1 != y2)
    x = np.where(y1 == y2, np.maximum(x1, x2), x1 + slope * (x2 - x1))
    crossed &= x <= point[0]
    if not crossed.any():  # simplified, a hole may reach over its border
        after = int(np.square(ring - point).sum(1).argmin())
        return after, ring[after]
    after = int(np.where(crossed, x, -np.inf).argmax())
    return after, np.array([x[after], point[1]])


def _widened(line: np.ndarray) -> np.ndarray:
    """A pixel, or a straight line of pixels, as a thin quadrilateral that stays in them."""
    first, last = line[0], line[-1]
    along = last - first
    along = along / (np.hypot(*along) or 1) if along.any() else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    return np.stack([first - _THIN * (along + across), last + _THIN * (along - across),
                     last + _THIN * (along + across), first - _THIN * (along - across)])
