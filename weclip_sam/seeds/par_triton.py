"""PAR on a GPU, in Triton: one kernel for the weights, then one a round, which reads the weights of a pixel once for
all maps of its image. :mod:`weclip_sam.seeds.par` says what is computed, and chooses; nothing here waits for the host.

Only operators that Triton does not write in Triton itself are used (no ``tl.sum``, no ``tl.zeros``): its interpreter,
in which these kernels run on a CPU, can then be chosen after Triton was imported.
"""
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 128  # of one program
_FEW_MAPS, _MANY_MAPS = 4, 8  # maps that a program keeps in registers; further maps find the weights in the cache


@triton.jit
def _neighbour(row, column, dilation, direction: tl.constexpr, height, width):
    """Where a pixel's neighbour lies, in the order of the plain version; beyond the border the border repeats."""
    of_nine: tl.constexpr = direction + (1 if direction >= 4 else 0)  # the pixel itself is no neighbour
    y = tl.minimum(tl.maximum(row + (of_nine // 3 - 1) * dilation, 0), height - 1)
    x = tl.minimum(tl.maximum(column + (of_nine % 3 - 1) * dilation, 0), width - 1)
    return y * width + x


@triton.jit
def _weights_kernel(images, dilations, position, weights, batch, height, width, count, sigma, eps,
                    PIXELS: tl.constexpr):
    """weights (8 * count, batch, height, width) of images (batch, 3, height, width); one program for some pixels.

    Colours are read four times instead of kept: for the mean, the spread, the softmax's sum, and the weights.
    """
    image = tl.program_id(1).to(tl.int64)
    area = height * width
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < area
    row, column = pixel // width, pixel % width
    red = images + image * 3 * area
    green, blue = red + area, red + 2 * area
    r0 = tl.load(red + pixel, mask=inside, other=0.)
    g0 = tl.load(green + pixel, mask=inside, other=0.)
    b0 = tl.load(blue + pixel, mask=inside, other=0.)

    r_mean = tl.full((PIXELS,), 0., tl.float32)
    g_mean, b_mean = r_mean, r_mean
    for k in range(count):
        dilation = tl.load(dilations + k)
        for direction in tl.static_range(8):
            there = _neighbour(row, column, dilation, direction, height, width)
            r_mean += tl.load(red + there, mask=inside, other=0.)
            g_mean += tl.load(green + there, mask=inside, other=0.)
            b_mean += tl.load(blue + there, mask=inside, other=0.)
    r_mean, g_mean, b_mean = r_mean / (8 * count), g_mean / (8 * count), b_mean / (8 * count)

    r_scale = tl.full((PIXELS,), 0., tl.float32)
    g_scale, b_scale = r_scale, r_scale
    for k in range(count):
        dilation = tl.load(dilations + k)
        for direction in tl.static_range(8):
            there = _neighbour(row, column, dilation, direction, height, width)
            r = tl.load(red + there, mask=inside, other=0.) - r_mean
            g = tl.load(green + there, mask=inside, other=0.) - g_mean
            b = tl.load(blue + there, mask=inside, other=0.) - b_mean
            r_scale, g_scale, b_scale = r_scale + r * r, g_scale + g * g, b_scale + b * b
    r_scale = 1 / ((tl.sqrt(r_scale / (8 * count - 1)) + eps) * sigma)
    g_scale = 1 / ((tl.sqrt(g_scale / (8 * count - 1)) + eps) * sigma)
    b_scale = 1 / ((tl.sqrt(b_scale / (8 * count - 1)) + eps) * sigma)

    top = tl.full((PIXELS,), float('-inf'), tl.float32)
    total = tl.full((PIXELS,), 0., tl.float32)
    for k in range(count):
        dilation = tl.load(dilations + k)
        for direction in tl.static_range(8):
            there = _neighbour(row, column, dilation, direction, height, width)
            r = (tl.load(red + there, mask=inside, other=0.) - r0) * r_scale
            g = (tl.load(green + there, mask=inside, other=0.) - g0) * g_scale
            b = (tl.load(blue + there, mask=inside, other=0.) - b0) * b_scale
            likeness = -(r * r + g * g + b * b) / 3
            higher = tl.maximum(top, likeness)
            total = total * tl.exp(top - higher) + tl.exp(likeness - higher)
            top = higher

    for k in range(count):
        dilation = tl.load(dilations + k)
        for direction in tl.static_range(8):
            there = _neighbour(row, column, dilation, direction, height, width)
            r = (tl.load(red + there, mask=inside, other=0.) - r0) * r_scale
            g = (tl.load(green + there, mask=inside, other=0.) - g0) * g_scale
            b = (tl.load(blue + there, mask=inside, other=0.) - b0) * b_scale
            likeness = -(r * r + g * g + b * b) / 3
            weight = tl.exp(likeness - top) / total + tl.load(position + 8 * k + direction)
            tl.store(weights + ((8 * k + direction) * batch + image) * area + pixel, weight, mask=inside)


@triton.jit
def _round_kernel(scores, result, weights, order, starts, dilations, batch, height, width, count,
                  PIXELS: tl.constexpr, MAPS: tl.constexpr):
    """One round: result (N, height, width) of scores; one program for some pixels of all maps of an image.

    The maps of image i are ``order[starts[i]:starts[i + 1]]``.
    """
    image = tl.program_id(1).to(tl.int64)
    area = height * width
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < area
    row, column = pixel // width, pixel % width
    end = tl.load(starts + image + 1)
    for first in range(tl.load(starts + image), end, MAPS):
        place = first + tl.arange(0, MAPS)
        plane = tl.load(order + place, mask=place < end, other=0)[:, None] * area
        kept = (place < end)[:, None] & inside[None, :]
        total = tl.full((MAPS, PIXELS), 0., tl.float32)
        for k in range(count):
            dilation = tl.load(dilations + k)
            for direction in tl.static_range(8):
                there = _neighbour(row, column, dilation, direction, height, width)
                weight = tl.load(weights + ((8 * k + direction) * batch + image) * area + pixel, mask=inside, other=0.)
                total += weight[None, :] * tl.load(scores + plane + there[None, :], mask=kept, other=0.)
        tl.store(result + plane + pixel[None, :], total, mask=kept)


def neighbour_weights(images: Tensor, dilations: Tensor, position: Tensor, sigma: float, eps: float) -> Tensor:
    """See :func:`weclip_sam.seeds.par.neighbour_weights`.

    Args:
        images: B 3 H W.
        dilations: D int32, on the images' device.
        position: 8 * D float32, there too: what each weight gets for its distance.
        sigma, eps: of the colours.

    Returns:
        8 * D B H W float32.
    """
    batch, _, height, width = images.shape
    weights = images.new_empty(len(position), batch, height, width, dtype=torch.float32)
    with torch.cuda.device_of(images):
        _weights_kernel[(triton.cdiv(height * width, _PIXELS), batch)](
            images.float().contiguous(), dilations, position, weights, batch, height, width, len(dilations), sigma, eps,
            PIXELS=_PIXELS)
    return weights


def rounds(weights: Tensor, scores: Tensor, sample_index: Tensor | None, iterations: int, dilations: Tensor) -> Tensor:
    """All rounds of averaging.

    Args:
        weights: 8 * D B H W float32, contiguous.
        scores: N H W float32.
        sample_index: N int64 in [0, B), in any order; None if N = B. Maps of no image become NaN.
        iterations: at least 1.
        dilations: D int32, on the scores' device.

    Returns:
        N H W float32; ``scores`` are left as they are.
    """
    batch, height, width = weights.shape[1:]
    images = torch.arange(batch + 1, device=scores.device)
    if sample_index is None:
        order, starts = images, images
    else:
        order = sample_index.argsort(stable=True)
        starts = torch.searchsorted(sample_index[order], images)
    maps = _FEW_MAPS if len(scores) <= _FEW_MAPS * batch else _MANY_MAPS
    source, buffers = scores.contiguous(), scores.new_full((2, *scores.shape), torch.nan)
    with torch.cuda.device_of(scores):
        for turn in range(iterations):
            _round_kernel[(triton.cdiv(height * width, _PIXELS), batch)](
                source, buffers[turn % 2], weights, order, starts, dilations, batch, height, width, len(dilations),
                PIXELS=_PIXELS, MAPS=maps)
            source = buffers[turn % 2]
    return source
