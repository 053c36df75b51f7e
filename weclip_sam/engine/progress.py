"""What one watches while a run goes on: a bar with losses and the time left, or plain lines in a log file."""
from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from weclip_sam.registry import HOOKS

_BAR_INTERVAL = 0.2  # seconds between two redraws on a terminal
_SMOOTHING = 0.9     # weight of the past in the shown losses


def format_seconds(seconds: float) -> str:
    """``75.3`` becomes ``'1:15'``, ``3675`` becomes ``'1:01:15'``; an unknown time (NaN, infinity) ``'?'``."""
    if not 0 <= seconds < float('inf'):
        return '?'
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'


def default_stream() -> TextIO:
    """Where one is told how far the work is: stderr, so that results on stdout stay clean. A notebook paints stderr as
    if something had gone wrong, and has no other use for stdout."""
    return sys.stdout if 'ipykernel' in sys.modules else sys.stderr


def announce(text: str) -> None:
    """One line, from the main process, before work that is silent for a while (loading a SAM, say)."""
    if is_main_process():
        print(text, file=default_stream(), flush=True)


class ProgressReporter:
    """One phase at a time, as a bar on a terminal or as a line every few seconds elsewhere.

    Args:
        stream: where to; :func:`default_stream` if None.
        line_interval: seconds between plain lines.
        unit: what a step is called.
    """

    def __init__(self, stream: TextIO | None = None, line_interval: float = 15.0, unit: str = 'it') -> None:
        self.stream = stream or default_stream()
        self.line_interval, self.unit = line_interval, unit
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._start(name='', total=0, done=0)

    def _start(self, name: str, total: int, done: int) -> None:
        self._name, self._total, self._first = name, total, done
        self._began = self._last_shown = time.monotonic()

    def start(self, name: str, total: int, done: int = 0) -> None:
        """Begin a phase of ``total`` steps, ``done`` of which lie behind already."""
        self.stop()
        self._start(name, total, done)
        if self.stream.isatty():
            self._bar = Progress(
                TextColumn('{task.description}'), BarColumn(bar_width=None), MofNCompleteColumn(),
                TextColumn('{task.fields[rate]}'), TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn(),
                TextColumn('{task.fields[note]}'), console=Console(file=self.stream), transient=True)
            self._task = self._bar.add_task(name, total=total, completed=done, rate='', note='')
            self._bar.start()

    def update(self, done: int, note: str | Callable[[], str] = '') -> None:
        """``done`` steps are behind us.

        Args:
            done: steps, ``start``'s included.
            note: shown at the end (losses, say); a function is called only when something is really shown, since
                reading numbers from a GPU waits for it.
        """
        now = time.monotonic()
        on_terminal = self._bar is not None and self._task is not None
        if now - self._last_shown < (_BAR_INTERVAL if on_terminal else self.line_interval) and done < self._total:
            return
        if done >= self._total and not on_terminal and self._last_shown == self._began:
            return  # a phase shorter than one line's interval needs no line
        self._last_shown = now
        rate = (done - self._first) / max(now - self._began, 1e-9)
        text = note() if callable(note) else note
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, rate=_rate(rate, self.unit), note=text)
            return
        left = format_seconds((self._total - done) / rate) if rate > 0 else '?'
        print(f'{self._name} {done}/{self._total} ({done / max(self._total, 1):.0%})  {_rate(rate, self.unit)}  '
              f'left {left}  {text}'.rstrip(), file=self.stream, flush=True)

    def stop(self) -> None:
        """End the phase; the bar goes away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def write(self, text: str) -> None:
        """Print above the bar (what a log handler writes to while a bar is up)."""
        if self._bar is not None:
            self._bar.console.print(text, end='', markup=False, highlight=False, soft_wrap=True)
        else:
            self.stream.write(text)

    def flush(self) -> None:
        """File protocol."""
        self.stream.flush()


def _rate(per_second: float, unit: str) -> str:
    return f'{per_second:.1f} {unit}/s' if per_second >= 1 or per_second == 0 else f'{1 / per_second:.1f} s/{unit}'


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows training (with ETA and losses), validation and testing as they go; on the main process alone.

    On a terminal a bar stays below the log; elsewhere a plain line is printed every ``line_interval`` seconds.

    Args:
        line_interval: seconds between plain lines.
    """

    priority = 'VERY_LOW'

    def __init__(self, line_interval: float = 15.0) -> None:
        self.reporter = ProgressReporter(line_interval=line_interval)
        self._losses: dict[str, Any] = {}
        self._swapped: list[tuple[logging.StreamHandler, Any]] = []
        self._training = False

    def _start(self, runner: Any, name: str, total: int, done: int = 0) -> None:
        if not is_main_process():
            return
        self.reporter.start(name, total, done)
        if self.reporter.stream.isatty() and not self._swapped:
            for handler in runner.logger.handlers:
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                    self._swapped.append((handler, handler.setStream(self.reporter)))

    def _stop(self) -> None:
        self.reporter.stop()
        for handler, stream in self._swapped:
            handler.setStream(stream)
        self._swapped.clear()

    def before_train(self, runner: Any) -> None:
        """Show the training bar."""
        self._training = True
        self._start(runner, 'train', runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance; losses are averaged over the last iterations."""
        if not is_main_process():
            return
        for key, value in (outputs or {}).items():
            if isinstance(value, torch.Tensor) and value.numel() == 1:
                # Stays on its device: only showing it waits for the number.
                value = value.detach()
            elif not isinstance(value, (int, float)):
                continue
            old = self._losses.get(key)
            self._losses[key] = value if old is None else _SMOOTHING * old + (1 - _SMOOTHING) * value
        self.reporter.update(runner.iter + 1, self._note)

    def _note(self) -> str:
        return '  '.join(f'{key} {float(value):.4g}' for key, value in self._losses.items())

    def before_val_epoch(self, runner: Any) -> None:
        """Show the validation instead."""
        self._start(runner, 'val', len(runner.val_dataloader))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance."""
        if is_main_process():
            self.reporter.update(batch_idx + 1)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Back to the training bar."""
        if self._training:
            self._start(runner, 'train', runner.max_iters, runner.iter)
        else:
            self._stop()

    def before_test_epoch(self, runner: Any) -> None:
        """Show the test."""
        self._start(runner, 'test', len(runner.test_dataloader))

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance."""
        if is_main_process():
            self.reporter.update(batch_idx + 1)

    def after_test_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Take the bar away."""
        self._stop()

    def after_train(self, runner: Any) -> None:
        """Take the bar away."""
        self._training = False
        self._stop()

    def after_run(self, runner: Any) -> None:
        """Whatever happened, leave a clean terminal."""
        self._stop()


@contextmanager
def phase_progress(unit: str = 'it', size: float = 1) -> Iterator[Callable[[str, int, int], None]]:
    """Show phases one after another.

    Args:
        unit: what a step is called.
        size: so many steps are one for those who watch: 1e6 makes megabytes of bytes.

    Yields:
        A function to call with (name of the phase, steps behind, steps in all); another name starts another phase.
    """
    reporter, current = ProgressReporter(unit=unit), ['']

    def progress(name: str, done: int, total: int) -> None:
        done, total = round(done / size), round(total / size)
        if name != current[0]:
            current[0] = name
            reporter.start(name, total, done)
        reporter.update(done)

    try:
        yield progress
    finally:
        reporter.stop()
