"""What a piece of work costs the host of a GPU: kernels that it launches, and times that it waits for the device."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.floors import wait

try:
    from benchmarks.operators import count_operators
except ImportError:  # counting without a GPU is another file's work
    count_operators = None

LAUNCHES = ('cudaLaunchKernel', 'cuLaunchKernel', 'cudaGraphLaunch')  # and their variants (ExC, Ex)


@dataclass(frozen=True)
class HostWork:
    """What one run asks of the host; None where it cannot be known.

    Attributes:
        launches: kernels and graphs started on the GPU.
        waits: how often the host waited for the GPU.
        operators: given to the device, each a kernel or several: known without a GPU, too.
    """

    launches: int | None = None
    waits: int | None = None
    operators: int | None = None


def host_work(run: Callable[[], Any], device: torch.device) -> HostWork:
    """Run once (without a GPU) or three times, and count."""
    operators = None
    if count_operators is not None:
        counted = count_operators(run, device.type)
        operators = int(getattr(counted, 'total', counted))
    if device.type != 'cuda':
        return HostWork(operators=operators)
    return HostWork(count_launches(run, device), count_waits(run, device), operators)


def count_launches(run: Callable[[], Any], device: torch.device) -> int:
    """Calls that start something on the GPU, as torch's profiler sees them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    wait(device)
    with torch.profiler.profile(activities=activities) as profile:
        run()
        wait(device)
    return sum(event.count for event in profile.key_averages() if event.key.startswith(LAUNCHES))


def count_waits(run: Callable[[], Any], device: torch.device) -> int:
    """Calls that make the host wait, of which torch warns when it is asked to."""
    wait(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(warning.message).lower() for warning in caught)
