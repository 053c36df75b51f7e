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
    """One ring of a border and the holes in it, N 2; their corners are whole pixels.

    From the left-most vertex of each hole, in the order of these, the bridge goes left to the nearest edge: another
    hole that it might meet there is already joined.
    """
    rings = [border, *sorted((np.roll(hole, -int(np.lexsort((hole[:, 1], hole[:, 0]))[0]), axis=0).astype(float)
                              for hole in holes), key=lambda hole: (hole[0, 0], hole[0, 1]))]
    edges = _Edges(rings)
    bridges: list[list[tuple[int, float, int, np.ndarray]]] = [[] for _ in rings]  # edge, how far on it, hole, where
    for number, hole in enumerate(rings[1:], start=1):
        ring, after, at = edges.to_the_left(hole[0], number)
        bridges[ring].append((after, float(np.abs(at - rings[ring][after]).sum()), number, at))
    return np.concatenate(_strung(rings, bridges))


def _strung(rings: Sequence[np.ndarray], bridges: Sequence[list[tuple[int, float, int, np.ndarray]]]
            ) -> list[np.ndarray]:
    """The pieces of the one ring: along the border, at each bridge over to a hole, around it and back."""
    pieces: list[np.ndarray] = []
    waiting: list[np.ndarray | int] = [0]  # what is to come, the next at the end: a piece, or a whole ring
    while waiting:
        each = waiting.pop()
        if isinstance(each, np.ndarray):
            pieces.append(each)
            continue
        ring, begin, own = rings[each], 0, list[np.ndarray | int]()
        for after, _, hole, at in sorted(bridges[each], key=lambda bridge: bridge[:3]):
            own += [ring[begin:after + 1], at[None], hole, at[None]]
            begin = after + 1
        own += [ring[begin:], *([ring[:1]] if each else [])]
        waiting += reversed(own)
    return pieces


class _Edges:
    """The edges of rings by the rows that they touch, so that a bridge looks at those of one row."""

    def __init__(self, rings: Sequence[np.ndarray]) -> None:
        self._first = np.cumsum([0, *map(len, rings)])  # edges are numbered like the vertices that they begin at
        self._from = np.concatenate(rings)
        self._to = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
        low, high = (choose(self._from[:, 1], self._to[:, 1]).astype(np.int64) for choose in (np.minimum, np.maximum))
        count = high - low + 1
        edges = np.repeat(np.arange(len(count)), count)
        rows = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - low, count)
        order = np.argsort(rows, kind='stable')  # in a row by number
        self._edges, self._top = edges[order], int(rows.min())
        self._row = np.searchsorted(rows[order], np.arange(self._top, rows.max() + 2))

    def to_the_left(self, point: np.ndarray, ring: int) -> tuple[int, int, np.ndarray]:
        """Of the rings before number ``ring`` the nearest edge to the left of a point: its ring, the vertex before it,
        and where on it; the nearest vertex if there is none."""
        row = int(point[1]) - self._top
        # Simplified, a hole may reach over its border.
        near = self._edges[slice(*self._row[row:row + 2])] if 0 <= row < len(self._row) - 1 else self._edges[:0]
        near = near[:np.searchsorted(near, self._first[ring])]
        (x1, y1), (x2, y2) = self._from[near].T, self._to[near].T
        slope = np.divide(point[1] - y1, y2 - y1, out=np.zeros_like(y1), where=y1 != y2)
        x = np.where(y1 == y2, np.maximum(x1, x2), x1 + slope * (x2 - x1))
        if (x <= point[0]).any():
            place = int(np.where(x <= point[0], x, -np.inf).argmax())
            edge, at = int(near[place]), np.array([x[place], point[1]])
        else:
            edge = int(np.square(self._from[:self._first[ring]] - point).sum(1).argmin())
            at = self._from[edge]
        found = int(np.searchsorted(self._first, edge, side='right')) - 1
        return found, edge - int(self._first[found]), at


def _widened(line: np.ndarray) -> np.ndarray:
    """A pixel, or a straight line of pixels, as a thin quadrilateral that stays in them."""
    first, last = line[0], line[-1]
    along = last - first
    along = along / (np.hypot(*along) or 1) if along.any() else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    return np.stack([first - _THIN * (along + across), last + _THIN * (along - across),
                     last + _THIN * (along + across), first - _THIN * (along - across)])
