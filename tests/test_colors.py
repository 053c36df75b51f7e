"""The colours of labels: how far apart they are, and that every place takes them from one source."""
import color_distance
import numpy as np
import pytest
from color_distance import EYES, least_distance
from PIL import Image

from weclip_sam.colors import class_colors, hex_colors, label_colors, voc_palette
from weclip_sam.datasets.vocabulary import COCO_VOCABULARY, VOC_VOCABULARY, Vocabulary
from weclip_sam.io.images import label_palette, write_labels


@pytest.mark.parametrize('one, other, expected', [  # of the test data of Sharma, Wu and Dalal
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425), ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
    ((50, 0, 0), (50, -1, 2), 2.3669), ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (73, 25, -18), 27.1492), ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082)])
def test_the_measure_of_distance_itself(one, other, expected):
    assert color_distance.ciede2000(np.array(one, float), np.array(other, float)) == pytest.approx(expected, abs=1e-4)
    assert color_distance.ciede2000(np.array(other, float), np.array(one, float)) == pytest.approx(expected, abs=1e-4)


def test_known_colours_in_lab():
    assert color_distance.lab([[255, 0, 0], [0, 0, 0], [255, 255, 255]]) == pytest.approx(
        np.array([[53.24, 80.09, 67.2], [0, 0, 0], [100, 0, 0]]), abs=0.02)
    # Red and green of one lightness are one colour to an eye without red or green cones.
    assert least_distance([[200, 60, 60], [86, 111, 59]], 'all') > 40
    assert least_distance([[163, 107, 60], [120, 120, 60]], 'deuteranopia') < 6


@pytest.mark.parametrize('classes, reached, mixed', [
    (8, (25.5, 14.4, 14.4, 14.5), (16.1, 8.8, 10.6, 12.6)), (26, (12.4, 7.3, 7.3, 6.9), (8.4, 4.6, 4.5, 4.6)),
    (80, (6.3, 3.6, 3.6, 3.2), (3.7, 2.1, 2.2, 2.2))])
def test_colours_stay_apart_for_every_eye(classes, reached, mixed):
    colors = class_colors(classes + 1)[1:].astype(float)
    for eye, least, least_mixed in zip(EYES, reached, mixed, strict=True):
        assert least_distance(colors, eye) >= least, eye
        assert least_distance(0.55 * colors + 0.45 * 117, eye) >= least_mixed, eye  # in an overlay, on middle grey


def test_the_palette_of_voc_does_not():
    """Why it is for the files of VOC and COCO alone."""
    assert least_distance(voc_palette(27)[1:]) < 3 and least_distance(voc_palette(27)[1:], 'protanopia') < 1


def test_a_colour_depends_on_its_label_alone_and_no_two_are_equal():
    colors = class_colors(255)
    assert colors.shape == (255, 3) and colors.dtype == np.uint8 and colors[0].tolist() == [0, 0, 0]
    assert len({tuple(color) for color in colors.tolist()}) == 255
    for count in (0, 1, 2, 27, 81, 82, 200):
        assert np.array_equal(class_colors(count), colors[:count])
    # Colours of VOC's palette would say that ground truth was renumbered (weclip_sam.evaluation.palettes).
    assert not {tuple(color) for color in colors[1:].tolist()} & set(voc_palette())


def test_files_and_pictures_have_the_colours_of_the_data_set(tmp_path):
    own = Vocabulary.build(['cup', 'sofa', 'tap']).metainfo()['palette']
    assert own == [tuple(color) for color in class_colors(4).tolist()]
    for vocabulary in (VOC_VOCABULARY, COCO_VOCABULARY):
        count = vocabulary.num_classes + 1
        assert vocabulary.metainfo()['palette'] == voc_palette(count)
    labels = np.array([[0, 1, 2, 3]])
    for palette in (own, None, own[:2], np.array(own)):
        write_labels(tmp_path / 'x.png', labels, palette)
        drawn = label_colors(palette, 4)
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'x.png').convert('RGB'))[0], drawn)
        assert label_palette(tmp_path / 'x.png')[3] == tuple(drawn[3].tolist())
    assert label_colors(own, 2).shape == (2, 3) and label_colors(own[:2], 4)[3].tolist() == list(voc_palette(4)[3])
    assert hex_colors(label_colors(own, 2)) == ['#000000', '#d20096']
