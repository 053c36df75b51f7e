"""Polygons give the regions back that they were made of: exactly, or as well as is promised."""
import cv2
import numpy as np
import pytest
from export_scene import scenes

from weclip_sam.datasets.shapes.reader import ShapesReader
from weclip_sam.export.job import Options
from weclip_sam.export.polygons import join_holes, region_polygon
from weclip_sam.visualization.regions import find_regions


def filled(polygon, shape, round_=np.floor):
    mask = np.zeros(shape, np.uint8)
    return cv2.fillPoly(mask, [round_(polygon).astype(np.int32)], 1).astype(bool)


def noise(seed):
    """Blobs with holes and holes in them, and specks."""
    rng = np.random.default_rng(seed)
    return (cv2.GaussianBlur(rng.random((60, 80)).astype(np.float32), (0, 0), 0.5 + seed) > 0.5).astype(np.uint8)


@pytest.mark.parametrize('round_', [np.floor, np.round])
@pytest.mark.parametrize('labels', [*scenes().values(), noise(0), noise(1), noise(2)])
def test_unsimplified_they_are_exact_for_who_rounds_and_who_cuts(labels, round_):
    regions = find_regions(labels)
    for number in range(len(regions)):
        polygon = region_polygon(regions, number, 0)
        assert len(polygon) > 2
        assert np.array_equal(filled(polygon, labels.shape, round_), regions.ids == number + 1)


def test_simplified_scenes_keep_their_regions():
    reader = ShapesReader('val', 8, 112)
    before, after = 0, 0
    for index in range(8):
        labels = reader.load_ground_truth(index).astype(np.uint8)
        regions = find_regions(labels)
        for number in range(len(regions)):
            polygon = region_polygon(regions, number, Options().simplify)
            shown, region = filled(polygon, labels.shape), regions.ids == number + 1
            assert (shown & region).sum() / (shown | region).sum() >= 0.95
            before, after = before + len(region_polygon(regions, number, 0)), after + len(polygon)
    assert after < before / 2


@pytest.mark.parametrize('simplify', [0.5, 1, 3, 20])
def test_no_region_is_lost_to_simplifying(simplify):
    for labels in (*scenes().values(), noise(1)):
        regions = find_regions(labels)
        for number in range(len(regions)):
            shown = filled(region_polygon(regions, number, simplify), labels.shape)
            region = regions.ids == number + 1
            assert (shown & region).sum() / (shown | region).sum() >= 0.95


def test_a_bridge_has_no_area():
    border = np.array([[0, 0], [0, 10], [10, 10], [10, 0]], float)
    holes = [np.array([[6, 2], [8, 2], [8, 8], [6, 8]]), np.array([[2, 4], [4, 4], [4, 5], [2, 5]])]
    ring = join_holes(border, holes)
    x, y = ring.T
    signed = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    assert abs(signed) == 100 - 12 - 2
    assert len(ring) == 4 + 2 * 4 + 2 * 3  # each bridge: on the border twice, and at the hole once more
    # The second hole is joined to the first, which lies to its left, not through it.
    assert [4, 4] in ring.tolist() and [4, 2] not in ring.tolist()


def test_a_region_with_hundreds_of_holes():
    """Each is joined once, and none covers another: the ring's own area, with its sign, is that of border and holes."""
    labels = (np.random.default_rng(0).random((90, 110)) > 0.05).astype(np.uint8)
    regions = find_regions(labels)
    polygon = region_polygon(regions, int(regions.areas.argmax()), 0)
    assert np.array_equal(filled(polygon, labels.shape), labels == 1)
    rings = cv2.findContours(labels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
    assert len(rings) > 300 and len(polygon) == sum(map(len, rings)) + 3 * (len(rings) - 1)
    areas = sorted(map(cv2.contourArea, rings))
    assert cv2.contourArea(polygon.astype(np.float32)) == areas[-1] - sum(areas[:-1])
