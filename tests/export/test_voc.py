"""VOC's folder and CVAT's archive."""
import io
import json
import zipfile

import numpy as np
import pytest
from export_scene import CLASSES, PALETTE, PHOTOS, pieces, scenes
from PIL import Image

from weclip_sam.export import export_folder
from weclip_sam.io.images import label_palette, voc_palette
from weclip_sam.offline.results import open_labels


def objects_of(numbers, labels):
    """Checks that an object mask numbers the pieces of labels."""
    expected = pieces(labels)
    assert np.array_equal(numbers > 0, (labels > 0) & (labels < 255))
    assert len(np.unique(numbers[numbers > 0])) == numbers.max() == len(expected) or not expected
    for _, mask in expected:
        assert len(np.unique(numbers[mask])) == 1


def test_the_plain_folder(hard):
    place = export_folder(hard, ['voc'])['voc']
    for name, labels in scenes().items():
        path = place / 'SegmentationClass' / f'{name}.png'
        assert np.array_equal(Image.open(path), labels)
        colours = label_palette(path)
        assert [list(colours[label]) for label in range(5)] == PALETTE and colours[255] == (224, 224, 192)
        numbers = np.array(Image.open(place / 'SegmentationObject' / f'{name}.png'))
        objects_of(numbers, labels)
    assert (place / 'JPEGImages' / 'in' / 'b.png').is_symlink()
    lists = [(place / 'ImageSets' / 'Segmentation' / f'{split}.txt').read_text(encoding='utf-8').splitlines()
             for split in ('train', 'val')]
    assert sorted(sum(lists, [])) == sorted(scenes())
    assert (place / 'labelmap.txt').read_text(encoding='utf-8').splitlines()[1:] == [
        *(f'{name}:{r},{g},{b}::' for name, (r, g, b) in zip(CLASSES, PALETTE, strict=True)), 'ignored:224,224,192::']


def test_the_archive(hard):
    place = export_folder(hard, ['cvat'])['cvat']
    with zipfile.ZipFile(place / 'annotations.zip') as archive:
        assert archive.testzip() is None
        colours = {tuple(colour): label for label, colour in enumerate(PALETTE)}
        objects = {colour: number for number, colour in enumerate(voc_palette())}
        frames = archive.read('ImageSets/Segmentation/default.txt').decode().splitlines()
        assert frames == [PHOTOS[name].rsplit('.', 1)[0] for name in sorted(scenes())]

        def read(kind, name, meant):
            image = Image.open(io.BytesIO(archive.read(f'{kind}/{name}.png')))
            assert image.mode == 'RGB'
            return np.array([[meant[tuple(pixel)] for pixel in row] for row in np.array(image).tolist()])
        for name, labels in scenes().items():
            shown = np.where(labels == 255, 0, labels)  # CVAT knows no void
            assert np.array_equal(read('SegmentationClass', name, colours), shown)
            objects_of(read('SegmentationObject', name, objects), labels)
        assert 'ignored' not in archive.read('labelmap.txt').decode()
    said = json.loads((place / 'labels.json').read_text())
    assert [each['name'] for each in said] == list(CLASSES[1:]) and said[0]['color'] == '#c81e1e'


def test_more_regions_than_numbers(labelled):
    labels = np.zeros((40, 60), np.uint8)
    labels[::2, ::2] = 1
    labels[0, :10] = 1
    folder, told = labelled({'specks': labels}), []
    place = export_folder(folder, ['voc'], told=told.append)['voc']
    numbers = np.array(Image.open(place / 'SegmentationObject' / 'specks.png'))
    assert numbers.max() == 254 and len(np.unique(numbers)) == 255 and (numbers[0, :10] == numbers[0, 0]).all()
    assert np.array_equal(Image.open(place / 'SegmentationClass' / 'specks.png'), labels)
    assert told[1].startswith(f'voc: specks has {len(pieces(labels))} regions: the 254 largest')


def test_photos_that_nobody_knows(hard, tmp_path):
    told, folder = [], open_labels(hard.root / 'labels', classes=list(CLASSES[1:]))
    places = export_folder(folder, ['voc', 'cvat'], tmp_path / 'other', told=told.append)
    assert not (places['voc'] / 'JPEGImages').exists()
    assert 'voc: nobody knows all photos: there is no JPEGImages' in told


@pytest.mark.parametrize('name, reason', [('a:b', "':' separates"), ('#a', 'a line each'), ('a\nb', 'a line each'),
                                          (' a', 'a line each'), ('x' * 65, 'cuts names')])
def test_names_that_a_label_map_cannot_hold(labelled, name, reason):
    folder = labelled({'one': np.ones((2, 3), np.uint8)}, classes=('background', name))
    with pytest.raises(ValueError, match=reason):
        export_folder(folder, ['coco', 'cvat'])
    assert not (folder.root / 'export').exists()


def test_photos_that_cvat_cannot_tell_apart(labelled):
    folder = labelled({'a.jpg': np.ones((2, 3), np.uint8), 'a.png': np.ones((2, 3), np.uint8)})
    for image in folder:
        image.image.rename(image.image.with_name(image.name))
    (folder.root / 'predictions.json').write_text((folder.root / 'predictions.json').read_text().replace(
        'a.jpg.jpg', 'a.jpg').replace('a.png.jpg', 'a.png'))
    with pytest.raises(ValueError, match="'a' and 'a' would meet"):
        export_folder(open_labels(folder.root), ['cvat'])
    assert export_folder(open_labels(folder.root), ['voc', 'coco', 'fiftyone', 'yolo-seg'])
