"""COCO layout: labels and masks from the instances JSON, with checks before C code sees it."""
import copy
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_tools

from weclip_sam.datasets import CocoReader, ImageLabelDataset
from weclip_sam.datasets.prepare_coco import prepare_coco
from weclip_sam.datasets.readers.coco_json import rasterise
from weclip_sam.datasets.readers.labels import read_label_table, write_label_table
from weclip_sam.io.images import write_labels

SQUARE = [2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]


def _instances():
    return dict(
        images=[dict(id=i, file_name=f'COCO_{i}.jpg', height=12, width=16) for i in (7, 5, 6)],
        categories=[dict(id=1, name='person'), dict(id=44, name='bottle'), dict(id=90, name='toothbrush')],
        annotations=[
            dict(id=1, image_id=5, category_id=44, segmentation=[SQUARE], iscrowd=0, area=36, bbox=[2, 3, 6, 6]),
            dict(id=2, image_id=5, category_id=1, iscrowd=1, area=192, bbox=[0, 0, 16, 12],
                 segmentation=dict(size=[12, 16], counts=[0, 192])),
            dict(id=3, image_id=7, category_id=90, segmentation=[SQUARE], iscrowd=0, area=36, bbox=[2, 3, 6, 6])])


@pytest.fixture
def coco(tmp_path, write_image):
    for number in (5, 6, 7):
        write_image(tmp_path / 'train2014' / f'COCO_{number}.jpg', seed=number)
    (tmp_path / 'annotations').mkdir()

    def write(change=lambda data: None):
        data = _instances()
        change(data)
        (tmp_path / 'annotations' / 'instances_train2014.json').write_text(json.dumps(data))
        return str(tmp_path)
    return write


def test_labels_from_json(coco):
    reader = CocoReader(coco())
    assert [(r.image_id, r.classes) for r in reader.records] == [('COCO_5', (0, 39)), ('COCO_6', ()), ('COCO_7', (79,))]
    assert reader.vocabulary.classes[39] == 'bottle'


def test_label_file_spares_the_json(coco, tmp_path, monkeypatch):
    root = coco()
    write_label_table(tmp_path / 'labels_train2014.csv', {'COCO_5.jpg': ['cat'], 'COCO_6.jpg': []})
    monkeypatch.setattr('weclip_sam.datasets.readers.coco.load_instances',
                        lambda path: pytest.fail('the JSON was read'))
    assert [r.classes for r in CocoReader(root).records] == [(15,), ()]


def test_masks_are_painted_on_the_fly(coco):
    dataset = ImageLabelDataset(dict(type='CocoReader', data_root=coco()), with_masks=True)
    truth = dataset[0]['ground_truth']
    expected = np.full((12, 16), 1, np.uint8)
    expected[3:9, 2:8] = 40  # the bottle lies over the crowd although it comes first in the file
    assert np.array_equal(truth, expected)
    assert dataset[1]['ground_truth'].max() == 0


def test_prepared_masks_are_preferred(coco, tmp_path):
    root = coco()
    for number in (5, 6, 7):
        write_labels(tmp_path / 'semantic_masks' / 'train2014' / f'COCO_{number}.png', np.full((12, 16), 9, np.uint8))
    dataset = ImageLabelDataset(dict(type='CocoReader', data_root=root), with_masks=True)
    assert dataset[0]['ground_truth'].min() == 9


def test_training_needs_no_mask_and_no_json_twice(coco, tmp_path):
    root = coco()
    write_label_table(tmp_path / 'labels_train2014.csv', {'COCO_5.jpg': ['cat']})
    (tmp_path / 'annotations' / 'instances_train2014.json').unlink()
    assert len(ImageLabelDataset(dict(type='CocoReader', data_root=root))) == 1
    with pytest.raises(FileNotFoundError, match='instances_train2014.json.*semantic_masks'):
        ImageLabelDataset(dict(type='CocoReader', data_root=root), with_masks=True)


def test_smaller_instances_lie_on_top():
    big = [[0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0]]
    small = [[2.0, 2.0, 5.0, 2.0, 5.0, 5.0, 2.0, 5.0]]
    order = [dict(category_id=1, segmentation=small), dict(category_id=2, segmentation=big)]
    for annotations in (order, order[::-1]):
        labels = rasterise(annotations, {1: 0, 2: 1}, 10, 10, 'x')
        assert (labels == 1).sum() == 9 and (labels == 2).sum() == 91


def test_many_small_instances_of_a_large_image_are_not_held_as_whole_masks(monkeypatch):
    def mask_of(place, height, width):
        mask = np.zeros((height, width), bool)
        mask[place, place:place + 3] = True
        return mask
    monkeypatch.setattr('weclip_sam.datasets.readers.coco_json.instance_mask', mask_of)
    tracemalloc.start()
    try:
        labels = rasterise([dict(category_id=1, segmentation=n) for n in range(100)], {1: 0}, 300, 1000, 'x')
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (labels == 1).sum() == 300 and held < 10 * labels.nbytes


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2 ** 32 - 1))
def test_compressed_run_lengths_equal_pycocotools(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    encoded = mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    annotation = dict(category_id=1, segmentation=dict(size=[height, width], counts=encoded['counts'].decode()))
    assert np.array_equal(rasterise([annotation], {1: 0}, height, width, 'x'), mask)


@settings(max_examples=80, deadline=None)
@given(st.one_of(
    st.text(max_size=12), st.lists(st.integers(-5, 40), max_size=6), st.none(),
    st.lists(st.lists(st.one_of(st.floats(), st.integers(-10 ** 9, 10 ** 9)), max_size=8), max_size=3)))
def test_any_segmentation_gives_a_mask_or_a_value_error(segmentation):
    for value in (segmentation, dict(size=[4, 6], counts=segmentation)):
        try:
            labels = rasterise([dict(category_id=1, segmentation=value)], {1: 0}, 4, 6, 'the file')
        except ValueError as error:
            assert 'the file' in str(error)
        else:
            assert labels.shape == (4, 6) and labels.max() <= 1


@pytest.mark.parametrize(('change', 'message'), [
    (lambda d: d.pop('images'), "expected a list 'images'"),
    (lambda d: d['images'].append(3), "expected a list 'images'"),
    (lambda d: d['categories'][0].update(name='persn'), "category 'persn' is no class.*Did you mean 'person'"),
    (lambda d: d['annotations'][0].update(category_id=999), r'unlisted category ids \[999\]'),
    (lambda d: d['images'][0].update(file_name='../x.jpg'), 'stays inside'),
    (lambda d: d['images'].append(copy.deepcopy(d['images'][0])), 'listed twice'),
    (lambda d: d['images'][0].update(file_name=5), 'image 7: file_name must be a text, got 5'),
    (lambda d: d['images'][0].update(file_name=None), 'image 7: file_name must be a text, got None'),
    (lambda d: d['images'][1].update(file_name=['x'] * 999), r"image 5: file_name must be a text, got \['x', 'x'"),
    (lambda d: d['images'][0].update(file_name='\ud800.jpg'), r"image 7: '\\ud800.jpg' holds half a character"),
    (lambda d: d['images'][0].update(file_name='a' * 300), 'too long for a file name'),
    (lambda d: d['categories'][0].update(name=5), 'category 1: name must be a text, got 5'),
    (lambda d: d['categories'].append(dict(id='91', name='x')), 'category ids must be all.*got int and str'),
    (lambda d: d['categories'][0].update(id=True), 'category ids must be all.*got bool and int'),
    (lambda d: d['images'][0].update(id=[1]), 'image ids must be all.*got int and list'),
    (lambda d: d['annotations'][0].update(image_id='5'), 'image ids must be all whole numbers or all texts'),
    (lambda d: d['images'][0].update(height=True), 'image 7: height and width must be whole numbers, got True and 16'),
    (lambda d: d['images'][0].update(width=16.5), 'whole numbers, got 12 and 16.5')])
@pytest.mark.parametrize('classes', ['coco', 'json'])
def test_wrong_json_is_explained(coco, change, message, classes):
    root = coco(change)
    if classes == 'json' and 'is no class' in message:
        assert 'persn' in CocoReader(root, classes='json').vocabulary.classes
        return
    with pytest.raises(ValueError, match=message) as caught:
        CocoReader(root, classes=classes)
    told = str(caught.value)
    assert told.count(f'{root}/annotations/instances_train2014.json: ') == 1 and len(told) < 600


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2 ** 70, 2 ** 70) | st.floats() | st.text(
        st.characters(exclude_categories=[]), max_size=3) | st.sampled_from(['a' * 300, 'person', '../x', 7, '7', 7.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2), max_leaves=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), classes=st.sampled_from(['coco', 'json']))
def test_any_value_in_the_json_gives_labels_and_masks_or_a_value_error(coco, data, classes):
    def change(instances):
        for _ in range(data.draw(st.integers(1, 2))):
            items = instances[data.draw(st.sampled_from(sorted(instances)))]
            item = data.draw(st.sampled_from(items))
            item[data.draw(st.sampled_from(sorted(item)))] = data.draw(_JSON)
    root = coco(change)
    try:
        report = prepare_coco(Path(root), ['train2014'], classes=classes, overwrite=True, workers=1)
    except ValueError as error:  # a name that CSV cannot hold
        assert 'labels_train2014.csv' in str(error)
        return
    if not any('instances_train2014.json' in name for name in report.failed):
        assert 'labels of 3 images' in report.text() and report.text().encode()
        table = read_label_table(Path(root) / 'labels_train2014.csv')
        assert len(table) == 3 and all(''.join(names) == ''.join(names).strip() for names in table.values())




@pytest.mark.parametrize('size', [(10 ** 6, 10 ** 6), (0, 5), (-1, -1), ('12', 16), (True, 16), (12.0, 16)])
def test_absurd_sizes_are_refused(size):
    with pytest.raises(ValueError, match='no acceptable image size'):
        rasterise([], {}, *size, 'x')


def test_no_json_says_where_to_get_it(tmp_path):
    (tmp_path / 'train2014').mkdir()
    with pytest.raises(FileNotFoundError, match='instances_train2014.json.*cocodataset.org.*prepare_coco'):
        CocoReader(str(tmp_path))


def test_broken_json(coco, tmp_path):
    root = coco()
    path = tmp_path / 'annotations' / 'instances_train2014.json'
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match='instances_train2014.json, line 1: not valid JSON'):
        CocoReader(root)


def test_real_images_with_their_own_categories(shared):
    config = dict(type='CocoReader', data_root=str(shared / 'coco_mini'), image_dir='images',
                  annotation_file='instances.json', classes='json')
    dataset = ImageLabelDataset(config, with_masks=True)
    assert len(dataset.metainfo['classes']) == 20 and dataset.metainfo['classes'][0] == 'aeroplane'
    for index in range(3):
        truth = dataset[index]['ground_truth']
        assert set(np.unique(truth)) - {0} == {c + 1 for c in dataset.reader.records[index].classes}
    with pytest.raises(ValueError, match="'potted plant'|tv/monitor|'sofa'.*classes='json'"):
        CocoReader(**{k: v for k, v in config.items() if k not in ('type', 'classes')})


def test_truth_is_that_of_the_image_with_this_suffix(coco, tmp_path, write_image):
    def twin(data):
        data['images'].append(dict(id=9, file_name='COCO_5.png', height=12, width=16))
    root = coco(twin)
    write_image(tmp_path / 'train2014' / 'COCO_5.png')
    write_label_table(tmp_path / 'labels_train2014.csv', {'COCO_5.jpg': ['bottle']})
    reader = CocoReader(root)
    reader.check_masks()
    assert reader.load_ground_truth(0).any()  # COCO_5.png has nothing in it
    report = prepare_coco(tmp_path, ['train2014'], overwrite=True, workers=1)
    message, = report.failed.values()
    assert "the masks of 'COCO_5.jpg' and 'COCO_5.png' would meet (one COCO_5.png)" in message
    assert not (tmp_path / 'semantic_masks').exists()
    assert prepare_coco(tmp_path, ['train2014'], masks=False, overwrite=True, workers=1).ok


def test_names_as_annotation_tools_on_windows_and_macs_write_them(coco, tmp_path, write_image):
    write_image(tmp_path / 'train2014' / 'sub' / 'e\u0301.jpg')

    def change(data):
        data['images'][0]['file_name'] = 'sub\\\u00e9.jpg'
        data['categories'] = [dict(id=1, name='cup; mug '), dict(id=44, name='p\u00e9'), dict(id=90, name='pe\u0301')]
    root = coco(change)
    reader = CocoReader(root, classes='json')
    assert reader.vocabulary.classes == ('cup; mug', 'p\u00e9')
    assert [(r.image_id, r.classes) for r in reader.records] == \
        [('COCO_5', (0, 1)), ('COCO_6', ()), ('sub/\u00e9', (1,))]
    assert reader.load_image(2).size == (16, 12)
    report = prepare_coco(tmp_path, ['train2014'], classes='json', workers=1)
    assert report.ok, report.text()
    assert read_label_table(tmp_path / 'labels_train2014.csv')['COCO_5.jpg'] == ('cup; mug', 'p\u00e9')
    classes = list(reader.vocabulary.classes)
    again = CocoReader(root, classes=classes)
    assert [r.classes for r in again.records] == [r.classes for r in reader.records]
    assert ImageLabelDataset(again, with_masks=True)[2]['ground_truth'].max() == 2


def test_a_category_that_no_table_can_hold_is_told(coco, tmp_path):
    coco(lambda data: data['categories'][0].update(name='two\nlines'))
    report = prepare_coco(tmp_path, ['train2014'], classes='json', workers=1)
    assert "'two\\nlines' cannot be written to CSV" in report.text() and 'rename the category in' in report.text()


def test_json_with_a_mark(coco, tmp_path):
    path = tmp_path / 'annotations' / 'instances_train2014.json'
    root = coco()
    path.write_text(path.read_text(), encoding='utf-8-sig')
    assert len(CocoReader(root).records) == 3
    path.write_bytes(path.read_text('utf-8-sig').replace('bottle', 'fl\u00e4sche').encode('cp1252'))
    with pytest.raises(ValueError, match='instances_train2014.json, line 1: not UTF-8 text.*save it as UTF-8'):
        CocoReader(root)
