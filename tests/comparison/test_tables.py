"""Means, cells and published figures of a comparison's tables."""
import re

import pytest

from weclip_sam.comparison.tables import PUBLISHED_COLUMNS, Column, Spread, duration, published_rows
from weclip_sam.comparison.values import Comparison, published_figures


def test_mean_and_deviation():
    assert Spread.of([None, float('nan')]) is None
    assert Spread.of([70.0]).text() == Spread.of([70.0, 70.0, None]).text() == '70.00'
    spread = Spread.of([70.0, 71.0, 75.0])
    assert spread.mean == 72 and spread.deviation == pytest.approx(7 ** 0.5) and spread.count == 3


def test_durations():
    assert [duration(s) for s in (8.44, 302, 7500)] == ['8.4 s', '5 min 02 s', '2 h 05 min']


def test_best_and_bars():
    values = {name: value and Spread(value, None, 1) for name, value in dict(a=70.0, b=80.0, c=80.004, d=None).items()}
    column = Column('mIoU', values, 2, 1, competing=frozenset('abd'))
    assert column.best() == {'b'} and column.text('d') == '–'
    # The longest bar is the best value's, the shortest a quarter of it: it does not begin at zero.
    assert column.bar('c') == 1 and column.bar('a') == pytest.approx(0.35 / 1.35) and column.bar('d') == 0
    assert Column('seconds', values, 2, -1, competing=frozenset('abc')).best() == {'a'}
    assert Column('seconds', values, 2, -1).bar('a') == 0


def test_published_figures_are_whole_and_say_what_they_do_not_know():
    figures = {figure['method']: figure for figure in published_figures()}
    assert len(figures) == len(published_figures()) == 24
    for name, figure in figures.items():
        assert figure['stages'] in ('single', 'multi', 'training-free'), name
        assert {figure['crf'], figure['multi_scale']} <= {True, False, None}, name
        scores = [figure[key] for key in ('voc_val', 'voc_test', 'coco_val')]
        assert any(scores), name
        for score in filter(None, scores):
            assert re.fullmatch(r'\d\d\.\d(-\d\d\.\d)?', score) and 40 < float(score[:4]) < 90, name
    weclip = figures['WeCLIP (multi-scale, CRF)']
    assert (weclip['voc_val'], weclip['voc_test'], weclip['coco_val']) == ('76.4', '77.2', '47.1')
    rows = {row[0]: dict(zip(PUBLISHED_COLUMNS, row, strict=True)) for row in published_rows(Comparison('x', ()))}
    assert rows['WeCLIP (raw)']['CRF'] == 'no' and rows['ToCo']['CRF'] == rows['S2C']['backbone'] == 'not stated'
    assert rows['ToCo']['note'] == 'told by third parties'
    assert rows['ExCEL']['note'].endswith('ExCEL, CVPR 2025') and rows['ExCEL']['extra model'] == 'none'
    assert rows['WeCLIP+']['VOC val'] == '–' and rows['WeCLIP (raw)']['note'].endswith('73.3-73.9; WeCLIP, CVPR 2024')
