"""Masks as COCO run-length codes: compact, plain text, checked before they are decoded."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor

# A record that claims more than this would exhaust memory before it could be found wrong.
MAX_PIXELS = 2 ** 31


def encode_masks(masks: Tensor) -> list[str]:
    """M H W bool to M strings (COCO's compressed RLE, column by column)."""
    if not len(masks):
        return []
    columns = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [code['counts'].decode('ascii') for code in coco.encode(columns)]


def decode_masks(codes: Sequence[str | list[int]], height: int, width: int) -> Tensor:
    """M codes to M H W bool.

    Args:
        codes: each a string (compressed RLE) or a list of run lengths (uncompressed; the first run is background).
        height, width: of every mask; the runs go column by column.

    Raises:
        ValueError: a code that is no RLE of ``height * width`` pixels, or more pixels than ``MAX_PIXELS``. COCO's own
            decoder trusts what it is given and writes past its memory where it should not, so it is not used.
    """
    if height < 1 or width < 1 or height * width * max(1, len(codes)) > MAX_PIXELS:
        raise ValueError(f'{len(codes)} masks of {height} x {width} pixels: sizes must be positive and at most '
                         f'{MAX_PIXELS} pixels together')
    if not codes:
        return torch.zeros(0, height, width, dtype=torch.bool)
    runs, pixels = [run_lengths(code) for code in codes], height * width
    if any(((r < 0) | (r > pixels)).any() or r.sum() != pixels for r in runs):
        raise ValueError(f'an RLE code does not describe {height} x {width} pixels')
    foreground = np.concatenate([np.arange(len(r)) % 2 == 1 for r in runs])
    columns = np.repeat(foreground, np.concatenate(runs)).reshape(len(runs), width, height)
    return torch.from_numpy(np.ascontiguousarray(columns.transpose(0, 2, 1)))


def run_lengths(code: str | list[int]) -> np.ndarray:
    """The run lengths of a COCO RLE, int64; the first run is background.

    In a string each number is written in groups of 5 bits, low ones first, as characters from '0'; bit 5 says that more
    follow, bit 4 of the last group is the sign. From the fourth number on, the difference to the one two before is
    written.

    Raises:
        ValueError: neither a string nor a list of whole numbers; characters that COCO never writes, an unfinished
            number, or one beyond 2^40.
    """
    if isinstance(code, list):
        if not all(type(run) is int and abs(run) <= 1 << 40 for run in code):
            raise ValueError('run lengths must be whole numbers, at most 2^40')
        return np.array(code, np.int64)
    if not isinstance(code, str) or not code.isascii():
        raise ValueError('not a COCO RLE: expected a string of ASCII characters or a list of run lengths')
    groups = np.frombuffer(code.encode(), np.uint8).astype(np.int64) - 48
    if len(groups) == 0 or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError('not a COCO RLE string')
    last = np.flatnonzero(~groups & 32)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 8:
        raise ValueError('not a COCO RLE string: a number is too long')
    place = np.arange(len(groups)) - np.repeat(first, length)
    values = np.add.reduceat((groups & 31) << (5 * place), first)
    values -= np.where(groups[last] & 16, np.int64(1) << (5 * length), 0)
    # Differences over two: sum up the odd and the even runs apart; the third number is still written plainly.
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs
