"""The prepare tools: what they write, what they say is missing, and going on after an interruption."""
import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from weclip_sam.datasets import CocoReader, ImageLabelDataset, VocReader
from weclip_sam.datasets.prepare import prepare_coco, prepare_voc
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.engine import load_config
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.io.parallel import parallel_map

ROOT = Path(__file__).resolve().parents[2]
TRAIN = 'next    python tools/train.py configs/weclip_sam'
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
    assert prepare_voc(voc, workers=1).text().splitlines()[-1] == command + split
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
    assert '1 masks made, 3 were there already' in prepare_coco(coco, ['train2014'], workers=1).text()
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
    main = runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'))['main']
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
