"""Sums, counts and paintings over many masks in bounded memory: the masks stay bits, a few rows are unpacked at a time.

An image's masks meet that image alone. On the CPU images come one by one, and neighbouring pixels that lie in the same
masks are one *column*: there are as many columns as borders are crossed, several times fewer than pixels (forty times
at 12 megapixels). How many there are is known only by looking, so elsewhere, where looking would make the host wait,
every pixel is a column, and all images of the batch are one group whose shorter lists of masks are filled up with
empty ones.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.bits import pack_bits, unpack_bits
from weclip_sam.structures import ClassMaps, MaskSet, to_device

BLOCK_BYTES = 1 << 21    # of bits that are looked at at a time on the CPU: they and what is made of them fit the cache
BLOCK_ENTRIES = 1 << 25  # masks times pixels at a time elsewhere: 256 MB in float64
PIXEL_BLOCK = 1 << 20    # pixels of a block, at most


class Columns(NamedTuple):
    """Some rows of a group of images, as pixels or as runs of pixels that lie in the same masks.

    Attributes:
        inside: G m r, 1 where a column lies in a mask, else 0 (bool or uint8).
        content: G r bool, False where a column is padding.
        size: (rows, W).
        starts: where each run begins, over rows that are filled up to whole bytes; None where columns are pixels.
    """

    inside: Tensor
    content: Tensor
    size: tuple[int, int]
    starts: np.ndarray | None = None

    @property
    def lengths(self) -> Tensor:
        """r int64: pixels of each column."""
        if self.starts is None:
            return torch.ones(self.inside.shape[-1], dtype=torch.long, device=self.inside.device)
        ends = np.append(self.starts[1:], self.size[0] * (-(-self.size[1] // 8) * 8))
        return torch.from_numpy(ends - self.starts)

    @property
    def bare(self) -> Tensor:
        """G r bool: where no mask lies, and no padding."""
        return self.content & ~self.inside.bool().any(1)

    def sums(self, values: Tensor) -> Tensor:
        """K rows W to K r float64: the values of each column's pixels together."""
        if self.starts is None:
            return values.flatten(1).double()
        values = F.pad(values, (0, -self.size[1] % 8)).flatten(1)
        return torch.from_numpy(np.add.reduceat(values.numpy(), self.starts, axis=1, dtype=np.float64))

    def spread(self, values: Tensor) -> Tensor:
        """G r to G rows W: every pixel gets what its column has."""
        if self.starts is None:
            return values.view(len(values), *self.size)
        spread = np.repeat(values.numpy(), self.lengths.numpy(), axis=1)
        return torch.from_numpy(spread.reshape(len(values), self.size[0], -1))[..., :self.size[1]]


class Group:
    """Images whose masks are worked on together.

    Args:
        images: of the batch.
        place: G m int64, the masks of each; M (no mask's number) fills up.
        masks: all of the batch, M.
        padding: B H W bool, what is no part of an image, or None.
    """

    def __init__(self, images: slice, place: Tensor, masks: MaskSet, padding: Tensor | None) -> None:
        self.images, self.place, self.masks = images, place, masks
        self.padding = None if padding is None else padding[images]
        self._only: Columns | None = None

    def blocks(self, beside: int = 1) -> Iterator[tuple[slice, Columns]]:
        """Some rows after the other, with their columns; those of a small image are kept for the next time.

        Args:
            beside: how many numbers a pixel the caller makes of each image.
        """
        height, width = self.masks.size
        on_cpu = self.masks.device.type == 'cpu'
        a_row = self.place.numel() * (-(-width // 8) if on_cpu else width)
        most = min((BLOCK_BYTES if on_cpu else BLOCK_ENTRIES) // max(1, a_row),
                   BLOCK_ENTRIES // max(1, beside * len(self.place) * width))
        for rows in row_blocks(height, width, most):
            whole = rows == slice(0, height)
            columns = self._only if whole and self._only else (self._runs if on_cpu else self._pixels)(rows)
            self._only = columns if whole else None
            yield rows, columns

    def fill_up(self, values: Tensor, filling: float) -> Tensor:
        """M values of masks to G m, with ``filling`` where there is no mask."""
        return F.pad(values, (0, 1), value=filling)[self.place]

    def pairs(self, maps: ClassMaps) -> slice:
        """Which maps are needed: those of one image, or all, where telling them apart would wait."""
        if maps.sample_index.device.type != 'cpu':
            return slice(0, len(maps.sample_index))
        first, last = (int((maps.sample_index < edge).sum()) for edge in (self.images.start, self.images.stop))
        return slice(first, last)

    def _pixels(self, rows: slice) -> Columns:
        """The plain way."""
        held = self.masks.held[:, rows]
        held = torch.cat([held, held.new_zeros(1, *held.shape[1:])])[self.place]
        inside = held if self.masks.width is None else unpack_bits(held, self.masks.width)
        content = inside.new_ones(len(inside), *inside.shape[2:]) if self.padding is None else ~self.padding[:, rows]
        return Columns(inside.flatten(2), content.flatten(1), (inside.shape[2], inside.shape[3]))

    def _runs(self, rows: slice) -> Columns:
        """One image's masks, which lie together."""
        first, height, width = int(self.place[0, 0]), rows.stop - rows.start, self.masks.size[1]
        held = self.masks.held[first:first + self.place.shape[1], rows]
        bits = (pack_bits(held) if self.masks.width is None else held).flatten(1).numpy()
        padding = torch.zeros(height, width, dtype=torch.bool) if self.padding is None else self.padding[0, rows]
        outside = pack_bits(F.pad(padding, (0, -width % 8), value=True)).flatten()[None].numpy()
        edges = np.bitwise_or.reduce(_changes(bits), axis=0) | _changes(outside)[0]
        edges[:1] |= 1
        starts = np.flatnonzero(np.unpackbits(edges, bitorder='little').view(np.bool_))
        if 2 * len(starts) > height * width:  # noise: hardly any neighbours are equal
            pixels = torch.from_numpy(bits).view(len(bits), height, -1)
            return Columns(unpack_bits(pixels, width).flatten(1)[None], ~padding.flatten()[None], (height, width))
        return Columns(torch.from_numpy(_at(bits, starts))[None], torch.from_numpy(_at(outside, starts) == 0),
                       (height, width), starts)


def _changes(bits: np.ndarray) -> np.ndarray:
    """A bit for every pixel (rows of bytes) that differs from the one before it."""
    before = bits << 1
    before[:, 1:] |= bits[:, :-1] >> 7
    before ^= bits
    return before


def _at(bits: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The bits (0 or 1) of some pixels, for each row of bytes."""
    chosen = np.take(bits, pixels >> 3, axis=1)
    chosen >>= (pixels & 7).astype(np.uint8)
    chosen &= 1
    return chosen


def groups(masks: MaskSet, batch_size: int | None = None, padding: Tensor | None = None) -> list[Group]:
    """The images that have masks, see :class:`Group`; masks of an image lie together, images ascend.

    Where nobody on the host knows whose the masks are (a set that :meth:`MaskSet.stack` did not make, on a device),
    each image looks at all masks and takes its own, or without ``batch_size`` all of them are one group.
    """
    count = len(masks)
    if not count:
        return []
    if masks.device.type == 'cpu':
        counts = masks.counts or torch.bincount(masks.sample_index, minlength=batch_size or 0).tolist()
        return [Group(slice(image, image + 1), torch.arange(end - own, end)[None], masks, padding)
                for image, (own, end) in enumerate(zip(counts, np.cumsum(counts).tolist(), strict=True)) if own]
    if masks.counts is not None:
        many = torch.tensor(masks.counts)[:, None]
        number = torch.arange(max(masks.counts))
        place = to_device(torch.where(number < many, number + many.cumsum(0) - many, count), masks.device)
    else:
        place = torch.arange(count, device=masks.device)[None]
        if batch_size is not None:
            image = torch.arange(batch_size, device=masks.device)[:, None]
            place = torch.where(masks.sample_index == image, place, count)
    return [Group(slice(0, len(place)), place, masks, padding)]


def row_blocks(height: int, width: int, most: int | None = None) -> Iterator[slice]:
    """All rows, at most ``PIXEL_BLOCK`` pixels and ``most`` rows at a time, but always one."""
    step = PIXEL_BLOCK // max(1, width)
    step = max(1, step if most is None else min(step, most))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def shared_areas(group: Group) -> Tensor:
    """G m m float64: how many pixels each two masks of an image have in common."""
    count = group.place.shape[1]
    shared = torch.zeros(len(group.place), count, count, dtype=torch.double, device=group.place.device)
    with torch.autocast(group.place.device.type, enabled=False):
        for _, columns in group.blocks():
            inside = columns.inside.float()  # counts of a block stay below 2**24, which float32 holds exactly
            weighted = inside if columns.starts is None else inside * columns.lengths.float()
            shared += weighted @ inside.mT
    return shared


class MaskMeans(NamedTuple):
    """Means of maps over masks.

    Attributes:
        means: K M float32, zero for a mask without pixels; of masks of other images nothing is to be read (zero on a
            CPU, elsewhere what the product gave).
        areas: M int64.
        rest: K float32, the mean of the clipped map over what no mask of its image covers; NaN where masks cover
            everything, and for an image without masks.
    """

    means: Tensor
    areas: Tensor
    rest: Tensor


def mask_means(maps: ClassMaps, images: Sequence[Group],
               prepare: Callable[[Tensor, slice], Tensor] = lambda scores, pairs: scores,
               signed: bool = True) -> MaskMeans:
    """Mean of every map over every mask of its image, as matrix products.

    The products run in float64: a mask that was found twice must get two equal scores (ties are painted in input
    order), whatever columns of the product it lands in, and half precision would lose small areas.

    Args:
        maps: scores K H W.
        images: of :func:`groups`.
        prepare: applied to some rows of the scores of some pairs, before the mean.
        signed: False promises that it leaves nothing below zero.
    """
    count, device = len(images[0].masks) if images else 0, maps.scores.device
    means = torch.zeros(len(maps.scores), count + 1, device=device)  # the last one is no mask's
    areas = torch.zeros(count + 1, dtype=torch.long, device=device)
    rest = torch.full((len(maps.scores),), torch.nan, device=device)
    for group in images:
        pairs, place = group.pairs(maps), group.place
        shape = len(place), place.shape[1] + 1, pairs.stop - pairs.start + 1
        sums = torch.zeros(shape, dtype=torch.double, device=device)
        with torch.autocast(device.type, enabled=False):
            for rows, columns in group.blocks():
                _add_sums(sums, columns, prepare(maps.scores[pairs, rows], pairs), signed)
        area = sums[..., -1:]
        mean = (sums[..., :-1] / area.clamp(min=1)).float()
        means[pairs, place.flatten()] = mean[:, :-1].flatten(0, 1).T
        areas[place] = area[:, :-1, 0].long()
        own = maps.sample_index[pairs] - group.images.start
        bare = torch.where(area[:, -1, 0] > 0, mean[:, -1].T, torch.nan)
        rest[pairs] = bare.gather(1, own[:, None])[:, 0]
    return MaskMeans(means[:, :-1], areas[:-1], rest)


def _add_sums(sums: Tensor, columns: Columns, values: Tensor, signed: bool) -> None:
    """Add a block to G m+1 K+1: sums over each mask and, clipped at zero, over the rest; the last column counts."""
    pixels = columns.lengths.double()[None]
    totals = torch.cat([columns.sums(values), pixels]).T
    sums[:, :-1] += columns.inside.double() @ totals
    if signed:
        totals = torch.cat([columns.sums(values.clamp(min=0)), pixels]).T
    sums[:, -1] += columns.bare.double() @ totals


def highest(images: Sequence[Group], values: Tensor, out: Tensor) -> Tensor:
    """Write into ``out`` (B H W int32, zeros) the highest of ``values`` (M, >= 0) of the masks over each pixel."""
    for group in images:
        value = group.fill_up(values.int(), 0)[..., None]
        for rows, columns in group.blocks():
            out[group.images, rows] = columns.spread((columns.inside * value).amax(1))
    return out
