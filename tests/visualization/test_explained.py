"""Overlays that explain themselves: legend, names on regions, words where there is nothing, every size of picture."""
import numpy as np
import pytest
from PIL import Image

from weclip_sam.colors import class_colors
from weclip_sam.visualization import (
    draw_legend,
    explained_overlay,
    inner_points,
    outline_width,
    overlay_labels,
    region_names,
    write_region_names,
)
from weclip_sam.visualization.explained import in_words, text_size

NAMES, COLORS = ('background', 'cup', 'sofa', 'tap'), class_colors(4)


def grey(height, width, value=110):
    return np.full((height, width, 3), value, np.uint8)


def count(picture, color):
    return int((np.asarray(picture) == np.asarray(color)).all(-1).sum())


def scene(height=300, width=400):
    labels = np.zeros((height, width), np.uint8)
    labels[:, :width // 2], labels[height // 2:, width // 2:], labels[:20] = 1, 3, 255
    return labels


def test_without_words_it_is_the_overlay_at_the_images_size():
    labels = scene()
    plain = explained_overlay(grey(300, 400), labels, COLORS, NAMES, legend=False, region_names=False)
    assert np.array_equal(plain, overlay_labels(grey(300, 400), labels, COLORS))
    tiny = explained_overlay(grey(1, 3), np.array([[0, 1, 255]]), COLORS, NAMES, legend=False, region_names=False)
    assert tiny.shape == (1, 3, 3)


def test_the_legend_has_what_occurs_in_the_colours_of_the_file():
    labels = scene()
    picture = explained_overlay(grey(300, 400), labels, COLORS, NAMES, region_names=False)
    assert np.array_equal(picture[:300], overlay_labels(grey(300, 400), labels, COLORS))
    strip = picture[300:]
    assert picture.shape[1] == 400 and 25 < len(strip) < 60
    chips = [np.argwhere((strip == COLORS[label]).all(-1)) for label in (1, 3, 2, 0)]
    assert all(len(chip) == 11 ** 2 for chip in chips[:2]) and len(chips[2]) == 0  # 13 pixels with their frame
    assert chips[0][:, 1].max() < chips[1][:, 1].min()  # the largest first
    assert count(strip, (215, 215, 215)) > 20 and count(strip, (110, 110, 110)) > 20  # ignored: striped


def test_a_legend_breaks_and_cuts_instead_of_running_out():
    names = ['background', *(f'class {number}' for number in range(1, 81))]
    strip = draw_legend(range(1, 81), class_colors(81), names, 300, 15, ['a sentence that is longer than the strip'])
    assert strip.shape[1] == 300 and all(count(strip, color) >= 13 ** 2 for color in class_colors(81)[1:])
    assert (strip[:, -2:] == 250).all()
    assert draw_legend([], COLORS, NAMES, 300).shape == (0, 300, 3)
    cut = draw_legend([1, 9], COLORS, ['background', 'x' * 500], 200)  # and a label that has no name
    assert cut.shape == (2 * 24, 200, 3) and (cut[:, -1] == 250).all()


def test_the_inner_point_is_in_the_middle_of_the_largest_region():
    labels = np.zeros((100, 200), int)
    labels[10:41, 10:31], labels[60:70, 100:110], labels[0:5, 60:65] = 1, 1, 2
    labels[90:, 150:], labels[50, 50] = 255, 3
    points = {point.label: point for point in inner_points(labels)}
    assert list(points) == [1, 2, 3]  # the largest first
    assert (points[1].x, points[1].y) == (20.5, points[1].y) and 20 <= points[1].y <= 31 and points[1].area == 31 * 21
    assert points[1].radius == pytest.approx(11) and (points[2].x, points[2].y) == (62.5, 2.5)
    # A ring: not its centre of mass, which is not on it.
    y, x = np.mgrid[:101, :101]
    far = np.hypot(y - 50, x - 50)
    point, = inner_points(((far < 45) & (far > 25)).astype(np.uint8))
    assert np.hypot(point.x - 50.5, point.y - 50.5) == pytest.approx(35, abs=2)


def test_large_labels_are_looked_at_in_steps():
    labels = np.zeros((3000, 4000), np.uint8)
    labels[1000:2000, 500:1500] = 7
    point, = inner_points(labels)
    assert point.x == pytest.approx(1000, abs=8) and point.y == pytest.approx(1500, abs=8)
    assert point.radius == pytest.approx(500, abs=8) and point.area == pytest.approx(1e6, rel=0.02)


def test_names_stand_on_their_regions_inside_the_picture():
    labels = np.zeros((200, 300), int)
    labels[:, :110], labels[:26, 200:], labels[100:103, 200:] = 1, 2, 3  # the last is too thin
    picture = Image.new('RGB', (300, 200), (90, 90, 90))
    assert write_region_names(picture, labels, NAMES, 15) == [1, 2]
    white = (np.asarray(picture) == 255).all(-1)
    assert white[:, :110].any() and white[:26, 200:].any()
    assert not white[:, 110:200].any() and not white[26:, 200:].any()
    dark = (np.asarray(picture) < 40).all(-1)
    assert dark.sum() > white.sum() / 2  # the rim


def test_a_name_with_no_room_is_left_to_the_legend():
    wide = np.ones((30, 90), int)
    names = ('background', 'a name as wide as a house')
    picture = Image.new('RGB', (90, 30))
    assert write_region_names(picture, wide, names, 13) == [] and count(picture, (0, 0, 0)) == 2700
    # Two names in one place: the larger region has it.
    labels = np.ones((20, 121), int)
    labels[:, 61:] = 2
    names = ('background', 'twelve signs', 'twelve signs')
    assert write_region_names(Image.new('RGB', (121, 20)), labels, names, 13) == [1]


def test_smaller_letters_before_none(monkeypatch):
    sizes = []
    monkeypatch.setattr(region_names, 'write_on', lambda picture, at, text, font: sizes.append(font.size))
    labels = np.zeros((60, 200), int)
    labels[20:44, 60:84] = 2
    assert write_region_names(Image.new('RGB', (200, 60)), labels, NAMES, 22) == [2] and sizes == [16]


@pytest.mark.parametrize('size', [(1, 1), (1, 60), (60, 45), (45, 60), (700, 60), (60, 2000), (320, 200)])
def test_every_size_of_picture_is_readable(size):
    labels = np.ones(size, np.uint8)
    labels[:, size[1] // 2:] = 2
    picture = explained_overlay(grey(*size), labels, COLORS, NAMES)
    times = max(1, -(-320 // max(size)))
    assert picture.shape[1] >= max(times * size[1], 150) and picture.shape[0] > times * size[0] + 20
    assert count(picture, COLORS[2]) >= 11 ** 2
    if size == (60, 45):
        assert picture.shape[1] == 270 and picture.shape[0] > 360
        assert (picture[:360] == 255).all(-1).sum() > 10  # the name


def test_letters_and_outlines_grow_with_the_picture():
    assert [text_size(*size) for size in ((60, 60), (375, 500), (1080, 1920), (3000, 4000))] == [13, 13, 28, 67]
    assert [outline_width(*size) for size in ((60, 60), (375, 500), (1080, 1920), (3000, 4000))] == [1, 1, 3, 8]
    labels = np.zeros((900, 900), np.uint8)
    labels[:, 450:] = 1
    drawn = overlay_labels(grey(900, 900), labels, COLORS, contour=None)
    light = (0.35 * COLORS[1] + 0.65 * 255).round().astype(np.uint8)
    assert (drawn == light).all(-1)[450].sum() == outline_width(900, 900) == 2


@pytest.mark.parametrize('values, words', [([0], 'only background'), ([255], 'nothing but ignored'),
                                           ([0, 255], 'only background'), ([0, 2], ''), ([2, 255], '')])
def test_labels_without_a_class_say_so(values, words):
    labels = np.resize(values, (240, 360)).astype(np.uint8)
    assert in_words(labels).startswith(words) and bool(in_words(labels)) == bool(words)
    for legend in (True, False):
        picture = explained_overlay(grey(240, 360), labels, COLORS, NAMES, legend=legend)
        bare = explained_overlay(grey(240, 360), labels, COLORS, NAMES, legend=legend, region_names=False)
        if words:
            assert count(picture[:240], (255, 255, 255)) > count(bare[:240], (255, 255, 255)) + 50
        if words and legend:
            assert (bare[240:] < 150).any()


def test_names_of_any_letters_are_drawn():
    labels = scene()
    picture = explained_overlay(grey(300, 400), labels, COLORS, ('background', '椅子', 'Tür', '🐱\n' * 30))
    assert picture.shape[1] == 400
    with pytest.raises(ValueError, match='must have one size'):
        explained_overlay(grey(3, 4), labels, COLORS, NAMES)
