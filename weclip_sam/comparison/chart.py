"""One chart: what a method costs and how good it is."""
from __future__ import annotations

import colorsys
import warnings
from collections.abc import Sequence
from io import StringIO

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weclip_sam.comparison.tables import Spread

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 1120, 330, 60, 16, 46  # pixels: matplotlib's SVGs have 72 of them to the inch
_STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'weclip_sam', 'font.size': 13,
          'font.sans-serif': ['DejaVu Sans'], 'axes.labelcolor': '#667085', 'xtick.labelcolor': '#667085',
          'ytick.labelcolor': '#667085', 'xtick.major.size': 0, 'ytick.major.size': 0, 'axes.ymargin': 0.1,
          'grid.color': '#e6e9ef'}


def scatter(points: Sequence[tuple[str, Spread, Spread]]) -> str:
    """Seconds to the right, scores upwards with their deviations, names in a column on the right.

    Args:
        points: (method, seconds, score) each, one or more.

    Returns:
        An ``<svg>`` element for a page: its text is text, and the same points give the same characters.
    """
    buffer = StringIO()
    with style.context(['default', _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')  # a name in letters that only the reader's fonts have
        _draw(points).savefig(buffer, format='svg', transparent=True,
                              metadata=dict.fromkeys(('Date', 'Creator', 'Format', 'Type')))
    text = buffer.getvalue()
    return text[text.index('<svg'):]


def _draw(points: Sequence[tuple[str, Spread, Spread]]) -> Figure:
    right = max(_WIDTH - 30 - 8.6 * max(len(name) for name, *_ in points), _WIDTH / 3)  # room for the longest name
    height = _HEIGHT - _TOP - _BOTTOM
    longest = max(seconds.mean for _, seconds, _ in points) * 1.05 or 1.0
    unit, unit_name = (1, 's') if longest < 120 else (60, 'min') if longest < 7200 else (3600, 'h')
    figure = Figure((_WIDTH / 72, _HEIGHT / 72))
    axes = figure.add_axes((_LEFT / _WIDTH, _BOTTOM / _HEIGHT, (right - _LEFT) / _WIDTH, height / _HEIGHT),
                           frame_on=False, xlabel=f'wall time to make the system, {unit_name}')
    axes.grid(axis='y')
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    colors = [colorsys.hls_to_rgb((number / len(points) + 0.6) % 1, 0.44, 0.62) for number in range(len(points))]
    for (_, seconds, score), color in zip(points, colors, strict=True):
        axes.errorbar(seconds.mean / unit, score.mean, score.deviation or 0, fmt='o', markersize=10, elinewidth=2,
                      color=color)
    axes.set_xlim(0, longest / unit)
    low, high = axes.get_ylim()
    labels = apart([height * (high - score.mean) / (high - low) for *_, score in points], 17, height)
    for (name, seconds, score), label, color in zip(points, labels, colors, strict=True):
        axes.annotate(name, (seconds.mean / unit, score.mean), (1.015, 1 - label / height), 'data', 'axes fraction',
                      weight='bold', color=color, va='center', parse_math=False,
                      arrowprops=dict(arrowstyle='-', color=color, alpha=0.3, relpos=(0, 0.5), shrinkB=8))
    return figure


def apart(heights: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Move labels so that none covers another; the order stays, and the last one stays above ``lowest`` if all fit."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = list(heights)
    for previous, current in zip(order, order[1:], strict=False):
        moved[current] = max(moved[current], moved[previous] + gap)
    limit = lowest
    for current in reversed(order):
        moved[current] = min(moved[current], limit)
        limit = moved[current] - gap
    return moved
