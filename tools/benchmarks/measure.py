"""Timing pieces of work against each other: ratios from one process, alternately, after a warm-up, as medians.

Seconds of a busy machine mean little; that one way takes half as long as another, measured turn by turn, means much.
"""
from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from weclip_sam.engine.memory import process_status

Work = Callable[[], Any]
PROBE = 2 ** 26  # bytes


@dataclass(frozen=True)
class Way:
    """One way of doing a piece of work: ``run`` does it once; ``items`` says how many images that covers."""

    label: str
    run: Work
    items: int = 1


@dataclass(frozen=True)
class Case:
    """A piece of work, done in one way or in several; the first is what the others are compared with.

    Attributes:
        name: of the work.
        ways: the first is the baseline.
        agreement: given the results of baseline and another way, how far apart they are (0 is equal), or None.
    """

    name: str
    ways: tuple[Way, ...]
    agreement: Callable[[Any, Any], float] | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured of one way.

    Attributes:
        case, way: names.
        seconds: median of one run; ``low`` and ``high`` are its quartiles.
        per_image: median seconds per image.
        repeats: how many runs were timed.
        speedup: median over the turns of baseline time / own time (above 1: faster); None for the baseline.
        memory_mb: how much more memory (10^6 bytes) a run needs at its peak than before it: of the GPU, or of the
            process on a CPU (coarse; None where the system does not tell).
        difference: from the baseline's result, see :class:`Case`.
    """

    case: str
    way: str
    seconds: float
    low: float
    high: float
    per_image: float
    repeats: int
    speedup: float | None = None
    memory_mb: float | None = None
    difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(case: Case, device: torch.device, repeats: int = 10, warmup: int = 2) -> list[Measured]:
    """Time the ways of a case in turns.

    Args:
        case: see :class:`Case`.
        device: waited for at the end of every run.
        repeats: turns; in each, every way runs once.
        warmup: runs of every way that are not timed; the last one measures memory.

    Raises:
        ValueError: no turn.
    """
    if repeats < 1 or warmup < 1:
        raise ValueError(f'measure: repeats and warmup must be at least 1, got {repeats} and {warmup}')
    memory, differences, first = [], [], None
    for way in case.ways:
        for _ in range(warmup - 1):
            way.run()
        result, used = _peak_memory(way.run, device)
        memory.append(used)
        first = result if first is None else first
        differences.append(case.agreement(first, result) if case.agreement and len(memory) > 1 else None)
        del result
    seconds: list[list[float]] = [[] for _ in case.ways]
    for _ in range(repeats):
        for times, way in zip(seconds, case.ways, strict=True):
            times.append(_timed(way.run, device))
    rows = []
    for place, (way, times) in enumerate(zip(case.ways, seconds, strict=True)):
        ratios = [base / own for base, own in zip(seconds[0], times, strict=True)]
        low, high = _quartiles(times)
        rows.append(Measured(case.name, way.label, statistics.median(times), low, high,
                             statistics.median(times) / way.items, repeats,
                             statistics.median(ratios) if place else None, memory[place], differences[place]))
    return rows


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return low, high


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def _timed(run: Work, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _peak_memory(run: Work, device: torch.device) -> tuple[Any, float | None]:
    """Run once; returns the result and how far memory rose (MB)."""
    gc.collect()
    if device.type == 'cuda':
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = run()
        _wait(device)
        return result, (torch.cuda.max_memory_allocated(device) - before) / 1e6
    if not peaks_are_told():
        return run(), None
    before = _reset_peak()
    result = run()
    return result, max(process_status('VmHWM') - before, 0.0) / 1e3


def _reset_peak() -> float:
    """Make the present resident size (kB, returned) the highest so far; Linux only."""
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')
    return process_status('VmRSS')


@functools.cache
def peaks_are_told() -> bool:
    """Whether the highest resident size can be reset and then follows a peak: sandboxes accept the reset idly."""
    try:
        before = _reset_peak()
        block = b'1' * PROBE
        del block
        return 0.8 * PROBE < 1024 * (process_status('VmHWM') - before) < 2 * PROBE
    except OSError:
        return False


def table(rows: Sequence[Measured]) -> str:
    """All rows as plain text."""
    width = max(len(row.way) for row in rows) + 2
    lines, case = [], None
    for row in rows:
        if row.case != case:
            case = row.case
            lines += ['', case]
        speed = 'baseline' if row.speedup is None else f'{row.speedup:6.2f} x'
        memory = '' if row.memory_mb is None else f'{row.memory_mb:8.0f} MB'
        apart = '' if row.difference is None else f'   differs by {row.difference:.1e}'
        lines.append(f'  {row.way:<{width}} {1000 * row.seconds:9.2f} ms  {1000 * row.per_image:9.2f} ms/image  '
                     f'{speed:>9}  {memory:>11}{apart}')
    return '\n'.join(lines).strip('\n')
