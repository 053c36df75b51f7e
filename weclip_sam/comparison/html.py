"""The report of a comparison as one HTML page that needs nothing else: inline CSS, pictures as data, no script."""
from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from weclip_sam.comparison.chart import Point, scatter
from weclip_sam.comparison.report import (
    DASH,
    PUBLISHED_COLUMNS,
    TESTS,
    Column,
    Comparison,
    PictureRow,
    Spread,
    checked_sentences,
    class_table,
    cost_rows,
    incomplete,
    main_columns,
    published_row,
    step_table,
)

_STYLE = '''
:root { color-scheme: light; --ink: #1d2430; --faint: #667085; --line: #dfe3ea; --paper: #fff; --shade: #f5f7fa;
  --blue: 37, 99, 235; --warn: #9a5b00; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--shade); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1360px; margin: 0 auto; padding: 32px 28px 80px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 22px 0 8px; }
p { margin: 0 0 10px; max-width: 78ch; }
.faint, .lead { color: var(--faint); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 18px; }
.scroll { overflow-x: auto; margin-top: 10px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: right; padding: 6px 8px; border-bottom: 1px solid var(--line); vertical-align: baseline; }
td { white-space: nowrap; }
th { font-weight: 600; font-size: 13px; color: var(--faint); vertical-align: bottom; min-width: 64px; }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
.costs td:nth-child(2), .costs th:nth-child(2), .costs td:last-child { text-align: left; }
.costs td:last-child, .reference td { color: var(--faint); }
.text td { white-space: normal; min-width: 80px; }
.text td:last-child { min-width: 200px; } .text td:first-child { min-width: 150px; }
td:first-child { font-weight: 600; }
tbody tr:last-child td { border-bottom: 0; }
.best { font-weight: 700; }
.bar { display: block; height: 4px; border-radius: 2px; margin: 3px 0 0 auto; background: rgba(var(--blue), .28); }
.best .bar { background: rgba(var(--blue), .85); }
.none { color: #a9b1bf; }
.warn { border-left: 4px solid var(--warn); }
.warn h2 { color: var(--warn); }
.published { background: repeating-linear-gradient(135deg, #fffdf5 0 14px, #fffaf0 14px 28px);
  border: 2px dashed #d9b45b; }
.tag { display: inline-block; font-size: 12px; font-weight: 700; letter-spacing: .06em; text-transform: uppercase;
  padding: 1px 8px; border-radius: 20px; margin-left: 8px; vertical-align: 3px; background: rgba(var(--blue), .12);
  color: rgb(29, 78, 180); }
.published .tag { background: #f5e3b5; color: #7a5200; }
ul { margin: 6px 0 0; padding-left: 20px; } li { margin: 3px 0; max-width: 100ch; }
figure { margin: 0; } svg { max-width: 100%; height: auto; display: block; }
.row { display: flex; flex-wrap: wrap; gap: 8px 10px; padding: 4px 0 16px; }
.row figure { width: min-content; } .row img { display: block; height: var(--tall); border-radius: 4px; }
.row figcaption { font-size: 12px; display: flex; width: 0; min-width: 100%; gap: 6px; margin-bottom: 2px; }
.row figcaption b { font-weight: 400; flex: 1; min-width: 0; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; } .row figcaption span { color: var(--faint); }
.caption { font-size: 13px; color: var(--faint); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; margin: 10px 0 0; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 5px;
  vertical-align: -1px; border: 1px solid rgba(0, 0, 0, .2); }
@media print { body { background: #fff; } section { break-inside: avoid; } }
'''


def to_html(comparison: Comparison) -> str:
    """The whole page."""
    about = ' · '.join(f'{escape(key)}: {escape(str(value))}' for key, value in comparison.about.items())
    sections = [_main(comparison), _warning(comparison), _chart(comparison), _pictures(comparison), _steps(comparison),
                _classes(comparison), _costs(comparison), _terms(comparison), _published(comparison)]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            # Nothing is fetched and nothing runs, and the browser is told to keep it so.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            'style-src \'unsafe-inline\'">'
            f'<title>{escape(comparison.title)}</title><style>{_STYLE}</style></head><body><main>'
            f'<h1>{escape(comparison.title)}</h1><p class="lead">{about}</p>' + '\n'.join(filter(None, sections))
            + '</main></body></html>\n')


def _section(title: str, body: str, tag: str = '', kind: str = '') -> str:
    mark = f'<span class="tag">{escape(tag)}</span>' if tag else ''
    return f'<section class="{kind or tag}"><h2>{escape(title)}{mark}</h2>{body}</section>'


def _table(head: Sequence[str], rows: Iterable[str], kind: str = '') -> str:
    cells = ''.join(f'<th>{escape(title)}</th>' for title in head)
    return (f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody>'
            '</table></div>')


def _row(cells: Sequence[str]) -> str:
    return '<tr>' + ''.join(f'<td>{escape(str(cell))}</td>' for cell in cells) + '</tr>'


def _main(comparison: Comparison) -> str:
    columns = main_columns(comparison)
    rows = []
    for method in comparison.methods:
        note = f'<br><span class="faint" style="font-weight:400;font-size:13px">{escape(method.note)}</span>'
        kind = ' class="reference"' if method.reference else ''
        rows.append(f'<tr{kind}><td>{escape(method.name)}{note if method.note else ""}</td>'
                    + ''.join(_cell(column, method.name) for column in columns) + '</tr>')
    seeds = f'{comparison.seeds} seed{"s" if comparison.seeds > 1 else ""} per method'
    return _section('Results', f'<p class="faint">{seeds}: mean ± sample standard deviation; mIoU with background, '
                    'percent. Wall time and memory are those of making the system, tests left out. Bold: best of its '
                    f'column (rows in grey are for reference and do not compete). {DASH}: not measured.</p>'
                    + _table(['method', *(column.title for column in columns)], rows), 'measured')


def _cell(column: Column, method: str) -> str:
    value = column.values.get(method)
    if value is None:
        return f'<td class="none">{DASH}</td>'
    known = [v.mean for v in column.values.values() if v is not None]
    bar = ''
    if column.better > 0 and len(known) > 1:
        low = min(known) - 0.35 * max(max(known) - min(known), 1.0)  # bars show differences; the figure is beside them
        bar = f'<span class="bar" style="width:{100 * (value.mean - low) / (max(known) - low):.0f}%"></span>'
    best = ' class="best"' if method in column.best() else ''
    return f'<td{best}>{escape(column.text(method))}{bar}</td>'


def _warning(comparison: Comparison) -> str:
    lines = incomplete(comparison)
    return _section('Not complete', _list(lines), kind='warn') if lines else ''


def _list(lines: Iterable[str]) -> str:
    return '<ul>' + ''.join(f'<li>{escape(line)}</li>' for line in lines) + '</ul>'


def _chart(comparison: Comparison) -> str:
    """Wall time against val mIoU, of the first kind of test that two methods have."""
    for kind, title in TESTS.items():
        points = [(m.name, Spread.of([r.seconds for r in m.runs]), Spread.of([r.val.get(kind) for r in m.runs]))
                  for m in comparison.methods]
        points = [Point(name, time.mean, score.mean, score.deviation or 0.0) for name, time, score in points
                  if time is not None and score is not None]
        if len(points) > 1:
            return _section('Quality and cost', f'<p class="faint">val mIoU ({escape(title)}) against the time it '
                            'takes; whiskers: one standard deviation. Upper left is better.</p>'
                            f'<figure>{scatter(points)}</figure>', 'measured')
    return ''


def _pictures(comparison: Comparison) -> str:
    groups = [f'<h3>{escape(title)}</h3>' + ''.join(_picture_row(row) for row in rows)
              for title, rows in comparison.pictures.items() if rows]
    if not groups:
        return ''
    panels = max(len(row.panels) for rows in comparison.pictures.values() for row in rows)
    tall = min(max(1160 // panels - 10, 84), 170)  # all in one line of a wide window, as large as that allows
    legend = ''.join(f'<span><i style="background:{escape(color)}"></i>{escape(name)}</span>'
                     for name, color in comparison.legend)
    return _section('Pictures', '<p class="faint">Image, ground truth and the predictions of the first seed at a '
                    'single scale; in grey the mIoU of that image over its true classes.</p>'
                    f'<div class="legend">{legend}</div>'
                    f'<div style="--tall:{tall}px">{"".join(groups)}</div>', 'measured')


def _picture_row(row: PictureRow) -> str:
    figures = ''.join(
        f'<figure><figcaption><b title="{escape(title)}">{escape(title)}</b><span>{escape(note)}</span></figcaption>'
        f'<img alt="{escape(title)}, {escape(row.caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"></figure>' for title, data, note in row.panels)
    return f'<div class="caption">{escape(row.caption)}</div><div class="row">{figures}</div>'


def _steps(comparison: Comparison) -> str:
    table = step_table(comparison)
    if not table:
        return ''
    rows = [_row([name, ' → '.join(f'{step} {value.text() if value else DASH}' for step, value in steps.items())])
            for name, steps in table.items()]
    return _section('Pseudo labels on train, step by step', _table(['method', 'mIoU after each step'], rows, 'text'),
                    'measured')


def _classes(comparison: Comparison) -> str:
    classes, table = class_table(comparison)
    if not table:
        return ''
    rows, references = [], {method.name for method in comparison.methods if method.reference}
    for name in classes:
        values: Mapping[str, Spread | None] = {method: row[name] for method, row in table.items()}
        rivals = [round(v.mean, 1) for method, v in values.items() if v and method not in references]
        top = max(rivals) if len(set(rivals)) > 1 else None
        cells = ''.join(f'<td class="none">{DASH}</td>' if v is None else
                        f'<td style="background:rgba(var(--blue),{max(0.0, v.mean - 20) / 230:.3f})"'
                        + (' class="best"' if round(v.mean, 1) == top and method not in references else '')
                        + f'>{v.text(1)}</td>' for method, v in values.items())
        rows.append(f'<tr><td>{escape(name)}</td>{cells}</tr>')
    return _section('IoU by class', '<p class="faint">val, single scale unless that was not tested, percent.</p>'
                    + _table(['class', *table], rows), 'measured')


def _costs(comparison: Comparison) -> str:
    rows, previous = [], ''
    for method, *cells in cost_rows(comparison):
        rows.append(_row(['' if method == previous else method, *cells]))
        previous = method
    return _section('Cost by stage', '<p class="faint">Means over the seeds. A shared stage ran once; its time counts '
                    'for every method that uses it.</p>'
                    + _table(['method', 'stage', 'wall time', 'peak memory, GB', ''], rows, 'costs'), 'measured')


def _terms(comparison: Comparison) -> str:
    sentences = [*comparison.terms, *checked_sentences(comparison)]
    body = '<h3>The same for all</h3>' + _list(sentences) if sentences else ''
    body += '<h3>Settings chosen with ground truth, and on which split</h3>'
    if comparison.tuning:
        body += _table(['method', 'setting', 'chosen on', 'how'], [
            _row([row.get('method', 'all'), row['what'], row['where'], row.get('how', '')])
            for row in comparison.tuning], 'text')
    else:
        body += '<p>The experiment file declares none.</p>'
    if comparison.notes:
        body += '<h3>Notes</h3>' + _list(comparison.notes)
    return _section('Equal terms', body)


def _published(comparison: Comparison) -> str:
    rows = [_row(published_row(figure)) for figure in comparison.published]
    return _section('Published figures', '<p>Printed by their authors, on PASCAL VOC 2012 and COCO 2014 with full-size '
                    'models. <b>Nothing in this table was measured here</b>, and none of it compares with the figures '
                    'above. “Not stated”: the source at hand does not say.</p>'
                    + _table(PUBLISHED_COLUMNS, rows, 'text'), 'published')
