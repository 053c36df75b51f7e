"""How much memory a process takes, as the system tells it."""
from __future__ import annotations

import resource

import torch


def process_status(key: str) -> float:
    """A size in kB of this process from Linux's ``/proc/self/status``, such as ``VmRSS`` (now) or ``VmHWM`` (peak).

    Raises:
        OSError: this system has no such file or no such entry.
    """
    with open('/proc/self/status') as file:
        for line in file:
            if line.startswith(key + ':'):
                return float(line.split()[1])
    raise OSError(f'/proc/self/status has no {key}')


def peak_memory(workers: bool = False) -> dict[str, float]:
    """Peak memory in GB (10^9 bytes): of the ``process``, of its ``largest_worker`` that has ended, and on ``cuda``.

    ``getrusage`` counts what the parent had when it started this process; Linux's ``VmHWM`` does not.
    """
    unit = 1024 / 1e9
    try:
        peak = dict(process=process_status('VmHWM') * unit)
    except OSError:
        peak = dict(process=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    if workers:
        peak['largest_worker'] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    if torch.cuda.is_available():
        peak['cuda'] = torch.cuda.max_memory_allocated() / 1e9
    return peak
