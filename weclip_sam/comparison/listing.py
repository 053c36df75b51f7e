"""What a comparison consists of, what of it is there, and how long the rest will take as far as anybody knows.

Times are measured or documented, never guessed. A finished stage has the time that it took here, all attempts
together. For one that has not run there is, in this order: the mean of the same stage with other seeds; that of
finished stages of the same tool and config (tests: also of the same kind), a training's in proportion to its
iterations; for a test, the mean of those of its kind by other methods; what the experiment documents, by pattern of the
config's file name (``estimates=dict(seconds_per_iteration={'weclip_tiny_*': 0.47}, seconds={'clip-es_tiny_*': 120},
where='...')``: for trainings, for making masks and seeds, and where that was measured); else it is unknown.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from weclip_sam.comparison.experiment import Experiment, Stage
from weclip_sam.comparison.names import folder_name
from weclip_sam.comparison.stages import is_finished, read_json, why_stale
from weclip_sam.comparison.tables import duration
from weclip_sam.engine.start.config import load_config
from weclip_sam.words import counted

SHARED = 'shared by several methods'
_OTHER_SEEDS, _SAME_CONFIG, _SAME_TEST = 'as its other seeds', 'as the same config', 'as this test of other methods'
_BY_ITERATION, _DOCUMENTED = 'by the iteration', 'as documented'


@dataclass(frozen=True)
class Group:
    """One stage of a method with all of its seeds: ``method`` (or ``SHARED``), ``stages``, their ``states``."""

    method: str
    stages: tuple[Stage, ...]
    states: tuple[str, ...]

    def of(self, *states: str) -> list[Stage]:
        """Its stages in one of these states."""
        return [stage for stage, now in zip(self.stages, self.states, strict=True) if now in states]


def group_stages(experiment: Experiment) -> list[Group]:
    """By method in the order of the experiment, what several methods share first."""
    stages: dict[tuple[str, str], dict[Stage, None]] = {}
    for run in experiment.runs:
        for stage in run.stages:
            stages.setdefault((SHARED if stage.shared else run.method, stage.name), {})[stage] = None
    order = [SHARED, *experiment.methods]
    return [Group(method, tuple(each), tuple(map(state, each)))
            for (method, _), each in sorted(stages.items(), key=lambda item: order.index(item[0][0]))]


def state(stage: Stage) -> str:
    """``finished``, ``to do``, ``stopped`` (begun, and failed or stopped), or ``stale`` (see :func:`why_stale`)."""
    if why_stale(stage):
        return 'stale'
    if is_finished(stage):
        return 'finished'
    return 'to do' if read_json(stage.record) is None else 'stopped'


def seconds_taken(stage: Stage) -> float | None:
    """Wall time of a finished stage from start to end, of all attempts together; None if nobody wrote it down."""
    record, summary = read_json(stage.record) or {}, read_json(stage.summary) or {}
    for found in (record.get('seconds'), summary.get('wall_seconds_of_all_runs'), summary.get('wall_seconds')):
        if isinstance(found, (int, float)):
            return float(found)
    return None


class Times:
    """Estimates for the stages of an experiment, from those that have finished."""

    def __init__(self, experiment: Experiment, groups: Sequence[Group]) -> None:
        self.per_iteration = dict(experiment.estimates.get('seconds_per_iteration') or {})
        self.whole = dict(experiment.estimates.get('seconds') or {})
        self.measured = {stage: seconds for group in groups for stage in group.of('finished')
                         if (seconds := seconds_taken(stage)) is not None}

    def estimate(self, stage: Stage, group: Group) -> tuple[float | None, str]:
        """Seconds and what they rest on; None if nothing is known."""
        if own := [self.measured[other] for other in group.stages if other in self.measured]:
            return sum(own) / len(own), _OTHER_SEEDS
        alike = {other: seconds for other, seconds in self.measured.items() if _kind(other) == _kind(stage)}
        if stage.tool == 'train':
            count = iterations(stage)
            rates = [seconds / done for other, seconds in alike.items() if (done := iterations(other))]
            if count and rates:
                return count * sum(rates) / len(rates), _SAME_CONFIG
            rate = _documented(self.per_iteration, stage)
            return (count * rate, _BY_ITERATION) if count and rate is not None else (None, '')
        if alike:
            return sum(alike.values()) / len(alike), _SAME_CONFIG
        if stage.tool != 'test':
            whole = _documented(self.whole, stage)
            return whole, '' if whole is None else _DOCUMENTED
        tests = [seconds for other, seconds in self.measured.items() if other.measure == stage.measure]
        return (sum(tests) / len(tests), _SAME_TEST) if tests else (None, '')


def _documented(seconds: Mapping[str, float], stage: Stage) -> float | None:
    """What the first pattern says that fits the name of a stage's config."""
    name = Path(stage.arguments[0]).name
    return next((float(each) for pattern, each in seconds.items() if fnmatch(name, pattern)), None)


def _kind(stage: Stage) -> tuple[str | None, ...]:
    return stage.tool, stage.arguments[0], stage.measure


def iterations(stage: Stage) -> int | None:
    """How many iterations a training has by its config and options; None if they say none."""
    given = list(stage.arguments)
    return _iterations(given[0], tuple(given[given.index('--cfg-options') + 1:] if '--cfg-options' in given else ()))


@cache
def _iterations(config: str, options: tuple[str, ...]) -> int | None:
    try:
        count = (load_config(config, list(options)).get('train_cfg') or {}).get('max_iters')
    except (ValueError, OSError):
        return None
    return count if isinstance(count, int) and count > 0 else None


def listing(experiment: Experiment, command: Callable[[Stage], str] | None = None) -> list[str]:
    """Lines for a terminal: the stages of every method, their state, what they took or are expected to take.

    Args:
        experiment: see :func:`load_experiment`.
        command: of a stage, to be printed below its line.
    """
    groups = group_stages(experiment)
    times = Times(experiment, groups)
    width = max(len(group.stages[0].name) for group in groups)
    states = {group: _states(group) for group in groups}
    wide = max(map(len, states.values()))
    seeds = counted(experiment.seeds, 'seed')
    lines = [experiment.title, f'in {experiment.root}, {seeds} per method; --methods takes the names in brackets']
    expected: list[float | None] = []
    bases: set[str] = set()
    for place, group in enumerate(groups):
        if not place or group.method != groups[place - 1].method:
            lines += ['', _title(experiment, group.method)]
        open_stages = group.of('to do', 'stopped')
        each, basis = times.estimate(open_stages[0], group) if open_stages else (None, '')
        expected += [each] * len(open_stages)
        bases.add(basis)
        lines.append(f'  {group.stages[0].name:<{width}}  {states[group]:<{wide}}  '
                     f'{_time(group, times, len(open_stages), each, basis)}'.rstrip())
        if command is not None:
            lines += [f'      {command(stage)}' for stage in group.stages]
    return [*lines, '', *_total(expected, sum(len(group.stages) for group in groups)),
            *_remarks(experiment, groups, bases)]


def _title(experiment: Experiment, method: str) -> str:
    if method == SHARED:
        return SHARED
    settings = experiment.methods[method]
    note, uses = settings.get('note', ''), ', '.join(settings.get('uses', ()))
    return f'{method} [{folder_name(method)}]' + (f': {note}' if note else '') + (f'; uses {uses}' if uses else '')


def _states(group: Group) -> str:
    counts = Counter(group.states)
    return next(iter(counts)) if len(counts) == 1 else ', '.join(f'{counts[now]} {now}' for now in sorted(counts))


def _time(group: Group, times: Times, open_stages: int, each: float | None, basis: str) -> str:
    took = [times.measured[stage] for stage in group.stages if stage in times.measured]
    parts = [f'{duration(sum(took) / len(took))}{" each" if len(took) > 1 else ""}'] if took else []
    if open_stages and each is None:
        parts.append('time unknown')
    elif open_stages and each is not None:
        parts.append(f'about {duration(each)}{" each" if open_stages > 1 else ""}, {basis}')
    return '; '.join(parts)


def _total(expected: Sequence[float | None], stages: int) -> list[str]:
    known = [seconds for seconds in expected if seconds is not None]
    if not expected:
        return [f'all {stages} stages have run' if stages > 1 else 'the one stage has run']
    unknown = len(expected) - len(known)
    if not known:
        time = 'time unknown'
    elif unknown:
        time = f'at least {duration(sum(known))}, the time of {counted(unknown, "stage")} unknown'
    else:
        time = f'about {duration(sum(known))}'
    return [f'to do: {len(expected)} of {counted(stages, "stage")}, {time}']


def _remarks(experiment: Experiment, groups: Sequence[Group], bases: set[str]) -> list[str]:
    lines = []
    if bases & {_BY_ITERATION, _DOCUMENTED}:
        where = experiment.estimates.get('where', 'as the experiment documents it')
        lines.append(f'by the iteration (start and validation not counted), and as documented: {where}')
    if any('stale' in group.states for group in groups):
        lines.append('stale: what is there was made by other settings, or from what has changed; --run says why')
    if any('stopped' in group.states for group in groups):
        lines.append('stopped: see stage.log in its folder; --run goes on, a training from its last checkpoint')
    return lines
