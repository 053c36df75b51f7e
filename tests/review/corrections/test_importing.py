"""Corrections become a folder of labels: which images they are of, what is kept, what is refused."""
import json

import numpy as np
import pytest
from blocks import PALETTE, blocks

from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.offline.results import open_labels
from weclip_sam.review.corrections.found import Correction, Corrections
from weclip_sam.review.corrections.importing import import_corrections
from weclip_sam.review.corrections.target import Target, match

CLASSES = ['background', 'cup', 'table', 'vase']


def source(**labels):
    """Corrections of images, whose names have ``__`` for ``/``; None for one in which nothing is marked."""
    found = Corrections()
    for name, array in labels.items():
        name = name.replace('__', '/')
        found.images.append(Correction(name, f'task.zip, {name}', lambda array=array: array, array is None))
    return found


@pytest.fixture
def like(label_folder):
    return label_folder(classes=CLASSES, a=dict(labels=blocks(0, 1), names=['cup', 'vase']), b=dict(labels=blocks(2)),
                        c=dict(labels=blocks(3)))


def target_like(folder, **options):
    opened = open_labels(folder)
    return Target.build(opened.classes, opened, **options)


@pytest.mark.parametrize('name, known, found', [
    ('a', ['a', 'x/a'], 'a'), ('x/a', ['a', 'b/a'], 'a'), ('photos/x/a', ['x/a', 'a'], 'x/a'),
    ('a', ['x/a', 'b'], 'x/a'),
    ('a', ['x/a', 'y/a'], None), ('a', ['ba', 'aa'], None), ('x/a', ['y/a'], None), ('x/a', ['z/x/a'], 'z/x/a')])
def test_whole_parts_of_a_path_are_matched(name, known, found):
    assert match(name, known)[0] == found


def test_labels_and_what_they_mean_are_written(like, tmp_path):
    out = tmp_path / 'out'
    labels = blocks(3, 255, 0)
    done = import_corrections(dict(s=source(photos__b=labels)), out, target_like(like))
    assert done.alike == 0
    assert np.array_equal(read_labels(out / 'b.png'), labels) and done.written == 1 and not done.failed
    again = open_labels(out)
    assert again.classes == tuple(CLASSES) and [one.name for one in again] == ['b']
    assert again.palette == tuple(map(tuple, PALETTE))
    header = json.loads((out / 'seeds.json').read_text())
    assert header['classes'] == CLASSES[1:] and header['corrected'] == {'b': 'task.zip, photos/b'}
    assert header['image_labels'] == {'a': 'cup;vase'}
    assert (out / 'corrected.txt').read_text() == 'b\n' and (out / 'others.txt').read_text() == 'a\nc\n'
    assert done.text() == f'1 label written to {out}'
    done = import_corrections(dict(s=source(c=blocks(3))), out, target_like(like))
    assert done.text() == f'1 label written to {out}, 1 of them as the earlier labels are'


def test_the_later_correction_counts_and_that_is_told(like, tmp_path):
    sources = dict(first=source(a=blocks(1), b=blocks(1)), second=source(x__a=blocks(2)))
    done = import_corrections(sources, tmp_path / 'out', target_like(like))
    assert (read_labels(tmp_path / 'out' / 'a.png') == 2).all() and (read_labels(tmp_path / 'out' / 'b.png') == 1).all()
    assert done.notes == ['corrected twice, the later counts: a: task.zip, x/a was taken, not task.zip, a']


def test_nothing_marked_is_no_background_unless_somebody_says_so(like, tmp_path):
    found = source(a=blocks(1))
    found.images.append(Correction('b', 'task.zip, b', lambda: blocks(0), empty=True))
    done = import_corrections(dict(s=found), tmp_path / 'out', target_like(like))
    assert not (tmp_path / 'out' / 'b.png').exists() and 'nothing is marked in 1 image' in done.notes[0]
    import_corrections(dict(s=found), tmp_path / 'out', target_like(like), empty=True)
    assert not read_labels(tmp_path / 'out' / 'b.png').any()


@pytest.mark.parametrize('keep', [False, True])
def test_pixels_that_were_ignored(label_folder, tmp_path, keep):
    like = label_folder(classes=CLASSES, a=dict(labels=blocks(0, 255, 255, 1)))
    done = import_corrections(dict(s=source(a=blocks(0, 0, 2, 1))), tmp_path / 'out', target_like(like),
                              keep_ignored=keep)
    assert np.array_equal(read_labels(tmp_path / 'out' / 'a.png'), blocks(0, 255 if keep else 0, 2, 1))
    assert done.lost == (not keep) and len(done.notes) == done.lost


def test_a_folder_that_is_complete(like, tmp_path):
    out = tmp_path / 'out'
    wrong = source(a=blocks(1, 2), b=blocks(1, width=30))
    done = import_corrections(dict(s=wrong), out, target_like(like), complete=True)
    assert np.array_equal(read_labels(out / 'a.png'), blocks(1, 2))
    assert (read_labels(out / 'b.png') == 2).all() and (read_labels(out / 'c.png') == 3).all()  # as they were
    assert list(done.failed) == ['b'] and '30 x 24 pixels, but' in done.failed['b'] and done.filled == 2
    assert (out / 'corrected.txt').read_text() == 'a\n'
    # A correction that comes later takes the place of what was filled in, and earlier ones stay.
    done = import_corrections(dict(s=source(c=blocks(1))), out, target_like(like), complete=True)
    assert (read_labels(out / 'c.png') == 1).all() and np.array_equal(read_labels(out / 'a.png'), blocks(1, 2))
    assert done.corrected == ['a', 'c'] and done.filled == 1


def test_again_and_with_others(like, tmp_path):
    out = tmp_path / 'out'
    for expected in ((1, 0), (0, 1)):
        done = import_corrections(dict(s=source(a=blocks(1))), out, target_like(like))
        assert (done.written, done.same) == expected
    done = import_corrections(dict(s=source(a=blocks(2))), out, target_like(like))
    assert done.written == 1 and (read_labels(out / 'a.png') == 2).all()


@pytest.mark.parametrize('how', ['strange', 'changed', 'no image'])
def test_what_was_not_imported_is_not_written_over(like, tmp_path, how):
    out, target = tmp_path / 'out', target_like(like)
    if how == 'changed':
        import_corrections(dict(s=source(a=blocks(1))), out, target)
    write_labels(out / 'a.png', blocks(3))
    if how == 'no image':
        (out / 'a.png').write_bytes(b'x')
    before = (out / 'a.png').read_bytes()
    with pytest.raises(ValueError, match=r'a\.png: is there, and was not imported'):
        import_corrections(dict(s=source(b=blocks(1), a=blocks(2))), out, target)
    assert (out / 'a.png').read_bytes() == before and not (out / 'b.png').exists()
    import_corrections(dict(s=source(b=blocks(1), a=blocks(2))), out, target, overwrite=True)
    assert (read_labels(out / 'a.png') == 2).all()


def test_other_classes_are_never_mixed(like, tmp_path):
    out = tmp_path / 'out'
    import_corrections(dict(s=source(a=blocks(1))), out, target_like(like))
    other = Target.build(['background', 'vase', 'cup'])
    with pytest.raises(ValueError, match='of other classes, or of another order'):
        import_corrections(dict(s=source(z=blocks(1))), out, other)
    import_corrections(dict(s=source(z=blocks(1))), out, other, overwrite=True)
    assert not (out / 'a.png').exists() and open_labels(out).classes == ('background', 'vase', 'cup')


@pytest.mark.parametrize('header, content, message', [
    ('predictions.json', '{}', 'holds predictions'), ('seeds.json', '{"format": "weclip_sam seeds 1"}', 'not imported'),
    ('seeds.json', '[]', 'not imported'), ('seeds.json', '{', 'not valid JSON')])
def test_folders_of_something_else(like, tmp_path, header, content, message):
    (tmp_path / header).write_text(content)
    with pytest.raises(ValueError, match=message):
        import_corrections(dict(s=source(a=blocks(1))), tmp_path, target_like(like))


def test_photos_say_which_images_and_sizes(tmp_path, write_image):
    photos = tmp_path / 'photos'
    write_image(photos / 'x' / 'a.jpg', (24, 32))
    write_image(photos / 'b.jpg', (48, 64))
    target = Target.build(CLASSES, images=photos)
    done = import_corrections(dict(s=source(a=blocks(1), b=blocks(2), c=blocks(1), y__b=blocks(1, width=31))),
                              tmp_path / 'out', target)
    assert (tmp_path / 'out' / 'x' / 'a.png').is_file() and not (tmp_path / 'out' / 'b.png').exists()
    assert "there is no image 'c'" in done.failed['c']
    assert '31 x 24 pixels, but' in done.failed['b'] and 'b.jpg has 64 x 48' in done.failed['b']
    assert json.loads((tmp_path / 'out' / 'seeds.json').read_text())['image_folder'] == str(photos.resolve())
    assert target.palette[1] != [0, 0, 0]


def test_a_shrunk_label_fits_its_photo_and_large_ones_are_shrunk_on_request(tmp_path, write_image):
    write_image(tmp_path / 'photos' / 'a.jpg', (48, 64))
    target = Target.build(CLASSES, images=tmp_path / 'photos')
    for labels in (blocks(1, 2), blocks(1, 2, height=48, width=64)):
        done = import_corrections(dict(s=source(a=labels)), tmp_path / 'out', target, max_side=32)
        assert not done.failed and np.array_equal(read_labels(tmp_path / 'out' / 'a.png'), blocks(1, 2))


def test_photos_of_one_name(tmp_path, write_image):
    for name in ('a.jpg', 'a.png'):
        write_image(tmp_path / name)
    with pytest.raises(ValueError, match='have one name but for the suffix'):
        Target.build(CLASSES, images=tmp_path)
    with pytest.raises(FileNotFoundError, match='no such folder of images'):
        Target.build(CLASSES, images=tmp_path / 'nowhere')


def test_names_that_leave_the_folder_or_meet(tmp_path):
    target = Target.build(CLASSES)
    with pytest.raises(ValueError, match='must be a relative path'):
        import_corrections(dict(s=source(b=blocks(1), **{'..__a': blocks(1)})), tmp_path / 'out', target)
    with pytest.raises(ValueError, match='would meet there'):
        import_corrections(dict(s=source(a=blocks(1), **{'a.png__b': blocks(1)})), tmp_path / 'out', target)
    assert not list((tmp_path / 'out').glob('*.png'))


@pytest.mark.parametrize('form', ['coco', 'label-studio'])
def test_photos_that_differ_in_their_suffix_alone_get_their_own_corrections_back(label_folder, tmp_path, form):
    """Their labels have the suffix in their names; what is called ``a`` elsewhere is another image."""
    from weclip_sam.export import export_folder
    from weclip_sam.review.corrections.found import ClassLabels
    from weclip_sam.review.corrections.source import read_source
    names = ['a.jpg', 'a.png', 'in/a']
    root = label_folder(**{name: dict(labels=blocks(0, 1 + place % 2, 0), photo=False)
                           for place, name in enumerate(names)})
    header = json.loads((root / 'predictions.json').read_text())
    for entry, photo in zip(header['images'], ['a.jpg', 'a.png', 'in/a.jpg'], strict=True):
        entry['image'] = f'/photos/{photo}'
    (root / 'predictions.json').write_text(json.dumps(header))
    folder = open_labels(root)
    made = export_folder(folder, [form])[form]
    path = made / 'annotations' / 'instances_default.json' if form == 'coco' else made / 'tasks.json'
    if form == 'label-studio':  # as if somebody had accepted all predictions
        tasks = [dict(id=place, data=task['data'], annotations=task['predictions'])
                 for place, task in enumerate(json.loads(path.read_text()))]
        path.write_text(json.dumps(tasks))
    found = read_source(path, ClassLabels(folder.classes))
    done = import_corrections({'x': found}, tmp_path, Target.build(folder.classes, folder))
    assert not done.failed and done.corrected == names
    for one in folder:
        assert np.array_equal(read_labels(tmp_path / f'{one.name}.png'), folder.read(one))


def test_the_suffix_decides_only_where_the_name_does_not():
    target = Target(('background', 'cat'), PALETTE, dict.fromkeys(['a.jpg', 'a.png', 'in/a', 'b', 'b.jpg']))
    for name, file, meant in (('a', 'a.png', 'a.png'), ('up/a', 'up/a.jpg', 'a.jpg'), ('in/a', 'in/a.jpg', 'in/a'),
                              ('up/b', 'up/b.jpg', 'b'), ('a', '', 'in/a')):
        assert target.find(name, 'x', file=file) == meant
