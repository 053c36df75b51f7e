"""The report of a comparison: what was measured, as values; as Markdown tables; as JSON. HTML is in ``report_html``.

Measured and published figures never share a table. Several seeds become mean and sample standard deviation; what was
not measured is a dash.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from weclip_sam.comparison.published import PUBLISHED, PublishedFigure

DASH = '–'
TESTS = {'single': 'single scale', 'multi': 'multi-scale + flip', 'crf': 'multi-scale + flip + CRF'}


@dataclass(frozen=True)
class StageCost:
    """What one stage of one run cost.

    Attributes:
        name, tool: of the stage.
        seconds: wall time without the scoring of pseudo labels; None if unknown.
        memory_gb: peak memory of the largest process (10^9 bytes), or of the GPU if there was one.
        shared: several methods use this one run of it.
        once: all seeds use it.
        cpu_seconds: CPU time of its processes without the scoring of pseudo labels; None if unknown or on a GPU.
    """

    name: str
    tool: str
    seconds: float | None
    memory_gb: float | None
    shared: bool = False
    once: bool = False
    cpu_seconds: float | None = None

    @property
    def is_test(self) -> bool:
        """Tests measure a system; they are no part of making it."""
        return self.tool == 'test'


@dataclass(frozen=True)
class RunResult:
    """One method with one seed; figures that were not measured are None or missing.

    Attributes:
        seed: of the run.
        seeds_miou: of the final pseudo labels on train, percent.
        seed_steps: mIoU of the labels after each step or stage that makes labels, in order.
        val: mIoU on val by kind of test (``TESTS``), percent.
        class_iou: IoU by class (``background`` first) of the best-equipped common test, percent.
        parameters: trained ones, of all stages together.
        stages: their costs, in order.
        missing: what is not there yet, in words.
    """

    seed: int
    seeds_miou: float | None = None
    seed_steps: Mapping[str, float] = field(default_factory=dict)
    val: Mapping[str, float] = field(default_factory=dict)
    class_iou: Mapping[str, float | None] = field(default_factory=dict)
    parameters: int | None = None
    stages: tuple[StageCost, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Wall time of everything that makes the system, tests left out; None if a part of it is unknown."""
        return self._sum('seconds')

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of the same; other work on the machine hardly changes it."""
        return self._sum('cpu_seconds')

    def _sum(self, what: str) -> float | None:
        parts = [getattr(stage, what) for stage in self.stages if not stage.is_test]
        return sum(parts) if parts and None not in parts else None

    @property
    def memory_gb(self) -> float | None:
        """The largest peak of the stages that make the system."""
        parts = [stage.memory_gb for stage in self.stages if not stage.is_test and stage.memory_gb is not None]
        return max(parts, default=None)


@dataclass(frozen=True)
class MethodResult:
    """All runs of a method, by seed.

    Attributes:
        name, runs: of the method.
        note: a few words beside the name.
        reference: shown for orientation (a fully supervised upper bound, say); never marked as best.
    """

    name: str
    runs: tuple[RunResult, ...]
    note: str = ''
    reference: bool = False

    @property
    def stage_names(self) -> list[str]:
        """The stages that make the system, in order."""
        return list(dict.fromkeys(s.name for run in self.runs for s in run.stages if not s.is_test))


@dataclass(frozen=True)
class PictureRow:
    """Pictures of one image: ``panels`` of (title, PNG bytes, note), e.g. a method, its prediction, its mIoU there."""

    caption: str
    panels: tuple[tuple[str, bytes, str], ...]


@dataclass(frozen=True)
class Comparison:
    """Everything in a report.

    Attributes:
        title: of the experiment.
        methods: in the order of the experiment.
        seeds: how many runs each method should have.
        pictures: rows by the title of their group.
        legend: (name, #rrggbb) of the classes in the pictures.
        tuning: rows ``what``, ``where``, ``how``, perhaps ``method``: settings chosen with ground truth, and on which.
        terms: sentences on what is equal for all methods.
        checked_terms: (what, method to value) found in the configs.
        notes: further sentences.
        about: things like date, command, machine.
        published: other people's figures.
    """

    title: str
    methods: tuple[MethodResult, ...]
    seeds: int = 1
    pictures: Mapping[str, Sequence[PictureRow]] = field(default_factory=dict)
    legend: Sequence[tuple[str, str]] = ()
    tuning: Sequence[Mapping[str, str]] = ()
    terms: Sequence[str] = ()
    checked_terms: Sequence[tuple[str, Mapping[str, str]]] = ()
    notes: Sequence[str] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    published: Sequence[PublishedFigure] = PUBLISHED


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``count`` values; the deviation is None for less than two."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Of the values that are there; None if there is none.

        Values equal to the last bit come from one run that all seeds share: they are one value, without a deviation.
        """
        known = [float(value) for value in values if value is not None and not math.isnan(value)]
        if not known:
            return None
        mean = sum(known) / len(known)
        if len(set(known)) == 1:
            return cls(known[0], None, 1)
        return cls(mean, math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1)), len(known))

    def text(self, digits: int = 2) -> str:
        """``71.23 ± 0.40``, or ``71.23``."""
        if self.deviation is None:
            return f'{self.mean:.{digits}f}'
        return f'{self.mean:.{digits}f} ± {self.deviation:.{digits}f}'


@dataclass(frozen=True)
class Column:
    """A column of figures: ``values`` by method name, how they are written, which end is better (+1, -1, 0), and
    which methods compete for it."""

    title: str
    values: Mapping[str, Spread | None]
    digits: int = 2
    better: int = 0
    unit: str = ''
    competing: frozenset[str] = frozenset()

    def text(self, method: str) -> str:
        """One cell."""
        value = self.values.get(method)
        if value is None:
            return DASH
        if self.unit == 'time':
            return duration(value.mean) + ('' if value.deviation is None else f' ± {duration(value.deviation)}')
        if self.unit == 'count':
            return f'{value.mean / 1e6:.3f} M' if value.mean >= 1e3 else f'{value.mean:.0f}'
        return value.text(self.digits)

    def best(self) -> set[str]:
        """The methods with the best mean as printed; none if all are equal or no end is better."""
        known = {name: round(self.better * value.mean, self.digits) for name, value in self.values.items()
                 if value is not None and name in self.competing}
        if not self.better or len(set(known.values())) < 2:
            return set()
        return {name for name, value in known.items() if value == max(known.values())}


def duration(seconds: float) -> str:
    """``8.4 s``, ``5 min 02 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02} min'


def main_columns(comparison: Comparison) -> list[Column]:
    """The columns of the main table."""
    def spreads(read: Any) -> dict[str, Spread | None]:
        return {m.name: Spread.of([read(run) for run in m.runs]) for m in comparison.methods}
    rivals = frozenset(m.name for m in comparison.methods if not m.reference)
    columns = [Column('pseudo labels on train, mIoU', spreads(lambda r: r.seeds_miou), better=1, competing=rivals)]
    columns += [Column(f'val mIoU, {title}', spreads(lambda r, kind=kind: r.val.get(kind)), better=1, competing=rivals)
                for kind, title in TESTS.items()]
    columns += [Column('trained parameters', spreads(lambda r: r.parameters), 0, unit='count'),
                Column('stages', {m.name: Spread(len(m.stage_names), None, 1) for m in comparison.methods}, 0),
                Column('wall time', spreads(lambda r: r.seconds), 0, -1, 'time', rivals)]
    cpu = spreads(lambda r: r.cpu_seconds)
    if any(cpu.values()):
        columns.append(Column('CPU time', cpu, 0, -1, 'time', rivals))
    return columns + [Column('peak memory, GB', spreads(lambda r: r.memory_gb), 2, -1, competing=rivals)]


def incomplete(comparison: Comparison) -> list[str]:
    """Sentences on what is missing, one per method and seed."""
    return [f'{method.name}, seed {run.seed}: {"; ".join(run.missing)}'
            for method in comparison.methods for run in method.runs if run.missing]


def class_table(comparison: Comparison) -> tuple[list[str], dict[str, dict[str, Spread | None]]]:
    """Class names, and by method and class the IoU."""
    classes = list(dict.fromkeys(name for m in comparison.methods for run in m.runs for name in run.class_iou))
    return classes, {m.name: {name: Spread.of([run.class_iou.get(name) for run in m.runs]) for name in classes}
                     for m in comparison.methods if any(run.class_iou for run in m.runs)}


def step_table(comparison: Comparison) -> dict[str, dict[str, Spread | None]]:
    """By method, the mIoU of the labels after each step that makes them."""
    table = {}
    for method in comparison.methods:
        steps = list(dict.fromkeys(step for run in method.runs for step in run.seed_steps))
        if steps:
            table[method.name] = {step: Spread.of([run.seed_steps.get(step) for run in method.runs]) for step in steps}
    return table


def cost_rows(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    """(method, stage, wall time, peak memory, remark) of every stage, tests included; means over the seeds."""
    rows = []
    for method in comparison.methods:
        stages: dict[str, list[StageCost]] = {}
        for run in method.runs:
            for stage in run.stages:
                stages.setdefault(stage.name, []).append(stage)
        for name, costs in stages.items():
            time, memory = (Spread.of([getattr(cost, key) for cost in costs]) for key in ('seconds', 'memory_gb'))
            remark = ('shared by methods, once' if costs[0].shared else 'once for all seeds' if costs[0].once else
                      'test, not counted' if costs[0].is_test else '')
            rows.append((method.name, name, DASH if time is None else duration(time.mean),
                         DASH if memory is None else f'{memory.mean:.2f}', remark))
    return rows


def yes_no(value: bool | None) -> str:
    """For published figures: unknown is said, not guessed."""
    return 'not stated' if value is None else 'yes' if value else 'no'


PUBLISHED_COLUMNS = ('method', 'stages', 'backbone', 'extra model', 'multi-scale', 'CRF', 'pseudo labels', 'VOC val',
                     'VOC test', 'COCO val', 'note')


def published_row(figure: PublishedFigure) -> tuple[str, ...]:
    """The cells of a published figure, in the order of ``PUBLISHED_COLUMNS``."""
    note = '; '.join(filter(None, (figure.note, figure.paper)))
    return (figure.method, figure.stages, figure.backbone or 'not stated', figure.extra or 'not stated',
            yes_no(figure.multi_scale), yes_no(figure.crf), figure.seeds or DASH, figure.voc_val or DASH,
            figure.voc_test or DASH, figure.coco_val or DASH, note)


def to_markdown(comparison: Comparison) -> str:
    """The report without its pictures."""
    names = [method.name for method in comparison.methods]
    columns = main_columns(comparison)
    best = [column.best() for column in columns]
    rows = [[name] + [f'**{c.text(name)}**' if name in b else c.text(name) for c, b in zip(columns, best, strict=True)]
            for name in names]
    runs = f'{comparison.seeds} seed{"s" if comparison.seeds > 1 else ""} per method'
    parts = [f'# {comparison.title}', f'Measured, {runs}; mean ± sample standard deviation, percent. Wall time is what '
             'it takes to make the system: all stages, tests left out; CPU time is that of the same, which other work '
             'on the machine hardly changes.',
             _table(['method', *(c.title for c in columns)], rows)]
    parts += [_bullets('Not complete', incomplete(comparison))]
    if steps := step_table(comparison):
        lines = [f'{name}: ' + ' → '.join(f'{step} {value.text() if value else DASH}' for step, value in found.items())
                 for name, found in steps.items()]
        parts += [_bullets('Pseudo labels on train, step by step (mIoU)', lines)]
    parts += ['## Cost by stage',
              _table(['method', 'stage', 'wall time', 'peak memory, GB', ''], cost_rows(comparison))]
    classes, table = class_table(comparison)
    if table:
        parts += ['## IoU by class', _table(['class', *table], [
            [name, *(DASH if table[m][name] is None else table[m][name].text(1) for m in table)] for name in classes])]
    parts += [_bullets('Equal terms', [*comparison.terms, *checked_sentences(comparison)])]
    if comparison.tuning:
        parts += ['## Settings chosen with ground truth', _table(['method', 'setting', 'chosen on', 'how'], [
            [row.get('method', 'all'), row['what'], row['where'], row.get('how', '')] for row in comparison.tuning])]
    parts += [_bullets('Notes', comparison.notes)]
    parts += ['## Published figures (not measured here)',
              'As printed by their authors, on VOC and COCO with full-size models. They cannot be compared with the '
              'figures above.', _table(PUBLISHED_COLUMNS, [published_row(f) for f in comparison.published])]
    parts += [_bullets('About this run', [f'{key}: {value}' for key, value in comparison.about.items()])]
    return '\n\n'.join(filter(None, parts)) + '\n'


def checked_sentences(comparison: Comparison) -> list[str]:
    """What the configs say about equal terms: one value for all, or who differs."""
    lines = []
    for what, values in comparison.checked_terms:
        different = list(dict.fromkeys(values.values()))
        if len(different) == 1:
            lines.append(f'{what}: the same in the configs of all methods ({different[0]})')
        elif different:
            lines.append(f'{what}: DIFFERS: ' + '; '.join(f'{name}: {value}' for name, value in values.items()))
    return lines


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All figures as plain values; no pictures."""
    def plain(value: Spread | None) -> dict[str, Any] | None:
        return None if value is None else asdict(value)
    columns = main_columns(comparison)
    return dict(
        title=comparison.title, seeds=comparison.seeds, about=dict(comparison.about),
        measured={m.name: dict(table={c.title: plain(c.values.get(m.name)) for c in columns},
                               runs=[dict(asdict(run), seconds=run.seconds, cpu_seconds=run.cpu_seconds,
                                          memory_gb=run.memory_gb) for run in m.runs])
                  for m in comparison.methods},
        incomplete=incomplete(comparison), terms=[*comparison.terms, *checked_sentences(comparison)],
        tuning=[dict(row) for row in comparison.tuning], notes=list(comparison.notes),
        published_not_measured_here=[asdict(figure) for figure in comparison.published])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return '| ' + ' | '.join(str(cell).replace('|', '\\|').replace('\n', ' ') for cell in cells) + ' |'
    return '\n'.join([line(head), line(['---'] * len(head)), *(line(row) for row in rows)])


def _bullets(title: str, lines: Sequence[str]) -> str:
    return f'## {title}\n\n' + '\n'.join(f'- {line}' for line in lines) if lines else ''
