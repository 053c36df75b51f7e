"""From SAM's mask logits to a mask set: what segment_anything's own functions leave open; pure functions."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from segment_anything.utils.amg import generate_crop_boxes
from torch import Tensor

Box = tuple[int, int, int, int]
_CANVAS = 2 ** 22  # pixels whose connected components are found at once


def count_above(logits: Tensor, threshold: float) -> Tensor:
    """How many pixels of each mask lie above a threshold: M H W to M int64. Fast where masks come last in memory."""
    if logits.device.type != 'cpu':
        return torch.count_nonzero(logits > threshold, dim=(1, 2))
    above = _bytes_above(logits, threshold)
    # Bytes add up many at a time; 255 rows are the most that surely fit one.
    columns = [np.add.reduce(above[i:i + 255], axis=0, dtype=np.uint8) for i in range(0, len(above), 255)]
    return torch.from_numpy(np.stack(columns).sum(axis=(0, 1), dtype=np.int64))


def _bytes_above(logits: Tensor, threshold: float) -> np.ndarray:
    """M H W on the CPU to H W M uint8: NumPy compares and reduces bytes several times as fast as torch."""
    return (logits.permute(1, 2, 0).numpy() > threshold).view(np.uint8)


def stability_score(logits: Tensor, threshold: float, offset: float) -> Tensor:
    """IoU between the masks cut ``offset`` above and below the threshold.

    Args:
        logits: M H W.
        threshold: where the mask itself is cut.
        offset: distance of the two cuts, in logits.

    Returns:
        M float in [0, 1]. Where even the lower cut is empty the ratio is 0/0; the score is then 0 (such a mask has no
        pixel), never NaN: a NaN compares false with every threshold, so that a mask would vanish unseen.
    """
    inner, outer = count_above(logits, threshold + offset), count_above(logits, threshold - offset)
    return inner / outer.clamp(min=1)


def boxes_above(logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Boxes around what lies above a threshold.

    Args:
        logits: M H W.
        threshold: where the masks are cut.

    Returns:
        M 4 int64 (left, top, right, bottom), all inclusive, zeros for a mask without a pixel; and M bool, whether there
        is any pixel.
    """
    if not len(logits):
        return torch.zeros(0, 4, dtype=torch.long, device=logits.device), logits.new_zeros(0, dtype=torch.bool)
    if logits.device.type == 'cpu':
        above = _bytes_above(logits, threshold)
        lines = [torch.from_numpy(np.bitwise_or.reduce(above, axis=0)).T]
        while above.shape[1] > 1:  # columns, half with half: rows of bytes in one piece
            half = (above.shape[1] + 1) // 2
            first, above = above, above[:, :half].copy()
            above[:, :first.shape[1] - half] |= first[:, half:]
        lines.append(torch.from_numpy(above[:, 0]).T)
    else:
        lines = [(logits.amax(dim) > threshold).byte() for dim in (1, 2)]
    (left, right), (top, bottom) = ((line.argmax(1), line.shape[1] - 1 - line.flip(1).argmax(1)) for line in lines)
    any_pixel = lines[0].amax(1) > 0
    return torch.stack([left, top, right, bottom], dim=1) * any_pixel[:, None], any_pixel


def crop_boxes(height: int, width: int, layers: int, overlap_ratio: float) -> list[tuple[int, Box]]:
    """The image itself (layer 0) and the overlapping crops of further layers, 4**layer of them.

    Args:
        height, width: of the image.
        layers: crop layers besides the image.
        overlap_ratio: overlap of the first layer's crops in units of the image's short side; halved by each layer.

    Returns:
        (layer, (x0, y0, x1, y1)) with exclusive right and bottom edges; columns of crops from left to right. Crops
        without a pixel, which segment_anything makes of images a few pixels wide, are left out.
    """
    boxes, layer_of = generate_crop_boxes((height, width), layers, overlap_ratio)
    return [(layer, tuple(box)) for layer, box in zip(layer_of, boxes, strict=True)
            if box[0] < box[2] and box[1] < box[3]]


def clean_regions(masks: np.ndarray, min_area: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill holes and drop islands smaller than ``min_area`` pixels (8-connected).

    Where every island is small, the largest one stays, of equally large ones the first from the top.

    Args:
        masks: M H W bool.
        min_area: in pixels.

    Returns:
        The cleaned masks M H W bool, and M bool, whether any pixel changed (segment_anything also says so of a lone
        small island, which stays).
    """
    cleaned, changed = masks.copy(), np.zeros(len(masks), bool)
    windows = _windows(masks, math.isqrt(max(0, min_area - 1)) + 1)
    for group in _groups([masks[window].shape for window in windows]):
        tiles = [masks[windows[i]] for i in group]
        filled = [tile | hole for tile, hole in zip(tiles, _regions(
            [~tile for tile in tiles], lambda area, tile: area < min_area), strict=True)]
        kept = _regions(filled, lambda area, tile: _large_ones(area, tile, min_area))
        for i, before, after in zip(group, tiles, kept, strict=True):
            changed[i] = (before != after).any()
            if changed[i]:
                cleaned[windows[i]] = after
    return cleaned, changed


def _windows(masks: np.ndarray, margin: int) -> list[tuple[int, slice, slice]]:
    """Where each mask is, with a margin on all sides.

    Background that touches the edge of a window, and so goes on outside, has at least ``margin`` squared pixels within:
    whether a region is smaller than that is told as in the whole image.
    """
    found = []
    for i, mask in enumerate(masks):
        rows, columns = (_span(lines, margin) for lines in (mask.any(axis=1), mask.any(axis=0)))
        found.append((i, rows, columns) if min(mask.shape) >= margin else (i, slice(0, len(mask)), slice(None)))
    return found


def _span(lines: Any, margin: int) -> slice:
    """Where lines (bool) are true, and ``margin`` more on both sides."""
    return slice(max(0, int(lines.argmax()) - margin), min(len(lines), len(lines) - int(lines[::-1].argmax()) + margin))


def _groups(sizes: list[tuple[int, ...]]) -> Iterator[list[int]]:
    """Positions of tiles (height, width) that fit one canvas, the widest ones first."""
    group, height, width = list[int](), 0, 0
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i][1]):
        if group and (height + sizes[i][0] + 2) * width > _CANVAS:
            yield group
            group, height = [], 0
        width = width if group else sizes[i][1]
        group.append(i)
        height += sizes[i][0] + 2
    if group:
        yield group


def _regions(tiles: list[np.ndarray], choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """The connected regions of bool tiles that ``choose`` says, given the area and the tile's position of each.

    The tiles stand on one tall canvas with an empty row in between, so that one call finds the regions of all.
    """
    # Each begins in an even row: there OpenCV numbers regions as in a picture of its own.
    rows = np.cumsum([0, *((len(tile) + 2) // 2 * 2 for tile in tiles)])
    canvas = np.zeros((rows[-1], max(tile.shape[1] for tile in tiles)), np.uint8)
    for tile, row in zip(tiles, rows[:-1], strict=True):
        canvas[row:row + len(tile), :tile.shape[1]] = tile
    _, labels, stats, _ = cv2.connectedComponentsWithStats(canvas, connectivity=8)
    chosen = np.zeros(len(stats), bool)
    chosen[1:] = choose(stats[1:, cv2.CC_STAT_AREA], np.searchsorted(rows, stats[1:, cv2.CC_STAT_TOP], 'right') - 1)
    picked = chosen[labels]
    return [picked[row:row + len(tile), :tile.shape[1]] for tile, row in zip(tiles, rows[:-1], strict=True)]


def _large_ones(area: np.ndarray, tile: np.ndarray, min_area: int) -> np.ndarray:
    """Regions of at least ``min_area``, and the largest one of every tile that has none of these."""
    large = area >= min_area
    for index in np.setdiff1d(tile, tile[large]):
        mine = np.flatnonzero(tile == index)
        large[mine[area[mine].argmax()]] = True
    return large


def mask_nms(masks: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression by the IoU of the masks themselves.

    Args:
        masks: M H W bool.
        scores: M; equal scores keep their order.
        threshold: a mask goes when its IoU with a better one that stayed exceeds it.

    Returns:
        Positions that stay, best first.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    flat = masks[order].flatten(1).float()
    shared = flat @ flat.T
    area = shared.diagonal()
    overlap = (shared / (area[:, None] + area - shared).clamp(min=1)).cpu().numpy() > threshold
    alive = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1:] &= ~overlap[i, i + 1:]
    return order[torch.from_numpy(alive).to(order.device)]
