"""Folders of labels as exports and the review find them."""
import json

import numpy as np
import pytest
from PIL import Image

from weclip_sam.io.images import write_labels
from weclip_sam.offline.results import open_labels

LABELS = np.array([[0, 1, 1], [2, 255, 0]], np.uint8)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    for name in ('a.jpg', 'in/b.jpg'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (3, 2), 'red').save(folder / name)
    return folder


def predicted(root, photos, **more):
    images = []
    for name in ('in/b', 'a'):
        write_labels(root / 'labels' / f'{name}.png', LABELS)
        sure = root / 'confidence' / f'{name}.png'
        sure.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 3), 51, np.uint8)).save(sure)
        images.append(dict(image=str(photos / f'{name}.jpg'), labels=f'labels/{name}.png', height=2, width=3,
                           confidence=f'confidence/{name}.png', scores={'cat': 0.2}, names=['cat'], **more))
    header = dict(classes=['background', 'cat', 'dog'], images=images, palette=[[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    (root / 'predictions.json').write_text(json.dumps(header))
    return header


def test_what_predict_wrote(tmp_path, photos):
    predicted(tmp_path / 'out', photos, doubts={'cam': 0.5})
    folder = open_labels(tmp_path / 'out')
    assert folder.classes == ('background', 'cat', 'dog') and folder.palette[1] == (9, 0, 0)
    assert [one.name for one in folder] == ['a', 'in/b']
    first = folder.images[0]
    assert first.image == photos / 'a.jpg' and first.names == ('cat',)
    assert first.scores == {'cat': 0.2} and first.doubts == {'cam': 0.5}
    assert np.array_equal(folder.read(first), LABELS)
    assert np.allclose(folder.read_confidence(first), 0.2)


def test_what_make_seeds_wrote(tmp_path, photos):
    out = tmp_path / 'seeds'
    write_labels(out / 'in' / 'b.png', LABELS)
    (out / 'seeds.json').write_text(json.dumps(dict(classes=['cat', 'dog'], image_folder=str(photos),
                                                    image_labels={'in/b': 'cat;dog'})))
    folder = open_labels(out)
    assert folder.classes == ('background', 'cat', 'dog') and len(folder) == 1
    only = folder.images[0]
    assert (only.name, only.image, only.names) == ('in/b', photos / 'in' / 'b.jpg', ('cat', 'dog'))
    assert folder.read_confidence(only) is None


def test_labels_of_anybody(tmp_path, photos):
    write_labels(tmp_path / 'mine' / 'a.png', LABELS)
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    folder = open_labels(tmp_path / 'mine', photos, tmp_path / 'names.txt')
    assert folder.images[0].image == photos / 'a.jpg' and folder.classes[1:] == ('cat', 'dog')
    with pytest.raises(ValueError, match='nothing says which class'):
        open_labels(tmp_path / 'mine')
    with pytest.raises(FileNotFoundError, match='holds no image a'):
        open_labels(tmp_path / 'mine', photos / 'in', ['cat', 'dog'])


@pytest.mark.parametrize('content, message', [
    ('[]', 'not the record of labels'), ('{"images": [3], "classes": ["cat"]}', 'not the record of labels'),
    ('{"images": [{"labels": "../x.png"}], "classes": ["cat"]}', 'must be a relative path'),
    ('{"images": [], "classes": ["cat"]}', 'holds no label PNG'), ('{', 'not valid JSON')])
def test_a_header_that_is_none(tmp_path, content, message):
    (tmp_path / 'predictions.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        open_labels(tmp_path)


def test_a_label_that_no_class_has(tmp_path):
    write_labels(tmp_path / 'a.png', LABELS)
    folder = open_labels(tmp_path, classes=['cat'])
    with pytest.raises(ValueError, match='2'):
        folder.read(folder.images[0])


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such folder of labels'):
        open_labels(tmp_path / 'nowhere')


def test_an_empty_folder_is_told_before_names_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match='holds no label PNG'):
        open_labels(tmp_path)


def test_other_names_for_the_classes_reach_all_that_is_known_of_an_image(tmp_path, photos):
    predicted(tmp_path / 'out', photos, named={'cat': 0.9})
    first = open_labels(tmp_path / 'out', classes=['puss', 'dog']).images[0]
    assert (first.names, first.scores, first.named) == (('puss',), {'puss': 0.2}, {'puss': 0.9})


def test_names_with_the_sign_between_names(tmp_path, photos):
    from weclip_sam.datasets.readers.labels import join_names
    write_labels(tmp_path / 'seeds' / 'a.png', LABELS)
    names = ('cup; saucer', '"big" dog', 'cat')
    (tmp_path / 'seeds' / 'seeds.json').write_text(json.dumps(dict(
        classes=names, image_folder=str(photos), image_labels={'a': join_names(names)})))
    assert open_labels(tmp_path / 'seeds').images[0].names == names


def test_photos_that_differ_in_their_suffix_alone(tmp_path, photos):
    """Labels of such have the suffix in their name, see ``list_images``; one that has not may be of either."""
    Image.new('RGB', (3, 2), 'blue').save(photos / 'a.png')
    out = tmp_path / 'out'
    for name in ('a.jpg', 'a.png'):
        write_labels(out / 'labels' / f'{name}.png', LABELS)
    (out / 'predictions.json').write_text(json.dumps(dict(classes=['background', 'cat', 'dog'], images=[
        dict(image=f'/gone/{name}', labels=f'labels/{name}.png') for name in ('a.jpg', 'a.png')])))
    assert [one.image for one in open_labels(out, photos)] == [photos / 'a.jpg', photos / 'a.png']
    write_labels(tmp_path / 'mine' / 'a.png', LABELS)
    with pytest.raises(ValueError, match=r'may be the labels of .*a.jpg or of .*a.png; move one'):
        open_labels(tmp_path / 'mine', photos, ['cat', 'dog'])
    predicted(tmp_path / 'one', photos)  # its record knows which
    assert [one.image for one in open_labels(tmp_path / 'one', photos)] == [photos / 'a.jpg', photos / 'in/b.jpg']


@pytest.mark.parametrize('known, found', [('a.jpg', 'a.jpg'), ('a.png', 'a.png'), (None, None)])
def test_seeds_know_their_photos_by_their_bytes(tmp_path, photos, known, found):
    from weclip_sam.io.identity import identify
    Image.new('RGB', (3, 2), 'blue').save(photos / 'a.png')
    write_labels(tmp_path / 'seeds' / 'a.png', LABELS)
    kept = {} if known is None else {'a': list(identify(photos / known))}
    (tmp_path / 'seeds' / 'seeds.json').write_text(json.dumps(dict(
        classes=['cat', 'dog'], image_folder=str(photos), photos=kept)))
    assert open_labels(tmp_path / 'seeds').images[0].image == (None if found is None else photos / found)


def test_of_a_label_that_was_corrected_nothing_of_the_earlier_one_counts(tmp_path, photos):
    header = predicted(tmp_path / 'out', photos, doubts={'cam': 0.5}, named={'cat': 0.9})
    label = tmp_path / 'out' / 'labels' / 'a.png'
    folder = open_labels(tmp_path / 'out')
    assert folder.as_it_is(folder.images[0]) == folder.images[0]

    def now():
        folder = open_labels(tmp_path / 'out')
        return folder.as_it_is(folder.images[0])
    write_labels(label, LABELS[::-1], made_of='import_labels cvat.zip')  # into the place of the earlier one
    assert now().corrected and (now().scores, now().doubts, now().confidence) == ({}, {}, None)
    assert now().named == {'cat': 0.9} and now().names == ('cat',)
    Image.fromarray(LABELS[::-1].copy()).save(label)  # as an editor does
    assert not now().corrected  # the folder is of before label PNGs said what they show
    (tmp_path / 'out' / 'predictions.json').write_text(json.dumps(dict(header, pixels_noted=True)))
    assert now().corrected


def test_images_that_failed_are_known_with_the_reason(tmp_path, photos):
    header = predicted(tmp_path / 'out', photos)
    failed = {str(photos / 'in' / f'x{n}.jpg'): f'{photos}/in/x{n}.jpg: not a readable image' for n in range(4)}
    failed.update({'day 1': 'too large', str(photos / 'a.jpg'): 'a label is there by now'})
    (tmp_path / 'out' / 'predictions.json').write_text(json.dumps(dict(header, failed=failed)))
    folder = open_labels(tmp_path / 'out')
    assert [one.name for one in folder.failed] == [*(f'in/x{n}.jpg' for n in range(4)), 'day 1'] and len(folder) == 2
    assert folder.failed[0].image == photos / 'in' / 'x0.jpg' and folder.failed[4].image is None
    told = '; '.join(list(failed.values())[:3])
    assert folder.told_of_failed == f'5 images have no label, as making it failed: {told}; and 2 more'
    assert open_labels(tmp_path / 'out' / 'labels', classes=['cat', 'dog']).told_of_failed == ''
    (tmp_path / 'out' / 'predictions.json').write_text(json.dumps(dict(header, images=[], failed=failed)))
    with pytest.raises(ValueError, match='holds no label PNG; all 6 images failed, for example in/x0.jpg: '):
        open_labels(tmp_path / 'out')
