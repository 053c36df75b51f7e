"""The same work on many files, on all cores."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

Task = TypeVar('Task')
Result = TypeVar('Result')
Progress = Callable[[str, int, int], None]  # called with (what is being done, steps behind, steps in all)
_BATCH = 2048  # tasks handed out at a time: bounds what waits in memory


class WorkerError(RuntimeError):
    """A worker process died; the message says of what work, and what to do."""


def no_progress(name: str, done: int, total: int) -> None:
    """Shows nothing."""


def default_workers() -> int:
    """As many processes as this one may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def parallel_map(function: Callable[[Task], Result], tasks: Iterable[Task], total: int, workers: int | None = None,
                 name: str = '', progress: Progress = no_progress, option: str = '--workers') -> Iterator[Result]:
    """Results of ``function`` in the order of the tasks.

    Args:
        function: at the top level of a module, so that other processes find it. It should return failures of single
            tasks instead of raising them, unless the first shall end the work.
        tasks: small, picklable.
        total: how many there are.
        workers: processes; None takes :func:`default_workers`, 0 or 1 works in this process.
        name: of the work, for ``progress``.
        progress: told after every result.
        option: of the command line that sets ``workers``, for the error.

    Raises:
        WorkerError: when a worker process dies (killed, or out of memory).
    """
    workers = default_workers() if workers is None else workers
    tasks, done = iter(tasks), 0
    progress(name, 0, total)
    pool = ProcessPoolExecutor(workers, initializer=_take_one_core) if workers > 1 and total > 1 else None
    try:
        while batch := list(islice(tasks, _BATCH)):
            for result in _run(pool, function, batch, workers):
                done += 1
                progress(name, done, total)
                yield result
    except BrokenProcessPool:
        raise WorkerError(f'{name}: a worker process died after {done} of {total} files (killed, or out of memory); '
                          f'what was written is intact: start the same command again, perhaps with fewer {option} '
                          f'({option} 1 works without)') from None
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _take_one_core() -> None:
    import torch  # here: commands ask for the number of cores before they read it
    # A forked child has none of its parent's threads, and would wait for them.
    torch.set_num_threads(1)


def _run(pool: ProcessPoolExecutor | None, function: Callable[[Task], Result], batch: Sequence[Task],
         workers: int) -> Iterator[Result]:
    if pool is None:
        return map(function, batch)
    return pool.map(function, batch, chunksize=max(1, min(16, len(batch) // (4 * workers))))
