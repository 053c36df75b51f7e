"""High-dimensional Gaussian filtering on the permutohedral lattice (Adams, Baek and Davis, Eurographics 2010).

Values are splatted to the corners of the simplex each point falls into, blurred along the lattice's axes and read
back: O(N d) instead of the O(N^2) of the exact filter, for any number of points N. It is the approximation that the
reference implementation of dense CRFs uses, here in plain tensor operations (no compiler).
"""
from __future__ import annotations

import warnings

import torch
from torch import Tensor


class PermutohedralFilter:
    """Gaussian filter ``out_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j`` up to a constant factor, i = j included.

    Args:
        features: N d float, every dimension in units of its standard deviation.
    """

    def __init__(self, features: Tensor) -> None:
        keys, weights = _simplices(features.double())
        corners = features.shape[1] + 1
        codes, size = _encode(keys.reshape(-1, corners - 1))
        self.codes, vertex = torch.unique(codes, return_inverse=True)
        self.count = len(self.codes)
        first = torch.empty(self.count, dtype=torch.long, device=codes.device)
        first[vertex] = torch.arange(len(vertex), device=codes.device)
        self.neighbours = _neighbours(keys.reshape(-1, corners - 1)[first], self.codes, size)
        weights = weights.reshape(-1).to(features.dtype)
        starts = torch.arange(0, len(vertex) + 1, corners, device=codes.device)
        order = torch.argsort(vertex, stable=True)
        ends = torch.nn.functional.pad(torch.bincount(vertex, minlength=self.count).cumsum(0), (1, 0))
        self.slice = _sparse_rows(starts, vertex, weights, (len(features), self.count))
        self.splat = _sparse_rows(ends, order // corners, weights[order], (self.count, len(features)))

    def __call__(self, values: Tensor) -> Tensor:
        """Filter N V values (V columns at once): N V."""
        lattice = self.splat @ values
        outside = lattice.new_zeros(1, lattice.shape[1])
        for before, after in self.neighbours:
            padded = torch.cat([lattice, outside])  # a neighbour that does not exist reads the last row, zero
            lattice = lattice.add(padded.index_select(0, before), alpha=0.5)
            lattice.add_(padded.index_select(0, after), alpha=0.5)
        return self.slice @ lattice


def _sparse_rows(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():  # the CSR layout calls itself beta; it multiplies 3 x faster than COO
        warnings.simplefilter('ignore', UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


def _simplices(features: Tensor) -> tuple[Tensor, Tensor]:
    """The d+1 lattice corners around every point (N d+1 d int64; the last coordinate is implied) and their weights."""
    points, dims = features.shape
    corners = dims + 1
    axis = torch.arange(dims, device=features.device, dtype=features.dtype)[:, None]
    # The blur spreads by 2/3 of a lattice cell squared; this scale makes the whole a unit Gaussian.
    scaled = features.T.contiguous() * (corners * (2 / 3) ** 0.5 / ((axis + 1) * (axis + 2)).sqrt())
    tail = scaled.flip(0).cumsum(0).flip(0)                  # sums over the dimensions from j on
    elevated = torch.cat([tail, torch.zeros_like(tail[:1])])
    elevated[1:] -= (axis + 1) * scaled                      # now in the hyperplane of zero sum
    base = (elevated / corners).round() * corners            # nearest point whose coordinates are multiples of d+1
    excess = (base.sum(0) / corners).round().long()
    rank = _ranks(elevated - base) + excess                  # walk back to the hyperplane along the largest errors
    base = base + corners * ((rank < 0).to(base) - (rank > dims).to(base))
    rank = rank % corners
    share = (elevated - base) / corners
    weights = torch.zeros(corners + 1, points, dtype=features.dtype, device=features.device)
    weights.scatter_add_(0, dims - rank, share)
    weights.scatter_add_(0, dims - rank + 1, -share)
    weights[0] += 1 + weights[corners]
    rank, base = rank[:dims].T, base[:dims].T.long()
    corner = torch.arange(corners, device=rank.device)[:, None]
    step = torch.where(rank[:, None] <= dims - corner, corner, corner - corners)   # N corner coordinate
    return base[:, None] + step, weights[:corners].T


def _ranks(values: Tensor) -> Tensor:
    """How many of the others come before each value in descending order, down the columns of n N; ties keep order."""
    rank = torch.zeros(values.shape, dtype=torch.long, device=values.device)
    for first in range(len(values)):
        for second in range(first + 1, len(values)):
            later_wins = values[second] > values[first]
            rank[first] += later_wins
            rank[second] += ~later_wins
    return rank


def _encode(keys: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One int64 per lattice point; the margin keeps the neighbours of every point representable."""
    margin = keys.shape[1] + 1
    low = keys.amin(0) - margin
    extent = keys.amax(0) + margin - low + 1
    stride = torch.cat([torch.ones_like(extent[:1]), extent[:-1]]).cumprod(0)
    if float(extent.double().prod()) >= 2 ** 63:
        raise ValueError('features spread too far for the lattice: use larger standard deviations or a smaller image')
    return ((keys - low) * stride).sum(1), (low, stride)


def _neighbours(keys: Tensor, codes: Tensor, size: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each of the d+1 axes the position of both neighbours of every lattice point (len(codes) where none is)."""
    low, stride = size
    dims, count = keys.shape[1], len(codes)
    here = torch.arange(count, device=keys.device)
    pairs = []
    for axis in range(dims + 1):
        step = torch.ones(dims, dtype=torch.long, device=keys.device)
        if axis < dims:
            step[axis] = -dims
        code = ((keys + step - low) * stride).sum(1)
        place = torch.searchsorted(codes, code).clamp(max=count - 1)
        after = torch.where(codes[place] == code, place, count)
        before = torch.full((count + 1,), count, device=keys.device)  # whoever has me after it comes before me
        before[after] = here
        pairs.append((before[:count], after))
    return pairs
