"""The chart of a comparison: where its dots and names are, and that it is the same text every time."""
import re
import warnings

import matplotlib
import pytest

from weclip_sam.comparison.chart import apart, scatter
from weclip_sam.comparison.tables import Spread


def point(name, seconds, score, deviation=None):
    return name, Spread(seconds, None, 1), Spread(score, deviation, 1 if deviation is None else 3)


POINTS = [point('slow', 600.0, 70.0, 1.0), point('quick', 300.0, 60.0), point('A <b> & $x_1$ \u4e2d', 330.0, 60.1, 0.2)]


def texts(svg):
    """Every text with its (x, y), y downwards."""
    found = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', svg)
    return {text: (float(x), float(y)) for x, y, text in found}


def test_time_goes_right_and_scores_go_up():
    svg = scatter(POINTS)
    dots = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill', svg)]
    (slow_x, slow_y), (quick_x, quick_y), (third_x, third_y) = dots
    assert slow_y < third_y < quick_y < 330 and quick_x < third_x < slow_x
    found = texts(svg)
    assert 'wall time to make the system, min' in found
    # The axis begins at no time: 300 s lie where 5 min are written, twice as far as half of it.
    assert found['4'][0] - found['2'][0] == pytest.approx(found['2'][0] - found['0'][0], abs=0.01)
    assert quick_x == pytest.approx(found['0'][0] + 5 / 2 * (found['2'][0] - found['0'][0]), abs=0.01)
    # Names in one column to the right of all dots, the better ones above, none on another.
    names = [found[name] for name in ('slow', 'A &lt;b&gt; &amp; $x_1$ \u4e2d', 'quick')]
    assert len({x for x, _ in names}) == 1 and names[0][0] > slow_x
    assert names[1][1] - names[0][1] > 16 and names[2][1] - names[1][1] > 16


@pytest.mark.parametrize('seconds, unit, last', [(40.0, 's', '40'), (400.0, 'min', '6'), (20_000.0, 'h', '5')])
def test_the_unit_fits_the_longest(seconds, unit, last):
    found = texts(scatter([point('a', seconds, 50.0), point('b', seconds / 2, 51.0)]))
    assert f'wall time to make the system, {unit}' in found and last in found


def test_the_same_points_give_the_same_characters(monkeypatch):
    """Whatever settings a user's matplotlib has, which stay as they are."""
    first = scatter(POINTS)
    monkeypatch.setitem(matplotlib.rcParams, 'font.size', 40.0)
    monkeypatch.setitem(matplotlib.rcParams, 'axes.facecolor', 'red')
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # a letter that matplotlib's own font lacks is no reason to warn
        assert scatter(POINTS) == first
    assert matplotlib.rcParams['font.size'] == 40.0
    assert first.startswith('<svg') and first.rstrip().endswith('</svg>') and '<metadata' not in first


def test_few_points_and_long_names():
    for points in ([point('a', 0.0, 50.0)], [point('b' * 300, 1.0, 0.0), point('c', 1.0, 0.0, 0.0)]):
        assert scatter(points).count('<use ') >= len(points)


def test_labels_are_moved_apart():
    assert apart([10, 12, 100], 5, 100) == [10, 15, 100] and apart([99, 100], 5, 100) == [95, 100]
    assert apart([12, 10], 5, 100) == [15, 10]
