"""The report of a comparison as one HTML page that needs nothing else: inline CSS, pictures as data, one small script
that enlarges them."""
from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from weclip_sam.comparison import tables
from weclip_sam.comparison.chart import scatter
from weclip_sam.comparison.values import TESTS, Comparison


def to_html(comparison: Comparison) -> str:
    """The whole page, from ``report.html.j2``; what comes from the experiment is escaped."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                            trim_blocks=True, lstrip_blocks=True)
    templates.filters['base64'] = lambda data: base64.b64encode(data).decode()
    script = templates.get_template('enlarge.js.j2').render()
    references = {method.name for method in comparison.methods if method.reference}
    chart_title, chart = _chart(comparison)
    rows = [row for group in comparison.pictures.values() for row in group]
    panels = max((len(row.panels) for row in rows), default=1)
    return templates.get_template('report.html.j2').render(
        comparison=comparison, tables=tables, references=references, chart_title=chart_title, chart=chart,
        script=script, script_digest=base64.b64encode(sha256(script.encode()).digest()).decode(),
        picture_height=min(max(1160 // panels - 10, 84), 170))  # in one line of a wide window, as large as that allows


def _chart(comparison: Comparison) -> tuple[str, str]:
    """Wall time against val mIoU, of the first kind of test that two methods have: its title and an SVG, or nothing."""
    for kind, title in TESTS.items():
        points = [(m.name, tables.Spread.of([r.seconds for r in m.runs]),
                   tables.Spread.of([r.val.get(kind) for r in m.runs])) for m in comparison.methods]
        known = [(name, seconds, score) for name, seconds, score in points if seconds is not None and score is not None]
        if len(known) > 1:
            return title, scatter(known)
    return '', ''
