"""Label PNGs whose palettes were renumbered."""
import zipfile

import numpy as np
import pytest
from PIL import Image

from weclip_sam.colors import voc_palette
from weclip_sam.datasets.readers.base import Record
from weclip_sam.evaluation.label_files import LabelStore, score_label_files
from weclip_sam.evaluation.palettes import PaletteCheck, colours_of, look_at_palettes
from weclip_sam.io.images import label_palette, write_labels

CLASSES = tuple('abcdef')


def renumbered(path, labels):
    """What an image program writes that keeps the colours that are used, and them alone."""
    held, numbers = np.unique(labels, return_inverse=True)
    image = Image.fromarray(numbers.reshape(labels.shape).astype(np.uint8))
    image.putpalette([value for label in held for value in voc_palette()[label]])
    image.save(path)
    return path


@pytest.fixture
def masks(tmp_path):
    """Of three images: as they were written, and the middle one renumbered."""
    labels = [np.array([[0, 1, 4]]), np.array([[0, 4, 6]]), np.array([[0, 2, 255]])]
    for folder in ('good', 'mixed'):
        for number, each in enumerate(labels):
            write_labels(tmp_path / folder / f'{number}.png', each)
    renumbered(tmp_path / 'mixed' / '1.png', labels[1])
    return tmp_path


def told(folder):
    return look_at_palettes([Record(p.stem, (), mask_path=p) for p in sorted(folder.iterdir())], CLASSES)


def test_palettes_that_agree_are_silent(masks, tmp_path):
    assert told(masks / 'good') == ''
    Image.fromarray(np.array([[0, 1, 4]], np.uint8)).save(masks / 'good' / '3.png')  # grey: numbers alone
    (masks / 'good' / '4.png').write_bytes(b'no image')  # told by whoever reads its labels
    assert told(masks / 'good') == '' and look_at_palettes([], CLASSES) == ''
    check = PaletteCheck(CLASSES)
    check.add('own colours', {0: (9, 9, 9), 1: (250, 0, 0), 2: (128, 0, 0)})
    check.add('another background', {0: (0, 0, 0), 1: (250, 0, 0)})
    assert check.message() == ''


def test_one_colour_with_two_numbers_is_told_with_both_files(masks):
    message = told(masks / 'mixed')
    assert 'the colour #000080 is label 4 in ' in message and 'mixed/0.png and 1 in ' in message
    assert '(2 such disagreements)' in message and 'Numbers count here' in message
    check = PaletteCheck(CLASSES)
    check.add('one', {1: (1, 2, 3)})
    check.add('two', {1: (3, 2, 1)})
    assert 'label 1 is #010203 in one and #030201 in two' in check.message()


def test_a_set_that_was_renumbered_as_a_whole_shows_vocs_colours_of_other_labels(tmp_path):
    renumbered(tmp_path / 'a.png', np.array([[0, 6]]))
    message = told(tmp_path)
    assert "draws label 1 in the colour that VOC's palette has for label 6 (f)" in message and 'a.png' in message


def test_a_background_that_became_a_class_is_told(tmp_path):
    image = Image.fromarray(np.array([[1, 1, 0]], np.uint8))
    image.putpalette([*voc_palette()[2], *voc_palette()[0]])
    image.save(tmp_path / 'a.png')
    assert "draws label 1 in the colour that VOC's palette has for label 0 (background)" in told(tmp_path)
    image.putpalette([200, 3, 7, *voc_palette()[1]])  # a background of whatever colour
    image.save(tmp_path / 'a.png')
    assert told(tmp_path) == ''


def test_a_colour_of_two_labels_says_nothing():
    palette = {0: (0, 0, 0), 1: (5, 5, 5), 2: (0, 0, 0)}
    assert colours_of(np.array([[0, 1, 2]]), palette) == {1: (5, 5, 5)}
    assert colours_of(np.array([[1, 2, 9]]), palette) == {1: (5, 5, 5), 2: (0, 0, 0)}


def test_colours_are_read_from_files_and_archives(masks, tmp_path):
    with zipfile.ZipFile(tmp_path / 'mixed.zip', 'w') as archive:
        for path in sorted((masks / 'mixed').iterdir()):
            archive.write(path, path.name)
    assert label_palette(masks / 'mixed' / '1.png')[1] == (0, 0, 128)
    for place in (masks / 'mixed', tmp_path / 'mixed.zip'):
        check, store = PaletteCheck(CLASSES), LabelStore(place)
        score_label_files(store, store, 7, coloured=check.add)
        assert f'{place}/0.png' in check.message() and f'{place}/1.png' in check.message()
