"""Scripts on two processes each, as torchrun would start them: ``python two_ranks.py FOLDER``, see :func:`run_on_two`.

What such a process imports takes it seconds, more than all the rest. Here it is imported once, and every process is a
fork of this one, which has never run torch and has no thread but its first. A fork then goes its own way: it ends as
the script ends it.
"""
import json
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import child_processes
from forking import require_one_thread

COMMANDS, RESULTS = 'commands.json', 'results.json'
LIMIT = 120.0  # seconds for a script


def run_on_two(commands: Sequence[Sequence[str | os.PathLike]], folder: Path, *paths: str | os.PathLike
               ) -> list[list[tuple[int, str]]]:
    """Run scripts with their arguments one after the other, each on two processes that find each other.

    Args:
        commands: for each, the path of a script and its arguments.
        folder: an empty one, in which they run.
        paths: folders of modules that they import.

    Returns:
        For each of them the (exit code, output) of both processes; the code is negative where a signal ended it.
    """
    (folder / COMMANDS).write_text(json.dumps([list(map(str, command)) for command in commands]), encoding='utf-8')
    child_processes.run([__file__, folder], child_processes.environment(Path(__file__).parent, *paths), folder,
                        timeout=LIMIT * len(commands))
    return [[tuple(each) for each in both] for both in json.loads((folder / RESULTS).read_text(encoding='utf-8'))]


def fork_two(command: Sequence[str], outputs: Sequence[Path]) -> list[int]:
    """The two processes that are to run a script; in these themselves an empty list."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    pids = []
    require_one_thread()
    for rank, output in enumerate(outputs):
        if pid := os.fork():
            pids.append(pid)
            continue
        with open(output, 'wb') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=port)
        os.environ.pop('WECLIP_SAM_TRACEBACK', None)  # errors are lines, whatever this terminal wants
        sys.argv, sys.path[0] = list(command), str(Path(command[0]).parent)
        return []
    return pids


def codes_of(pids: Sequence[int]) -> list[int]:
    """The exit codes of processes, which are killed when their time is over."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + LIMIT
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(ended[1])
            elif pid not in codes and time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def main(folder: Path) -> str | None:
    """The script that a fork is to run; None in the process that has started them all, at the end."""
    import weclip_sam.engine  # noqa: F401  what takes long
    results = []
    for number, command in enumerate(json.loads((folder / COMMANDS).read_text(encoding='utf-8'))):
        outputs = [folder / f'output{number}.{rank}' for rank in range(2)]
        pids = fork_two(command, outputs)
        if not pids:
            return command[0]
        codes = codes_of(pids)
        results.append([(code, output.read_text(encoding='utf-8')) for code, output in zip(codes, outputs,
                                                                                         strict=True)])
    (folder / RESULTS).write_text(json.dumps(results), encoding='utf-8')
    return None


if __name__ == '__main__':
    script = main(Path(sys.argv[1]))
    if script is not None:
        runpy.run_path(script, run_name='__main__')
