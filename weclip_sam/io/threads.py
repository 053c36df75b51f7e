"""The same small piece of work on many items, each on one core: several items at a time instead of one on all cores.

Work on an image of a few hundred pixels consists of operators too small to share; two cores that take an image each do
almost twice as much as two cores that share every operator. And what comes out no longer depends on how many cores
there are.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch

Item = TypeVar('Item')
Result = TypeVar('Result')


def each_on_one_core(function: Callable[[Item], Result], items: Iterable[Item],
                     device: torch.device | str = 'cpu') -> Iterator[Result]:
    """Results of ``function`` in the order of the items, as many at a time as torch may use threads.

    Threads begin with gradients and autocast as the caller has them. An exception ends the work where its result would
    have come. On another ``device`` than the CPU, and where torch has one thread, items follow one another.

    Args:
        function: of an item; it must not write to what other items use.
        items: taken as they are needed.
        device: where ``function`` computes.
    """
    threads = torch.get_num_threads()
    if torch.device(device).type != 'cpu' or threads == 1:
        yield from map(function, items)
        return
    grad, autocast = torch.is_grad_enabled(), torch.is_autocast_enabled('cpu')
    dtype, items = torch.get_autocast_dtype('cpu'), iter(items)

    def work(item: Item) -> Any:
        with torch.set_grad_enabled(grad), torch.autocast('cpu', dtype, enabled=autocast):
            return function(item)
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads, 'image', initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            waiting.extend(pool.submit(work, item) for item in islice(items, 2 * threads))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(items, 1))
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)  # the matrix library knows one number for all threads
