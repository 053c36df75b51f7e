"""Corrections in the forms of annotation tools, written here by other means than they are read, and read back equal."""
import json
import zipfile

import numpy as np
import pytest
from blocks import blocks
from brush_code import brush
from PIL import Image
from pycocotools import mask as coco

from weclip_sam.datasets.vocabulary import VOC_CLASSES
from weclip_sam.io.images import read_labels, voc_palette, write_labels
from weclip_sam.review.corrections.found import ClassLabels
from weclip_sam.review.corrections.importing import import_corrections
from weclip_sam.review.corrections.source import read_source
from weclip_sam.review.corrections.target import Target

CLASSES = ('background', 'cup', 'table', 'vase')
# In the files, classes come in another order, and one has a number that none has here.
THEIRS = {7: 'vase', 2: 'cup', 5: 'table'}


@pytest.fixture
def truth():
    """By image, labels with 255 nowhere, with regions in several parts."""
    rng = np.random.default_rng(1)
    return {name: np.kron(rng.integers(0, 4, (4, 5)), np.ones((6, 7))).astype(np.uint8) for name in ('a', 'in/ä')}


def read(path, kind='auto', numbers=None, renamed=None):
    """Everything in a source, painted; and what it says besides."""
    labels = ClassLabels(CLASSES, renamed)
    found = read_source(path, labels, kind, numbers)
    labels.check()
    return {each.name: each.paint() for each in found.images if not each.empty}, found


def check(found, truth):
    assert found.keys() == truth.keys()
    assert all(np.array_equal(found[name], truth[name]) for name in truth)


def coco_json(truth, **more):
    images = [dict(id=number, file_name=f'{name}.jpg', height=labels.shape[0], width=labels.shape[1])
              for number, (name, labels) in enumerate(truth.items())]
    annotations = []
    for number, labels in enumerate(truth.values()):
        for category, name in THEIRS.items():
            mask = labels == CLASSES.index(name)
            if mask.any():
                code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                annotations.append(dict(id=len(annotations) + 1, image_id=number, category_id=category, iscrowd=0,
                                        segmentation=dict(size=code['size'], counts=code['counts'].decode())))
    categories = [dict(id=category, name=name) for category, name in THEIRS.items()]
    return dict(images=images, annotations=annotations, categories=categories, **more)


def test_coco(tmp_path, truth):
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(coco_json(truth)))
    check(read(path)[0], truth)
    check(read(path, 'coco')[0], truth)


def test_coco_tells_regions_that_it_cannot_paint(tmp_path):
    """A region of two points, as editors leave them, is lost among others; boxes alone are told by their number."""
    images = [dict(id=1, file_name='a.jpg', height=24, width=32)]
    outlines = [[[4, 4, 20, 4, 20, 20, 4, 20]], [[1, 1, 3, 3]], []]
    (tmp_path / 'x.json').write_text(json.dumps(dict(
        images=images, categories=[dict(id=2, name='cup')],
        annotations=[dict(id=n, image_id=1, category_id=2, segmentation=each) for n, each in enumerate(outlines)])))
    found = read_source(tmp_path / 'x.json', ClassLabels(CLASSES))
    assert '1 annotations have no outline' in found.notes[0]
    out = tmp_path / 'out'
    out.mkdir()
    done = import_corrections({'x': found}, out, Target(CLASSES, [[0, 0, 0]] * 4))
    assert done.notes[-1].startswith('1 regions have an outline that cannot be painted, and are left out: ')
    assert 'a.jpg, annotation 1' in done.notes[-1] and read_labels(out / 'a.png').any()


def test_coco_in_the_zip_of_cvat(tmp_path, truth):
    with zipfile.ZipFile(tmp_path / 'task.zip', 'w') as archive:
        archive.writestr('annotations/instances_default.json', json.dumps(coco_json(truth)))
        archive.writestr('annotations/captions.json', '{}')
    check(read(tmp_path / 'task.zip')[0], truth)


def test_coco_polygons_boxes_and_images_without_annotations(tmp_path):
    data = coco_json({'a': np.zeros((10, 20), np.uint8), 'empty': np.zeros((10, 20), np.uint8)})
    square, box = [4, 2, 12, 2, 12, 8, 4, 8], dict(bbox=[0, 0, 3, 3])
    data['annotations'] = [dict(image_id=0, category_id=2, segmentation=[square]),
                           dict(image_id=0, category_id=5, **box)]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(data))
    found, rest = read(path)
    expected = np.zeros((10, 20), np.uint8)
    expected[2:8, 4:12] = 1
    check(found, {'a': expected})
    assert [each.name for each in rest.images if each.empty] == ['empty']
    assert rest.notes == [f'{path}: 1 annotations have no outline (boxes alone) and are left out']


def label_map(colours):
    return '# label:color_rgb:parts:actions\n' + ''.join(
        f'{name}:{r},{g},{b}::\n' for name, (r, g, b) in colours.items())


COLOURS = {'background': (0, 0, 0), 'vase': (10, 10, 128), 'cup': (128, 0, 64), 'table': (255, 1, 2)}


def painted(labels, colours):
    picture = np.zeros((*labels.shape, 3), np.uint8)
    for name, colour in colours.items():
        picture[labels == CLASSES.index(name)] = colour
    return picture


def cvat(path, truth, colours=COLOURS, palette=False, text=None):
    """A "Segmentation mask 1.1" zip."""
    with zipfile.ZipFile(path, 'w') as archive:
        if text is None or text:
            archive.writestr('labelmap.txt', text or label_map(colours))
        archive.writestr('ImageSets/Segmentation/default.txt', '\n'.join(truth))
        for name, labels in truth.items():
            image = Image.fromarray(painted(labels, colours))
            if palette:  # an image program has numbered the colours as it liked
                image = image.quantize(9)
            for folder in ('SegmentationClass', 'SegmentationObject'):
                with archive.open(f'{folder}/{name}.png', 'w') as file:
                    image.save(file, format='PNG')
    return path


@pytest.mark.parametrize('palette', [False, True])
@pytest.mark.parametrize('kind', ['auto', 'cvat'])
def test_cvat(tmp_path, truth, palette, kind):
    check(read(cvat(tmp_path / 'task.zip', truth, palette=palette), kind)[0], truth)


def test_cvat_unpacked(tmp_path, truth):
    with zipfile.ZipFile(cvat(tmp_path / 'task.zip', truth)) as archive:
        archive.extractall(tmp_path / 'task')
    check(read(tmp_path / 'task')[0], truth)


def test_cvat_with_a_background_of_another_colour_and_pixels_that_do_not_count(tmp_path, truth):
    colours = {**COLOURS, 'background': (0, 128, 0)}
    path = cvat(tmp_path / 'task.zip', truth, colours, text=label_map(colours).replace('vase:', 'void:'))
    check(read(path)[0], {name: np.where(labels == 3, 255, labels) for name, labels in truth.items()})


def test_cvat_without_a_label_map_means_vocs_colours(tmp_path):
    labels = blocks(0, 1, 2)
    colours = dict(zip(CLASSES, [voc_palette()[0], voc_palette()[1 + VOC_CLASSES.index('sofa')],
                                 voc_palette()[255]], strict=False))
    path = cvat(tmp_path / 'task.zip', {'a': labels}, colours, text='')
    found, _ = read(path, renamed={'sofa': 'table'})
    check(found, {'a': np.where(labels == 1, 2, np.where(labels == 2, 255, 0))})


def test_a_colour_that_means_nothing_is_of_one_image(tmp_path, truth):
    path = cvat(tmp_path / 'task.zip', truth)
    odd = Image.fromarray(painted(truth['a'], COLOURS))
    odd.putpixel((0, 0), (1, 2, 3))
    with zipfile.ZipFile(path, 'a') as archive, archive.open('SegmentationClass/odd.png', 'w') as file:
        odd.save(file, format='PNG')
    found, rest = read(path)
    check(found, truth)
    assert 'odd.png: the colour #010203 means nothing in' in rest.failed['odd'] and 'labelmap.txt' in rest.failed['odd']


@pytest.mark.parametrize('text, message', [
    ('cup:1,2:x\n', 'line 1: expected name:red,green,blue'), ('cup:1,2,300::\n', 'line 1'),
    ('# none\n', 'names no class'),
    ('cup:1,2,3::\nvase:1,2,3::\n', "line 2: 'vase' has the colour of 'cup'")])
def test_a_label_map_that_is_none(tmp_path, truth, text, message):
    with pytest.raises(ValueError, match=message):
        read(cvat(tmp_path / 'task.zip', truth, text=text))


@pytest.mark.parametrize('header', ['predictions.json', 'seeds.json'])
def test_labels_that_nobody_changed_are_no_corrections(tmp_path, header):
    place = tmp_path / 'labels' if header == 'predictions.json' else tmp_path
    for name in 'abc':
        write_labels(place / f'{name}.png', blocks(1, 2))
    (tmp_path / header).write_text(json.dumps(dict(classes=CLASSES, pixels_noted=True)))
    Image.fromarray(blocks(2, 1)).save(place / 'b.png')  # as an editor leaves it
    found, rest = read(tmp_path)
    check(found, {'b': blocks(2, 1)})
    assert rest.notes == [f'{tmp_path}: 2 labels are as they were made, so nobody corrected them, and are left out']


def test_what_labels_were_exported_to_is_no_correction_of_them(tmp_path):
    write_labels(tmp_path / 'labels' / 'a.png', blocks(1, 2))
    place = tmp_path / 'export' / 'voc' / 'SegmentationClass'
    place.mkdir(parents=True)
    Image.fromarray(blocks(1, 2)).save(place / 'a.png')
    (tmp_path / 'export' / 'voc' / 'export.json').write_text('{}')
    (tmp_path / 'predictions.json').write_text(json.dumps(dict(classes=CLASSES, pixels_noted=True)))
    found, rest = read(tmp_path)
    assert not found and rest.notes[0].startswith(f'{tmp_path}: 1 labels are as they were made')


@pytest.mark.parametrize('photos, masks', [('images', 'masks'), ('data', 'labels'), ('in/Images', 'in/Masks')])
def test_photos_beside_masks_are_no_labels(tmp_path, photos, masks):
    """The layouts of YOLO's and FiftyOne's exports; the photo is dark, so that its numbers all mean something."""
    for folder, labels in ((photos, blocks(0, 1, 2)), (masks, blocks(1, 2))):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(labels).save(tmp_path / folder / 'a.png')
    found, rest = read(tmp_path, numbers=CLASSES)
    check(found, {f'{masks}/a': blocks(1, 2)})
    assert rest.notes == [f'{tmp_path}: 1 PNG in {photos} taken for photos, not labels, since {masks} lies beside it: '
                          'left out']


def test_photos_beside_a_json_or_polygons_are_no_labels(tmp_path, truth):
    """COCO with photos put beside it, and YOLO's polygons, which nobody reads back."""
    for place, labels in (('coco', 'annotations/instances_default.json'), ('yolo', 'labels/a.txt')):
        (tmp_path / place / labels).parent.mkdir(parents=True)
        (tmp_path / place / labels).write_text(json.dumps(coco_json(truth)))
        (tmp_path / place / 'images').mkdir()
        Image.fromarray(blocks(1)).save(tmp_path / place / 'images' / 'a.png')
        (tmp_path / place / 'export.json').write_text('{}')
    check(read(tmp_path / 'coco')[0], truth)
    with pytest.raises(ValueError, match='holds 0 JSON files and no mask'):
        read(tmp_path / 'yolo')


def test_a_png_that_is_the_photo_is_no_label(tmp_path):
    """Wherever it lies: the file of the photo, a copy, or one that was compressed anew."""
    dark = blocks(0, 1, 2, 3)
    for file, labels in (('photos/a.png', dark), ('all/masks/a.png', blocks(1)), ('all/zimages/a.png', dark)):
        (tmp_path / file).parent.mkdir(parents=True)
        Image.fromarray(labels).save(tmp_path / file, compress_level=len(file) % 9)
    target = Target.build(CLASSES, images=tmp_path / 'photos')
    found = read_source(tmp_path / 'all', ClassLabels(CLASSES), numbers=CLASSES, target=target)
    assert [each.name for each in found.images] == ['masks/a'] and '1 PNG taken for photos' in found.notes[0]
    with pytest.raises(ValueError, match='all 1 are the photos themselves'):
        read_source(tmp_path / 'photos', ClassLabels(CLASSES), numbers=CLASSES, target=target)


@pytest.mark.parametrize('how', ['classes.txt', 'numbers', 'predictions.json', 'seeds.json'])
def test_numbers_have_names(tmp_path, truth, how):
    """What is 1 here is 2 there."""
    theirs = ['background', 'vase', 'cup', 'table']
    for name, labels in truth.items():
        number = np.array([theirs.index(CLASSES[label]) for label in range(4)], np.uint8)
        file = f'labels/{name}.png' if how == 'predictions.json' else f'{name}.png'
        write_labels(tmp_path / 'png' / file, number[labels])
    if how == 'classes.txt':
        (tmp_path / 'png' / how).write_text('\n'.join(theirs[1:]))
    elif how != 'numbers':
        classes = theirs if how == 'predictions.json' else theirs[1:]
        (tmp_path / 'png' / how).write_text(json.dumps(dict(classes=classes)))
    check(read(tmp_path / 'png', numbers=theirs if how == 'numbers' else None)[0], truth)


def test_colours_count_where_an_image_program_has_renumbered_them(tmp_path, truth):
    palette = [[0, 0, 0], [200, 0, 0], [0, 200, 0], [0, 0, 200]]
    folder = tmp_path / 'png'
    for name, labels in truth.items():
        (folder / 'labels' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(palette, np.uint8)[labels]).quantize(4).save(folder / 'labels' / f'{name}.png')
    (folder / 'predictions.json').write_text(json.dumps(dict(classes=CLASSES, palette=palette)))
    numbers = np.asarray(Image.open(folder / 'labels' / 'a.png'))
    assert not np.array_equal(numbers, truth['a'])
    check(read(folder)[0], truth)


def test_ignored_pixels_stay_ignored(tmp_path):
    labels = blocks(0, 1, 255, 2)
    write_labels(tmp_path / 'a.png', labels)
    check(read(tmp_path, numbers=CLASSES)[0], {'a': labels})


def test_numbers_that_nobody_names(tmp_path):
    write_labels(tmp_path / 'a.png', blocks(1, 2))
    with pytest.raises(ValueError, match='nothing says which class the numbers of these masks are: give --like'):
        read(tmp_path)
    found, rest = read(tmp_path, numbers=CLASSES[:2])
    assert not found and 'the number 2 means nothing in' in rest.failed['a']


def label_studio(truth, image='/data/upload/3/0123abcd-{}.jpg', **more):
    tasks = []
    for number, (name, labels) in enumerate(truth.items(), start=1):
        size = dict(original_height=labels.shape[0], original_width=labels.shape[1])
        codes = {label: brush(labels == label, (label, 9, 9)) for label in (3, 1, 2)}
        result = [dict(size, id=f'r{label}', type='brushlabels', from_name='tag', to_name='image', image_rotation=0,
                       value=dict(format='rle', rle=code, brushlabels=[CLASSES[label]]))
                  for label, code in codes.items()]
        tasks.append(dict(id=number, data=dict(image=image.format(name)), predictions=[dict(result=[])],
                          annotations=[dict(id=number, result=result, was_cancelled=False,
                                            updated_at='2025-01-02T00:00:00Z')], **more))
    return tasks


def write(tmp_path, tasks):
    path = tmp_path / 'project-1.json'
    path.write_text(json.dumps(tasks))
    return path


@pytest.mark.parametrize('image, names', [
    ('/data/upload/3/0123abcd-{}.jpg', ('a', 'ä')),
    ('/data/local-files/?d=photos%2F{}.png', ('photos/a', 'photos/in/ä')),
    ('https://example.org/x/{}.jpeg?v=1', ('x/a', 'x/in/ä')),
    ('s3://bucket/photos/{}.jpg', ('photos/a', 'photos/in/ä'))])
def test_label_studio(tmp_path, truth, image, names):
    path = write(tmp_path, label_studio(truth, image))
    check(read(path)[0], dict(zip(names, truth.values(), strict=True)))
    assert read(path, 'label-studio')[0].keys() == set(names)


def test_label_studio_polygons_names_beside_regions_and_boxes(tmp_path):
    size = dict(original_height=10, original_width=20)
    points = [[20, 20], [60, 20], [60, 80], [20, 80]]  # percent
    box = dict(x=1, y=1, width=9, height=9, rectanglelabels=['vase'])
    result = [dict(size, id='x', type='polygon', value=dict(points=points)),
              dict(size, id='x', type='labels', value=dict(labels=['cup'])),
              dict(size, id='y', type='rectanglelabels', value=box)]
    found, rest = read(write(tmp_path, [dict(id=1, data={'photo': 'a.jpg'}, annotations=[dict(result=result)])]))
    expected = np.zeros((10, 20), np.uint8)
    expected[2:8, 4:12] = 1
    check(found, {'a': expected})
    assert rest.notes[0].endswith('what has no outline is left out (rectanglelabels 1)')


def test_label_studio_takes_the_annotation_that_was_changed_last(tmp_path, truth):
    tasks = label_studio({'a': truth['a']})
    older, newer = label_studio({'a': np.zeros_like(truth['a'])})[0]['annotations'][0], tasks[0]['annotations'][0]
    older['updated_at'] = '2024-05-05T00:00:00Z'
    cancelled = dict(older, updated_at='2026-01-01T00:00:00Z', was_cancelled=True)
    tasks[0]['annotations'] = [newer, older, cancelled]
    tasks.append(dict(id=9, data=dict(image='/data/upload/1/b.jpg'), annotations=[cancelled]))
    tasks.append(dict(id=10, data=dict(image='/data/upload/1/c.jpg'), annotations=[dict(result=[])]))
    found, rest = read(write(tmp_path, tasks))
    check(found, {'a': truth['a']})
    assert [each.name for each in rest.images if each.empty] == ['c']
    assert [note.split(': ', 1)[1] for note in rest.notes] == [
        '1 tasks have no annotation and are left out', '1 tasks have several annotations; the one changed last counts']


def test_label_studio_broken_tasks_are_told_one_by_one(tmp_path, truth):
    good, bad, turned, lost, odd = (label_studio({name: truth['a']})[0]
                                    for name in ('good', 'bad', 'turned', 'lost', 'odd'))
    bad['annotations'][0]['result'][0]['value']['rle'] = [1, 2, 3]
    turned['annotations'][0]['result'][0]['image_rotation'] = 90
    lost['data'] = {'text': 'no image'}
    odd['annotations'][0]['result'] = 'nothing'
    labels = ClassLabels(CLASSES)
    found = read_source(write(tmp_path, [good, bad, turned, lost, odd]), labels)
    assert [each.name for each in found.images] == ['good', 'bad'] and len(found.failed) == 3
    assert 'turned by 90 degrees in the editor' in found.failed['turned']
    assert 'its data names no image (text)' in found.failed['task 1']
    assert 'not as Label Studio writes' in found.failed['odd']
    with pytest.raises(ValueError, match='task 1: a region cannot be painted: its run lengths must be a list of bytes'):
        found.images[1].paint()


@pytest.mark.parametrize('name, content, kind, message', [
    ('a.json', '[{"image": "a.jpg", "tag": []}]', 'auto', 'JSON-MIN'),
    ('a.json', '[]', 'auto', 'no export of Label Studio'),
    ('a.json', '{"images": []}', 'auto', 'no COCO instances file'), ('a.json', '{', 'auto', 'not valid JSON'),
    ('a.json', '{}', 'cvat', 'means a folder or a zip of masks'), ('a.zip', 'x', 'auto', 'zip archive'),
    ('a.png', 'x', 'voc', 'zip archive')])
def test_what_is_no_source(tmp_path, name, content, kind, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, kind)


def test_no_such_source_and_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such file or folder of corrections'):
        read(tmp_path / 'nothing')
    with pytest.raises(ValueError, match='holds 0 JSON files and no mask'):
        read(tmp_path)
    with pytest.raises(ValueError, match='holds no .png of a mask'):
        read(tmp_path, 'voc')


def test_names_that_no_class_has(tmp_path, truth):
    data = coco_json(truth)
    data['categories'][0]['name'], data['categories'][1]['name'] = 'Vases', 'mug'
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError) as raised:
        read(path)
    lines = str(raised.value).splitlines()
    assert lines[0].startswith(f"{path}: 'Vases' is none of the 3 classes. Did you mean 'vase'? Give --rename Vases=")
    assert lines[1].startswith(f"{path}: 'mug' is none of the 3 classes. Give --rename mug=CLASS")
    check(read(path, renamed={'Vases': 'vase', 'mug': 'cup'})[0], truth)
    with pytest.raises(ValueError, match="--rename mug=cupp: 'cupp' is none of the classes. Did you mean 'cup'?"):
        read(path, renamed={'mug': 'cupp'})
