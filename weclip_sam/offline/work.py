"""The one loop of work that goes image by image: masks made, masks imported, labels made."""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from torch.utils.data import DataLoader, Dataset

from weclip_sam.engine.progress import ProgressReporter, announce
from weclip_sam.io.files import is_of_one_file

# Faults of one image; anything else is a fault of the program and ends the run.
IMAGE_ERRORS = (ValueError, OSError, RuntimeError)
# Results that wait for the thread that writes: enough that it never waits, few to lose time with when asked to stop.
_AHEAD = 4


@dataclass
class WorkReport:
    """What came of some images.

    Attributes:
        made, found: image ids done now, and those that were done.
        failed: image id to reason.
        seconds: total by stage.
    """

    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def join(cls, reports: Sequence[WorkReport]) -> WorkReport:
        """Several reports as one."""
        total = cls()
        for report in reports:
            total.made += report.made
            total.found += report.found
            total.failed.update(report.failed)
            for stage, seconds in report.seconds.items():
                total.seconds[stage] = total.seconds.get(stage, 0.0) + seconds
        return total

    def gather(self) -> WorkReport:
        """The reports of all processes as one; every process calls it."""
        return self.join(all_gather_object(self))


class StageClock:
    """Adds up seconds by stage; waits for the GPU at the end of each, so that every stage pays for its own work.

    ``pulse`` is there for a stage that takes long: it may tell which share in [0, 1] of its items is done.
    """

    def __init__(self, device: torch.device, pulse: Callable[[float], None] = lambda share: None) -> None:
        self.device, self.pulse, self.seconds = device, pulse, dict[str, float]()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.wait()
            self.add(stage, time.perf_counter() - start)

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def add(self, stage: str, seconds: float) -> None:
        """Count time measured elsewhere."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class _Writing:
    """Finishes and writes results, each after the one before it; with ``aside`` in a thread, while the next are made.

    Results count as made once they are written. At most ``_AHEAD`` wait, and the first fault of the program ends it:
    whatever came later is dropped, as if it had not been made.
    """

    def __init__(self, finish: Callable[[Any], Any], write: Callable[[str, Any], None], report: WorkReport,
                 clock: StageClock, aside: bool) -> None:
        self._finish, self._write, self._report, self._clock = finish, write, report, clock
        self._thread = ThreadPoolExecutor(1, 'writing') if aside else None
        self._waiting: deque[tuple[str, Future[tuple[str, float]]]] = deque()
        self._broken = False

    def put(self, name: str, result: Any) -> None:
        """Write a result, now or soon. Raises what ended the writing of this or an earlier one."""
        if self._thread is None:
            self._note(name, *self._work(name, result))
            return
        self._waiting.append((name, self._thread.submit(self._work, name, result)))
        while self._waiting and (len(self._waiting) > _AHEAD or self._waiting[0][1].done()):
            self._take()

    @property
    def busy(self) -> bool:
        """Whether there are results that nobody knows yet to be written."""
        return bool(self._waiting)

    def close(self, quietly: bool) -> None:
        """Write what waits; ``quietly`` where another error is on its way already."""
        try:
            while self._waiting:
                with suppress(*([Exception] if quietly else [])):
                    self._take()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def _work(self, name: str, result: Any) -> tuple[str, float]:
        """Why there is no result on the disk (empty: there is), and the seconds it took."""
        start, reason = time.perf_counter(), 'what came before it could not be written'
        if not self._broken:
            try:
                reason = self._finish_and_write(name, result)
            except BaseException:
                self._broken = True
                raise
        if self._thread is None:
            self._clock.wait()
        return reason, time.perf_counter() - start

    def _finish_and_write(self, name: str, result: Any) -> str:
        try:
            result = self._finish(result)
        except IMAGE_ERRORS as error:
            return _reason(error)
        try:
            self._write(name, result)
        except OSError as error:
            if not is_of_one_file(error):
                raise
            return _write_reason(error)
        return ''

    def _take(self) -> None:
        name, future = self._waiting.popleft()
        self._note(name, *future.result())

    def _note(self, name: str, reason: str, seconds: float) -> None:
        self._clock.add('write', seconds)
        if reason:
            self._report.failed[name] = reason
        else:
            self._report.made.append(name)


class _Loader(Dataset):
    """Items with the time they took, or with the reason why there is none: no bad file ends the loop."""

    def __init__(self, load: Callable[[int], Any], indices: Sequence[int]) -> None:
        self.load, self.indices = load, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any, str, float]:
        start, index = time.perf_counter(), self.indices[place]
        try:
            return index, self.load(index), '', time.perf_counter() - start
        except IMAGE_ERRORS as error:
            return index, None, _reason(error), 0.0


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _write_reason(error: OSError) -> str:
    return f'{error.filename or "its result"}: cannot be written ({error.strerror})'


def _same(value: Any, *_: Any) -> Any:
    return value


def work_through(title: str, image_ids: Sequence[str], *, is_done: Callable[[int], bool], load: Callable[[int], Any],
                 write: Callable[[str, Any], None], make: Callable[[list[Any], StageClock], Sequence[Any]] = _same,
                 batch_size: int = 1, workers: int = 0, device: torch.device | str = 'cpu',
                 patience: int | None = None, tick: Callable[[], None] = lambda: None,
                 finish: Callable[[Any], Any] = _same, aside: bool = False) -> WorkReport:
    """Load, make and write what is not done yet, this process's share of it; the main process shows progress.

    An image that cannot be loaded or made, or written because of its own name or place, is recorded, and the rest goes
    on; whatever else cannot be written, as on a full disk, ends the work.
    Killed at any moment, the next call goes on with what is missing.

    Args:
        title: of the progress bar.
        image_ids: of all images; with n processes each takes every n-th.
        is_done: whether nothing is left to do for the image of this index; asked once, before all work.
        load: what is needed of the image of an index. Its seconds are the stage ``load``.
        write: keeps the result of an image id. Its seconds are the stage ``write``.
        make: results of loaded items, in their order; it names its stages to the clock. By default an item is its own
            result.
        batch_size: so many images are loaded before the next step; those that are arrays of one shape are made
            together.
        workers: processes that load ahead.
        device: what ``make`` and ``write`` work on; the clock waits for it.
        patience: if so many images fail before any works and none was done, it is not the images' fault; None goes on.
        tick: called after every batch, and when ``make`` tells how far it is.
        finish: from what ``make`` made to what is written. Its seconds count as those of ``write``.
        aside: finish and write in another thread while the next batch is made.

    Returns:
        The report of this process.

    Raises:
        ValueError: the first ``patience`` images all failed, or a ``batch_size`` below 1.
    """
    if batch_size < 1:
        raise ValueError(f'--batch-size: expected at least 1 image at a time, got {batch_size}')
    # By the place in the whole list: what others have done meanwhile must not move the shares.
    share = range(get_rank(), len(image_ids), get_world_size())
    report, todo = WorkReport(), []
    for index in share:
        try:
            (report.found.append(image_ids[index]) if is_done(index) else todo.append(index))
        except OSError as error:  # as of a name that no result can have
            if not is_of_one_file(error):
                raise
            report.failed[image_ids[index]] = _write_reason(error)
    progress, behind, batch = ProgressReporter(), 0, list[Any]()

    def show(share: float = 0.0) -> None:
        if is_main_process():
            within = f'{share:.0%} of {"the next" if len(batch) == 1 else f"the next {len(batch)}"}' if share else ''
            failed = f'{len(report.failed)} failed' if report.failed else ''
            progress.update(behind, ', '.join(filter(None, (within, failed))))
        tick()

    clock = StageClock(torch.device(device), show)
    # A generator of its own: how much is left to do must not move the random numbers of a training that follows.
    loaded = iter(DataLoader(_Loader(load, todo), batch_size=None, num_workers=workers, collate_fn=_same,
                             generator=torch.Generator()))
    announce(f'{title}: {len(todo)} to make, {len(report.found)} found'
             + (f' (the share of process 1 of {get_world_size()})' if get_world_size() > 1 else ''))
    if todo and is_main_process():
        progress.start(title, len(todo))
    writing, ended = _Writing(finish, write, report, clock, aside), False
    try:
        while batch := list(islice(loaded, batch_size)):
            _work_on({image_ids[index]: rest for index, *rest in batch}, make, writing, report, clock)
            if patience and len(report.failed) >= patience and not (report.made or report.found or writing.busy):
                image_id, reason = list(report.failed.items())[-1]
                raise ValueError(f'the first {len(report.failed)} images all failed, {image_id} for example: {reason}')
            behind += len(batch)
            show()
        ended = True
    finally:
        try:
            writing.close(quietly=not ended)
        finally:
            progress.stop()
    report.seconds = clock.seconds
    return report


def _work_on(batch: dict[str, list[Any]], make: Callable[[list[Any], StageClock], Sequence[Any]],
             writing: _Writing, report: WorkReport, clock: StageClock) -> None:
    """One batch: by image id the item, the reason why there is none, and the seconds it took."""
    report.failed.update({name: reason for name, (_, reason, _) in batch.items() if reason})
    items = {name: item for name, (item, reason, _) in batch.items() if not reason}
    for name in items:
        clock.add('load', batch[name][2])
    groups: dict[Any, list[str]] = {}
    for name, item in items.items():
        groups.setdefault(getattr(item, 'shape', None), []).append(name)
    for names in groups.values():
        try:
            results = make([items[name] for name in names], clock)
        except IMAGE_ERRORS as error:
            report.failed.update(dict.fromkeys(names, _reason(error)))
            continue
        for name, result in zip(names, results, strict=True):
            writing.put(name, result)
