"""Timing pieces of work against each other: ratios from one process, alternately, after a warm-up, as medians.

Seconds of a busy machine mean little; that one way takes half as long as another, measured turn by turn, means much.
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from benchmarks.floors import Floor, Machine, count_operations, moved
from benchmarks.launches import HostWork, host_work
from benchmarks.memory import peak_memory

Work = Callable[[], Any]


@dataclass(frozen=True)
class Way:
    """One way of doing a piece of work.

    Attributes:
        label: its name.
        run: does it once.
        items: how many images that covers.
        reads: bytes that it has to read (see :func:`~benchmarks.floors.moved`); what it returns is added as written.
            0 where nobody has said: there is no floor then.
        dtype: of its matrices.
    """

    label: str
    run: Work
    items: int = 1
    reads: float = 0.0
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Case:
    """A piece of work, done in one way or in several.

    Attributes:
        name: of the work.
        ways: the first is what the others are compared with.
        agreement: given the results of the first and another way, how far apart they are (0 is equal), or None.
        compares: whether the ways do the same work, so that a ratio means something; else they are parts of a whole.
        on_host: whether it is work of the host alone, with neither matrices nor a device to wait for.
        counts: whether kernel launches and waits of the host are worth knowing.
        most: turns at most, where one takes long.
    """

    name: str
    ways: tuple[Way, ...]
    agreement: Callable[[Any, Any], float] | None = None
    compares: bool = True
    on_host: bool = False
    counts: bool = False
    most: int | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured of one way.

    Attributes:
        case, way: names.
        seconds: median of one run; ``low`` and ``high`` are its quartiles.
        per_image: median seconds per image.
        repeats: how many runs were timed.
        speedup: median over the turns of the first way's time per image / its own (above 1: faster); None for the first
            way and where nothing is compared.
        memory_mb: how much more memory (10^6 bytes) a run needs at its peak than before it: of the GPU, or of the
            process on a CPU (coarse; None where the system does not tell).
        difference: from the first way's result, see :class:`Case`.
        floor: what this machine allows at best.
        host: launches and waits, where they were counted.
        at: where on a curve this was measured, such as ``{'batch': 4}``.
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
    floor: Floor | None = None
    host: HostWork | None = None
    at: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """Of the floor that is reached: 1 means as fast as this machine can."""
        return None if self.floor is None else self.floor.seconds / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), 'share_of_floor': self.share}


def measure(case: Case, machine: Machine, repeats: int = 10, warmup: int = 2) -> list[Measured]:
    """Time the ways of a case in turns.

    Args:
        case: see :class:`Case`.
        machine: whose floor and clock it is; its device is waited for at the end of every run.
        repeats: turns; in each, every way runs once.
        warmup: runs of every way that are not timed; operations are counted in the first, memory in the last.

    Raises:
        ValueError: no turn.
    """
    if repeats < 1 or warmup < 1:
        raise ValueError(f'measure: repeats and warmup must be at least 1, got {repeats} and {warmup}')
    repeats = min(repeats, case.most or repeats)
    notes, first = [], None
    for place, way in enumerate(case.ways):
        note, result = _look_at(way, case, machine, min(warmup, case.most or warmup))
        first = first if place else result
        if place and case.agreement:
            note['difference'] = case.agreement(first, result)
        notes.append(note)
        del result
    seconds: list[list[float]] = [[] for _ in case.ways]
    for _ in range(repeats):
        for times, way in zip(seconds, case.ways, strict=True):
            times.append(machine.seconds(way.run))
    rows = []
    for place, (way, times) in enumerate(zip(case.ways, seconds, strict=True)):
        ratios = [base / own * way.items / case.ways[0].items for base, own in zip(seconds[0], times, strict=True)]
        low, high = _quartiles(times)
        rows.append(Measured(case.name, way.label, statistics.median(times), low, high,
                             statistics.median(times) / way.items, repeats,
                             speedup=statistics.median(ratios) if place and case.compares else None, **notes[place]))
    return rows


def _look_at(way: Way, case: Case, machine: Machine, warmup: int) -> tuple[dict[str, Any], Any]:
    """Warm up and write down everything but the time; also returns the result."""
    counted: dict[str, float] = {}

    def counting() -> Any:
        result, counted['operations'] = (way.run(), 0.0) if case.on_host else count_operations(way.run)
        return result
    runs = [counting, *[way.run] * (warmup - 1)]
    for run in runs[:-1]:
        run()
    result, memory = peak_memory(runs[-1], machine.device)
    size = way.reads + moved(result, dtype=way.dtype)
    return dict(memory_mb=memory, floor=machine.floor(counted['operations'], size, way.dtype) if way.reads else None,
                host=host_work(way.run, machine.device) if case.counts else None), result


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return low, high
