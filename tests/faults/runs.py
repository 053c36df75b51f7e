"""A tool's run as a process that can be struck."""
from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1200  # seconds after which a single start counts as hanging
# Runs are forks of a server that has imported everything and never run torch: a fork of this process, which has, might
# wait for threads that it does not have.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['faults.runs', *(f'weclip_sam.{name}' for name in (
    'engine', 'models', 'datasets', 'seeds', 'visualization', 'foundation', 'evaluation'))])


def _run(command: list[str], output: Connection, fresh: bool, before: Callable[[], None] | None) -> None:
    os.setsid()
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    # The server's streams remember what they wrote to: a file, perhaps, in which one can seek.
    sys.stdout, sys.stderr = (open(number, 'w', closefd=False, buffering=1) for number in (1, 2))
    if before is not None:
        before()
    os.chdir(ROOT)
    if fresh:
        os.environ['PYTHONPATH'] = str(ROOT)
        os.execv(sys.executable, [sys.executable, *command])
    multiprocessing.set_start_method('fork', force=True)  # of data workers, as in an interpreter of its own
    torch.set_num_threads(1)
    sys.argv = command
    runpy.run_path(command[0], run_name='__main__')


def start(command: list[str], log: Path, fresh: bool = True, before: Callable[[], None] | None = None) -> Any:
    """Python with these arguments, as a process group of its own.

    Args:
        command: arguments of python.
        log: what the run says is added to it.
        fresh: with an interpreter of its own; else forked where everything has been imported.
        before: called in the new process, before anything else.
    """
    with open(log, 'ab') as file:
        # Through a pipe: what a run says must be heard when none of its files may grow.
        cat = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=file)
    with cat.stdin, Connection(os.dup(cat.stdin.fileno()), readable=False) as output:
        process = CONTEXT.Process(target=_run, args=(command, output, fresh, before))
        process.start()
    process.cat = cat
    return process


def expect_success(process: Any, log: Path, what: str) -> None:
    if exit_code(process) != 0:
        raise SystemExit(f'{what} failed even without a kill:\n{log.read_text()[-3000:]}')


def exit_code(process: Any) -> int | str:
    """The exit code once the process has ended and everything it said is in the log."""
    process.join(LIMIT)
    if (code := process.exitcode) is None:
        kill(process)
        code = 'none, it hangs'
    try:
        process.cat.wait(10)
    except subprocess.TimeoutExpired:  # somebody else holds the pipe
        process.cat.kill()
    return code


def kill(process: Any) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # before it had a group of its own
        process.kill()
    process.join()


def wait_until(process: Any, enough: Callable[[], bool], interval: float) -> bool:
    """True once ``enough`` says so, False if the process ended before."""
    deadline = time.monotonic() + LIMIT
    while process.is_alive() and time.monotonic() < deadline:
        if enough():
            return process.is_alive()
        time.sleep(interval)
    return False


def data_workers(pid: int) -> list[int]:
    """Processes that load images for ``pid``."""
    found = []
    for folder in Path('/proc').iterdir():
        try:
            name, _, rest = (folder / 'stat').read_text().partition('(')[2].rpartition(')')
        except (OSError, ValueError):
            continue
        if name == 'pt_data_worker' and int(rest.split()[1]) == pid and rest.split()[0] != 'Z':
            found.append(int(folder.name))
    return sorted(found)


def list_names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
