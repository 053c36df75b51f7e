"""From SAM's mask logits to a mask set: stability, boxes, crops, small regions; pure functions."""
from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

Box = tuple[int, int, int, int]
EDGE_PIXELS = 20  # this near counts as touching


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
    inner = (logits > threshold + offset).flatten(1).sum(1)
    outer = (logits > threshold - offset).flatten(1).sum(1)
    return inner / outer.clamp(min=1)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes around masks, edges inclusive, as segment_anything counts them.

    Args:
        masks: M H W bool.

    Returns:
        M 4 int64 (x0, y0, x1, y1) with the indices of the first and last column and row; zeros for an empty mask.
    """
    height, width = masks.shape[1:]
    columns, rows = masks.any(1), masks.any(2)

    def first_and_last(line: Tensor, size: int) -> tuple[Tensor, Tensor]:
        position = torch.arange(size, device=line.device)
        return torch.where(line, position, size).amin(1), torch.where(line, position, -1).amax(1)

    if not len(masks):
        return torch.zeros(0, 4, dtype=torch.long, device=masks.device)
    x0, x1 = first_and_last(columns, width)
    y0, y1 = first_and_last(rows, height)
    return torch.stack([x0, y0, x1, y1], dim=1) * rows.any(1)[:, None]


def point_grid(per_side: int) -> Tensor:
    """per_side² 2 float64 points (x, y) in (0, 1), row by row, at the centres of equal cells."""
    line = (torch.arange(per_side, dtype=torch.float64) + 0.5) / per_side
    y, x = torch.meshgrid(line, line, indexing='ij')
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def crop_boxes(height: int, width: int, layers: int, overlap_ratio: float) -> list[tuple[int, Box]]:
    """The image itself (layer 0) and the overlapping crops of further layers, 4**layer of them.

    Args:
        height, width: of the image.
        layers: crop layers besides the image.
        overlap_ratio: overlap of the first layer's crops in units of the image's short side; halved by each layer.

    Returns:
        (layer, (x0, y0, x1, y1)) with exclusive right and bottom edges; columns of crops from left to right.
    """
    boxes: list[tuple[int, Box]] = [(0, (0, 0, width, height))]
    for layer in range(1, layers + 1):
        count = 2 ** layer
        overlap = int(overlap_ratio * min(height, width) * 2 / count)
        crop_width = math.ceil((width + overlap * (count - 1)) / count)
        crop_height = math.ceil((height + overlap * (count - 1)) / count)
        for column in range(count):
            for row in range(count):
                x0, y0 = (crop_width - overlap) * column, (crop_height - overlap) * row
                box = (x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height))
                if box[0] < box[2] and box[1] < box[3]:
                    boxes.append((layer, box))
    return boxes


def near_crop_edge(boxes: Tensor, crop: Box, size: tuple[int, int]) -> Tensor:
    """Which masks end near an edge of the crop that is no edge of the image, so that the crop may have cut them.

    Args:
        boxes: M 4 in the crop's frame.
        crop: the crop in the image's frame.
        size: (H, W) of the image.

    Returns:
        M bool.
    """
    edges = torch.tensor(crop, device=boxes.device)
    image_edges = torch.tensor([0, 0, size[1], size[0]], device=boxes.device)
    placed = boxes + edges[[0, 1, 0, 1]]
    touches = ((placed - edges).abs() <= EDGE_PIXELS) & ((placed - image_edges).abs() > EDGE_PIXELS)
    return touches.any(1)


def clean_regions(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """Fill holes and drop islands smaller than ``min_area`` pixels (8-connected).

    When every island is small, the largest one stays.

    Args:
        mask: H W bool.
        min_area: in pixels.

    Returns:
        The cleaned mask and whether anything changed.
    """
    filled = mask | _small_components(~mask, min_area)
    islands = _small_components(filled, min_area)
    if islands.any() and (islands == filled).all():
        islands &= ~_largest_component(filled)
    cleaned = filled & ~islands
    return cleaned, bool((cleaned != mask).any())


def _small_components(mask: np.ndarray, min_area: int) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] < min_area
    small[0] = False
    return small[labels]


def _largest_component(mask: np.ndarray) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


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
