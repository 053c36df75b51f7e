"""Box masks of class maps (CLIP-ES, section 3.2): where a class may spread to.

The published boxes are those of OpenCV contours on 8-bit maps. Kept here to the pixel: scores are cut (not rounded) to
256 levels; the threshold is ``int(t * max)`` of those levels and strict; a box ends at ``min(end, size - 1)`` and the
end is exclusive, so the last row and column of a map are in no box. (A map of a single row or column keeps it: else
nothing could spread anywhere.)
"""
from __future__ import annotations

import torch
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.seeds.components import component_extents, connected_components


def above_threshold(maps: Tensor, threshold: float) -> Tensor:
    """K h w bool: 8-bit score strictly above ``int(threshold * maximum)`` of the map's own 8-bit scores.

    Args:
        maps: K h w in [0, 1]; what lies outside (signed maps, PAR's) is cut to that range.
        threshold: share of the maximum, in [0, 1]; 0.4 on VOC, 0.7 on COCO.

    Raises:
        ValueError: the threshold is no share (0..1).
    """
    check_shape('maps: K h w', maps=maps)
    if not 0 <= threshold <= 1:
        raise ValueError(f'threshold: expected a share of the maximum in [0, 1], got {threshold}')
    levels = (maps.clamp(0, 1) * 255).to(torch.uint8)
    limit = (levels.amax((-2, -1), keepdim=True).double() * threshold).floor()
    return levels > limit


def box_masks(maps: Tensor, threshold: float = 0.4) -> Tensor:
    """Union of the bounding boxes of the connected (8-neighbour) parts of a thresholded map.

    Boxes of holes, which OpenCV lists too, lie inside the box around the hole's component and change nothing.

    Args:
        maps: K h w in [0, 1].
        threshold: see :func:`above_threshold`.

    Returns:
        K h w bool; all False for a map that is zero everywhere.
    """
    first, last = component_extents(connected_components(above_threshold(maps, threshold)))
    sides = []
    for axis, size in enumerate(maps.shape[1:]):
        place = torch.arange(size, device=maps.device)[None, :, None]
        sides.append((place >= first[:, axis, None]) & (place <= last[:, axis, None].clamp(max=max(size - 2, 0))))
    rows, columns = (side.float() for side in sides)  # K h P, K w P: a pixel is covered if any component has both
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ columns.transpose(1, 2) > 0
