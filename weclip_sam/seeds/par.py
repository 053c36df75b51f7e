"""PAR: pixel-adaptive refinement, a few rounds of averaging scores over neighbours of similar colour (AFA; WeCLIP 3.3).

With 8 neighbours at each dilation, the weight of a neighbour is a softmax over all neighbours of
``-mean_rgb((|difference| / (std + 1e-8) / 0.3)^2)`` plus 0.01 times the softmax of the same expression of distances.
The weights of a pixel therefore sum to 1.01: scores grow by 1.01 each round, which leaves comparisons unchanged.

Neighbours are visited one after the other: the weights (one plane per neighbour) are kept, the shifted images and
scores never are. The same sums are written three times: the plain version, which is the reference; image by image for a
CPU, whose cache then keeps the maps; and :mod:`weclip_sam.seeds.par_triton` for a GPU, where launches cost most.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.labels import background_of_maps
from weclip_sam.seeds.scores import background_score, resize_maps
from weclip_sam.structures import SeedState, to_device

DILATIONS = (1, 2, 4, 8, 12, 24)
COLOUR_SIGMA = 0.3
POSITION_WEIGHT = 0.01
STD_EPS = 1e-8
_BLOCK = 1 << 19  # numbers in a block of rows on a CPU: 2 MB, which stay in the cache from one neighbour to the next
_OFFSETS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def _neighbours(planes: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Views of N H W ``planes``, shifted to each neighbour in turn; beyond the border the border repeats."""
    padded = F.pad(planes[None], (max(dilations),) * 4, mode='replicate')[0]
    return _views(padded, planes.shape[-2], planes.shape[-1], dilations)


def _views(padded: Tensor, height: int, width: int, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The same of planes that are padded already, by the largest dilation on each side."""
    reach = max(dilations)
    for dilation in dilations:
        for row, column in _OFFSETS:
            top, left = reach + row * dilation, reach + column * dilation
            yield padded[:, top:top + height, left:left + width]


def neighbour_distances(dilations: Sequence[int] = DILATIONS) -> Tensor:
    """8 * len(dilations) float: distance in pixels of each neighbour, in the order used throughout."""
    return torch.tensor([d * (2 ** 0.5 if row and column else 1.0) for d in dilations for row, column in _OFFSETS])


def position_weights(dilations: Sequence[int] = DILATIONS) -> Tensor:
    """8 * len(dilations) float: the distance part of the weights, a softmax over the neighbours."""
    distance = neighbour_distances(dilations)
    return (-(distance / (distance.std() + STD_EPS) / COLOUR_SIGMA) ** 2).softmax(0)


@lru_cache(maxsize=32)
def _constants(dilations: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Dilations (int32) and the weights of positions, on a device: copied once, so that no step ever does."""
    with torch.inference_mode(False):
        return (to_device(torch.tensor(dilations, dtype=torch.int32), device),
                to_device(POSITION_WEIGHT * position_weights(dilations), device))


@torch.no_grad()
def neighbour_weights(images: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Weights of every neighbour of every pixel.

    Args:
        images: B 3 H W, in any affine colour scale (differences are divided by their own spread).
        dilations: distances in pixels.

    Returns:
        8 * len(dilations) B H W float32; they sum to 1.01 over the first axis.
    """
    batch, _, height, width = check_shape('images: B 3 H W', images=images)['B'], *images.shape[1:]
    planes = images.float().flatten(0, 1)
    count = 8 * len(dilations)
    # Unbiased spread of the neighbours' colours in two passes, so that no plane per neighbour is ever stored.
    mean, variance, buffer = torch.zeros_like(planes), torch.zeros_like(planes), torch.empty_like(planes)
    for shifted in _neighbours(planes, dilations):
        mean += shifted
    mean /= count
    for shifted in _neighbours(planes, dilations):
        torch.sub(shifted, mean, out=buffer)
        variance.addcmul_(buffer, buffer)
    scale = 1 / (((variance / (count - 1)).sqrt() + STD_EPS) * COLOUR_SIGMA)
    red, green, blue = buffer.view(batch, 3, height, width).unbind(1)
    weights = planes.new_empty(count, batch, height, width)
    for likeness, shifted in zip(weights, _neighbours(planes, dilations), strict=True):
        torch.sub(shifted, planes, out=buffer).mul_(scale)
        torch.mul(red, red, out=likeness).addcmul_(green, green).addcmul_(blue, blue)
    torch.softmax(weights.mul_(-1 / 3), 0, out=weights)
    return weights.add_(_constants(tuple(dilations), weights.device)[1][:, None, None, None])


def _rounds(weights: Tensor, scores: Tensor, sample_index: Tensor | None, iterations: int,
            dilations: Sequence[int]) -> Tensor:
    """The plain version: weights (8 * D B H W) and scores (N H W) to scores after some rounds."""
    for _ in range(iterations):
        result = torch.zeros_like(scores)
        for plane, shifted in zip(weights, _neighbours(scores, dilations), strict=True):
            result.addcmul_(plane if sample_index is None else plane[sample_index], shifted)
        scores = result
    return scores


def _rounds_of_one_image(weights: Tensor, scores: Tensor, iterations: int, dilations: Sequence[int]) -> Tensor:
    """The same numbers for all maps of one image (weights 8 * D 1 H W), whole rows at a time that fit the cache."""
    count, (height, width), reach = len(scores), scores.shape[1:], max(dilations)
    buffers = scores.new_empty(2, count, height + 2 * reach, width + 2 * reach)
    rows, columns = slice(reach, reach + height), slice(reach, reach + width)
    buffers[0, :, rows, columns] = scores
    step = max(1, _BLOCK // (count * width))
    blocks = [slice(top, min(top + step, height)) for top in range(0, height, step)]
    # Every view that a round needs, made once: on small images making them would cost as much as the sums.
    planes = [[plane[:, block] for plane in weights] for block in blocks]
    neighbours = [[[shifted[:, block] for shifted in _views(buffer, height, width, dilations)] for block in blocks]
                  for buffer in buffers]
    for turn in range(iterations):
        source, result = buffers[turn % 2], buffers[1 - turn % 2, :, rows, columns]
        source[:, rows, :reach] = source[:, rows, reach, None]
        source[:, rows, reach + width:] = source[:, rows, reach + width - 1, None]
        source[:, :reach] = source[:, reach, None]
        source[:, reach + height:] = source[:, reach + height - 1, None]
        for block, own, shifted in zip(blocks, planes, neighbours[turn % 2], strict=True):
            total = result[:, block].zero_()
            for weight, score in zip(own, shifted, strict=True):
                total.addcmul_(weight, score)
    return buffers[iterations % 2, :, rows, columns]


def _image_by_image(images: Tensor, scores: Tensor, sample_index: Tensor, iterations: int,
                    dilations: Sequence[int]) -> Tensor:
    """Refined scores; only one image's weights are kept at a time."""
    refined = torch.empty_like(scores)
    for image in range(len(images)):
        own = torch.nonzero(sample_index == image)[:, 0]
        if len(own):
            weights = neighbour_weights(images[image, None], dilations)
            refined[own] = _rounds_of_one_image(weights, scores[own], iterations, dilations)
    return refined


@lru_cache(maxsize=8)
def _has_kernels(device: torch.device) -> bool:
    """Whether Triton is there and works on a GPU: tried once, on an image of 4 x 4."""
    if find_spec('triton') is None:
        return False
    try:
        probe = torch.zeros(1, 3, 4, 4, device=device)
        _with_kernels(probe, probe[:, 0], None, 1, (1,))
    except Exception as error:  # no compiler for Triton's launchers, a GPU that it does not know, ...
        warnings.warn(f'PAR: its Triton kernels do not work here, so the plain version is used, which is many times '
                      f'slower ({type(error).__name__}: {error})', stacklevel=2)
        return False
    return True


def _with_kernels(images: Tensor, scores: Tensor, sample_index: Tensor | None, iterations: int,
                  dilations: Sequence[int]) -> Tensor:
    from weclip_sam.seeds import par_triton
    steps, position = _constants(tuple(dilations), scores.device)
    weights = par_triton.neighbour_weights(images, steps, position, COLOUR_SIGMA, STD_EPS)
    return par_triton.rounds(weights, scores, sample_index, iterations, steps)


def _check_rounds(iterations: int, dilations: Sequence[int]) -> None:
    if iterations < 0 or not dilations or min(dilations) < 1:
        raise ValueError(f'PAR: expected iterations >= 0 and dilations >= 1, got {iterations} and {list(dilations)}')


@torch.no_grad()
def pixel_adaptive_refinement(images: Tensor, scores: Tensor, sample_index: Tensor | None = None, iterations: int = 20,
                              dilations: Sequence[int] = DILATIONS, plain: bool = False) -> Tensor:
    """Refine score maps along the edges of their images.

    Args:
        images: B 3 H' W'; resized (bilinear, align_corners=True, as published) to the scores' size if it differs.
        scores: N H W, any number of maps per image.
        sample_index: N int64, the image of each map; the N-th image if None (then N = B).
        iterations: rounds; published: 20.
        dilations: see :func:`neighbour_weights`.
        plain: the version that is easiest to read, instead of the one that is fastest on the scores' device; they
            differ by rounding.

    Returns:
        N H W float32.

    Raises:
        ValueError: shapes that do not fit together, no dilation, a negative number of rounds, or (on a CPU, where
            looking costs nothing) a map of an image that is not there.
    """
    check_shape('images: B 3 H W; scores: N h w', images=images, scores=scores)
    if sample_index is None and len(scores) != len(images):
        raise ValueError(f'scores: {len(scores)} maps for {len(images)} images; say with sample_index which map '
                         'belongs to which image')
    _check_rounds(iterations, dilations)
    device = scores.device
    with torch.autocast(device.type, enabled=False):
        scores = scores.float()
        if len(scores) == 0 or iterations == 0:
            return scores
        if images.shape[-2:] != scores.shape[-2:]:
            images = F.interpolate(images.float(), size=scores.shape[-2:], mode='bilinear', align_corners=True)
        if device.type == 'cpu' and not plain:
            index = torch.arange(len(scores)) if sample_index is None else sample_index
            if not 0 <= int(index.min()) <= int(index.max()) < len(images):
                raise ValueError(f'sample_index: expected images in 0..{len(images) - 1}, got {index.tolist()[:20]}')
            return _image_by_image(images, scores, index, iterations, dilations)
        if device.type == 'cuda' and not plain and _has_kernels(device):
            return _with_kernels(images, scores, sample_index, iterations, dilations)
        return _rounds(neighbour_weights(images, dilations), scores, sample_index, iterations, dilations)


@SEED_STEPS.register_module()
class Par:
    """Seed step: bring the maps (and the background score) to image size and refine them with PAR.

    Args:
        iterations, dilations: see :func:`pixel_adaptive_refinement`.
        background_power: q of the background score ``(1 - max) ** q``, unless an earlier step made one.
        downscale: work at 1/n of the image size and enlarge the result. 1 is published. At 320x320 on ten VOC pictures
            with random smooth maps, 2 took a quarter of the time and changed 16 % of the labels, 4 took a fourteenth
            and changed 35 %: the same dilations reach farther.
        plain: see :func:`pixel_adaptive_refinement`.
    """

    needs, gives = frozenset({'maps'}), frozenset({'maps'})

    def __init__(self, iterations: int = 20, dilations: Sequence[int] = DILATIONS, background_power: float = 1.0,
                 downscale: int = 1, plain: bool = False) -> None:
        if downscale < 1:
            raise ValueError(f'Par downscale: expected a whole number >= 1, got {downscale}')
        _check_rounds(iterations, dilations)
        background_score(torch.zeros(0), 'power', background_power)  # names a wrong power now, not in the first batch
        self.iterations, self.dilations, self.background_power = iterations, tuple(dilations), background_power
        self.downscale, self.plain = downscale, plain

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``images``, ``maps`` and ``background``; writes ``maps`` (K H W) and ``background`` (B H W)."""
        images = state.images.float()  # a prediction's are bytes
        size = tuple(images.shape[-2:])
        small = (max(1, size[0] // self.downscale), max(1, size[1] // self.downscale))
        if self.downscale > 1:
            images = F.interpolate(images, size=small, mode='area')
        maps, batch = state.maps, len(images)
        scores = resize_maps(maps.scores, small)
        background = background_of_maps(state, scores, self.background_power)
        index = torch.cat([torch.arange(batch, device=scores.device), maps.sample_index])
        refined = pixel_adaptive_refinement(images, torch.cat([background, scores]), index, self.iterations,
                                            self.dilations, self.plain)
        # The weights of a round sum to 1.01: brought back to [0, 1], so that confidences mean what they say.
        refined = resize_maps(refined / (1 + POSITION_WEIGHT) ** self.iterations, size)
        return state.with_maps('par', maps.with_scores(refined[batch:]), background=refined[:batch])
