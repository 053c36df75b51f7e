"""Box masks of class maps (CLIP-ES, section 3.3): where a class may spread to.

The published boxes are those of OpenCV contours on 8-bit maps. Kept here to the pixel: scores are cut (not rounded) to
256 levels; the threshold is ``int(t * max)`` of those levels and strict; a box ends at ``min(end, size - 1)`` and the
end is exclusive, so the last row and column of a map are in no box. (A map of a single row or column keeps it: else
nothing could spread anywhere.)
"""
from __future__ import annotations

import torch
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.seeds.components import component_extents, connected_components, reachable

REACH_PIXELS, REACH_ENTRIES = 1024, 1 << 26  # of a map, and of all maps' matrices


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
    foreground = above_threshold(maps, threshold)
    sides = sides_by_reach(foreground) if _few_large_steps(foreground) else sides_by_extent(foreground)
    with torch.autocast(maps.device.type, enabled=False):
        # K h n and K n w: a pixel is covered if any component has both its row and its column.
        return torch.bmm(*sides) > 0


def sides_by_extent(foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Rows K h P and columns K P w (0 or 1) of the box around each component of K h w maps, at the component's place.

    For maps of any size: two hundred small steps.
    """
    first, last = component_extents(connected_components(foreground))
    sides = []
    for axis, size in enumerate(foreground.shape[1:]):
        place = torch.arange(size, device=foreground.device)[None, :, None]
        sides.append((place >= first[:, axis, None]) & (place <= last[:, axis, None].clamp(max=max(size - 2, 0))))
    rows, columns = (side.float() for side in sides)
    return rows, columns.transpose(1, 2)


def sides_by_reach(foreground: Tensor) -> tuple[Tensor, Tensor]:
    """The same as :func:`sides_by_extent`, each component's box standing at every one of its pixels: a few matrix
    products, P^3 operations each, for maps as small as grids of patches."""
    size = foreground.shape[1:]
    reach = reachable(foreground, torch.bfloat16).unflatten(2, size)  # K P h w
    # A component is connected, so its rows are all those of its box, and its columns, too.
    sides = [reach.amax(axis) for axis in (3, 2)]
    for side, length in zip(sides, size, strict=True):
        if length > 1:
            side[..., -1] = 0
    return sides[0].transpose(1, 2), sides[1]


def _few_large_steps(foreground: Tensor) -> bool:
    """Whether matrix products are the better way: a GPU multiplies in the time that it takes to launch a small step,
    while a CPU core counts operations. They hold a matrix for each map."""
    count, pixels = len(foreground), foreground.shape[1] * foreground.shape[2]
    return foreground.device.type != 'cpu' and pixels <= REACH_PIXELS and count * pixels ** 2 <= REACH_ENTRIES
