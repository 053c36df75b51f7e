"""Which process is which: Linux tells by ``/proc``, other systems through psutil, which is installed there."""
from __future__ import annotations

import importlib
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

UNKNOWN = 'unknown'  # the start of a process that is there and says no more
_PROC = Path('/proc')


def this_process() -> dict[str, Any]:
    """What tells this process from all others, on this machine and elsewhere."""
    return dict(pid=os.getpid(), born=birth(os.getpid()), host=socket.gethostname(), boot=_boot(),
                namespace=_namespace(), job=os.environ.get('SLURM_JOB_ID'),
                restarts=os.environ.get('SLURM_RESTART_COUNT', '0'))


def birth(pid: Any) -> str | None:
    """When a process of this machine began; None if it is gone (or dead, and only not yet taken note of).

    :data:`UNKNOWN` where it is there and nobody says when it began.
    """
    if not isinstance(pid, int):
        return None
    try:
        fields = (_PROC / str(pid) / 'stat').read_text(encoding='utf-8').rpartition(')')[2].split()
        return None if fields[0] in 'ZX' else fields[19]
    except (OSError, IndexError, UnicodeDecodeError):
        return None if (_PROC / 'self' / 'stat').exists() else _birth_elsewhere(pid)


def _birth_elsewhere(pid: int) -> str | None:
    """On a system without ``/proc``."""
    try:
        psutil: Any = importlib.import_module('psutil')
    except ImportError:
        return _answers(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f'{process.create_time():.2f}'
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:  # somebody else's
        return UNKNOWN


def _answers(pid: int) -> str | None:
    if os.name == 'nt':
        return UNKNOWN  # os.kill would end it there, or interrupt whoever shares its console
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return UNKNOWN


def _boot() -> str:
    with suppress(OSError):
        return (_PROC / 'sys/kernel/random/boot_id').read_text(encoding='utf-8').strip()
    return ''


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink(_PROC / 'self/ns/pid')  # containers of one machine number their processes for themselves
    return ''
