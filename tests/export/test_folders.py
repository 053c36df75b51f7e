"""What all forms have in common: nothing half, nothing lost, one line for what does not go."""
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_scene import CLASSES, make_folder, scenes
from PIL import Image

from weclip_sam.engine import explain
from weclip_sam.export import EXPORTS, export_folder
from weclip_sam.export.coco import FILE
from weclip_sam.io.images import write_labels
from weclip_sam.offline.results import open_labels


def everything(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_all_at_once_beside_the_labels(hard):
    told, steps = [], []
    places = export_folder(hard, list(EXPORTS), told=told.append, progress=lambda *step: steps.append(step))
    assert places == {name: hard.root / 'export' / name for name in EXPORTS}
    assert [line.split(':')[0] for line in told] == list(EXPORTS)
    assert all('1 of the images are background alone' in line for line in told)
    assert steps == [(name, done, 5) for name in EXPORTS for done in range(1, 6)]
    for name, place in places.items():
        said = json.loads((place / 'export.json').read_text())
        assert said['kind'] == name and said['images'] == 5 and said['ignored'] == 3 and said['empty'] == 1
        assert said['checkpoint'] == 'work_dirs/run/iter_400.pth' and said['classes'] == list(CLASSES)
    assert not [path for path in hard.root.rglob('.*')]  # neither a lock nor what is temporary


def test_the_page_speaks_of_every_form():
    page = (Path(__file__).parents[2] / 'docs' / 'exports.md').read_text(encoding='utf-8')
    assert [name for name in EXPORTS if f'\n| `{name}` |' not in page] == []


def test_again_replaces_and_leaves_others_alone(hard):
    place = export_folder(hard, ['yolo-seg'])['yolo-seg']
    first = everything(place)
    (place / 'labels' / 'stale.txt').write_text('0')
    assert everything(export_folder(hard, ['yolo-seg'])['yolo-seg']) == first
    (place / 'export.json').unlink()
    with pytest.raises(ValueError, match='no export of before'):
        export_folder(hard, ['coco', 'yolo-seg'])
    assert not (place.parent / 'coco').exists()


def test_exports_are_no_labels(hard_root):
    """A folder of labels without a list of them is searched: what was exported beside them is not found."""
    folder = open_labels(hard_root / 'labels', hard_root.parent / 'photos', list(CLASSES[1:]))
    names = [image.name for image in folder]
    export_folder(folder, ['voc', 'fiftyone'])
    assert [image.name for image in open_labels(folder.root, classes=list(CLASSES[1:]))] == names == sorted(scenes())


@pytest.mark.parametrize('name', EXPORTS)
def test_a_broken_label_leaves_what_was_there(hard, name):
    place = export_folder(hard, [name])[name]
    before = everything(place)
    path = hard.root / 'labels' / 'Übung' / '東.png'
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match='東.png'):
        export_folder(hard, [name])
    assert everything(place) == before and os.listdir(place.parent) == [name]


def test_a_label_that_no_class_has(labelled):
    folder = labelled({'one': np.full((2, 3), 9, np.uint8)})
    with pytest.raises(ValueError, match=r'one.png: label values \[9\] name no class'):
        export_folder(folder, ['coco'])
    assert not os.listdir(folder.root / 'export')


@pytest.mark.parametrize('names, message', [
    (['coco', 'yolo'], "no export is called 'yolo'.* Did you mean 'yolo-seg'"), (['COCO'], "Did you mean 'coco'")])
def test_unknown_forms(hard, names, message):
    with pytest.raises(ValueError, match=message):
        export_folder(hard, names)


@pytest.mark.parametrize('options, message', [
    (dict(min_area=-1), 'min_area'), (dict(simplify=-1), 'simplify'), (dict(val_share=1), 'val_share'),
    (dict(photos='move'), 'photos')])
def test_options_out_of_range(hard, options, message):
    with pytest.raises(ValueError, match=message):
        export_folder(hard, ['coco'], **options)


def test_thousands_of_classes(labelled):
    names = ('background', *(f'class {number}' for number in range(3000)))
    folder = labelled({'one': np.full((2, 3), 255, np.uint8)}, classes=names)
    with pytest.raises(ValueError, match='has 3000 classes, but labels of one byte tell 254 apart'):
        export_folder(folder, ['coco'])
    folder = labelled({'one': np.full((2, 3), 254, np.uint8)}, classes=names[:255])
    told = []
    places = export_folder(folder, list(EXPORTS), told=told.append)
    assert np.array_equal(Image.open(places['voc'] / 'SegmentationClass' / 'one.png'), np.full((2, 3), 254))
    assert len(set((places['voc'] / 'labelmap.txt').read_text().splitlines())) == 1 + 256


@pytest.mark.parametrize('classes, message', [
    (('background', 'a', 'a'), "two of its classes are called 'a'"), (('background', ' '), 'is no name of a class'),
    (('background', 'e\u0301', '\u00e9'), 'two of its')])
def test_class_names_that_nothing_can_hold(labelled, classes, message):
    folder = labelled({'one': np.ones((2, 3), np.uint8)}, classes=classes)
    with pytest.raises(ValueError, match=message):
        export_folder(folder, ['coco'])


@pytest.mark.parametrize('name', [name for name in EXPORTS if name not in ('voc', 'cvat')])
def test_photos_that_nobody_knows(hard_root, name, tmp_path):
    folder = open_labels(hard_root / 'labels', classes=list(CLASSES[1:]))
    with pytest.raises(FileNotFoundError, match='nothing says which photo it labels.*--images DIR'):
        export_folder(folder, [name], tmp_path / 'export')
    assert not (tmp_path / 'export').exists()


@pytest.mark.parametrize('name', ['yolo-seg', 'yolo-semantic', 'fiftyone', 'voc'])
def test_photos_that_are_gone_or_others(hard, name):
    photo = hard.images[0].image
    Image.new('RGB', (5, 5)).save(photo)
    with pytest.raises(ValueError, match='60 x 40 pixels, but its photo .* has 5 x 5'):
        export_folder(hard, [name])
    photo.unlink()
    with pytest.raises(FileNotFoundError, match='no such photo.*--images DIR'):
        export_folder(hard, [name])
    assert not (hard.root / 'export').exists()


def test_coco_and_label_studio_only_name_the_photos(hard):
    for image in hard:
        image.image.unlink()
    assert len(export_folder(hard, ['coco', 'label-studio', 'cvat'])) == 3


def test_a_folder_that_cannot_be_written(hard, monkeypatch):
    (hard.root / 'file').write_text('')
    with pytest.raises(OSError) as error:
        export_folder(hard, ['coco'], hard.root / 'file')
    assert explain(error.value).startswith(f'{hard.root / "file"}: ')


def test_a_full_disk_names_the_export(hard, monkeypatch):
    def full(*args, **options):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('weclip_sam.export.fiftyone.write_grey', full)
    with pytest.raises(OSError) as error:
        export_folder(hard, ['fiftyone'])
    assert explain(error.value).startswith(f'{hard.root / "export" / "fiftyone"}: cannot be written, the disk is full')
    assert os.listdir(hard.root / 'export') == []


def test_links_and_copies(hard):
    place = export_folder(hard, ['fiftyone'])['fiftyone']
    photo = place / 'data' / 'in' / 'b.png'
    assert photo.is_symlink() and photo.resolve() == hard.images[2].image.resolve()
    place = export_folder(hard, ['fiftyone'], photos='copy')['fiftyone']
    assert not photo.is_symlink() and photo.read_bytes() == hard.images[2].image.read_bytes()
    shutil.rmtree(hard.images[0].image.parents[0])
    assert photo.is_file()


def test_one_name_for_photos_of_two_folders(tmp_path):
    root = make_folder(tmp_path, labelled={'a': np.ones((2, 3), np.uint8), 'a_2': np.ones((2, 3), np.uint8)})
    (tmp_path / 'photos' / 'other').mkdir()
    (tmp_path / 'photos' / 'a_2.jpg').rename(tmp_path / 'photos' / 'other' / 'a.jpg')
    header = root / 'predictions.json'
    header.write_text(header.read_text().replace('a_2.jpg', 'other/a.jpg'))
    with pytest.raises(ValueError, match="'a.jpg' and 'a.jpg' would meet; .*--link-images"):
        export_folder(open_labels(root), ['coco'])
    place = export_folder(open_labels(root), ['coco'], photos='link')['coco']
    assert sorted(path.name for path in (place / 'images').iterdir()) == ['a.jpg', 'a_2.jpg']
    images = json.loads((place / FILE).read_text())['images']
    assert [image['file_name'] for image in images] == ['a.jpg', 'a_2.jpg']


def test_names_that_are_one_elsewhere(labelled):
    folder = labelled({'a': np.ones((2, 3), np.uint8), 'A': np.ones((2, 3), np.uint8)})
    with pytest.raises(ValueError, match='would meet'):
        export_folder(folder, ['fiftyone'])
    assert export_folder(folder, ['coco', 'cvat'])


def test_a_palette_that_says_two_classes_alike(hard, hard_root):
    header = json.loads((hard_root / 'predictions.json').read_text())
    header['palette'][2] = header['palette'][1]
    (hard_root / 'predictions.json').write_text(json.dumps(header))
    told = []
    place = export_folder(open_labels(hard_root), ['voc'], told=told.append)['voc']
    assert "VOC's colours were taken" in told[1]
    assert (place / 'labelmap.txt').read_text(encoding='utf-8').splitlines()[2] == 'cat:128,0,0::'


def test_a_corrected_label_is_exported_without_the_scores_of_the_earlier_one(hard_root):
    write_labels(hard_root / 'labels' / 'in_b.png', np.full((12, 31), 1, np.uint8), made_of='import_labels cvat.zip')
    told = []
    places = export_folder(open_labels(hard_root), ['coco', 'label-studio'], told=told.append)
    assert [line for line in told if 'was corrected' in line] == [
        f'{name}: 1 label was corrected since made: taken as corrected, without the confidence and doubts of before'
        for name in places]
    coco = json.loads((places['coco'] / FILE).read_text())
    number = next(image['id'] for image in coco['images'] if image['file_name'].startswith('in_b'))
    assert [(each['category_id'], 'score' in each) for each in coco['annotations'] if each['image_id'] == number] == [
        (1, False)]
    assert all('score' in each for each in coco['annotations'] if each['image_id'] != number)
    assert json.loads((places['coco'] / 'export.json').read_text())['corrected'] == 1
