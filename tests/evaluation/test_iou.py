"""IoU, accuracy and mAP against values worked out by hand, and against the published code's arrays."""
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from weclip_sam.evaluation import (
    IoUMetric,
    IoUReport,
    MultiLabelMAP,
    average_precision,
    confusion_matrix,
    iou_from_confusion,
)

GOLDEN = Path(__file__).parents[3] / 'shared' / 'golden' / 'weclip.npz'
META = dict(classes=('cat', 'dog'))


def test_confusion_matrix_counts_by_truth_and_guess():
    gt = torch.tensor([[0, 0, 1], [2, 2, 255]])
    pred = torch.tensor([[0, 1, 1], [2, 0, 1]])
    assert confusion_matrix(pred, gt, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64])
@pytest.mark.parametrize('block', [1, 5])
def test_noise_areas_and_no_pixels_are_counted_alike(dtype, block):
    generator = torch.Generator().manual_seed(0)
    pred, gt = (torch.randint(0, 4, (2, 7), generator=generator).repeat_interleave(block, 1).to(dtype) for _ in 'pg')
    gt[gt == 3] = 255
    matrix = confusion_matrix(pred, gt, 4)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[int(((gt == row) & (pred == column)).sum()) for column in range(4)] for row in range(4)]
    assert torch.equal(confusion_matrix(pred.T, gt.T, 4), matrix)  # other runs, the same pixels
    assert not confusion_matrix(pred[:0], gt[:0], 4).any()
    if dtype == torch.int64:  # negative, or beyond a byte
        with pytest.raises(ValueError, match=r'labels \[-1, 300\] lie outside the 4 classes'):
            confusion_matrix(torch.tensor([300, 300, -1, 0]), torch.tensor([0, 0, 0, 0]), 4)
        assert confusion_matrix(torch.tensor([300]), torch.tensor([299]), 301)[299, 300] == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='on a GPU pixels are counted one by one')
def test_a_gpu_counts_the_same():
    pred, gt = (torch.randint(0, 4, (9, 9), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(confusion_matrix(pred.cuda(), gt, 4).cpu(), confusion_matrix(pred, gt, 4))


@pytest.mark.parametrize('types', [(torch.uint8, torch.uint8), (torch.int64, torch.uint8), (torch.int32, torch.int64)])
@pytest.mark.parametrize('most', [255, 300])
def test_confusion_matrix_is_the_same_for_all_types_and_ranges(types, most):
    generator = torch.Generator().manual_seed(0)
    pred, gt = torch.randint(0, 5, (2, 40, 30), generator=generator)
    gt[:9] = 255
    pred[0, 0] = most if types[0] != torch.uint8 else 255  # where the truth is ignored any value goes
    expected = torch.zeros(5, 5, dtype=torch.long)
    for truth, guess in zip(gt[9:].flatten().tolist(), pred[9:].flatten().tolist(), strict=True):
        expected[truth, guess] += 1
    matrix = confusion_matrix(pred.to(types[0]), gt.to(types[1]), 5)
    assert matrix.dtype == torch.int64 and torch.equal(matrix, expected)


@pytest.mark.parametrize('wrong', [7, 256, -1])
def test_labels_outside_are_told_whatever_their_range(wrong):
    labels = torch.tensor([0, wrong, 1, wrong])
    with pytest.raises(ValueError, match=rf'^x: labels \[{wrong}\] lie outside the 3 classes'):
        confusion_matrix(labels, torch.tensor([0, 1, 2, 2]), 3, name='x')
    with pytest.raises(ValueError, match=rf'^ground truth of x: labels \[{wrong}\] lie outside'):
        confusion_matrix(torch.zeros(4).long(), labels, 3, name='x')


def test_iou_by_hand():
    matrix = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    iou = iou_from_confusion(matrix)
    assert iou[:3].tolist() == [1 / 3, 1 / 2, 1 / 2] and math.isnan(iou[3])


def test_a_perfect_and_a_missed_class_average_to_a_half():
    gt = torch.tensor([[1, 1, 2, 2]])
    matrix = confusion_matrix(torch.tensor([[1, 1, 0, 0]]), gt, 3)
    report = IoUReport.from_confusion(matrix, ('background', 'a', 'b'), 1)
    # Background has no true pixel: its IoU is 0 (it was predicted), but it does not enter the mean.
    assert report.iou == (0.0, 1.0, 0.0) and report.miou == 0.5 and report.pixel_accuracy == 0.5
    assert report.mean_accuracy == 0.5 and report.precision[0] == 0.0 and math.isnan(report.precision[2])


def test_the_set_is_one_matrix_not_a_mean_of_images():
    small = confusion_matrix(torch.tensor([1, 0]), torch.tensor([1, 1]), 2)
    large = confusion_matrix(torch.tensor([1] * 8), torch.tensor([1] * 8), 2)
    report = IoUReport.from_confusion(small + large, ('background', 'a'), 2)
    assert report.iou[1] == 9 / 10


def test_a_prediction_outside_the_classes_is_an_error_but_not_where_truth_is_ignored():
    gt = torch.tensor([0, 255])
    assert confusion_matrix(torch.tensor([0, 9]), gt, 2).sum() == 1
    with pytest.raises(ValueError, match=r"image 'x': labels \[255\] lie outside the 2 classes; allowed are 0..1"):
        confusion_matrix(torch.tensor([255, 0]), gt, 2, name="image 'x'")
    with pytest.raises(ValueError, match=r'ground truth of prediction: labels \[3\].*0..1 or 255'):
        confusion_matrix(torch.tensor([0]), torch.tensor([3]), 2)
    with pytest.raises(ValueError, match=r'size \(1, 2\) differs from its ground truth \(2, 1\)'):
        confusion_matrix(torch.zeros(1, 2), torch.zeros(2, 1), 2)


@pytest.mark.skipif(not GOLDEN.exists(), reason='the full golden arrays are not beside the checkout')
def test_scores_equal_the_published_code():
    golden = np.load(GOLDEN)
    gt, pred = (torch.from_numpy(golden[f'eval/{k}'].astype(np.int64)) for k in ('gt', 'pred'))
    matrix = confusion_matrix(pred, gt, 21)
    assert torch.equal(matrix.double(), torch.from_numpy(golden['eval/hist']))
    report = IoUReport.from_confusion(matrix, [str(i) for i in range(21)], len(gt))
    np.testing.assert_allclose(report.iou, golden['eval/iou'], atol=1e-12)
    np.testing.assert_allclose(report.miou, golden['eval/miou'], atol=1e-12)
    np.testing.assert_allclose(report.pixel_accuracy, golden['eval/pAcc'], atol=1e-12)


def test_table_is_complete_and_aligned():
    names = ['background'] + [f'c{i}' for i in range(80)]
    report = IoUReport.from_confusion(torch.eye(81, dtype=torch.int64), names, 5)
    lines = report.format('title').splitlines()
    assert lines[0] == 'title' and lines[-1].startswith('mIoU 100.00') and lines[-1].endswith('images 5')
    body = lines[3:-2]
    assert len(body) == 27 and len({len(line) for line in body}) == 1
    assert all(any(f'{name} ' in line for line in body) for name in report.classes)


def sample(image_id, pred, gt):
    return dict(image_id=image_id, prediction=torch.tensor(pred), ground_truth=torch.tensor(gt))


def test_metric_counts_an_image_once_however_often_it_comes(tmp_path):
    metric = IoUMetric(prefix='seed', json_path=str(tmp_path / 'out' / 'iou.json'), print_table=False)
    metric.dataset_meta = META
    good, bad = sample('a', [[1, 1]], [[1, 1]]), sample('b', [[0, 2]], [[1, 2]])
    for batch in ([good], [bad, good], [bad]):
        metric.process(None, batch)
    scores = metric.evaluate(2)
    assert scores['seed/mIoU'] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert metric.last_report.pixels == (0, 3, 1) and metric.last_report.images == 2
    written = json.loads((tmp_path / 'out' / 'iou.json').read_text())
    assert written['classes']['cat'] == dict(IoU=pytest.approx(200 / 3), accuracy=pytest.approx(200 / 3), precision=100,
                                             pixels=3)
    # Nothing is carried over to the next evaluation.
    metric.process(None, [good])
    assert metric.evaluate(1)['seed/mIoU'] == 100


def test_metric_errors_name_the_image_and_the_rule():
    metric = IoUMetric(print_table=False)
    with pytest.raises(ValueError, match="metainfo has no 'classes'"):
        metric.process(None, [])
    metric.dataset_meta = META
    with pytest.raises(ValueError, match=r"image 'a': labels \[3\] lie outside the 3 classes"):
        metric.process(None, [sample('a', [[3]], [[0]])])
    with pytest.raises(ValueError, match="image 'a': its sample has no 'ground_truth'"):
        metric.process(None, [dict(image_id='a', prediction=torch.zeros(1, 1))])
    metric.process(None, [sample('a', [[0]], [[0]])])
    with pytest.raises(ValueError, match='1 different images were scored but the data set has 2'):
        metric.evaluate(2)


def test_average_precision_by_hand():
    scores = torch.tensor([[.9, .1, .5], [.8, .2, .5], [.7, .3, .5], [.6, .4, .5]])
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0]]).bool()
    ap = average_precision(scores, labels)
    # Class 0: hits at ranks 1 and 3: (1/1 + 2/3) / 2. Class 1: nobody has it. Class 2: all tied: 2 hits among 4.
    assert ap[0].item() == pytest.approx((1 + 2 / 3) / 2) and math.isnan(ap[1]) and ap[2].item() == 0.5
    backwards = average_precision(scores.flip(0), labels.flip(0))
    assert torch.equal(ap.nan_to_num(-1), backwards.nan_to_num(-1))


def test_multi_label_map_metric():
    metric = MultiLabelMAP()
    for image_id, scores, labels in (('a', [.9, .1], [1, 0]), ('b', [.2, .8], [0, 1]), ('c', [.5, .9], [1, 0])):
        metric.process(None, [dict(image_id=image_id, image_scores=torch.tensor(scores),
                                   image_labels=torch.tensor(labels))])
    assert metric.evaluate(3)['mAP'] == pytest.approx(100 * (1 + 0.5) / 2)
    with pytest.raises(ValueError, match='one value per class'):
        metric.process(None, [dict(image_id='d', image_scores=torch.zeros(2), image_labels=torch.zeros(3))])
