"""Labels as supervision's detections."""
from dataclasses import replace

import numpy as np
import pytest
from export_scene import CLASSES, confidence, pieces, scenes

from weclip_sam.api import SegmentationResult
from weclip_sam.export import to_supervision

supervision = pytest.importorskip('supervision')


def test_one_for_each_class():
    labels, sure = scenes()['a b'], confidence(scenes()['a b']) / 255
    found = to_supervision(labels, CLASSES, sure)
    assert isinstance(found, supervision.Detections)
    assert found.class_id.tolist() == [1, 2, 3, 4] and found['class_name'].tolist() == list(CLASSES[1:])
    for number, label in enumerate(found.class_id):
        assert np.array_equal(found.mask[number], labels == label)
        assert found.confidence[number] == pytest.approx(sure[labels == label].mean())
        rows, columns = np.nonzero(labels == label)
        assert found.xyxy[number].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    assert found.area.tolist() == [int((labels == label).sum()) for label in found.class_id]


def test_one_for_each_piece():
    labels = scenes()['a b']
    found = to_supervision(labels, CLASSES, pieces=True)
    assert len(found) == len(pieces(labels)) and found.confidence is None
    assert (found.mask.sum(0) == ((labels > 0) & (labels < 255))).all()


def test_nothing():
    found = to_supervision(np.full((3, 4), 255, np.uint8), CLASSES, np.ones((3, 4)))
    assert len(found) == 0 and found.mask.shape == (0, 3, 4)
    merged = supervision.Detections.merge([found, to_supervision(np.ones((3, 4), np.uint8), CLASSES, np.ones((3, 4)))])
    assert merged.class_id.tolist() == [1]


def test_of_a_result():
    labels = np.array([[0, 2], [2, 1]], np.uint8)
    result = SegmentationResult(labels, ('background', 'cat', 'dog'), np.zeros((2, 2, 3), np.uint8))
    assert result.to_supervision()['class_name'].tolist() == ['cat', 'dog']
    assert result.to_supervision().confidence is None
    sure = np.stack([np.full((2, 2), share, np.float16) for share in (0.25, 0.5, 0.125)])
    found = replace(result, probabilities=sure).to_supervision()
    assert found.class_id.tolist() == [1, 2] and found.confidence.tolist() == [0.5, 0.125]


def test_it_draws():
    labels = scenes()['Übung/東']
    image = np.zeros((*labels.shape, 3), np.uint8)
    drawn = supervision.MaskAnnotator().annotate(image.copy(), to_supervision(labels, CLASSES))
    assert np.array_equal(drawn.any(-1), labels > 0)
