"""The run-length code of Label Studio's brush: thi.ng's rle-pack, of the RGBA values of a picture row by row."""
from __future__ import annotations

from typing import Any

import numpy as np

_HEAD = 32 + 5 + 4 * 4  # bits before the first block
_MOST = 4 * 100_000_000  # values: of the largest picture that is read at all


def decode_brush(code: Any, height: int, width: int) -> np.ndarray:
    """H W bool: where the brush has painted at all.

    The code begins with the number of values (32 bits), the bits of a value less one (5) and four lengths of numbers,
    each less one (4 bits). Blocks follow: a bit that says whether one value is repeated, two that choose a length of
    number, the count less one, and the value, or that many.

    Args:
        code: bytes as a list of numbers, as they stand in JSON.
        height, width: of the picture.

    Raises:
        ValueError: no such code, or one of another size.
    """
    if not isinstance(code, list) or len(code) < _HEAD // 8 or not all(type(v) is int and 0 <= v <= 255 for v in code):
        raise ValueError('its run lengths must be a list of bytes')
    bits = np.unpackbits(np.array(code, np.uint8))
    reader = _Reader(bits)
    count, word = reader.number(32), reader.number(5) + 1
    sizes = [reader.number(4) + 1 for _ in range(4)]
    if count != 4 * height * width or count > _MOST or word > 8:
        raise ValueError(f'its run lengths are of {count // 4} pixels instead of {width} x {height}')
    values, done = np.zeros(count, np.uint8), 0
    while done < count:
        repeated = reader.number(1)
        end = done + 1 + reader.number(sizes[reader.number(2)])
        if end > count:
            raise ValueError('its run lengths go on beyond its last pixel')
        values[done:end] = reader.numbers(1 if repeated else end - done, word)
        done = end
    return values.reshape(height, width, 4)[..., 3] > 0


class _Reader:
    """Numbers of any length out of bits, high ones first."""

    def __init__(self, bits: np.ndarray) -> None:
        self._bits, self._at = bits, 0

    def number(self, length: int) -> int:
        value = 0
        for bit in self._take(length).tolist():
            value = value << 1 | bit
        return value

    def numbers(self, count: int, length: int) -> np.ndarray:
        rows = self._take(count * length).reshape(count, length)
        return (rows << np.arange(length - 1, -1, -1, dtype=np.uint8)).sum(1).astype(np.uint8)

    def _take(self, length: int) -> np.ndarray:
        found = self._bits[self._at:self._at + length]
        if len(found) < length:
            raise ValueError('its run lengths end too early')
        self._at += length
        return found
