"""Overlays and sheets: the right pixels get the right colours."""
import numpy as np
import pytest

from weclip_sam.visualization import (
    Panel,
    Row,
    boundaries,
    class_colors,
    draw_sheet,
    enlarge,
    enlarge_labels,
    explained_row,
    meanings,
    overlay_class_maps,
    overlay_labels,
)

GREY = np.full((6, 8, 3), 100, dtype=np.uint8)


def test_overlay_labels_mixes_darkens_and_stripes():
    labels = np.zeros((6, 8), dtype=np.int64)
    labels[:, 4:] = 2
    labels[5] = 255
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 0]], dtype=np.uint8)
    picture = overlay_labels(GREY, labels, colors, alpha=0.5, contour=0)
    assert picture[0, 0].tolist() == [72, 72, 72] and picture[0, 6].tolist() == [50, 150, 50]
    assert len({tuple(p) for p in picture[5].tolist()}) == 2  # stripes, light and dark
    outlined = overlay_labels(GREY, labels, colors, alpha=0.5, contour=1)
    assert outlined[0, 4].min() > 150 and outlined[0, 6].tolist() == [50, 150, 50]
    assert outlined[0, 3].tolist() == [72, 72, 72]  # the outline lies inside the object


def test_overlay_errors():
    colors = class_colors(2)
    with pytest.raises(ValueError, match=r'image \(6, 8\) and labels \(5, 8\)'):
        overlay_labels(GREY, np.zeros((5, 8), int), colors)
    with pytest.raises(ValueError, match='labels 0..2 but only 2 colours'):
        overlay_labels(GREY, np.eye(6, 8, dtype=int) * 2, colors)


def test_boundaries_are_as_wide_as_asked():
    labels = np.zeros((1, 8), int)
    labels[:, 4:] = 1
    assert boundaries(labels).nonzero()[1].tolist() == [3, 4]
    assert boundaries(labels, 2).nonzero()[1].tolist() == [2, 3, 4, 5]


def test_class_maps_show_the_best_class_as_strong_as_its_score():
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], dtype=np.uint8)
    maps = np.zeros((2, 6, 8))
    maps[0, :, :3], maps[1, :, 5:] = 0.7, 0.4
    picture = overlay_class_maps(GREY, maps, [0, 1], colors).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2] + 60 and picture[0, 7, 2] > picture[0, 7, 0]
    assert picture[0, 0, 0] - picture[0, 0, 2] > picture[0, 7, 2] - picture[0, 7, 0]
    assert picture[0, 4].tolist() == [60, 60, 60]
    assert overlay_class_maps(GREY, np.zeros((0, 6, 8)), [], colors).max() == 60


def test_enlarge_keeps_labels_exact_and_smooths_scores():
    labels = np.array([[0, 300], [255, 2]])
    large = enlarge(labels, (4, 6), smooth=False)
    assert large.shape == (4, 6) and large[0].tolist() == [0, 0, 0, 300, 300, 300]
    assert set(large.flat) == {0, 300, 255, 2}
    ramp = enlarge(np.array([[0.0, 1.0]]), (1, 6))
    assert (np.diff(ramp[0]) >= 0).all() and 0.2 < ramp[0, 2] < 0.8


def test_enlarged_labels_have_smooth_outlines():
    rows, columns = np.mgrid[:40, :60]
    small = np.where((columns - 30) ** 2 + (rows - 20) ** 2 < 15 ** 2, np.uint8(7), np.uint8(0))
    small[rows > 30] = 255
    large = enlarge_labels(small, (400, 600))
    assert large.dtype == np.uint8 and set(np.unique(large)) == {0, 7, 255}
    assert np.array_equal(large[5::10, 5::10], small)  # in the middle of each pixel, what it was
    rows, columns = (np.mgrid[:400, :600] + 0.5) / 10 - 0.5
    truth = ((columns - 30) ** 2 + (rows - 20) ** 2 < 14.8 ** 2) & (rows < 30.5)
    blocks = enlarge(small, (400, 600), smooth=False)
    assert (truth != (large == 7)).sum() < 0.9 * (truth != (blocks == 7)).sum()
    places = [len(np.flatnonzero((each[:, 1:] != each[:, :-1]).any(0))) for each in (large, blocks)]
    assert places[0] > 100 and places[1] < 20  # where an outline may lie: at any pixel, or between blocks of ten


def test_labels_of_the_same_or_a_smaller_size_are_not_mixed():
    labels = np.array([[0, 3], [255, 2]], np.uint8)
    assert enlarge_labels(labels, (2, 2)) is labels
    assert enlarge_labels(labels, (1, 2)).shape == (1, 2)
    assert enlarge_labels(np.array([[0, 9, 1]], np.uint8), (3, 9)).tolist() == [[0, 0, 0, 9, 9, 9, 1, 1, 1]] * 3


def test_row_scores_each_label_map_on_its_image():
    gt = np.zeros((6, 8), int)
    gt[:, 4:], gt[0] = 1, 255
    seed = gt.copy()
    seed[1:, 4:6] = 255
    prediction = np.where(gt == 255, 0, gt)
    row = explained_row(GREY, gt, np.ones((1, 2, 2)), [0], seed, prediction, class_colors(3), 'x', height=24)
    assert [p.title for p in row.panels] == ['image', 'ground truth', 'CAM', 'seed', 'prediction']
    assert [p.note for p in row.panels] == ['', '', '', '58', '100']  # background 20/30, class 10/20
    assert row.labels == (1, 255) and {p.image.shape for p in row.panels} == {(24, 32, 3)}
    without = explained_row(GREY, None, np.zeros((0, 2, 2)), [], seed, seed, class_colors(3))
    assert [p.title for p in without.panels] == ['image', 'CAM', 'seed', 'prediction'] and without.panels[2].note == ''


def test_panels_without_any_class_say_so():
    labels = np.zeros((6, 8), int)
    labels[:, 4:] = 1
    row = explained_row(GREY, np.zeros_like(labels), np.zeros((0, 2, 2)), [], np.full_like(labels, 255), labels,
                        class_colors(3), height=180)
    panels = {panel.title: panel.image for panel in row.panels}
    written = [((picture < 30).all(-1)).sum() > 100 for picture in panels.values()]  # the rim of letters
    assert dict(zip(panels, written, strict=True)) == {
        'image': False, 'ground truth': True, 'CAM': True, 'seed': True, 'prediction': False}


def test_what_is_there_is_explained_and_nothing_else():
    labels = np.zeros((6, 8), int)
    rows = [explained_row(GREY, labels, np.ones((1, 2, 2)), [0], labels, labels.copy(), class_colors(3))]
    assert [note.split(':')[0] for note in meanings(rows)] == [
        'ground truth', 'CAM', 'seed', 'prediction', 'number beside a title']
    assert 'mIoU in percent' in meanings(rows)[-1]
    rows = [explained_row(GREY, None, None, [], None, labels, class_colors(3))]
    assert [note.split(':')[0] for note in meanings(rows)] == ['prediction']
    # Captions and notes have all the lines they need.
    short = draw_sheet(rows, class_colors(3), ('background', 'a', 'b'))
    rows = [Row(rows[0].panels, 'name, ' * 100)]
    long = draw_sheet(rows, class_colors(3), ('background', 'a', 'b'), notes=meanings(rows))
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0] + 200
    assert (long[:, -14:] == 250).all()  # nothing in the margin


def block(width, value):
    return np.broadcast_to(np.array([0, value, 99], np.uint8), (20, width, 3))


def test_sheet_holds_every_panel_and_the_legend():
    colors = class_colors(4)
    rows = [Row((Panel('one', block(30, 10)), Panel('two', block(30, 20), '55')),
                'first', (1, 255)),
            Row((Panel('one', block(40, 30)), Panel('two', block(20, 40))), '', (3,))]
    sheet = draw_sheet(rows, colors, ('background', 'a', 'b', 'c'), 'title')
    for value, pixels in ((10, 600), (20, 600), (30, 800), (40, 400)):
        assert (sheet == (0, value, 99)).all(-1).sum() == pixels
    for label, there in ((1, True), (2, False), (3, True)):
        assert (sheet == colors[label]).all(-1).any() == there
    # A narrow sheet breaks its legend into lines instead of cutting it off.
    many = draw_sheet([Row((Panel('p', np.zeros((20, 120, 3), np.uint8)),), '', tuple(range(1, 10)))],
                      class_colors(10), ['background'] + [f'class {i}' for i in range(9)])
    assert all((many == c).all(-1).sum() >= 144 for c in class_colors(10)[1:])
    with pytest.raises(ValueError, match='at least one row'):
        draw_sheet([], colors, ())
