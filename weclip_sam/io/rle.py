"""Masks as COCO run-length codes: compact, plain text, checked before they are decoded."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor

from weclip_sam.bits import transpose_bits, unpack_bits

# A record that claims more than this would exhaust memory before it could be found wrong: as bool, and as bits.
MAX_PIXELS, MAX_BITS = 2 ** 31, 2 ** 33
PIXEL_BLOCK = 1 << 23  # pixels of masks that are decoded at a time


def encode_masks(masks: Tensor) -> list[str]:
    """M H W bool to M strings (COCO's compressed RLE, column by column)."""
    if not len(masks):
        return []
    columns = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [code['counts'].decode('ascii') for code in coco.encode(columns)]


def decode_masks(codes: Sequence[str | list[int]], height: int, width: int) -> Tensor:
    """M codes to M H W bool, see :func:`decode_bits`; at most ``MAX_PIXELS``."""
    _check_size(codes, height, width, MAX_PIXELS)
    return unpack_bits(decode_bits(codes, height, width), width)


def decode_bits(codes: Sequence[str | list[int]], height: int, width: int) -> Tensor:
    """M codes to bits, M H ceil(W / 8) uint8 as :mod:`weclip_sam.bits` packs masks. No pixel is ever written alone.

    Args:
        codes: each a string (compressed RLE) or a list of run lengths (uncompressed; the first run is background).
        height, width: of every mask; the runs go column by column.

    Raises:
        ValueError: a code that is no RLE of ``height * width`` pixels, or more pixels than ``MAX_BITS``. COCO's own
            decoder trusts what it is given and writes past its memory where it should not, so it is not used.
    """
    _check_size(codes, height, width, MAX_BITS)
    bits = np.empty((len(codes), height, -(-width // 8)), np.uint8)
    few = max(1, PIXEL_BLOCK // (height * width))
    for first in range(0, len(codes), few):
        runs, counts = _all_run_lengths(codes[first:first + few])
        columns = _bits_of_runs(runs, counts, height, width)
        bits[first:first + few] = transpose_bits(columns, height)
    return torch.from_numpy(bits)


def _check_size(codes: Sequence[str | list[int]], height: int, width: int, most: int) -> None:
    if height < 1 or width < 1 or height * width * max(1, len(codes)) > most:
        raise ValueError(f'{len(codes)} masks of {height} x {width} pixels: sizes must be positive and at most '
                         f'{most} pixels together')


def run_lengths(code: str | list[int]) -> np.ndarray:
    """The run lengths of a COCO RLE, int64; the first run is background.

    In a string each number is written in groups of 5 bits, low ones first, as characters from '0'; bit 5 says that more
    follow, bit 4 of the last group is the sign. From the fourth number on, the difference to the one two before is
    written.

    Raises:
        ValueError: neither a string nor a list of whole numbers; characters that COCO never writes, an unfinished
            number, or one beyond 2^40.
    """
    return _all_run_lengths([code])[0]


def _all_run_lengths(codes: Sequence[str | list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The run lengths of several codes, one after the other, and how many each has; see :func:`run_lengths`."""
    texts = [code for code in codes if isinstance(code, str) and code.isascii()]
    if len(texts) == len(codes):
        return _parse(texts)
    each = [_parse([code]) if isinstance(code, str) and code.isascii() else _listed(code) for code in codes]
    return np.concatenate([runs for runs, _ in each]), np.concatenate([count for _, count in each])


def _listed(code: object) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(code, list):
        raise ValueError('not a COCO RLE: expected a string of ASCII characters or a list of run lengths')
    if not all(type(run) is int and abs(run) <= 1 << 40 for run in code):
        raise ValueError('run lengths must be whole numbers, at most 2^40')
    return np.array(code, np.int64), np.array([len(code)])


def _parse(codes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Of compressed codes, all at once: an image has a hundred masks."""
    groups = np.frombuffer(''.join(codes).encode(), np.uint8).astype(np.int64) - 48
    ends = np.cumsum([len(code) for code in codes])
    if not all(codes) or groups.min() < 0 or groups.max() > 63 or (groups[ends - 1] & 32).any():
        raise ValueError('not a COCO RLE string')
    last = np.flatnonzero(~groups & 32)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 8:
        raise ValueError('not a COCO RLE string: a number is too long')
    place = np.arange(len(groups)) - np.repeat(first, length)
    values = np.add.reduceat((groups & 31) << (5 * place), first)
    values -= np.where(groups[last] & 16, np.int64(1) << (5 * length), 0)
    counts = np.diff(np.searchsorted(last, ends - 1, side='right'), prepend=0)
    return _summed(values, counts), counts


def _summed(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Runs from differences over two: the odd and the even ones are summed up apart, the first stands for itself."""
    number = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    kind = 3 * np.repeat(np.arange(len(counts)), counts) + np.where(number == 0, 0, 2 - number % 2)
    order = np.argsort(kind, kind='stable')
    sums, kind = np.cumsum(values[order]), kind[order]
    begins = np.flatnonzero(np.diff(kind, prepend=-1))
    before = np.where(begins > 0, sums[begins - 1], 0)
    runs = np.empty_like(values)
    runs[order] = sums - np.repeat(before, np.diff(begins, append=len(values)))
    return runs


def _bits_of_runs(runs: np.ndarray, counts: np.ndarray, height: int, width: int) -> np.ndarray:
    """Runs of M masks to bits column by column, M W ceil(H / 8) uint8; what fills a column's last byte is any."""
    pixels, bytes_ = height * width, -(-height // 8)
    ends = np.cumsum(counts)
    if (counts == 0).any() or (runs < 0).any() or (runs > pixels).any() or \
            (np.add.reduceat(runs, ends - counts) != pixels).any():
        raise ValueError(f'an RLE code does not describe {height} x {width} pixels')
    # At the end of each run the value changes; a mask begins as background whatever the one before it ended with.
    changes = np.cumsum(runs)
    stays = np.zeros(len(runs), bool)
    stays[ends - 1] = counts % 2 == 1
    changes = changes[~stays]
    changes = changes[:np.searchsorted(changes, len(counts) * pixels)]
    column, row = np.divmod(changes, height)
    place, bit = column * bytes_ + (row >> 3), np.left_shift(1, row & 7).astype(np.uint8)
    begins = np.flatnonzero(np.diff(place, prepend=-1))
    place = place[begins]
    flips = np.bitwise_xor.reduceat(bit, begins) if len(begins) else bit
    for shift in (1, 2, 4):  # a bit that changes the value changes all bits after it
        flips ^= flips << shift
    after = np.bitwise_xor.accumulate(flips & 128)  # the value that the next byte begins with, in the highest bit
    full = np.where(np.concatenate([[0], after]), 255, 0).astype(np.uint8)
    bits = np.repeat(full, np.diff(place, prepend=0, append=len(counts) * width * bytes_))
    bits[place] = flips ^ full[:-1]
    return bits.reshape(len(counts), width, bytes_)
