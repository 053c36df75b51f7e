"""Children of the tests: started as commands, never forked (a fork of a process that has run torch may wait for ever
for threads it does not have), bounded in time, and ended together with everything that they started."""
import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

ROOT = Path(__file__).resolve().parents[2]
GRACE = 5.0  # seconds in which a child that was told to end may do so


def environment(*folders: str | os.PathLike, **more: str) -> dict[str, str]:
    """Variables of a child: it finds this package and the modules of ``folders``, has one thread and no GPU, and
    belongs to no process group that this process may belong to."""
    alone = {name: value for name, value in os.environ.items()
             if name not in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')}
    path = os.pathsep.join(map(str, (ROOT, *folders)))
    return {**alone, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **more}


def torchrun(*command: str | os.PathLike, processes: int = 2) -> list[str]:
    """A Python script with its arguments, on several processes that meet at a place of their own."""
    return ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes), *map(str, command)]


def start(command: Sequence[str | os.PathLike], env: dict[str, str] | None = None,
          cwd: str | os.PathLike | None = None) -> subprocess.Popen:
    """Python with these arguments, in a process group of its own; whoever starts it calls :func:`finish` or
    :func:`kill`."""
    return subprocess.Popen([sys.executable, *map(str, command)], env=env or environment(), cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen, timeout: float = 300) -> str:
    """What a child said, once it has ended with exit code 0; nothing of it is left in any case.

    Raises:
        AssertionError: another exit code, or no end in time.
    """
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        raise AssertionError(f'no end after {timeout} s:\n{process.communicate()[0]}') from None
    finally:
        kill(process)
    assert process.returncode == 0, f'exit code {process.returncode}:\n{said}'
    return said


def run(command: Sequence[str | os.PathLike], env: dict[str, str] | None = None,
        cwd: str | os.PathLike | None = None, timeout: float = 300) -> str:
    """:func:`start` and :func:`finish`."""
    return finish(start(command, env, cwd), timeout)


def kill(process: subprocess.Popen) -> None:
    """End a child at once, with its process group and with descendants that have left it."""
    pids = descendants(process.pid)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    end(pids)


def end(pids: Sequence[int]) -> None:
    """Kill these processes, and wait until they have gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + GRACE
    while pids and not processes().keys().isdisjoint(pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def processes() -> dict[int, tuple[int, str]]:
    """Parent and name of every process; those that have ended and wait to be asked for their exit code are left out."""
    found = {}
    for folder in os.listdir('/proc') if os.path.isdir('/proc') else ():
        if folder.isdigit():
            try:
                with open(f'/proc/{folder}/stat', encoding='utf-8', errors='replace') as file:
                    name, _, rest = file.read().partition('(')[2].rpartition(')')
            except OSError:  # it has just ended
                continue
            state, parent = rest.split()[:2]
            if state not in 'ZX':
                found[int(folder)] = int(parent), name
    return found


def descendants(pid: int) -> list[int]:
    """Living children, their children, and so on."""
    table, found = processes(), [pid]
    for parent in found:
        found += [child for child, (its_parent, _) in table.items() if its_parent == parent]
    return found[1:]


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind (Linux), so that :func:`children` sees it."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def children() -> dict[int, str]:
    """Living children and what they are; not multiprocessing's own helpers, which stay as long as this process."""
    try:  # most tests have none, and this is the quickest way to see it
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}
    found = {}
    for pid, (parent, name) in processes().items():
        if parent == os.getpid():
            try:
                command = Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace')
            except OSError:
                continue
            if 'multiprocessing.resource_tracker' not in command and 'multiprocessing.forkserver' not in command:
                found[pid] = command.strip() or name
    return found


def end_data_workers() -> None:
    """Workers live as long as their loader; told by the garbage collector to end, they wait five seconds first."""
    for each in gc.get_objects():
        if type(each) is _MultiProcessingDataLoaderIter:
            each._shutdown_workers()


def end_new_children(before: dict[int, str]) -> dict[int, str]:
    """End children that are not in ``before`` and do not end by themselves now; returns them."""
    left = {pid: what for pid, what in children().items() if pid not in before}
    if left:
        end_data_workers()
        gc.collect()
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        left = {pid: what for pid, what in children().items() if pid not in before}
        time.sleep(0.01)
    end([each for pid in left for each in (pid, *descendants(pid))])
    return left
