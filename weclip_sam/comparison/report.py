"""The report of a comparison as Markdown tables and as JSON; as a page with pictures see ``html.py``."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from weclip_sam.comparison import tables
from weclip_sam.comparison.values import Comparison
from weclip_sam.words import counted


def to_markdown(comparison: Comparison) -> str:
    """The report without its pictures."""
    columns, classes = tables.main_columns(comparison), tables.class_columns(comparison)
    rows = [[m.name, *(f'**{c.text(m.name)}**' if m.name in c.best() else c.text(m.name) for c in columns)]
            for m in comparison.methods]
    runs = f'{counted(comparison.seeds, "seed")} per method'
    steps = [f'{name}: {text}' for name, text in tables.step_texts(comparison).items()]
    parts = [f'# {comparison.title}', f'Measured, {runs}; mean ± sample standard deviation, percent. Wall time is what '
             'it takes to make the system: all stages, tests left out; CPU time is that of the same, which other work '
             'on the machine hardly changes.', _table(['method', *(c.title for c in columns)], rows),
             _bullets('Not complete', tables.incomplete(comparison)),
             _bullets('Pseudo labels on train, step by step (mIoU)', steps),
             '## Cost by stage', _table(tables.COST_COLUMNS, tables.cost_rows(comparison))]
    if classes:
        methods = list(classes[0].values)
        parts += ['## IoU by class', _table(['class', *methods], [[c.title, *map(c.text, methods)] for c in classes])]
    parts += [_bullets('Equal terms', tables.term_sentences(comparison))]
    if comparison.tuning:
        parts += ['## Settings chosen with ground truth',
                  _table(tables.TUNING_COLUMNS, tables.tuning_rows(comparison))]
    parts += [_bullets('Notes', comparison.notes), '## Published figures (not measured here)',
              'As printed by their authors, or told by third parties where the note says so, on VOC and COCO with '
              'full-size models. They cannot be compared with the figures above.',
              _table(tables.PUBLISHED_COLUMNS, tables.published_rows(comparison)),
              _bullets('About this run', [f'{key}: {value}' for key, value in comparison.about.items()])]
    return '\n\n'.join(filter(None, parts)) + '\n'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return '| ' + ' | '.join(str(cell).replace('|', '\\|').replace('\n', ' ') for cell in cells) + ' |'
    return '\n'.join([line(head), line(['---'] * len(head)), *(line(row) for row in rows)])


def _bullets(title: str, lines: Sequence[str]) -> str:
    return f'## {title}\n\n' + '\n'.join(f'- {line}' for line in lines) if lines else ''


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All figures as plain values; no pictures."""
    columns = tables.main_columns(comparison)
    return dict(
        title=comparison.title, seeds=comparison.seeds, about=dict(comparison.about),
        measured={m.name: dict(table={c.title: (value := c.values.get(m.name)) and asdict(value) for c in columns},
                               runs=[dict(asdict(run), seconds=run.seconds, cpu_seconds=run.cpu_seconds,
                                          memory_gb=run.memory_gb) for run in m.runs])
                  for m in comparison.methods},
        colors=dict(comparison.legend), incomplete=tables.incomplete(comparison),
        terms=tables.term_sentences(comparison),
        tuning=[dict(row) for row in comparison.tuning], notes=list(comparison.notes),
        published_not_measured_here=[dict(figure) for figure in comparison.published])
