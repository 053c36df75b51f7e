"""How much memory a process takes, as the system tells it; on systems that tell less, less is known."""
from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Of what a system calls the largest resident set.
_UNIT = (1 if sys.platform == 'darwin' else 1024) / 1e9


def process_status(key: str) -> float:
    """A size in kB of this process from Linux's ``/proc/self/status``, such as ``VmRSS`` (now) or ``VmHWM`` (peak).

    Raises:
        OSError: this system has no such file or no such entry.
    """
    with open('/proc/self/status', encoding='utf-8') as file:
        for line in file:
            if line.startswith(key + ':'):
                return float(line.split()[1])
    raise OSError(f'/proc/self/status has no {key}')


def peak_memory(workers: bool = False) -> dict[str, float]:
    """Peak memory in GB (10^9 bytes): of the ``process``, of its ``largest_worker`` that has ended, and on ``cuda``;
    entries that the system does not tell are left out.

    ``getrusage`` counts what the parent had when it started this process; Linux's ``VmHWM`` does not.
    """
    peak = {}
    if (own := _own_peak()) is not None:
        peak['process'] = own
    if workers and resource is not None:
        peak['largest_worker'] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _UNIT
    if torch.cuda.is_available():
        peak['cuda'] = torch.cuda.max_memory_allocated() / 1e9
    return peak


def _own_peak() -> float | None:
    try:
        return process_status('VmHWM') * 1024 / 1e9
    except OSError:
        pass
    if resource is not None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    try:
        psutil: Any = importlib.import_module('psutil')
        return psutil.Process().memory_info().peak_wset / 1e9  # Windows
    except (ImportError, AttributeError):
        return None


def wait_and_measure(process: subprocess.Popen) -> tuple[int, float | None, float | None]:
    """Wait for a process's end.

    Returns:
        Its exit code, the peak memory in GB of the largest among it and its own children, and the CPU seconds of all;
        None twice on a system that does not count them (Windows).
    """
    if not hasattr(os, 'wait4'):
        return process.wait(), None, None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * _UNIT, usage.ru_utime + usage.ru_stime
