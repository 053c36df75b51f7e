"""Ground truth against the names of the images: by hand-made records, the metric, and label files."""
import json

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

from weclip_sam.evaluation import IoUMetric
from weclip_sam.evaluation.truth import TruthRecord, compare_truth

CLASSES = ('cup', 'ball', 'hat')


def record(name, named, **pixels):
    return TruthRecord(name, frozenset(named), {int(label[1:]): count for label, count in pixels.items()})


def test_agreement_is_silent_also_where_something_named_is_not_seen():
    found = compare_truth([record('a', [1, 2], _0=9, _1=1), record('b', [], _0=4), record('c', [3], _3=2)], CLASSES)
    assert (found.images, found.disagreeing, found.message()) == (2, 0, '') and not found.very_probably_wrong


def test_what_is_not_named_and_none_of_the_named_are_counted_apart():
    records = [record('a', [1], _0=50, _1=30, _2=20), record('b', [1], _0=10), record('c', [], _0=5, _3=5),
               *(record(f'fine{i}', [2], _2=1) for i in range(4))]
    found = compare_truth(records, CLASSES)
    assert (found.images, found.unnamed, found.none_of_the_named, found.disagreeing) == (7, 2, 1, 3)
    assert found.worst == ('c (named nothing; its mask has hat on 50 %)', 'a (named cup; its mask has ball on 20 %)',
                           'b (named cup; its mask has none of it)')
    assert not found.very_probably_wrong and 'very probably' not in found.message()


def test_from_half_of_the_images_on_the_order_is_wrong():
    fine, wrong = record('f', [2], _2=1), record('w', [2], _3=1)
    assert compare_truth([fine, wrong], CLASSES).very_probably_wrong
    assert not compare_truth([fine, fine, wrong], CLASSES).very_probably_wrong


@pytest.mark.parametrize('by', [-1, 1])
def test_a_shift_of_all_labels_is_recognised(by):
    moved = [TruthRecord(str(label), frozenset([label]), {0: 5, label + by: 5}) for label in (2, 2, 3)]
    found = compare_truth(moved, (*CLASSES, 'tree'))
    assert found.shift == -by and f'every label moved by {-by:+d}' in found.message()
    swapped = [TruthRecord(str(i), frozenset([1 + i % 2]), {0: 5, 2 - i % 2: 5}) for i in range(4)]
    assert compare_truth(swapped, CLASSES).shift == 0


def test_where_no_image_has_a_name_nothing_is_compared():
    assert compare_truth([record('a', [], _1=5)], CLASSES).images == 0


def test_an_image_that_is_ignored_altogether_says_nothing():
    assert compare_truth([TruthRecord('a', frozenset([1]), {}), record('b', [1], _1=1)], CLASSES).disagreeing == 0


def sample(image_id, truth, named):
    truth = torch.tensor(truth)
    return dict(image_id=image_id, ground_truth=truth, prediction=torch.where(truth == 255, 0, truth),
                image_labels=torch.tensor(named))


def evaluate(metric, samples):
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_the_metric_tells_once_and_writes(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('mmengine.logging.MMLogger.warning', lambda self, text: told.append(text))
    metric = IoUMetric(json_path=str(tmp_path / 'iou.json'))
    good = [sample('a', [[0, 1], [255, 1]], [True, False, False])]
    assert evaluate(metric, good)['mIoU'] == 100 and told == [] and metric.last_truth.images == 1
    assert 'ground_truth_check' not in json.loads((tmp_path / 'iou.json').read_text())
    for _ in range(2):
        assert evaluate(metric, [*good, sample('b', [[2, 0]], [True, False, False])])['mIoU'] == 100
    assert len(told) == 1 and 'b (named cup; its mask has ball on 50 %)' in told[0]
    checked = json.loads((tmp_path / 'iou.json').read_text())['ground_truth_check']
    assert (checked['images'], checked['disagreeing'], checked['none_of_the_named']) == (2, 1, 1)


def test_the_metric_does_without_names():
    metric = IoUMetric(print_table=False)
    samples = [sample('a', np.eye(2, dtype=int).tolist(), [True, False, False])]
    samples[0].pop('image_labels')
    assert evaluate(metric, samples)['mIoU'] == 100 and metric.last_truth.images == 0


@pytest.mark.parametrize('truth, told', [([[0, 255]], True), ([[0, 1, 255]], False), ([[0, 0]], False)])
def test_the_metric_tells_once_that_masks_hold_255_and_no_class(caplog, truth, told):
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=['cat'])
    logger, truth = MMLogger.get_current_instance(), torch.tensor(truth)
    logger.addHandler(caplog.handler)
    try:
        for _ in range(2):
            metric.process(None, [dict(image_id='a', prediction=torch.zeros_like(truth), ground_truth=truth)])
            metric.evaluate(1)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text.count('hold 0 and 255 alone (255 on 50 % of the pixels) and no class') == int(told)
