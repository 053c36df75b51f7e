"""The prepare tools: what they write, what they say is missing, and going on after an interruption."""
import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from weclip_sam.datasets import CocoReader, FolderReader, ImageLabelDataset, VocReader
from weclip_sam.datasets.prepare import prepare_voc
from weclip_sam.datasets.prepare_coco import prepare_coco, prepare_json
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.engine import load_config
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.io.parallel import parallel_map

ROOT = Path(__file__).resolve().parents[2]
TRAIN = '        python tools/train.py configs/weclip_sam'
SQUARE = [2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]


@pytest.fixture
def voc(tmp_path, write_image):
    root = tmp_path / 'VOC2012'
    names = [f'2008_00000{i}' for i in range(5)]
    (root / 'Annotations').mkdir(parents=True)
    for name in names:
        write_image(root / 'JPEGImages' / f'{name}.jpg')
        (root / 'Annotations' / f'{name}.xml').write_text(
            '<annotation><object><name>sofa</name></object></annotation>')
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('2008_000000\n2008_000001\n')
    (lists / 'val.txt').write_text('2008_000002\n')
    for name in names[:3]:
        write_labels(root / 'SegmentationClass' / f'{name}.png', np.zeros((2, 2), int))
    return root


def test_voc_labels_are_written_and_used(voc):
    report = prepare_voc(voc, workers=1)
    assert report.ok and 'benchmark.tgz' in report.text()
    assert read_label_table(voc / 'image_labels.csv') == {f'2008_00000{i}': ('sofa',) for i in range(3)}
    for path in (voc / 'Annotations').iterdir():
        path.unlink()
    assert VocReader(str(voc), 'train').records[0].classes == (17,)


def test_labels_of_ones_own_classes_in_vocs_layout(voc):
    (voc / 'classes.txt').write_text('settee\nsofa\n')
    assert prepare_voc(voc, workers=2).ok
    (voc / 'Annotations').rename(voc / 'elsewhere')
    assert VocReader(str(voc), 'train').records[0].classes == (1,)
    (voc / 'elsewhere').rename(voc / 'Annotations')
    (voc / 'classes.txt').write_text('settee\n')
    assert "unknown class 'sofa'" in str(prepare_voc(voc, overwrite=True, workers=1).failed)


def test_equal_lists_leave_nothing_to_train_on(voc):
    (voc / 'SegmentationClassAug').mkdir()
    lists = voc / 'ImageSets' / 'Segmentation'
    (lists / 'val.txt').write_text((lists / 'train.txt').read_text())
    for _ in range(2):
        report = prepare_voc(voc, workers=1)
        assert not report.ok and 'val lists them all' in report.text()
    assert not (lists / 'train_aug.txt').exists()


@pytest.mark.parametrize('source', ['sbd', 'masks'])
def test_train_aug_leaves_out_validation_images(voc, tmp_path, source):
    sbd = None
    if source == 'sbd':
        sbd = tmp_path / 'benchmark_RELEASE'
        (sbd / 'dataset').mkdir(parents=True)
        (sbd / 'dataset' / 'train.txt').write_text('2008_000003\n2008_000002\n')
        (sbd / 'dataset' / 'val.txt').write_text('2008_000004\n')
    else:
        for number in (2, 3, 4):
            (voc / 'SegmentationClassAug').mkdir(exist_ok=True)
            (voc / 'SegmentationClassAug' / f'2008_00000{number}.png').write_bytes(b'never opened')
    report = prepare_voc(voc, sbd, workers=1)
    listed = (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').read_text().split()
    assert listed == ['2008_000000', '2008_000001', '2008_000003', '2008_000004']
    assert 'the usual train_aug has 10582' in report.text()
    assert len(VocReader(str(voc), 'train_aug').records) == 4


def test_labels_are_completed_when_a_list_is_added(voc):
    prepare_voc(voc, workers=1)
    (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').write_text('2008_000004\n')
    assert prepare_voc(voc, workers=1).ok
    assert '2008_000004' in read_label_table(voc / 'image_labels.csv')


@pytest.mark.parametrize(('gone', 'message'), [
    ('JPEGImages', 'VOCtrainval_11-May-2012.tar'), ('ImageSets', 'split lists'), ('Annotations', 'never from masks'),
    ('SegmentationClass', 'ground truth for evaluation'), ('JPEGImages/2008_000001.jpg', '2008_000001.jpg; unpack')])
def test_voc_says_what_is_missing(voc, gone, message):
    (voc / gone).rename(voc / 'moved_away')
    report = prepare_voc(voc, workers=1)
    assert not report.ok and message in ' '.join(report.missing)


@pytest.mark.parametrize(('number', 'split', 'whole'), [(1, 'train', 2), (2, 'val', 1)])
def test_missing_masks_are_counted(voc, number, split, whole):
    path = voc / 'SegmentationClass' / f'2008_00000{number}.png'
    path.rename(voc / 'moved_away.png')
    report = prepare_voc(voc, workers=1)
    message, = report.missing
    assert message.startswith(f'1 of {whole} ground-truth masks of split {split}, for example {path}; ')
    assert 'VOCtrainval' in message and 'tools/train.py' not in report.text()
    (voc / 'SegmentationClassAug').mkdir()
    (voc / 'moved_away.png').rename(voc / 'SegmentationClassAug' / path.name)
    assert prepare_voc(voc, workers=1).ok


def test_masks_of_train_aug_are_no_must(voc):
    (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').write_text('2008_000000\n2008_000003\n2008_000004\n')
    report = prepare_voc(voc, workers=1)
    assert report.ok and '2 of 3 ground-truth masks of split train_aug are not there. Masks of the SBD' in report.text()
    for number in (3, 4):
        write_labels(voc / 'SegmentationClassAug' / f'2008_00000{number}.png', np.zeros((2, 2), int))
    assert prepare_voc(voc, workers=1).hints == []


def test_a_label_file_that_is_there_is_checked(voc):
    assert prepare_voc(voc, workers=1).ok
    path = voc / 'image_labels.csv'
    for text, message in (
            (path.read_text().replace('2008_000001,sofa', '2008_000001,soffa'),
             "image '2008_000001': unknown class 'soffa'. Did you mean 'sofa'? Else add it to classes.txt"),
            ('garbage', "line 1: expected the header image,classes, got ['garbage']. Mend it, or")):
        path.write_text(text)
        report = prepare_voc(voc, workers=1)
        assert not report.ok and report.failed[str(path)].startswith(message) and path.read_text() == text
    assert prepare_voc(voc, overwrite=True, workers=1).ok and 'sofa\n' in path.read_text()


def test_one_bad_annotation_is_named_and_nothing_half_written(voc):
    (voc / 'Annotations' / '2008_000001.xml').write_text('<annotation>')
    report = prepare_voc(voc, workers=1)
    assert list(report.failed) == ['2008_000001'] and not (voc / 'image_labels.csv').exists()


@pytest.mark.parametrize('inside', ['VOC2012', 'VOCdevkit/VOC2012'])
def test_parent_folder_is_recognised(voc, tmp_path, inside):
    (tmp_path / 'data' / inside).parent.mkdir(parents=True)
    voc.rename(tmp_path / 'data' / inside)
    assert f'did you mean {tmp_path}/data/{inside}?' in prepare_voc(tmp_path / 'data').missing[0]


@pytest.mark.parametrize('prepare', [prepare_voc, prepare_coco])
def test_a_root_that_does_not_exist(prepare, tmp_path):
    line, = prepare(tmp_path / 'nowhere').missing
    assert line.startswith(f'{tmp_path}/nowhere: no such folder. Give the folder')


def test_the_next_command_is_said_when_all_is_ready(voc):
    command = f'{TRAIN}/weclip-sam_vit-b16_30k_voc.py --cfg-options data_root={voc}'
    split = ' train_dataloader.dataset.reader.split=train'  # there is no train_aug
    *_, weights, last = prepare_voc(voc, workers=1).text().splitlines()
    assert last == command + split
    assert weights == 'next    python tools/weights.py configs/weclip_sam/weclip-sam_vit-b16_30k_voc.py'
    (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').write_text('2008_000000\n')
    assert prepare_voc(voc, workers=1).text().splitlines()[-1] == command
    (voc / 'JPEGImages' / '2008_000000.jpg').unlink()
    assert 'tools/train.py' not in prepare_voc(voc, workers=1).text()


@pytest.fixture
def coco(tmp_path, write_image):
    for number in range(4):
        write_image(tmp_path / 'train2014' / f'image{number}.jpg')
    data = dict(
        images=[dict(id=i, file_name=f'image{i}.jpg', height=12, width=16) for i in range(4)],
        categories=[dict(id=44, name='bottle')],
        annotations=[dict(id=i, image_id=i, category_id=44, segmentation=[SQUARE]) for i in range(3)])
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'instances_train2014.json').write_text(json.dumps(data))
    return tmp_path


def test_coco_with_other_categories_names_the_option(coco):
    path = coco / 'annotations' / 'instances_train2014.json'
    path.write_text(path.read_text().replace('bottle', 'sofa'))
    text = prepare_coco(coco, ['train2014'], workers=1).text()
    assert text.startswith(f"failed  {path}: category 'sofa' is no class of this data set.")
    assert '--classes json' in text and 'missing' not in text
    (coco / 'val2014').symlink_to(coco / 'train2014')
    (coco / 'annotations' / 'instances_val2014.json').symlink_to(path)
    last = prepare_coco(coco, masks=False, classes='json').text().splitlines()[-1]
    command = f'{TRAIN}/weclip-sam_vit-b16_80k_coco.py --cfg-options data_root={coco}'
    assert last.startswith(f'{command} train_dataloader.dataset.reader.classes=json val_dataloader.')
    options = dict(option.split('=') for option in last.split('--cfg-options ')[1].split())
    config = load_config(ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_vit-b16_80k_coco.py', options)
    assert config.seed_dataset.reader.classes == config.test_dataloader.dataset.reader.classes == 'json'


@pytest.mark.parametrize('workers', [1, 2])
def test_coco_labels_and_masks(coco, workers):
    report = prepare_coco(coco, ['train2014'], workers=workers)
    assert report.ok and '4 images, 1 of them without' in report.text() and '4 masks made' in report.text()
    mask = read_labels(coco / 'semantic_masks' / 'train2014' / 'image0.png')
    assert mask[3:9, 2:8].min() == 40 and (mask > 0).sum() == 36
    (coco / 'annotations' / 'instances_train2014.json').unlink()
    dataset = ImageLabelDataset(dict(type='CocoReader', data_root=str(coco)), with_masks=True)
    assert np.array_equal(dataset[0]['ground_truth'], mask) and len(dataset) == 4


def test_coco_goes_on_where_it_stopped(coco):
    prepare_coco(coco, ['train2014'], workers=1)
    folder = coco / 'semantic_masks' / 'train2014'
    (folder / 'image2.png').unlink()
    stamps = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert '1 mask made, 3 were there already' in prepare_coco(coco, ['train2014'], workers=1).text()
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.name != 'image2.png'} == stamps


def test_labels_that_say_something_else_than_the_json_are_not_trusted(coco):
    assert prepare_coco(coco, ['train2014'], masks=False).ok and prepare_coco(coco, ['train2014'], masks=False).ok
    path = coco / 'labels_train2014.csv'
    written = path.read_text()
    for other in (written.replace('bottle', 'chair'), 'no table at all'):
        path.write_text(other)
        report = prepare_coco(coco, ['train2014'], masks=False)
        assert 'labels_train2014.csv: says something else' in report.text() and '--overwrite' in report.text()
        assert path.read_text() == other
    assert prepare_coco(coco, ['train2014'], masks=False, overwrite=True).ok and path.read_text() == written


def test_one_bad_segmentation_is_named_and_the_rest_goes_on(coco):
    path = coco / 'annotations' / 'instances_train2014.json'
    data = json.loads(path.read_text())
    data['annotations'][1]['segmentation'] = [[1, 2]]
    path.write_text(json.dumps(data))
    report = prepare_coco(coco, ['train2014'], workers=2)
    assert not report.ok and [Path(name).name for name in report.failed] == ['image1.png']
    assert len(list((coco / 'semantic_masks' / 'train2014').iterdir())) == 3


def test_coco_says_what_is_missing(coco):
    report = prepare_coco(coco, workers=1, masks=False)
    text = ' '.join(report.missing)
    assert 'val2014.zip' in text and 'annotations_trainval2014.zip' in text
    (coco / 'train2014' / 'image3.jpg').unlink()
    assert '1 of 4 images' in prepare_coco(coco, ['train2014'], masks=False).missing[0]


def test_coco_with_its_own_categories(shared, tmp_path):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'instances_mini.json').symlink_to(shared / 'coco_mini' / 'instances.json')
    (tmp_path / 'mini').symlink_to(shared / 'coco_mini' / 'images')
    assert prepare_coco(tmp_path, ['mini'], classes='json', workers=1).ok
    assert read_label_table(tmp_path / 'labels_mini.csv')['2011_000025.jpg'] == ('bus', 'car')
    reader = CocoReader(str(tmp_path), split='mini', classes='json')
    reader.check_masks()
    truth = shared / 'voc_mini' / 'VOC2012' / 'SegmentationClassAug'
    for index, record in enumerate(reader.records):
        expected = read_labels(truth / f'{record.image_id}.png')
        agree = (reader.load_ground_truth(index) == expected)[expected != 255]
        assert agree.mean() > 0.95  # polygons drawn for another data set of the same images


@pytest.mark.parametrize('tool', ['prepare_voc', 'prepare_coco'])
def test_tools_report_and_exit_code(tool, tmp_path, capsys):
    main = importlib.import_module(f'weclip_sam.cli.{tool}').main
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path), '--workers', '1'])
    text = capsys.readouterr().out
    assert end.value.code == 1 and 'missing' in text and 'curl -LO http' in text


def _kill_on_three(task):
    if task == 3:
        os.kill(os.getpid(), 9)
    return task


def test_a_worker_that_dies_is_reported():
    assert list(parallel_map(abs, [-1, -2], 2, workers=2)) == [1, 2]
    with pytest.raises(RuntimeError, match='reading: a worker process died'):
        list(parallel_map(_kill_on_three, range(100), 100, workers=2, name='reading'))


def test_names_that_no_list_can_hold_are_left_out(voc):
    folder = voc / 'SegmentationClassAug'
    folder.mkdir(exist_ok=True)
    try:
        for name in (os.fsdecode(b'caf\xe9.png'), 'e\u0301.png'):
            (folder / name).touch()
    except OSError:
        pytest.skip('this file system has no such names')
    text = prepare_voc(voc, workers=1).text()
    assert "1 files of" in text and "names that are no UTF-8" in text and text.encode()
    lines = (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').read_text(encoding='utf-8').splitlines()
    assert '\u00e9' in lines and not any('caf' in line for line in lines)


def _annotate(voc, number, name):
    (voc / 'Annotations' / f'2008_00000{number}.xml').write_text(
        f'<annotation><object><name>{name}</name></object></annotation>')


def test_a_corrected_annotation_changes_its_line(voc):
    prepare_voc(voc, workers=1)
    assert 'there already' in prepare_voc(voc, workers=1).text()
    _annotate(voc, 1, 'chair')
    with pytest.raises(ValueError, match=r'image_labels.csv: .*2008_000001.xml changed .*run tools/prepare_voc.py'):
        VocReader(str(voc), 'train')
    assert VocReader(str(voc), 'train', labels='image_labels.csv').records[1].classes == (17,)
    VocReader(str(voc), 'val')  # whose annotations are as they were
    report = prepare_voc(voc, workers=1)
    assert report.ok and '1 of them made anew, since annotations changed, for example 2008_000001' in report.text()
    assert read_label_table(voc / 'image_labels.csv')['2008_000001'] == ('chair',)
    assert VocReader(str(voc), 'train').records[1].classes == (8,)


def test_a_touched_annotation_changes_nothing(voc):
    prepare_voc(voc, workers=1)
    os.utime(voc / 'Annotations' / '2008_000001.xml', (5, 5))
    assert VocReader(str(voc), 'train').records[1].classes == (17,)
    assert 'there already' in prepare_voc(voc, workers=1).text()


def test_lines_changed_by_hand_are_kept_and_told(voc):
    prepare_voc(voc, workers=1)
    path = voc / 'image_labels.csv'
    path.write_text(path.read_text().replace('2008_000001,sofa', '2008_000001,sofa;chair'))
    _annotate(voc, 0, 'dog')
    (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').write_text('2008_000004\n')
    for _ in range(2):
        report = prepare_voc(voc, workers=1)
        assert report.ok and 'lines of 1 images were changed by hand, for example 2008_000001' in report.text()
        assert {name: set(found) for name, found in read_label_table(path).items()} == {
            '2008_000000': {'dog'}, '2008_000001': {'sofa', 'chair'}, '2008_000002': {'sofa'}, '2008_000004': {'sofa'}}
    _annotate(voc, 1, 'cat')  # now both sides changed it
    text = path.read_text()
    report = prepare_voc(voc, workers=1)
    assert 'says something else than the annotations of 1 images' in report.failed[str(path)]
    assert '2008_000001.xml has cat' in report.failed[str(path)] and path.read_text() == text
    assert prepare_voc(voc, overwrite=True, workers=1).ok
    assert read_label_table(path)['2008_000001'] == ('cat',)


def test_a_label_file_of_an_earlier_version_is_adopted_or_refused(voc):
    prepare_voc(voc, workers=1)
    (voc / 'prepared.json').unlink()
    assert prepare_voc(voc, workers=1).ok and (voc / 'prepared.json').is_file()
    (voc / 'prepared.json').unlink()
    _annotate(voc, 1, 'chair')
    report = prepare_voc(voc, workers=1)
    assert not report.ok and '--overwrite' in report.text() and 'sofa of 2008_000001' in report.text()


def test_train_aug_follows_its_sources(voc, tmp_path):
    sbd = tmp_path / 'sbd'
    sbd.mkdir()
    (sbd / 'train.txt').write_text('2008_000003\n')
    (sbd / 'val.txt').write_text('2008_000002\n')
    path = voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt'
    prepare_voc(voc, sbd, workers=1)
    (sbd / 'val.txt').write_text('2008_000004\n')
    assert 'made anew since its sources changed' in prepare_voc(voc, sbd, workers=1).text()
    assert path.read_text().split() == ['2008_000000', '2008_000001', '2008_000003', '2008_000004']
    path.write_text('2008_000003\n')
    assert 'changed by hand' in prepare_voc(voc, sbd, workers=1).text() and path.read_text() == '2008_000003\n'


def _change(coco, change):
    path = coco / 'annotations' / 'instances_train2014.json'
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def _mask(coco, number):
    return read_labels(coco / 'semantic_masks' / 'train2014' / f'image{number}.png')


def test_masks_and_labels_follow_the_json(coco):
    options = dict(classes='json', workers=1)
    prepare_coco(coco, ['train2014'], **options)
    reader = dict(type='CocoReader', data_root=str(coco), classes='json')
    ImageLabelDataset(reader, with_masks=True)
    before = (coco / 'semantic_masks' / 'train2014' / 'image1.png').stat().st_mtime_ns

    def redraw(data):
        data['annotations'][0]['segmentation'] = [[0, 0, 4, 0, 4, 4, 0, 4]]
    _change(coco, redraw)
    with pytest.raises(ValueError, match=r'semantic_masks/train2014: .*instances_train2014.json changed since'):
        ImageLabelDataset(reader, with_masks=True)
    ImageLabelDataset(reader)  # training opens no mask
    report = prepare_coco(coco, ['train2014'], **options)
    assert report.ok and '0 masks made, 3 were there already, 1 made anew' in report.text()
    assert (_mask(coco, 0) > 0).sum() == 16
    assert (coco / 'semantic_masks' / 'train2014' / 'image1.png').stat().st_mtime_ns == before
    _change(coco, lambda data: data['categories'].append(dict(id=3, name='apple')))  # bottle moves from 1 to 2
    report = prepare_coco(coco, ['train2014'], **options)
    assert report.ok and '1 were there already, 3 made anew' in report.text()  # image3 has nothing
    assert [int(_mask(coco, number).max()) for number in range(4)] == [2, 2, 2, 0]


def test_masks_of_other_classes_are_refused(coco):
    prepare_coco(coco, ['train2014'], classes='json', workers=1)
    with pytest.raises(ValueError, match="label 1 was 'bottle' and would mean 'person'; run tools/prepare_coco.py"):
        ImageLabelDataset(dict(type='CocoReader', data_root=str(coco), classes='coco'), with_masks=True)
    assert '3 made anew' in prepare_coco(coco, ['train2014'], workers=1).text() and _mask(coco, 0).max() == 40


def test_masks_changed_by_hand_are_kept_and_told(coco):
    prepare_coco(coco, ['train2014'], workers=1)
    path = coco / 'semantic_masks' / 'train2014' / 'image0.png'
    write_labels(path, np.full((12, 16), 7))
    text = path.read_bytes()
    report = prepare_coco(coco, ['train2014'], workers=1)
    assert not report.ok and 'something else than the JSON; it is kept, --overwrite' in report.failed[str(path)]
    assert path.read_bytes() == text
    assert prepare_coco(coco, ['train2014'], overwrite=True, workers=1).ok and _mask(coco, 0).max() == 40


def test_masks_of_an_earlier_version_are_adopted(coco):
    prepare_coco(coco, ['train2014'], workers=1)
    for number in range(4):
        write_labels(coco / 'semantic_masks' / 'train2014' / f'image{number}.png', _mask(coco, number))
    assert '0 masks made, 4 were there already' in prepare_coco(coco, ['train2014'], workers=1).text()
    _change(coco, lambda data: data['annotations'][0].update(segmentation=[[0, 0, 4, 0, 4, 4, 0, 4]]))
    assert prepare_coco(coco, ['train2014'], workers=1).ok  # what it was made of is known now


@pytest.mark.parametrize('bare', [[], None, [[]], {}, 'no key'])
def test_boxes_alone_are_no_masks(coco, bare):
    def empty(data):
        for annotation in data['annotations']:
            annotation['segmentation'] = bare
            if bare == 'no key':
                annotation.pop('segmentation')
    _change(coco, empty)
    report = prepare_coco(coco, ['train2014'], workers=1)
    assert not report.ok and 'none of its 3 annotations has an outline' in report.text()
    assert '--no-masks' in report.text()
    assert not (coco / 'semantic_masks').exists()
    report = prepare_coco(coco, ['train2014'], masks=False, workers=1)
    assert report.ok and '3 of 3 annotations have no outline' in report.text()
    reader = dict(type='CocoReader', data_root=str(coco))
    assert len(ImageLabelDataset(reader)) == 4
    with pytest.raises(ValueError, match='3 of 4 images have objects, but no outline of any .*example image0'):
        ImageLabelDataset(reader, with_masks=True)


@pytest.mark.parametrize(('bad', 'why'), [
    ([[1, 2, 3, 4]], 'fewer than three points'), ([1, 2, 8, 2, 8, 8], 'list of lists'), (None, 'no outline'),
    ([], 'no outline'), ([[]], 'fewer than three'), ([[1, 2, 3, 4, 5]], '5 numbers'), ('x', 'list of polygons'),
    ([[1, 2, None, 4, 5, 6]], 'finite'), (dict(size=[5, 5], counts=[25]), 'size'),
    (dict(size=[12, 16], counts=[1]), 'RLE')])
def test_an_instance_that_cannot_be_painted_is_left_out_and_named(coco, bad, why):
    def add(data):
        data['annotations'].append(dict(id=77, image_id=0, category_id=44, segmentation=bad))
    before = prepare_coco(coco, ['train2014'], workers=1) and _mask(coco, 0)
    _change(coco, add)
    for again in (False, True):  # told also where the mask is there, as far as that shows without decoding
        report = prepare_coco(coco, ['train2014'], workers=1)
        assert report.ok and np.array_equal(_mask(coco, 0), before)
        if why != 'RLE' or not again:
            hint, = [h for h in report.hints if 'left out of the masks' in h]
            assert '1 objects' in hint and 'image0, annotation 77: ' in hint
            assert why in hint


def test_categories_that_are_no_class(coco):
    def add(data):
        data['categories'] = [dict(id=0, name='drinks', supercategory='none'), dict(id=1, name='Background'),
                              dict(id=2, name='void'), dict(id=44, name='bottle', supercategory='drinks')]
        data['annotations'] += [dict(id=8, image_id=0, category_id=2, segmentation=[[10, 0, 14, 0, 14, 4, 10, 4]]),
                                dict(id=9, image_id=3, category_id=1, segmentation=[SQUARE])]
    _change(coco, add)
    report = prepare_coco(coco, ['train2014'], classes='json', workers=1)
    assert report.ok and all(f"category '{name}' is no class" in report.text() for name in ('drinks', 'Background'))
    reader = CocoReader(str(coco), classes='json')
    assert reader.vocabulary.classes == ('bottle',) and reader.records[3].classes == () and len(reader.notes) == 3
    assert (_mask(coco, 0) == 255).sum() == 16 and (_mask(coco, 0) == 1).sum() == 36 and not _mask(coco, 3).any()


def test_a_root_that_is_annotated_is_a_class(coco):
    _change(coco, lambda data: data.update(categories=[dict(id=44, name='bottle', supercategory='none'),
                                                       dict(id=45, name='cup', supercategory='bottle')]))
    assert CocoReader(str(coco), classes='json').vocabulary.classes == ('bottle', 'cup')
    _change(coco, lambda data: data.update(categories=[dict(id=44, name='bottle', supercategory='none'),
                                                       dict(id=45, name='cup', supercategory='none')]))
    assert CocoReader(str(coco), classes='json').vocabulary.classes == ('bottle', 'cup')  # just not in this split


def test_a_json_is_taken_where_it_lies(coco, capsys):
    path = _change(coco, lambda data: [image.update(file_name=f'C:\\export\\{image["file_name"]}')
                                       for image in data['images']])
    path = path.rename(coco / 'result.json')
    main = importlib.import_module('weclip_sam.cli.prepare_coco').main
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            main(['--json', str(path), '--images', str(coco / 'train2014'), '--workers', '1'])
        assert end.value.code == 0
    text, out = capsys.readouterr().out, coco / 'result_prepared'
    assert (out / 'classes.txt').read_text() == 'bottle\n' and read_labels(out / 'masks' / 'image1.png').max() == 1
    commands = [line for line in text.splitlines() if 'tools/train.py' in line]
    options = dict(option.split('=') for option in commands[-1].split('--cfg-options ')[1].split())
    assert 'tools/check_data.py' in text
    config = load_config(ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_vit-b16_5k_folder.py', options)
    for node in (config.train_dataloader.dataset, config.seed_dataset):
        dataset = ImageLabelDataset(node.reader.to_dict(), with_masks=True)
        assert len(dataset) == 4 and dataset.image_labels.sum() == 3 and dataset[0]['ground_truth'].max() == 1
    data = json.loads(path.read_text())
    data['categories'].append(dict(id=1, name='apple'))
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match='result.json changed since'):
        ImageLabelDataset(config.seed_dataset.reader.to_dict(), with_masks=True)
    assert prepare_json(path, coco / 'train2014', workers=1).ok
    assert (out / 'classes.txt').read_text() == 'apple\nbottle\n'
    assert read_labels(out / 'masks' / 'image1.png').max() == 2


def test_a_json_with_images_elsewhere(coco, tmp_path):
    path = coco / 'annotations' / 'instances_train2014.json'
    assert 'nowhere: no such file or folder' in prepare_json(path, tmp_path / 'nowhere').text()
    report = prepare_json(path, coco / 'annotations', tmp_path / 'out', workers=1)
    assert '4 of 4 images' in report.text() and '--images' in report.text() and not report.ok
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'classes.txt').write_text('cat\n')
    report = prepare_json(path, coco / 'train2014', tmp_path / 'mine', workers=1)
    assert 'lists other classes' in report.text() and (tmp_path / 'mine' / 'classes.txt').read_text() == 'cat\n'


@pytest.mark.parametrize('arguments', [[], ['--json', 'x.json'], ['--images', 'x']])
def test_half_of_the_options_is_explained(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module('weclip_sam.cli.prepare_coco').main(arguments)
    assert end.value.code == 2 and '--json' in capsys.readouterr().err


def test_a_record_that_is_none(voc):
    (voc / 'prepared.json').write_text('[1]')
    with pytest.raises(ValueError, match='prepared.json: not the record of a prepare tool; remove it'):
        prepare_voc(voc, workers=1)


def test_coco_images_and_masks_in_either_unicode_form(coco):
    nfd, images, masks = 'e\u0301', coco / 'train2014', coco / 'semantic_masks' / 'train2014'
    (images / 'image0.jpg').rename(images / f'{nfd}.jpg')
    path = _change(coco, lambda data: data['images'][0].update(file_name='\u00e9.jpg'))
    assert prepare_coco(coco, ['train2014'], workers=1).ok
    (masks / '\u00e9.png').rename(masks / f'{nfd}.png')  # as a Mac copies it
    report = prepare_coco(coco, ['train2014'], workers=1)
    assert report.ok and '0 masks made, 4 were there already' in report.text()
    ImageLabelDataset(dict(type='CocoReader', data_root=str(coco)), with_masks=True).load(0)
    _change(coco, lambda data: data['images'][0].update(file_name=f'elsewhere/{nfd}.jpg'))
    assert prepare_json(path, images, workers=1).ok
    reader = FolderReader(str(path.with_name('instances_train2014_prepared')), image_dir=str(images.resolve()))
    assert [(r.image_id, r.image_path.name) for r in reader.records][-1] == ('\u00e9', f'{nfd}.jpg')
    reader.check_masks()


def test_a_category_that_no_table_can_hold_is_told(coco):
    path = _change(coco, lambda data: data['categories'][0].update(name='a\nb'))
    report = prepare_coco(coco, ['train2014'], classes='json', workers=1)
    message, = report.failed.values()
    assert message == f"'a\\nb' cannot be written to CSV; use .json: rename the category in {path}"
    assert not (coco / 'labels_train2014.csv').exists()
