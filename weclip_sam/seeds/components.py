"""Connected components and their bounding boxes on any device, without asking the host when it is done.

On grids of patches: which pixel reaches which, by squaring the matrix of neighbours (:func:`reachable`). On maps of any
size (:func:`connected_components`): Boruvka's algorithm on labels. In every round each component joins a neighbouring
one, so the number of components that still have a neighbour at least halves and ceil(log2(P)) rounds always suffice.
Chains of joins are resolved by pointer jumping, which halves the distance to the root. The number of steps depends on
the map's size alone.
"""
from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape

UNCLAMPED = 3  # squarings of 0 and 1 that stay below float32's (and bfloat16's) largest number: P^7, P up to 10^5


def connected_components(foreground: Tensor) -> Tensor:
    """Label the 8-connected components of K h w boolean maps.

    Args:
        foreground: K h w bool, h * w < 2**24.

    Returns:
        K h w int64: one pixel position in [0, h * w) per component, the same for all its pixels; h * w elsewhere.
    """
    check_shape('foreground: K h w', foreground=foreground)
    count, height, width = foreground.shape
    pixels = height * width
    inside = foreground.flatten(1)
    # Column `pixels` is the background's own, so that every gather and scatter below is defined.
    parent = torch.arange(pixels + 1, device=foreground.device).expand(count, -1).contiguous()
    parent[:, :pixels].masked_fill_(~inside, pixels)
    remaining = pixels
    while remaining > 1:
        parent = _join(parent, inside, (count, height, width))
        for _ in range((remaining - 1).bit_length()):
            parent = parent.gather(1, parent)
        remaining = (remaining + 1) // 2
    return parent[:, :pixels].reshape(count, height, width)


def _join(root: Tensor, inside: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Point every root at a neighbouring component's root: the smallest if smaller than itself, else the largest.

    Two components may choose each other, and no longer cycle can arise: after a step up from a local minimum the next
    step down reaches that minimum or something smaller. Of such a pair the smaller root stays.
    """
    pixels = inside.shape[1]
    label = root[:, :pixels]
    low = -_neighbour_max((-label).view(shape), -float(pixels)).flatten(1)
    high = _neighbour_max(label.masked_fill(~inside, -1).view(shape), -1.0).flatten(1)
    smallest = root.scatter_reduce(1, label, torch.where(inside, low.long(), pixels), 'amin')
    largest = root.scatter_reduce(1, label, torch.where(inside, high.long(), -1), 'amax')
    self_index = torch.arange(pixels + 1, device=root.device).expand_as(root)
    is_root = (root == self_index) & (self_index < pixels)
    target = torch.where(smallest < self_index, smallest, largest)
    target = torch.where(is_root, target, root)
    mutual = is_root & (target.gather(1, target) == self_index) & (self_index < target)
    return torch.where(mutual, self_index, target)


def _neighbour_max(values: Tensor, outside: float) -> Tensor:
    return F.max_pool2d(F.pad(values.float()[:, None], (1, 1, 1, 1), value=outside), 3, stride=1)[:, 0]


def reachable(foreground: Tensor, kind: torch.dtype = torch.float32) -> Tensor:
    """Which pixels belong together.

    Args:
        foreground: K h w bool.
        kind: of the numbers; any will do, as sums of what is not negative stay positive, however they are rounded.

    Returns:
        K P P, 1 where two pixels lie in one 8-connected component, else 0.
    """
    check_shape('foreground: K h w', foreground=foreground)
    height, width = foreground.shape[1:]
    inside = foreground.flatten(1).to(kind)
    reach = _neighbours(height, width, foreground.device, kind) * inside[:, :, None] * inside[:, None]
    # A shortest path has at most two pixels in any 2 x 2 block: all of a block are neighbours, and it would cut short.
    longest = 2 * ((height + 1) // 2) * ((width + 1) // 2) - 1
    rounds = (longest - 1).bit_length()  # every squaring doubles the length of the paths
    with torch.autocast(foreground.device.type, enabled=False):
        for turn in range(1, rounds + 1):
            reach = torch.bmm(reach, reach)
            if turn % UNCLAMPED == 0 or turn == rounds:
                reach = reach.clamp_(max=1)
    return reach


@lru_cache(maxsize=16)
def _neighbours(height: int, width: int, device: torch.device, kind: torch.dtype) -> Tensor:
    """P P: 1 where two pixels touch, also at a corner, or are the same."""
    rows, columns = (torch.arange(size, device=device) for size in (height, width))
    near_rows, near_columns = ((place[:, None] - place[None]).abs() <= 1 for place in (rows, columns))
    return (near_rows[:, None, :, None] & near_columns[None, :, None, :]).flatten(2).flatten(0, 1).to(kind)


def component_extents(labels: Tensor) -> tuple[Tensor, Tensor]:
    """First and last row and column of every component.

    Args:
        labels: K h w from :func:`connected_components`.

    Returns:
        first K 2 P and last K 2 P int64, [row, column], at the component's position; where there is no component, first
        lies behind last.
    """
    count, height, width = labels.shape
    pixels = height * width
    index = labels.flatten(1)[:, None].expand(-1, 2, -1)
    position = torch.stack(torch.meshgrid(torch.arange(height, device=labels.device),
                                          torch.arange(width, device=labels.device), indexing='ij')).flatten(1)
    position = position.expand(count, -1, -1)
    first = position.new_full((count, 2, pixels + 1), pixels).scatter_reduce(2, index, position, 'amin')
    last = position.new_full((count, 2, pixels + 1), -1).scatter_reduce(2, index, position, 'amax')
    return first[..., :pixels], last[..., :pixels]
