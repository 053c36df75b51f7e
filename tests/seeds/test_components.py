import cv2
import numpy as np
import pytest
import torch

from weclip_sam.seeds import boxes
from weclip_sam.seeds.boxes import above_threshold, box_masks
from weclip_sam.seeds.components import connected_components, reachable


def patterns():
    """Random maps of every density, and shapes with the longest possible paths: spirals, combs, zigzags."""
    random = np.random.RandomState(0)
    maps = [random.rand(13, 17) < density for density in (0, 0.05, 0.2, 0.35, 0.45, 0.6, 0.9, 1)]
    spiral, comb = np.zeros((13, 17), bool), np.zeros((13, 17), bool)
    top, left, bottom, right = 0, 0, 12, 16
    while top <= bottom and left <= right:
        spiral[top, left:right + 1] = spiral[top:bottom + 1, right] = True
        spiral[bottom, left:right + 1] = True
        spiral[top + 2:bottom + 1, left] = True
        if top + 2 <= bottom:
            spiral[top + 2, left:left + 2] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    comb[:, ::2] = True
    comb[0] = True
    zigzag = np.indices((13, 17)).sum(0) % 4 == 0
    return np.stack([*maps, spiral, comb, zigzag, comb[::-1], spiral.T[:13, :13].repeat(2, 1)[:, :17]])


def test_components_equal_opencv():
    maps = patterns()
    labels = connected_components(torch.from_numpy(maps)).numpy()
    for ours, binary in zip(labels, maps, strict=True):
        count, theirs = cv2.connectedComponents(binary.astype(np.uint8), connectivity=8)
        assert (ours[~binary] == binary.size).all()
        pairs = {(a, b) for a, b in zip(ours[binary].tolist(), theirs[binary].tolist(), strict=True)}
        assert len(pairs) == count - 1 == len({a for a, _ in pairs})


def test_components_of_many_random_maps_equal_opencv():
    random = np.random.RandomState(1)
    for height, width in [(1, 1), (1, 9), (7, 1), (2, 2), (24, 24)]:
        maps = random.rand(60, height, width) < random.rand(60, 1, 1)
        labels = connected_components(torch.from_numpy(maps)).numpy()
        for ours, binary in zip(labels, maps, strict=True):
            count = cv2.connectedComponents(binary.astype(np.uint8))[0]
            assert len(set(ours[binary].tolist())) == count - 1


@pytest.mark.parametrize('kind', [torch.float32, torch.bfloat16])
def test_who_reaches_whom_is_who_shares_a_component(kind):
    random = np.random.RandomState(3)
    for maps in (patterns(), *(random.rand(9, *shape) < 0.5 for shape in [(1, 1), (1, 9), (7, 1), (2, 2), (6, 11)])):
        maps = torch.from_numpy(maps)
        labels = connected_components(maps).flatten(1)
        together = (labels[:, :, None] == labels[:, None]) & maps.flatten(1)[:, None]
        assert torch.equal(reachable(maps, kind), together.to(kind))


def test_the_longest_path_on_a_grid_is_found():
    snake = torch.zeros(1, 15, 15, dtype=torch.bool)
    snake[0, ::2] = True
    snake[0, 1::4, -1] = snake[0, 3::4, 0] = True
    reach = reachable(snake)[0]
    assert reach[0, 14 * 15] == 1 and reach.sum() == snake.sum() ** 2


def test_both_ways_to_boxes_are_one(monkeypatch):
    random = np.random.RandomState(4)
    for shape in [(1, 1), (1, 9), (7, 1), (2, 2), (9, 12)]:
        maps = torch.from_numpy(random.rand(8, *shape).astype(np.float32) ** 2)
        plain = box_masks(maps)
        monkeypatch.setattr(boxes, '_few_large_steps', lambda maps: True)
        assert torch.equal(box_masks(maps), plain) and box_masks(maps[:0]).shape == (0, *shape)
        monkeypatch.undo()


def test_matrices_are_for_small_maps_on_devices_that_multiply_fast():
    few = {shape: boxes._few_large_steps(torch.zeros(shape, dtype=torch.bool, device='meta'))
           for shape in [(8, 20, 20), (0, 20, 20), (8, 40, 40), (500, 20, 20)]}
    assert list(few.values()) == [True, True, False, False]
    assert not boxes._few_large_steps(torch.zeros(8, 20, 20, dtype=torch.bool))


def opencv_boxes(score_map, threshold):
    """What the published method does with a map, step by step."""
    height, width = score_map.shape
    levels = (score_map * 255).astype(np.uint8)
    binary = cv2.threshold(levels, int(threshold * float(levels.max())), 255, cv2.THRESH_BINARY)[1]
    contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    boxes = [cv2.boundingRect(contour) for contour in contours]
    return {(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in boxes} or {(0, 0, 0, 0)}


@pytest.mark.parametrize('threshold', [0.0, 0.4, 0.7, 1.0])
def test_box_masks_are_the_boxes_of_opencv_contours(threshold):
    random = np.random.RandomState(2)
    for trial in range(12):
        shape = tuple(random.randint(2, 15, 2))
        score_map = random.rand(*shape).astype(np.float32) ** random.choice([1, 3])
        if trial == 0:
            score_map[:] = 0
        boxes = opencv_boxes(score_map, threshold)
        expected = np.zeros(shape, bool)
        for x0, y0, x1, y1 in boxes:
            expected[y0:y1, x0:x1] = True
        assert np.array_equal(box_masks(torch.from_numpy(score_map)[None], threshold)[0].numpy(), expected)


def test_the_threshold_cuts_to_levels_and_is_strict():
    # 254 levels: int(0.4 * 254) = 101, so 101 / 255 stays out and 102 / 255 gets in
    levels = torch.tensor([[[254.0, 101.9, 102.0]]]) / 255 + 1e-6
    assert above_threshold(levels, 0.4).tolist() == [[[True, False, True]]]


def test_last_row_and_column_are_in_no_box():
    mask = box_masks(torch.ones(1, 4, 5))
    assert mask[0, :3, :4].all() and not mask[0, 3].any() and not mask[0, :, 4].any()


def test_no_maps_and_errors():
    assert box_masks(torch.zeros(0, 3, 4)).shape == (0, 3, 4)
    assert not box_masks(torch.zeros(2, 3, 4)).any()
    with pytest.raises(ValueError, match=r'share of the maximum in \[0, 1\], got 40'):
        box_masks(torch.zeros(1, 3, 4), 40)
