"""In which precision SAM makes the masks of a bank, and whether a lower one would pay."""
from __future__ import annotations

import os
import time
from typing import Any

import torch

from weclip_sam.mask_bank import bank_precision

# Below it, casts and what stays in fp32 eat up what matrix products gain.
_PAYS = 1.5


def take_precision(generator: Any, root: str | os.PathLike, amp: bool | None = None,
                   device: torch.device | str = 'cpu') -> str:
    """Decide what a generator computes in, before its fingerprint is asked for.

    Args:
        generator: a :class:`MaskGenerator`, whose ``sam`` gets the precision.
        root: folder of the bank that the masks go to; one that is there already goes on as it began.
        amp: bfloat16 (True) or fp32 (False); None leaves it to the config, then the bank, then the device.
        device: that is worked on: a GPU that computes in bfloat16 is given it, a CPU is not.

    Returns:
        The precision.
    """
    chosen = generator.sam.precision
    if amp is not None:
        chosen = 'bf16' if amp else 'fp32'
    if chosen is None:
        chosen = bank_precision(root)
    if chosen is None:
        chosen = 'bf16' if torch.device(device).type == 'cuda' and torch.cuda.is_bf16_supported(False) else 'fp32'
    generator.sam.precision = chosen
    return chosen


def measure_matrix_product(dtype: torch.dtype, size: int = 512, times: int = 5) -> float:
    """Seconds of a product of two square matrices on the CPU, the fastest of some."""
    a, best = torch.ones(size, size, dtype=dtype), float('inf')
    for _ in range(times + 1):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return best


def tell_whether_it_pays() -> str:
    """One line about bfloat16 on this CPU, by a short measurement."""
    gain = measure_matrix_product(torch.float32) / measure_matrix_product(torch.bfloat16)
    said = 'would pay: add --amp (to a new bank)' if gain > _PAYS else 'would not pay'
    return f'computing in fp32; on this CPU bfloat16 {said}: it multiplies matrices {gain:.1f} times as fast'
