"""From measured values to the cells of tables, the same for every form of the report.

Measured and published figures never share a table. Several seeds become mean and sample standard deviation; what was
not measured is a dash.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weclip_sam.comparison.values import TESTS, WITH_SAM, Comparison, RunResult, StageCost

DASH = '–'
COST_COLUMNS = ('method', 'stage', 'wall time', 'peak memory, GB', '')
TUNING_COLUMNS = ('method', 'setting', 'chosen on', 'how')
PUBLISHED_COLUMNS = ('method', 'stages', 'backbone', 'extra model', 'multi-scale', 'CRF', 'pseudo labels', 'VOC val',
                     'VOC test', 'COCO val', 'note')


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

    def bar(self, method: str) -> float:
        """Length of the cell's bar in (0, 1]; 0 without one. Bars show differences: they do not begin at zero."""
        known, value = [v.mean for v in self.values.values() if v is not None], self.values.get(method)
        if value is None or self.better <= 0 or len(known) < 2:
            return 0.0
        low = min(known) - 0.35 * max(max(known) - min(known), 1.0)
        return (value.mean - low) / (max(known) - low)

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
    def column(title: str, read: Callable[[RunResult], float | None], *how: Any) -> Column:
        return Column(title, {m.name: Spread.of([read(run) for run in m.runs]) for m in comparison.methods}, *how)
    rivals = _rivals(comparison)
    tested = {kind for method in comparison.methods for run in method.runs for kind in run.val}
    columns = [column('pseudo labels on train, mIoU', lambda run: run.seeds_miou, 2, 1, '', rivals)]
    columns += [column(f'val mIoU, {title}', _val(kind), 2, 1, '', rivals)
                for kind, title in TESTS.items() if kind in tested or kind not in WITH_SAM]
    columns += [column('trained parameters', lambda run: run.parameters, 0, 0, 'count'),
                Column('stages', {m.name: Spread(len(m.stage_names), None, 1) for m in comparison.methods}, 0),
                column('wall time', lambda run: run.seconds, 0, -1, 'time', rivals)]
    cpu = column('CPU time', lambda run: run.cpu_seconds, 0, -1, 'time', rivals)
    return [*columns, *([cpu] if any(cpu.values.values()) else []),
            column('peak memory, GB', lambda run: run.memory_gb, 2, -1, '', rivals)]


def _val(kind: str) -> Callable[[RunResult], float | None]:
    return lambda run: run.val.get(kind)


def _rivals(comparison: Comparison) -> frozenset[str]:
    return frozenset(method.name for method in comparison.methods if not method.reference)


def incomplete(comparison: Comparison) -> list[str]:
    """Sentences on what is missing, one per method and seed."""
    return [f'{method.name}, seed {run.seed}: {"; ".join(run.missing)}'
            for method in comparison.methods for run in method.runs if run.missing]


def class_columns(comparison: Comparison) -> list[Column]:
    """A column per class: its IoU, of the methods that have any."""
    names = dict.fromkeys(name for m in comparison.methods for run in m.runs for name in run.class_iou)
    methods = [m for m in comparison.methods if any(run.class_iou for run in m.runs)]
    return [Column(name, {m.name: Spread.of([run.class_iou.get(name) for run in m.runs]) for m in methods}, 1, 1,
                   competing=_rivals(comparison)) for name in names]


def step_texts(comparison: Comparison) -> dict[str, str]:
    """By method, the mIoU of the labels after each step that makes them: ``gradcam 45.00 → labels taught 70.00``."""
    texts = {}
    for method in comparison.methods:
        steps = dict.fromkeys(step for run in method.runs for step in run.seed_steps)
        spreads = {step: Spread.of([run.seed_steps.get(step) for run in method.runs]) for step in steps}
        if spreads:
            texts[method.name] = ' → '.join(f'{step} {spread.text() if spread else DASH}'
                                            for step, spread in spreads.items())
    return texts


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


def tuning_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The settings chosen with ground truth, in the order of ``TUNING_COLUMNS``."""
    return [(row.get('method', 'all'), row['what'], row['where'], row.get('how', '')) for row in comparison.tuning]


def published_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The published figures, in the order of ``PUBLISHED_COLUMNS``; what is unknown is said, not guessed."""
    said = {None: 'not stated', True: 'yes', False: 'no'}

    def remark(figure: Mapping[str, Any]) -> str:
        return '; '.join(filter(None, (figure['note'], figure['paper'] or 'told by third parties')))
    return [(figure['method'], figure['stages'],
             *(said.get(figure[key], figure[key]) for key in ('backbone', 'extra', 'multi_scale', 'crf')),
             *(figure[key] or DASH for key in ('seeds', 'voc_val', 'voc_test', 'coco_val')), remark(figure))
            for figure in comparison.published]


def term_sentences(comparison: Comparison) -> list[str]:
    """What is equal for all: as the experiment says, and as the configs say (one value for all, or who differs)."""
    lines = [*comparison.terms]
    for what, values in comparison.checked_terms:
        different = list(dict.fromkeys(values.values()))
        if len(different) == 1:
            lines.append(f'{what}: the same in the configs of all methods ({different[0]})')
        elif different:
            lines.append(f'{what}: DIFFERS: ' + '; '.join(f'{name}: {value}' for name, value in values.items()))
    return lines
