"""Progress of commands that go through several phases of work on many files."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from weclip_sam.engine.progress import ProgressReporter


@contextmanager
def phase_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show phases one after another.

    Yields:
        A function to call with (name of the phase, steps behind, steps in all); another name starts another phase.
    """
    reporter, current = ProgressReporter(), ['']

    def progress(name: str, done: int, total: int) -> None:
        if name != current[0]:
            current[0] = name
            reporter.start(name, total)
        reporter.update(done)

    try:
        yield progress
    finally:
        reporter.stop()
