"""VOC layout: labels from the label file or XML, never from masks."""
import builtins
import io
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from weclip_sam.datasets import ImageLabelDataset, VocReader
from weclip_sam.datasets.readers.faults import ListError
from weclip_sam.datasets.readers.labels import write_label_table
from weclip_sam.datasets.readers.voc import classes_from_xml, indices_from_table
from weclip_sam.datasets.vocabulary import VOC_CLASSES, VOC_VOCABULARY, Vocabulary
from weclip_sam.io.images import write_labels

ROOT = Path(__file__).parents[3]
XML = '<annotation><filename>{}.jpg</filename>{}</annotation>'
OBJECT = '<object><name>{}</name><part><name>head</name></part><difficult>1</difficult></object>'


@pytest.fixture
def voc(tmp_path, write_image):
    root = tmp_path / 'VOC2012'
    contents = {'2007_000001': ['dog', 'person', 'dog'], '2007_000002': ['aeroplane'], '2007_000003': []}
    for seed, (name, objects) in enumerate(contents.items()):
        write_image(root / 'JPEGImages' / f'{name}.jpg', seed=seed)
        write_labels(root / 'SegmentationClass' / f'{name}.png', np.full((12, 16), seed, np.uint8))
        (root / 'Annotations').mkdir(exist_ok=True)
        (root / 'Annotations' / f'{name}.xml').write_text(XML.format(name, ''.join(OBJECT.format(o) for o in objects)))
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('2007_000003\n2007_000001\n\n')
    (lists / 'train_aug.txt').write_text('/JPEGImages/2007_000002.jpg /SegmentationClassAug/2007_000002.png\r\n')
    return root


def test_labels_from_xml_are_the_objects_not_their_parts(voc):
    reader = VocReader(str(voc), 'train')
    assert [(r.image_id, r.classes) for r in reader.records] == [('2007_000001', (11, 14)), ('2007_000003', ())]
    assert reader.vocabulary.classes[11] == 'dog' and reader.vocabulary.classes[14] == 'person'


def test_label_file_is_preferred(voc):
    write_label_table(voc / 'image_labels.csv', {'2007_000001': ['cat'], '2007_000003': ['bus', 'car']})
    assert [r.classes for r in VocReader(str(voc), 'train').records] == [(7,), (5, 6)]
    assert VocReader(str(voc), 'train', labels='xml').records[0].classes == (11, 14)
    assert VocReader(str(voc), 'train', labels='none').records[0].classes == ()


def test_the_label_file_that_data_formats_shows_is_read(tmp_path):
    text = (ROOT / 'docs' / 'data_formats.md').read_text(encoding='utf-8')
    example = text.split('**`image_labels.csv`**')[1].split('```csv\n')[1].split('```')[0]
    (tmp_path / 'image_labels.csv').write_text(example)
    names = [line.partition(',')[0] for line in example.splitlines()[1:]]
    found = indices_from_table(tmp_path / 'image_labels.csv', names)
    assert [[VOC_CLASSES[index] for index in found[name]] for name in names] == [
        ['aeroplane', 'person'], ['aeroplane'], ['tvmonitor']]


def test_list_with_paths(voc):
    assert [r.image_id for r in VocReader(str(voc), 'train_aug').records] == ['2007_000002']


def test_masks_are_read_for_evaluation(voc):
    dataset = ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'), with_masks=True)
    assert dataset[1]['ground_truth'].tolist() == [[2] * 16] * 12
    assert dataset[0]['ground_truth'].max() == 0
    (voc / 'SegmentationClass' / '2007_000003.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 2 ground-truth masks are missing.*2007_000003.png'):
        ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'), with_masks=True)


def test_augmented_masks_are_preferred(voc):
    write_labels(voc / 'SegmentationClassAug' / '2007_000001.png', np.zeros((12, 16), np.uint8))
    assert VocReader(str(voc), 'train').records[0].mask_path.parent.name == 'SegmentationClassAug'
    assert VocReader(str(voc), 'train', mask_dir='SegmentationClass').records[0].mask_path.parent.name == \
        'SegmentationClass'


def test_a_folder_of_sbds_masks_alone_leaves_vocs_own_in_use(voc):
    write_labels(voc / 'SegmentationClassAug' / '2007_000002.png', np.full((12, 16), 9, np.uint8))
    assert {r.mask_path for r in VocReader(str(voc), 'train').records} == {
        voc / 'SegmentationClass' / f'2007_00000{i}.png' for i in (1, 3)}
    dataset = ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'), with_masks=True)
    assert dataset[1]['ground_truth'].max() == 2
    (voc / 'SegmentationClass').rename(voc / 'elsewhere')
    with pytest.raises(FileNotFoundError, match='2 of 2 ground-truth masks are missing.*SegmentationClassAug'):
        VocReader(str(voc), 'train').check_masks()


def test_without_labels_the_error_says_what_to_run(voc):
    os.rename(voc / 'Annotations', voc / 'elsewhere')
    with pytest.raises(FileNotFoundError, match='tools/prepare_voc.py.*never taken from masks'):
        VocReader(str(voc), 'train')


@pytest.mark.parametrize(('gone', 'message'), [
    ('ImageSets/Segmentation/train.txt', "split 'train' is missing.*Did you mean 'train_aug.txt'.*prepare_voc"),
    ('JPEGImages/2007_000001.jpg', '1 of 2 images are missing.*2007_000001.jpg'),
    ('Annotations/2007_000001.xml', 'annotation is missing.*2007_000001.xml')])
def test_missing_files_are_named(voc, gone, message):
    (voc / gone).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        VocReader(str(voc), 'train')


def test_missing_root_says_where_voc_is(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.*host.robots.ox.ac.uk.*data_root'):
        VocReader(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize(('table', 'message'), [
    ({'2007_000001': ['cat']}, "no line for image '2007_000003'.*Did you mean '2007_000001'"),
    ({'2007_000001': ['aeroplan'], '2007_000003': []},
     "2007_000001.*unknown class 'aeroplan'. Did you mean 'aeroplane'")])
def test_wrong_label_file(voc, table, message):
    write_label_table(voc / 'image_labels.csv', table)
    with pytest.raises(ValueError, match=message):
        VocReader(str(voc), 'train')


def test_all_faults_of_the_labels_are_told(voc):
    write_label_table(voc / 'image_labels.csv', {'2007_000001': ['aeroplan', 'dog', 'doge']})
    with pytest.raises(ListError) as caught:
        VocReader(str(voc), 'train')
    line, plane, dog = caught.value.faults
    assert "no line for image '2007_000003'" in line and "'aeroplan'" in plane and "'doge'" in dog
    for name in ('2007_000001', '2007_000003'):
        (voc / 'Annotations' / f'{name}.xml').write_text('<html/>')
    with pytest.raises(ListError) as caught:
        VocReader(str(voc), 'train', labels='xml')
    assert [fault.split(':')[0] for fault in caught.value.faults] == [
        str(voc / 'Annotations' / f'{name}.xml') for name in ('2007_000003', '2007_000001')]


@pytest.mark.parametrize(('content', 'message'), [
    ('<annotation><object>', 'not a readable XML'), ('<html/>', 'expected a VOC annotation'),
    (XML.format('a', OBJECT.format('doge')), "unknown class 'doge'. Did you mean 'dog'"),
    ('<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>', 'document type'), ('', 'not a readable XML')])
def test_wrong_xml(tmp_path, content, message):
    (tmp_path / 'a.xml').write_text(content)
    with pytest.raises(ValueError, match=message):
        classes_from_xml(tmp_path / 'a.xml')


def test_training_opens_images_and_no_mask(voc, monkeypatch):
    opened = []
    plain = builtins.open

    def counting(file, *args, **kwargs):
        opened.append(str(file))
        return plain(file, *args, **kwargs)
    monkeypatch.setattr(builtins, 'open', counting)
    monkeypatch.setattr(io, 'open', counting)
    dataset = ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'), [dict(type='PackSample')])
    items = [dataset[i] for i in range(len(dataset))]
    assert sum(name.endswith('.jpg') for name in opened) == len(items) == 2
    assert not [name for name in opened if 'SegmentationClass' in name]
    # The counter does see masks when they are wanted.
    ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'), with_masks=True)[0]
    assert sum('SegmentationClass' in name for name in opened) == 1


@pytest.mark.parametrize('change', ['deleted', 'noise'])
def test_training_items_do_not_depend_on_masks(voc, change):
    def items():
        dataset = ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'),
                                    [dict(type='RandomCrop', size=8), dict(type='PackSample')])
        return [(item['inputs'], item['data_samples'].image_labels) for item in dataset]
    before = items()
    for path in (voc / 'SegmentationClass').iterdir():
        path.unlink() if change == 'deleted' else path.write_bytes(b'noise')
    after = items()
    assert len(after) == 2
    assert all((a == b).all() and (x == y).all() for (a, x), (b, y) in zip(before, after, strict=True))


def test_real_images(shared, tmp_path):
    root = shared / 'voc_mini' / 'VOC2012'
    with pytest.raises(FileNotFoundError, match='prepare_voc'):  # this excerpt has neither labels nor annotations
        VocReader(str(root), 'train')
    table = {'2011_000003': ['bottle', 'person'], '2011_000006': ['chair', 'person', 'sofa'],
             '2011_000025': ['bus', 'car']}
    write_label_table(tmp_path / 'labels.csv', table)
    dataset = ImageLabelDataset(dict(type='VocReader', data_root=str(root), split='val',
                                     labels=str(tmp_path / 'labels.csv')), [dict(type='PackSample')], with_masks=True)
    for index, item in enumerate(dataset):
        sample = item['data_samples']
        present = set(sample.ground_truth.unique().tolist()) - {0, 255}
        assert {label - 1 for label in present} == set(dataset.image_labels[index].nonzero()[:, 0].tolist())
        assert sample.ground_truth.shape == item['inputs'].shape[1:]
    assert len(dataset) == 3


def test_classes_of_ones_own_in_vocs_layout(voc):
    for name in ('2007_000001', '2007_000003'):
        (voc / 'Annotations' / f'{name}.xml').write_text(XML.format(name, OBJECT.format('zebra')))
    (voc / 'classes.txt').write_text('person\nzebra\n')
    (voc / 'background.txt').write_text('savanna\nperson\n')
    (voc / 'prompts.json').write_text('{"zebra": ["zebra", "striped horse"]}')
    for labels in ('xml', 'auto'):
        reader = VocReader(str(voc), 'train', labels=labels)
        assert reader.vocabulary.metainfo()['classes'] == ('person', 'zebra')
        assert reader.vocabulary.prompt_names == ('person', 'zebra,striped horse')
        assert reader.vocabulary.background_nouns == ('savanna',)
        assert [r.classes for r in reader.records] == [(1,), (1,)]
        write_label_table(voc / 'image_labels.csv', {'2007_000001': ['zebra'], '2007_000003': ['zebra']})
    with pytest.raises(ValueError, match="label values .2. name no class; allowed are 0 .background. to 1"):
        VocReader(str(voc), 'train', classes=['zebra']).load_ground_truth(1)  # not VOC's bicycle
    with pytest.raises(ValueError, match="unknown class 'zebra'"):
        VocReader(str(voc), 'train', classes=VOC_CLASSES)


def test_vocs_own_classes_keep_their_prompts(voc):
    (voc / 'classes.txt').write_text('\n'.join(VOC_CLASSES))
    assert VocReader(str(voc), 'train').vocabulary is VOC_VOCABULARY
    (voc / 'classes.txt').write_text('background\n' + '\n'.join(VOC_CLASSES))
    with pytest.raises(ValueError, match="classes.txt: 'background' is no class of its own.*label 1 is the first line"):
        VocReader(str(voc), 'train')


def test_lines_with_blanks_or_folders_mean_the_image_that_is_there(voc, write_image):
    for name in ('my photo', 'day 1/a'):
        write_image(voc / 'JPEGImages' / f'{name}.jpg')
    lists = voc / 'ImageSets' / 'Segmentation'
    (lists / 'own.txt').write_text('my photo\nday 1/a.jpg\n2007_000001  1\n')
    reader = VocReader(str(voc), 'own', labels='none')
    assert [r.image_id for r in reader.records] == ['2007_000001', 'day 1/a', 'my photo']
    write_image(voc / 'JPEGImages' / 'my.jpg')
    with pytest.raises(ValueError, match=r"own\.txt: the line 'my photo' could mean the image 'my photo' or 'my' in"):
        VocReader(str(voc), 'own', labels='none')


def test_a_label_file_with_two_lines_for_one_image_is_refused(voc):
    write_label_table(voc / 'image_labels.csv', {'2007_000001': ['cat'], '2007_000001.jpg': ['dog'],
                                                 '2007_000003': ['bus']})
    with pytest.raises(ListError, match="both '2007_000001' and '2007_000001.jpg' are there"):
        VocReader(str(voc), 'train')


def test_a_missing_list_names_the_override_that_helps(voc):
    (voc / 'ImageSets' / 'Segmentation' / 'train_aug.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'tools/prepare_voc.py .*VOC2012. Or use a list that is there '
                       r'\(train\): --cfg-options train_dataloader.dataset.reader.split=train$'):
        VocReader(str(voc))


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_lists_with_a_mark_and_backslashes(voc, encoding):
    path = voc / 'ImageSets' / 'Segmentation' / 'train.txt'
    path.write_text('JPEGImages\\2007_000003.jpg\r\n2007_000001\r\n', encoding=encoding)
    assert [r.image_id for r in VocReader(str(voc), 'train').records] == ['2007_000001', '2007_000003']


def test_decomposed_names_in_every_folder(voc, write_image):
    name = unicodedata.normalize('NFD', 'é')
    write_image(voc / 'JPEGImages' / f'{name}.jpg')
    write_labels(voc / 'SegmentationClass' / f'{name}.png', np.zeros((12, 16), np.uint8))
    (voc / 'Annotations' / f'{name}.xml').write_text(XML.format('x', OBJECT.format('dog')))
    (voc / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('é\n', encoding='utf-8')
    dataset = ImageLabelDataset(dict(type='VocReader', data_root=str(voc), split='train'), with_masks=True)
    assert dataset.image_ids == ['é'] and dataset.records[0].classes == (11,) and dataset[0]['ground_truth'].max() == 0


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'iso-8859-1'])
def test_annotations_in_other_encodings(tmp_path, encoding):
    path = tmp_path / 'a.xml'
    declared = '' if encoding != 'iso-8859-1' else '<?xml version="1.0" encoding="iso-8859-1"?>'
    vocabulary = Vocabulary.build(['pâté'])
    path.write_text(declared + XML.format('a', OBJECT.format('pâté')), encoding=encoding)
    assert classes_from_xml(path, vocabulary) == (0,)
    path.write_text(declared + '<!DOCTYPE x>' + XML.format('a', ''), encoding=encoding)
    with pytest.raises(ValueError, match='declares a document type'):
        classes_from_xml(path)


def test_an_annotation_that_declares_nothing_and_is_no_utf8(tmp_path):
    (tmp_path / 'a.xml').write_text('<annotation>\npâté</annotation>', encoding='iso-8859-1')
    with pytest.raises(ValueError, match='a.xml, line 2: not UTF-8 text'):
        classes_from_xml(tmp_path / 'a.xml')


def test_images_and_masks_of_any_suffix(voc, write_image):
    images, masks = voc / 'JPEGImages', voc / 'SegmentationClass'
    (images / '2007_000001.jpg').rename(images / '2007_000001.JFIF')
    (images / '2007_000003.jpg').unlink()
    write_image(images / '2007_000003.png')
    (images / '._2007_000003.jpeg').write_bytes(b'')
    (masks / '2007_000001.png').rename(masks / '2007_000001.PNG')
    reader = VocReader(str(voc), 'train')
    assert [record.image_path.name for record in reader.records] == ['2007_000001.JFIF', '2007_000003.png']
    assert [record.mask_path.name for record in reader.records] == ['2007_000001.PNG', '2007_000003.png']
    reader.check_masks()
    (voc / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('2007_000001.jfif\n2007_000003.png\n')
    assert len(VocReader(str(voc), 'train').records) == 2


def test_of_two_images_of_one_name_the_jpeg_is_meant_or_none(voc, write_image):
    write_image(voc / 'JPEGImages' / '2007_000001.png')
    assert VocReader(str(voc), 'train').records[0].image_path.name == '2007_000001.jpg'
    (voc / 'JPEGImages' / '2007_000001.jpg').rename(voc / 'JPEGImages' / '2007_000001.bmp')
    with pytest.raises(ListError, match="image '2007_000001' may be 2007_000001.bmp or 2007_000001.png"):
        VocReader(str(voc), 'train')


@pytest.mark.parametrize('on_disk', ['NFC', 'NFD'])
def test_either_unicode_form_with_any_suffix(voc, write_image, on_disk):
    name = unicodedata.normalize(on_disk, '\u00e9')
    for folder, suffix in (('JPEGImages', 'jpg'), ('SegmentationClass', 'png')):
        path = voc / folder / f'{name}.{suffix}'
        write_image(path) if suffix == 'jpg' else write_labels(path, np.zeros((12, 16), np.uint8))
        path.rename(path.with_suffix('.JFIF' if suffix == 'jpg' else '.PNG'))
    (voc / 'Annotations' / f'{name}.xml').write_text(XML.format('x', OBJECT.format('dog')))
    (voc / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('\u00e9.jfif\n', encoding='utf-8')
    reader = VocReader(str(voc), 'train')
    assert [(r.image_id, r.image_path.name, r.mask_path.name) for r in reader.records] == [
        ('\u00e9', f'{name}.JFIF', f'{name}.PNG')]
    reader.check_masks()


def test_one_image_in_two_unicode_forms_is_refused(voc, write_image):
    for form in ('NFC', 'NFD'):
        write_image(voc / 'JPEGImages' / f'{unicodedata.normalize(form, chr(233))}.png')
    if len(list((voc / 'JPEGImages').glob('*.png'))) < 2:
        pytest.skip('this file system knows one form')
    (voc / 'ImageSets' / 'Segmentation' / 'train.txt').write_text('\u00e9\n', encoding='utf-8')
    with pytest.raises(ValueError, match='in different Unicode forms'):
        VocReader(str(voc), 'train', labels='none')


def test_the_folder_above_the_data_is_told(voc):
    with pytest.raises(FileNotFoundError, match=f'the list of split .* is missing.*data_root={voc}'):
        VocReader(str(voc.parent), 'train')
