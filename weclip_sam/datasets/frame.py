"""Where the pixels of a transformed image come from.

Resizing (nearest), cropping, padding and flipping act on rows and columns separately, so any sequence of them is one
choice of rows and one of columns. A frame holds these two choices; masks and labels are gathered once at the end,
exactly, instead of being carried through every step at full size.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from weclip_sam.bits import transpose_bits
from weclip_sam.structures import MaskSet

OUTSIDE = -1
MASK_BYTES = 1 << 20  # of masks as bits that are brought into a frame at a time


@dataclass(frozen=True)
class Frame:
    """The current image as a choice of the original's rows and columns.

    Attributes:
        rows: H int64, the original row of each row of the current image; -1 where it is padding.
        cols: W int64, likewise.
        origin: (height, width) of the original image.
    """

    rows: np.ndarray
    cols: np.ndarray
    origin: tuple[int, int]

    @classmethod
    def whole(cls, height: int, width: int) -> Frame:
        """The untouched image."""
        return cls(np.arange(height), np.arange(width), (height, width))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the current image."""
        return len(self.rows), len(self.cols)

    def resize(self, height: int, width: int) -> Frame:
        """Nearest by pixel centres, which keeps masks aligned with an image resized by any centred filter."""
        return Frame(_nearest(self.rows, height), _nearest(self.cols, width), self.origin)

    def crop(self, top: int, left: int, height: int, width: int) -> Frame:
        """The window of that size at (top, left), which must lie inside."""
        return Frame(self.rows[top:top + height], self.cols[left:left + width], self.origin)

    def pad(self, top: int, left: int, bottom: int, right: int) -> Frame:
        """Padding around."""
        return Frame(np.pad(self.rows, (top, bottom), constant_values=OUTSIDE),
                     np.pad(self.cols, (left, right), constant_values=OUTSIDE), self.origin)

    def flip(self) -> Frame:
        """Left and right exchanged."""
        return Frame(self.rows, self.cols[::-1], self.origin)

    def content_box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right), half open: the part of the current image that is no padding."""
        rows, cols = np.flatnonzero(self.rows != OUTSIDE), np.flatnonzero(self.cols != OUTSIDE)
        if not len(rows) or not len(cols):
            return 0, 0, 0, 0
        return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1

    def padding_mask(self) -> Tensor:
        """H W bool, True where there is padding."""
        return torch.from_numpy((self.rows == OUTSIDE)[:, None] | (self.cols == OUTSIDE)[None, :])

    def take(self, array: Tensor, fill: int | bool) -> Tensor:
        """Bring something of the original's frame into this one.

        Args:
            array: ... H0 W0 on the CPU, at the original size.
            fill: the value of padding.

        Returns:
            ... H W of the same dtype; it may share memory with ``array``.

        Raises:
            ValueError: when the last two sizes are not the original's.
        """
        if tuple(array.shape[-2:]) != self.origin:
            raise ValueError(f'expected the size of the original image {self.origin}, got {tuple(array.shape[-2:])}')
        top, left, bottom, right = self.content_box()
        # numpy gathers several times faster than torch does on a CPU
        taken = _take(_take(array.numpy(), self.rows[top:bottom], -2), self.cols[left:right], -1)
        if (top, left, bottom, right) != (0, 0, *self.size):
            canvas = np.full((*taken.shape[:-2], *self.size), fill, taken.dtype)
            canvas[..., top:bottom, left:right] = taken
            taken = canvas
        return torch.from_numpy(np.ascontiguousarray(taken))

    def take_masks(self, masks: MaskSet) -> MaskSet:
        """Bring masks of the original's frame into this one, as bits; those without a pixel left are dropped.

        Rows of bits are gathered as they are; columns as rows of the turned masks.

        Raises:
            ValueError: when the masks have not the original's size.
        """
        if masks.size != self.origin:
            raise ValueError(f'expected the size of the original image {self.origin}, got {masks.size}')
        masks = masks.packed()
        if not self._is_whole():
            held = masks.held.numpy()
            bits = np.zeros((len(masks), self.size[0], -(-self.size[1] // 8)), np.uint8)
            top, left, bottom, right = self.content_box()
            rows, cols = self.rows[top:bottom], self.cols[left:right]
            few = max(1, MASK_BYTES // max(1, held.shape[1] * held.shape[2]))
            for first in range(0, len(masks), few) if len(rows) and len(cols) else ():
                part = _gather_bits(held[first:first + few], rows, cols, left, self.size[1])
                bits[first:first + few, top:bottom] = part
            masks = masks.with_bits(torch.from_numpy(bits), self.size[1])
        occupied = masks.held.numpy().any((1, 2))
        return masks if occupied.all() else masks.select(torch.from_numpy(occupied))

    def take_tokens(self, tokens: Tensor, extent: Sequence[float], stride: int) -> Tensor:
        """Bring an encoder's tokens of the original image into this frame: bilinear, antialiased where it shrinks.

        Args:
            tokens: h w D, from the original's top left corner on.
            extent: how many tokens the original covers, down and across.
            stride: side of a cell in pixels of this frame. The last cells may reach beyond it.

        Returns:
            gh gw D of the same type, gh = ceil(H / stride); zero where there is nothing but padding.
        """
        down, across = (torch.from_numpy(_token_weights(index, reach / side, count, stride))
                        for index, reach, side, count in zip((self.rows, self.cols), extent, self.origin,
                                                             tokens.shape[:2], strict=True))
        used = [torch.nonzero(weights.any(0))[:, 0] for weights in (down, across)]
        if not all(map(len, used)):
            return tokens.new_zeros(len(down), len(across), tokens.shape[2])
        # Of large crops of a small part only that part is worked on.
        (top, bottom), (left, right) = ((int(index[0]), int(index[-1]) + 1) for index in used)
        part = tokens[top:bottom, left:right].float()
        rows = (down[:, top:bottom] @ part.flatten(1)).view(len(down), *part.shape[1:])
        return (across[:, left:right] @ rows).to(tokens.dtype)

    def _is_whole(self) -> bool:
        height, width = self.origin
        return self.size == self.origin and np.array_equal(self.rows, np.arange(height)) and \
            np.array_equal(self.cols, np.arange(width))


def _gather_bits(bits: np.ndarray, rows: np.ndarray, cols: np.ndarray, left: int, width: int) -> np.ndarray:
    """Some rows and columns of masks (M H ceil(W / 8) uint8), put at column ``left`` of a frame of ``width``."""
    (first, last), (begin, end) = ((int(index.min()), int(index.max()) + 1) for index in (rows, cols))
    begin -= begin % 8
    window = bits[:, first:last, begin // 8:-(-end // 8)]  # cropped before it is resized
    turned = transpose_bits(window, min(8 * window.shape[2], end - begin))
    placed = np.zeros((len(bits), width, turned.shape[2]), np.uint8)
    placed[:, left:left + len(cols)] = _take(turned, cols - begin, -2)
    return _take(transpose_bits(placed, last - first), rows - first, -2)


def _take(array: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    if len(index) and np.all(np.diff(index) == 1):
        window = slice(int(index[0]), int(index[-1]) + 1)
        return array[..., window, :] if axis == -2 else array[..., window]
    return np.take(array, index, axis=axis)


def _token_weights(index: np.ndarray, scale: float, count: int, stride: int) -> np.ndarray:
    """How much each of ``count`` tokens in a line counts in each cell of ``stride`` pixels: cells count float32.

    A triangle around the mean place of the cell's pixels, two tokens wide or twice as wide as the cell.

    Args:
        index: the original's row (or column) of each pixel; -1 is padding.
        scale: tokens to a pixel of the original.
        count: tokens that there are.
        stride: pixels to a cell.
    """
    inside = np.flatnonzero(index != OUTSIDE)
    if not len(inside):
        return np.zeros((-(-len(index) // stride), count), np.float32)
    pixels = np.bincount(inside // stride, minlength=-(-len(index) // stride))
    places = np.bincount(inside // stride, (index[inside] + 0.5) * scale - 0.5, len(pixels)) / np.maximum(pixels, 1)
    step = np.ptp(index[inside]) * scale / max(1, len(inside) - 1)  # tokens to a pixel of this frame
    away = np.abs(np.arange(count) - np.clip(places, 0, count - 1)[:, None])
    weights = np.maximum(0, 1 - away / max(1, step * stride)) * (pixels > 0)[:, None]
    return (weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)).astype(np.float32)


def _nearest(index: np.ndarray, size: int) -> np.ndarray:
    positions = ((np.arange(size) + 0.5) * len(index) / size).astype(np.int64)
    return index[np.minimum(positions, len(index) - 1)]
