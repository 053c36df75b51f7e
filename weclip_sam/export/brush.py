"""Masks as Label Studio's brush keeps them: runs of bytes, packed bit by bit.

The scheme is rle-pack's, as label-studio-converter writes it: 32 bits, how many bytes there are; 5 bits, the bits of a
byte less one; four times 4 bits, the sizes of a run's length less one. Then for each run one bit 1, two bits that
choose a size, the length less one in as many bits, and the byte. The bytes are those of an RGBA picture, row by row:
every pixel is there four times.
"""
from __future__ import annotations

import numpy as np

CHANNELS = 4
_SIZES = np.array([3, 4, 8, 16])  # bits of a length
_WORD = 8  # bits of a byte
_BLOCK = 1 << 16  # runs that are written at a time


def brush_rle(mask: np.ndarray) -> list[int]:
    """Bytes of Label Studio's ``rle`` of a mask, H W bool; where it is True the brush painted."""
    flat = mask.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths, values = _short(np.diff(starts, append=len(flat)) * CHANNELS, flat[starts])
    size = np.searchsorted(1 << _SIZES, lengths)  # 2^3 = 8 is a length that 3 bits still hold, less one
    bits = _SIZES[size]
    codes = (((4 + size) << bits) + lengths - 1 << _WORD) + values * 255
    header = np.array([len(flat) * CHANNELS, _WORD - 1, *(_SIZES - 1)]), np.array([32, 5, *(4,) * len(_SIZES)])
    bits += 3 + _WORD
    blocks = [_stream(codes[first:first + _BLOCK], bits[first:first + _BLOCK])
              for first in range(0, len(codes), _BLOCK)]
    return np.packbits(np.concatenate([_stream(*header), *blocks])).tolist()


def _short(lengths: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs cut where they are longer than the longest length."""
    longest = 1 << int(_SIZES[-1])
    pieces = -(-lengths // longest)
    cut = np.full(pieces.sum(), longest)
    cut[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * longest
    return cut, np.repeat(values, pieces).astype(np.int64)


def _stream(codes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Numbers of so many bits each, one after the other, highest bit first: uint8 of 0 and 1."""
    left = np.repeat(np.cumsum(bits), bits) - 1 - np.arange(bits.sum())
    return (np.repeat(codes, bits) >> left & 1).astype(np.uint8)
