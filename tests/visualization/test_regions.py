"""Connected pieces of every class against flooding pixel by pixel, and their codes against pycocotools."""
import numpy as np
import pytest
from export_scene import pieces, scenes
from pycocotools import mask as coco

from weclip_sam.visualization.regions import find_regions, present_labels


def noise(seed=0, size=(31, 23)):
    return np.random.default_rng(seed).choice(np.array([0, 0, 1, 2, 7, 255], np.uint8), size)


@pytest.mark.parametrize('labels', [*scenes().values(), noise(), noise(1, (1, 40)), noise(2, (40, 1))])
def test_pieces_of_a_flood(labels):
    regions = find_regions(labels)
    expected = sorted(pieces(labels), key=lambda piece: (piece[0], np.flatnonzero(piece[1].T)[0]))
    assert regions.labels.tolist() == [label for label, _ in expected]
    decoded = [coco.decode(dict(size=list(labels.shape), counts=code)) for code in regions.rle()]
    for number, (_, mask) in enumerate(expected):
        assert np.array_equal(regions.ids == number + 1, mask)
        assert np.array_equal(decoded[number], mask)
        assert regions.areas[number] == mask.sum()
        rows, columns = np.nonzero(mask)
        assert regions.boxes[number].tolist() == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        left, top, width, height = regions.boxes[number]
        assert np.array_equal(regions.mask(number), mask[top:top + height, left:left + width])


def test_small_ones_are_left_out_and_counted():
    labels = scenes()['a b']
    areas = [int(mask.sum()) for _, mask in pieces(labels)]
    regions = find_regions(labels, min_area=20)
    assert sorted(regions.areas) == sorted(area for area in areas if area >= 20)
    assert regions.left_out == sum(area < 20 for area in areas) and len(regions)
    assert (regions.ids > 0).sum() == regions.areas.sum()


def test_scores_are_means_over_the_piece():
    labels = scenes()['in/b']
    sure = np.random.default_rng(0).random(labels.shape)
    regions = find_regions(labels, sure=sure)
    assert np.allclose(regions.scores, [sure[regions.ids == number].mean() for number in range(1, len(regions) + 1)])


def test_nothing():
    regions = find_regions(np.full((3, 4), 255, np.uint8), sure=np.ones((3, 4)))
    assert len(regions) == 0 and regions.rle() == [] and regions.boxes.shape == (0, 4) and len(regions.scores) == 0
    assert present_labels(np.array([[0, 255]], np.uint8)) == []
