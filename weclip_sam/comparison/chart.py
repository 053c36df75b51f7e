"""One chart as inline SVG: what a method costs and how good it is."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from weclip_sam.comparison.report import duration

_WIDTH, _HEIGHT = 1120, 330
_LEFT, _TOP, _BOTTOM = 60, 16, 46


@dataclass(frozen=True)
class Point:
    """A method: ``seconds``, ``score`` in percent, and the score's standard ``deviation``."""

    name: str
    seconds: float
    score: float
    deviation: float = 0.0


def scatter(points: Sequence[Point]) -> str:
    """Seconds to the right, scores upwards, names in a column on the right; an ``<svg>`` element."""
    edge = _WIDTH - 30 - round(8.6 * max(len(point.name) for point in points))
    longest = max(point.seconds for point in points) * 1.05 or 1.0
    marks = [point.score + sign * point.deviation for point in points for sign in (-1, 1)]
    step = nice_step((max(marks) - min(marks) or 1) / 4)
    low = (min(marks) - 0.3 * step) // step * step
    high = -(-(max(marks) + 0.3 * step) // step) * step
    unit, unit_name = (1, 's') if longest < 120 else (60, 'min') if longest < 7200 else (3600, 'h')

    def x(seconds: float) -> float:
        return _LEFT + seconds / longest * (edge - _LEFT)

    def y(score: float) -> float:
        return _TOP + (high - score) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
    parts = []
    for number in range(round((high - low) / step) + 1):
        score = low + number * step
        height = y(score)
        parts.append(f'<path d="M{_LEFT} {height:.1f}H{edge}" stroke="#e6e9ef"/>'
                     f'<text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{score:g}</text>')
    tick = nice_step(longest / unit / 6)
    for number in range(int(longest / unit / tick) + 1):
        parts.append(f'<text x="{x(number * tick * unit):.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">'
                     f'{number * tick:g}</text>')
    parts.append(f'<text x="{(_LEFT + edge) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">wall time to make '
                 f'the system, {unit_name}</text>')
    heights = apart([y(point.score) for point in points], 17, _HEIGHT - _BOTTOM)
    for number, (point, height) in enumerate(zip(points, heights, strict=True)):
        color = f'hsl({(number * 360 // len(points) + 215) % 360}, 62%, 44%)'
        parts.append(_mark(point, x(point.seconds), y, edge, height, color))
    return (f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="wall time and val mIoU of the methods" '
            f'font-size="13" fill="#667085" font-family="inherit">{"".join(parts)}</svg>')


def _mark(point: Point, x: float, y: Callable[[float], float], edge: float, label: float,
          color: str) -> str:
    """A dot with its whisker, a thin line to its name, and the name."""
    low, middle, high = (y(point.score + sign * point.deviation) for sign in (-1, 0, 1))
    return (f'<g><title>{escape(point.name)}: {point.score:.2f} in {duration(point.seconds)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{color}" stroke-width="2"/>'
            f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="5.5" fill="{color}"/>'
            f'<path d="M{x + 8:.1f} {middle:.1f}L{edge + 8} {label:.1f}" stroke="{color}" stroke-opacity=".3"/>'
            f'<text x="{edge + 12}" y="{label + 4:.1f}" fill="{color}" font-weight="600">{escape(point.name)}</text>'
            '</g>')


def nice_step(step: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not below ``step``.

    Raises:
        ValueError: not a positive number.
    """
    if not 0 < step < float('inf'):
        raise ValueError(f'nice_step: expected a positive number, got {step}')
    power = 1.0
    while power > step:
        power /= 10
    while power * 10 <= step:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)


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
