"""How far memory rises above where it was while a piece of work runs."""
from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.floors import wait

from weclip_sam.engine.memory import process_status

PROBE = 2 ** 26  # bytes


def peak_memory(run: Callable[[], Any], device: torch.device) -> tuple[Any, float | None]:
    """Run once; returns the result and how far memory rose (10^6 bytes): of the GPU, or of the process.

    None where the system does not tell.
    """
    gc.collect()
    if device.type == 'cuda':
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = run()
        wait(device)
        return result, (torch.cuda.max_memory_allocated(device) - before) / 1e6
    if not peaks_are_told():
        return run(), None
    before = _reset_peak()
    result = run()
    return result, max(process_status('VmHWM') - before, 0.0) / 1e3


def _reset_peak() -> float:
    """Make the present resident size (kB, returned) the highest so far; Linux only."""
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')
    return process_status('VmRSS')


@functools.cache
def peaks_are_told() -> bool:
    """Whether the highest resident size can be reset and then follows a peak: sandboxes accept the reset idly."""
    try:
        before = _reset_peak()
        block = b'1' * PROBE
        del block
        return 0.8 * PROBE < 1024 * (process_status('VmHWM') - before) < 2 * PROBE
    except OSError:
        return False
