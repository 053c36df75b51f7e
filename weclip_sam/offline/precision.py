"""In which precision SAM makes the masks of a bank, and whether a lower one would pay."""
from __future__ import annotations

import os
from typing import Any

import torch

from weclip_sam.foundation.sam_encoder import measure_block
from weclip_sam.mask_bank import bank_precision

# Below it, what stays in fp32 eats up what the encoder gains.
_PAYS = 1.3


def take_precision(generator: Any, root: str | os.PathLike, amp: bool | None = None,
                   device: torch.device | str = 'cpu') -> str:
    """Decide what a generator computes in, before its fingerprint is asked for.

    Args:
        generator: a :class:`MaskGenerator`, whose ``sam`` gets the precision; one without a ``sam`` knows none.
        root: folder of the bank that the masks go to; one that is there already goes on as it began.
        amp: bfloat16 (True) or fp32 (False); None leaves it to the config, then the bank, then the device.
        device: that is worked on: a GPU that computes in bfloat16 is given it, a CPU is not.

    Returns:
        The precision.
    """
    if not hasattr(generator, 'sam'):
        return 'fp32'
    chosen = generator.sam.precision
    if amp is not None:
        chosen = 'bf16' if amp else 'fp32'
    if chosen is None:
        chosen = bank_precision(root)
    if chosen is None:
        chosen = 'bf16' if torch.device(device).type == 'cuda' and torch.cuda.is_bf16_supported(False) else 'fp32'
    generator.sam.precision = chosen
    return chosen


def tell_whether_it_pays(generator: Any) -> str:
    """One line about bfloat16 on this CPU, by a short measurement of the generator's own SAM."""
    if not hasattr(generator, 'sam'):
        return 'computing in fp32'
    encoder = generator.sam.sam.image_encoder
    gain = measure_block(encoder, torch.float32) / measure_block(encoder, torch.bfloat16)
    said = 'would pay: add --amp (to a new bank)' if gain > _PAYS else 'would not pay'
    return f'computing in fp32; on this CPU bfloat16 {said}, a block of this SAM is {gain:.1f} times as fast in it'
