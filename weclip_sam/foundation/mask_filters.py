"""From SAM's mask logits to a mask set: what segment_anything's own functions leave open; pure functions."""
from __future__ import annotations

import numpy as np
import torch
from segment_anything.utils.amg import generate_crop_boxes, remove_small_regions
from torch import Tensor

Box = tuple[int, int, int, int]


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


def clean_regions(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """Fill holes and drop islands smaller than ``min_area`` pixels (8-connected).

    When every island is small, the largest one stays.

    Args:
        mask: H W bool.
        min_area: in pixels.

    Returns:
        The cleaned mask and whether any pixel changed (segment_anything also says so of a lone small island, which
        stays).
    """
    filled, _ = remove_small_regions(mask, min_area, 'holes')
    cleaned, _ = remove_small_regions(filled, min_area, 'islands')
    return cleaned, bool((cleaned != mask).any())


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
