"""Masks as bits: eight columns of a row in a byte, the lowest bit first.

Every row starts on a byte, and the bits after its last column are zero, so that rows can be cut, padded and gathered
without unpacking anything. NumPy packs on the CPU, where it is many times faster than torch; elsewhere torch does.
"""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# (shift, mask): what changes places about the diagonal of 8 x 8 bits, at first single bits, then 2 x 2, then 4 x 4.
_EXCHANGES = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))


def pack_bits(masks: Tensor) -> Tensor:
    """... W bool to ... ceil(W / 8) uint8."""
    width = masks.shape[-1]
    if masks.device.type == 'cpu':
        array = masks.numpy()
        if width % 8 == 0:  # one long row is packed twice as fast as many short ones
            packed = torch.from_numpy(np.packbits(array.reshape(-1), bitorder='little'))
            return packed.view(*masks.shape[:-1], width // 8)
        return torch.from_numpy(np.packbits(array, axis=-1, bitorder='little'))
    digits = F.pad(masks, (0, -width % 8)).unflatten(-1, (-1, 8)).to(torch.uint8)
    return (digits << torch.arange(8, dtype=torch.uint8, device=masks.device)).sum(-1, dtype=torch.uint8)


def unpack_bits(bits: Tensor, width: int) -> Tensor:
    """... ceil(W / 8) uint8 to ... W bool."""
    if bits.device.type == 'cpu':
        array = bits.numpy()
        flat = np.unpackbits(array.reshape(-1), bitorder='little').view(np.bool_)
        return torch.from_numpy(flat.reshape(*array.shape[:-1], 8 * array.shape[-1]))[..., :width]
    digits = bits[..., None] >> torch.arange(8, dtype=torch.uint8, device=bits.device) & 1
    return digits.bool().flatten(-2)[..., :width]


def transpose_bits(bits: np.ndarray, width: int) -> np.ndarray:
    """Rows become columns without unpacking: ... H ceil(W / 8) uint8 to ... W ceil(H / 8) uint8.

    Blocks of 8 x 8 bits are turned as 64-bit numbers (Warren, Hacker's Delight, section 7-3).
    """
    *lead, height, count = bits.shape
    down = -(-height // 8)
    tall = np.zeros((*lead, 8 * down, count), np.uint8)
    tall[..., :height, :] = bits
    blocks = np.ascontiguousarray(tall.reshape(*lead, down, 8, count).swapaxes(-1, -2)).view('<u8')[..., 0]
    moved = np.empty_like(blocks)
    for shift, chosen in _EXCHANGES:  # in place: memory that is new each time costs more than the work
        np.right_shift(blocks, np.uint64(shift), out=moved)
        moved ^= blocks
        moved &= np.uint64(chosen)
        blocks ^= moved
        moved <<= np.uint64(shift)
        blocks ^= moved
    rows = np.ascontiguousarray(blocks.swapaxes(-1, -2))[..., None].view(np.uint8)  # count, down, 8
    return np.ascontiguousarray(rows.swapaxes(-1, -2)).reshape(*lead, 8 * count, down)[..., :width, :]
