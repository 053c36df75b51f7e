"""cls_labels.npy: labels as the field's repositories keep them, in all three layouts."""
import numpy as np
import pytest

from weclip_sam.datasets import CocoReader, FolderReader, VocReader
from weclip_sam.datasets.readers.faults import ListError, MissingImages
from weclip_sam.datasets.readers.one_hot import OneHotLabels
from weclip_sam.datasets.vocabulary import COCO_CLASSES, VOC_CLASSES


def rows(classes, **named):
    return {name: np.array([float(each in found) for each in classes], np.float32) for name, found in named.items()}


@pytest.fixture
def voc(tmp_path, write_image):
    for name in ('2007_000032', '2007_000039'):
        write_image(tmp_path / 'JPEGImages' / f'{name}.jpg')
    lists = tmp_path / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('2007_000032\n2007_000039\n')
    return tmp_path


@pytest.mark.parametrize('keys', ['ids', 'numbers', 'files'])
def test_voc(voc, keys):
    table = rows(VOC_CLASSES, **{'2007_000032': ['aeroplane', 'person'], '2007_000039': ['tvmonitor'], '9': ['cat']})
    names = dict(ids=str, numbers=int, files='{}.jpg'.format)[keys]
    np.save(voc / 'cls_labels.npy', {names(name): row for name, row in table.items()})
    for labels in ('auto', 'cls_labels.npy'):
        reader = VocReader(str(voc), 'train', labels=labels)
        assert [(r.image_id, r.classes) for r in reader.records] == [('2007_000032', (0, 14)), ('2007_000039', (19,))]


def test_voc_keeps_to_its_annotations_unless_told(voc):
    np.save(voc / 'cls_labels.npy', rows(VOC_CLASSES, **{'2007_000032': ['cat'], '2007_000039': []}))
    (voc / 'Annotations').mkdir()
    for name in ('2007_000032', '2007_000039'):
        (voc / 'Annotations' / f'{name}.xml').write_text('<annotation><object><name>dog</name></object></annotation>')
    assert [r.classes for r in VocReader(str(voc), 'train').records] == [(11,), (11,)]
    assert [r.classes for r in VocReader(str(voc), 'train', labels='cls_labels.npy').records] == [(7,), ()]


def test_images_without_a_row_are_named(voc):
    np.save(voc / 'cls_labels.npy', rows(VOC_CLASSES, **{'2007_000033': ['cat'], '2007_000039': []}))
    with pytest.raises(ListError, match="cls_labels.npy: no row for image '2007_000032'. Did you mean"):
        VocReader(str(voc), 'train')


@pytest.mark.parametrize(('row', 'message'), [
    (np.zeros(21), "'a': 21 columns, but there are 20 classes.*background.*take it out"),
    (np.zeros(19), "'a': 19 columns, but there are 20 classes: one column each"),
    (np.full(20, .5), "'a': expected 0 and 1, got 0.5"), (np.full(20, np.nan), "'a': expected 0 and 1")])
def test_columns_are_the_classes(tmp_path, row, message):
    np.save(tmp_path / 'cls_labels.npy', {'a': row})
    with pytest.raises(ValueError, match=f'cls_labels.npy, image {message}'):
        OneHotLabels(tmp_path / 'cls_labels.npy', VOC_CLASSES)


def test_one_image_twice_is_refused(tmp_path):
    np.save(tmp_path / 'l.npy', {'a': np.zeros(20), 'a.jpg': np.zeros(20)})
    with pytest.raises(ValueError, match="image 'a' is listed twice"):
        OneHotLabels(tmp_path / 'l.npy', VOC_CLASSES)


def test_folder(tmp_path, write_image):
    for name in ('a.png', 'trip/b.jpg', 'other.jpg'):
        write_image(tmp_path / 'images' / name)
    np.save(tmp_path / 'cls_labels.npy', rows(('cat', 'dog'), **{'a': ['dog'], 'trip/b': []}))
    with pytest.raises(ValueError, match='cls_labels.npy: has no class names; write classes.txt'):
        FolderReader(str(tmp_path))
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    reader = FolderReader(str(tmp_path))
    assert [(r.image_id, r.classes) for r in reader.records] == [('a', (1,)), ('trip/b', ())]
    assert [path.name for path in reader.unlisted()] == ['other.jpg']
    (tmp_path / 'images' / 'a.png').unlink()
    with pytest.raises(MissingImages, match='1 of 2 images are missing'):
        FolderReader(str(tmp_path))
    assert len(FolderReader(str(tmp_path), missing='skip').records) == 1
    write_image(tmp_path / 'images' / 'trip' / 'b.png')
    with pytest.raises(ValueError, match="'trip/b' could be trip/b.jpg or trip/b.png"):
        FolderReader(str(tmp_path))


def test_a_table_goes_first(tmp_path, write_image):
    write_image(tmp_path / 'a.jpg')
    np.save(tmp_path / 'cls_labels.npy', rows(('cat', 'dog'), a=['dog']))
    (tmp_path / 'labels.csv').write_text('image,classes\na.jpg,cat\n')
    assert FolderReader(str(tmp_path), classes=['cat', 'dog']).records[0].classes == (0,)
    assert FolderReader(str(tmp_path), labels='cls_labels.npy', classes=['cat', 'dog']).records[0].classes == (1,)


@pytest.mark.parametrize('number', [9, 'COCO_train2014_000000000009'])
def test_coco_takes_the_rows_of_its_folder(tmp_path, write_image, number):
    write_image(tmp_path / 'train2014' / 'COCO_train2014_000000000009.jpg')
    write_image(tmp_path / 'train2014' / 'COCO_train2014_000000000011.jpg')
    np.save(tmp_path / 'cls_labels_onehot.npy', {number: np.eye(80)[3], 42: np.zeros(80)})
    reader = CocoReader(str(tmp_path))
    assert [(r.image_id, r.classes) for r in reader.records] == [('COCO_train2014_000000000009', (3,))]
    np.save(tmp_path / 'cls_labels_onehot.npy', {42: np.zeros(80)})
    with pytest.raises(ValueError, match='none of its rows is of an image in'):
        CocoReader(str(tmp_path))


def test_rows_are_of_images_of_any_suffix_and_of_nothing_else(tmp_path, write_image):
    name = 'COCO_train2014_000000000009'
    write_image(tmp_path / 'train2014' / f'{name}.jpg')
    (tmp_path / 'train2014' / f'{name}.jpg').rename(tmp_path / 'train2014' / f'{name}.JFIF')
    for other in (f'._{name}.JFIF', f'{name}.txt', f'._{name}.jpg'):
        (tmp_path / 'train2014' / other).write_bytes(b'')
    np.save(tmp_path / 'cls_labels.npy', {f'{name}.jfif': np.eye(80)[3]})
    (tmp_path / 'classes.txt').write_text(''.join(f'{each}\n' for each in COCO_CLASSES))
    for reader in (CocoReader(str(tmp_path)), FolderReader(str(tmp_path), image_dir='train2014')):
        assert [(r.image_id, r.image_path.name) for r in reader.records] == [(name, f'{name}.JFIF')]
