"""Regions of a label map: the 8-connected pieces of every class, which the tools that know instances call objects."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco

from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL


@dataclass(frozen=True)
class Regions:
    """R regions of an image, sorted by label, then by the place of their first pixel, column by column.

    Attributes:
        ids: H W int32: 1 + the number of the region that a pixel belongs to, or 0.
        labels: R int64 in 1..C.
        areas: R int64, pixels.
        boxes: R 4 int64: left, top, width, height.
        scores: R float64 in [0, 1], how sure their pixels are on average; None where nobody knows.
        left_out: how many there were that are too small.
    """

    ids: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def mask(self, number: int) -> np.ndarray:
        """h w bool: region ``number`` (from 0) inside its box."""
        left, top, width, height = self.boxes[number]
        return self.ids[top:top + height, left:left + width] == number + 1

    def rle(self) -> list[str]:
        """R codes, COCO's compressed RLE of H W masks; all of an image in one pass."""
        height, width = self.ids.shape
        starts, lengths, ids = _column_runs(self.ids)
        order = np.argsort(ids, kind='stable')
        bounds = np.searchsorted(ids[order], np.arange(1, len(self) + 2))
        codes = []
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            begin, length = starts[order[first:last]], lengths[order[first:last]]
            end = begin + length
            gaps = np.diff(begin, prepend=0) - np.concatenate([[0], length[:-1]])
            gaps[0] = begin[0]
            counts = np.stack([gaps, length], axis=1).reshape(-1).tolist()
            if end[-1] < height * width:
                counts.append(height * width - int(end[-1]))
            codes.append(coco.frPyObjects(dict(counts=counts, size=[height, width]), height, width)['counts'].decode())
        return codes


def find_regions(labels: np.ndarray, min_area: int = 0, sure: np.ndarray | None = None) -> Regions:
    """The regions of a label map.

    Args:
        labels: H W uint8: 0 background, 1..C, 255 ignored.
        min_area: regions of fewer pixels are left out.
        sure: H W in [0, 1], how sure each label is, or None.
    """
    ids = np.zeros(labels.shape, np.int32)
    found: list[tuple[int, int]] = []  # label and area by id - 1
    boxes: list[np.ndarray] = []
    left_out = 0
    for label in present_labels(labels):
        _, pieces, stats, _ = cv2.connectedComponentsWithStats((labels == label).view(np.uint8), connectivity=8)
        kept = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= min_area)
        kept = kept[kept > 0]  # the first is what is around
        left_out += len(stats) - 1 - len(kept)
        number = np.zeros(len(stats), np.int32)
        number[kept] = len(found) + 1 + np.arange(len(kept))
        np.add(ids, number[pieces], out=ids)
        found += [(label, int(stats[piece, cv2.CC_STAT_AREA])) for piece in kept]
        boxes += [stats[piece, :4] for piece in kept]
    numbers = np.array(found, np.int64).reshape(-1, 2)
    order = np.lexsort((_first_pixels(ids, len(found)), numbers[:, 0]))
    place = np.zeros(len(found) + 1, np.int32)
    place[order + 1] = 1 + np.arange(len(found))
    ids, areas = place[ids], numbers[order, 1]
    scores = None
    if sure is not None:
        scores = np.bincount(ids.reshape(-1), sure.reshape(-1), len(found) + 1)[1:] / np.maximum(areas, 1)
    return Regions(ids, numbers[order, 0], areas, np.array(boxes, np.int64).reshape(-1, 4)[order], scores,
                   left_out)


def present_labels(labels: np.ndarray) -> list[int]:
    """The labels of the classes that occur, ascending; neither the background nor what is ignored."""
    counts = np.bincount(labels.reshape(-1), minlength=256)
    return [int(label) for label in np.flatnonzero(counts) if label not in (BACKGROUND_LABEL, IGNORE_LABEL)]


def _first_pixels(ids: np.ndarray, count: int) -> np.ndarray:
    """Of ids 1..count, where each begins column by column."""
    starts, _, of = _column_runs(ids)
    first = np.zeros(count + 1, np.int64)
    first[of[::-1]] = starts[::-1]  # the last that is written stays
    return first[1:]


def _column_runs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, length and id of the runs of equal ids other than 0, column by column."""
    flat = ids.T.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=len(flat))
    inside = flat[starts] > 0
    return starts[inside], lengths[inside], flat[starts[inside]]
