"""One's own photographs: the errors people make, and nothing outside the folder."""
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.datasets import FolderReader, ImageLabelDataset
from weclip_sam.datasets.readers.faults import ListError, MissingImages
from weclip_sam.datasets.readers.folder import in_val
from weclip_sam.io.images import write_labels


@pytest.fixture
def photos(tmp_path, write_image):
    root = tmp_path / 'photos'
    for seed, name in enumerate(['b.jpg', 'a.png', 'trip/c.JPG']):
        write_image(root / 'images' / name, seed=seed)
    (root / 'labels.csv').write_text('image,classes\nb.jpg,dog;cat\na.png,\ntrip/c.JPG,boat\n')
    return root


def test_classes_are_sorted_names(photos):
    reader = FolderReader(str(photos))
    assert reader.vocabulary.classes == ('boat', 'cat', 'dog')
    assert [(r.image_id, r.classes) for r in reader.records] == [('a', ()), ('b', (1, 2)), ('trip/c', (0,))]
    assert reader.records[2].mask_path == photos / 'masks' / 'trip' / 'c.png'


def test_images_without_a_label_are_kept_or_skipped(photos):
    config = dict(type='FolderReader', data_root=str(photos))
    kept = ImageLabelDataset(config, [dict(type='PackSample')])
    assert len(kept) == 3 and not kept[0]['data_samples'].image_labels.any()
    assert ImageLabelDataset(config, unlabelled='skip').image_ids == ['b', 'trip/c']


def test_class_order_can_be_given(photos):
    (photos / 'classes.txt').write_text('dog\ncat\n\nboat\nhorse\n')
    assert FolderReader(str(photos)).vocabulary.classes == ('dog', 'cat', 'boat', 'horse')
    assert FolderReader(str(photos), classes=['cat', 'boat', 'dog']).records[1].classes == (0, 2)


def test_prompt_names_and_synonyms(photos):
    assert FolderReader(str(photos), prompt_names={'boat': ['boat', 'ship']}).vocabulary.prompt_names[0] == 'boat,ship'
    (photos / 'prompts.json').write_text(json.dumps({'cat': 'small cat'}))
    assert FolderReader(str(photos)).vocabulary.prompt_names == ('boat', 'small cat', 'dog')
    (photos / 'prompts.json').write_text('[')
    with pytest.raises(ValueError, match='prompts.json, line 1: not valid JSON'):
        FolderReader(str(photos))


def test_unknown_class_names_the_nearest(photos):
    (photos / 'classes.txt').write_text('dogs\ncat\nboat\n')
    with pytest.raises(ValueError, match="labels.csv, image 'b.jpg': unknown class 'dog'. Did you mean 'dogs'"):
        FolderReader(str(photos))


def test_after_many_faults_no_more_are_looked_for(photos):
    (photos / 'classes.txt').write_text('cat\n')
    (photos / 'labels.csv').write_text('image,classes\n' + ''.join(f'b{i}.jpg,dog{i}\n' for i in range(30)))
    with pytest.raises(ListError) as caught:
        FolderReader(str(photos))
    assert len(caught.value.faults) == 21 and "b19.jpg': unknown class 'dog19'" in caught.value.faults[19]
    assert str(caught.value).splitlines() == list(caught.value.faults)
    assert caught.value.faults[20] == 'Stopped looking after 20 faults'


def test_json_labels(photos):
    (photos / 'l.json').write_text(json.dumps({'b.jpg': ['cat']}))
    assert [r.image_id for r in FolderReader(str(photos), labels='l.json').records] == ['b']


@pytest.mark.parametrize('name', ['../secret.jpg', '/etc/passwd', 'trip/../../secret.jpg', 'C:\\x.jpg', '..\\x.jpg',
                                  '.', '\\\\host\\x.jpg'])
@pytest.mark.parametrize('kind', ['csv', 'json'])
def test_paths_that_leave_the_folder_are_refused(photos, name, kind):
    text = f'image,classes\n{name},cat\n' if kind == 'csv' else json.dumps({name: ['cat']})
    (photos / f'l.{kind}').write_text(text)
    with pytest.raises(ValueError, match=f'l.{kind}.*stays inside'):
        FolderReader(str(photos), labels=f'l.{kind}')


def test_missing_images(photos):
    os.rename(photos / 'images' / 'b.jpg', photos / 'images' / 'bb.jpg')
    with pytest.raises(FileNotFoundError, match="1 of 3 images.*b.jpg.*Did you mean 'bb.jpg'.*missing='skip'.*"
                       r'--cfg-options train_dataloader\.dataset\.reader\.missing=skip'):
        FolderReader(str(photos))
    assert [r.image_id for r in FolderReader(str(photos), missing='skip').records] == ['a', 'trip/c']


@pytest.mark.parametrize(('gone', 'message'), [
    ('labels.csv', 'label file is missing.*image,classes'), ('images', 'b.jpg')])
def test_missing_parts(photos, gone, message):
    os.rename(photos / gone, photos / f'other_{gone}')
    with pytest.raises(FileNotFoundError, match=message):
        FolderReader(str(photos))


def test_a_name_without_suffix_that_two_photos_have(photos, write_image):
    write_image(photos / 'images' / 'b.png')
    (photos / 'labels.csv').write_text('image,classes\nb,cat\n')
    with pytest.raises(FileNotFoundError, match="It has no suffix, and may be 'b.jpg' or 'b.png': write it with one"):
        FolderReader(str(photos))


def test_images_may_lie_beside_the_table(photos):
    for path in (photos / 'images').iterdir():
        path.rename(photos / path.name)
    (photos / 'images').rmdir()
    assert [r.image_path for r in FolderReader(str(photos)).records][:2] == [photos / 'a.png', photos / 'b.jpg']
    with pytest.raises(FileNotFoundError, match='image folder is missing'):
        FolderReader(str(photos), image_dir='pictures')


@pytest.mark.parametrize(('name', 'message'), [('Background', 'is no class of its own'), ('Cat', "'Cat' and 'cat'")])
def test_names_that_would_make_a_second_class_of_one(photos, name, message):
    table = (photos / 'labels.csv').read_text()
    (photos / 'labels.csv').write_text(table.replace('dog', name, 1))
    with pytest.raises(ValueError, match=message):
        FolderReader(str(photos))


def test_classes_that_read_like_empty_cells_are_told_at_once(photos):
    with open(photos / 'labels.csv', 'a') as file:
        file.write('d.jpg,nan;cat\ne.jpg,None\nf.jpg,null\n')
    with pytest.raises(ValueError, match=r"labels\.csv: 'None', 'nan', 'null' read like an empty cell, .*classes\.txt"):
        FolderReader(str(photos), missing='skip')
    (photos / 'classes.txt').write_text('cat\ndog\nnan\nNone\nnull\nboat\n')
    assert FolderReader(str(photos), missing='skip').vocabulary.classes[2:5] == ('nan', 'None', 'null')


@pytest.mark.parametrize('image_dir', ['images', '.'])
def test_files_that_no_row_names(photos, write_image, monkeypatch, image_dir):
    with open(photos / 'labels.csv', 'a') as file:
        file.write('./d.jpg,cat\nhike/e.jpg,dog\n')  # there is no such folder
    (photos / 'labels.csv').rename(photos / 'images' / 'labels.csv')
    write_image(photos / 'images' / 'd.jpg')
    write_image(photos / 'images' / 'trip' / 'f.jpg')
    monkeypatch.chdir(photos if image_dir == 'images' else photos / 'images')
    reader = FolderReader('.', f'{image_dir}/labels.csv', image_dir, missing='skip')
    assert [str(path) for path in reader.unlisted()] == [str(Path(image_dir) / 'trip' / 'f.jpg')]


def test_two_images_with_one_id(photos, write_image):
    write_image(photos / 'images' / 'b.png')
    with open(photos / 'labels.csv', 'a') as file:
        file.write('b.png,cat\n')
    with pytest.raises(ValueError, match="share the id 'b'.*b.jpg.*b.png"):
        FolderReader(str(photos))


def test_split_file(photos):
    (photos / 'few.txt').write_text('trip/c.JPG\nb\n')
    assert [r.image_id for r in FolderReader(str(photos), split='few.txt').records] == ['b', 'trip/c']
    (photos / 'few.txt').write_text('bx.jpg\n')
    with pytest.raises(ValueError, match="few.txt: image 'bx.jpg'.*Did you mean 'b.jpg'"):
        FolderReader(str(photos), split='few.txt')
    (photos / 'few.txt').write_text('b\nb.jpg\n')
    with pytest.raises(ValueError, match="'b.jpg' is listed twice"):
        FolderReader(str(photos), split='few.txt')
    with pytest.raises(FileNotFoundError, match="none.txt.*split='train'"):
        FolderReader(str(photos), split='none.txt')


def test_fraction_split_is_stable(tmp_path, write_image):
    names = [f'photo{i}.png' for i in range(60)]
    for name in names:
        write_image(tmp_path / 'images' / name)

    def ids(split, upto):
        (tmp_path / 'labels.csv').write_text('image,classes\n' + ''.join(f'{n},cat\n' for n in names[:upto]))
        return {r.image_id for r in FolderReader(str(tmp_path), split=split, val_fraction=0.3).records}
    train, val = ids('train', 60), ids('val', 60)
    assert not train & val and len(train | val) == 60 and 9 <= len(val) <= 27
    assert ids('val', 30) == {name for name in val if int(name[5:]) < 30}  # new images move no old ones
    assert in_val('photo0', 1.0) and not in_val('photo0', 0.0)


def test_empty_split_is_explained(photos):
    with pytest.raises(ValueError, match="no image is in split 'val' of 3.*val_fraction=0.0001.*list file"):
        FolderReader(str(photos), split='val', val_fraction=1e-4)


def test_table_without_any_class(photos):
    (photos / 'labels.csv').write_text('image,classes\nb.jpg,\n')
    with pytest.raises(ValueError, match='names no class at all'):
        FolderReader(str(photos))


def test_masks_for_evaluation(photos):
    for name in ('a', 'b', 'trip/c'):
        write_labels(photos / 'masks' / f'{name}.png', np.full((12, 16), 3, np.uint8))
    dataset = ImageLabelDataset(dict(type='FolderReader', data_root=str(photos)), with_masks=True)
    assert dataset[2]['ground_truth'].max() == 3
    write_labels(photos / 'masks' / 'a.png', np.full((12, 16), 9, np.uint8))
    with pytest.raises(ValueError, match=r'a.png: label values \[9\]'):
        dataset[0]
    write_labels(photos / 'masks' / 'a.png', np.full((2, 16), 1, np.uint8))
    with pytest.raises(ValueError, match='a.png: labels are 2 x 16.*image is 12 x 16'):
        dataset[0]


def test_real_photographs(shared):
    train = ImageLabelDataset(dict(type='FolderReader', data_root=str(shared / 'rooms'), split='train'),
                              [dict(type='PackSample')])
    val = ImageLabelDataset(dict(type='FolderReader', data_root=str(shared / 'rooms'), split='val'))
    assert len(train) + len(val) == 85 and len(val) > 5
    assert train.metainfo['classes'] == val.metainfo['classes'] and len(train.metainfo['classes']) == 30
    assert train[0]['inputs'].shape == (3, 480, 640) and train[0]['data_samples'].image_labels.any()


def test_large_photographs_are_shrunk_with_their_masks(photos):
    rng = np.random.default_rng(0)
    labels = np.zeros((90, 160), np.uint8)
    labels[30:60, 40:120] = 3
    Image.fromarray(labels * 80).save(photos / 'images' / 'b.jpg', quality=95)
    Image.fromarray(rng.integers(0, 255, (1, 300, 3), dtype=np.uint8)).save(photos / 'images' / 'a.png')
    write_labels(photos / 'masks' / 'b.png', labels)
    for name in ('a', 'trip/c'):
        write_labels(photos / 'masks' / f'{name}.png', np.zeros((1, 300) if name == 'a' else (12, 16), int))
    dataset = ImageLabelDataset(dict(type='FolderReader', data_root=str(photos), max_side=80), with_masks=True)
    item = dataset.load(1)
    assert item['image'].shape == (45, 80, 3) and item['ori_shape'] == (45, 80)
    assert item['ground_truth'].shape == (45, 80) and set(np.unique(item['ground_truth'])) == {0, 3}
    assert ((item['image'][..., 0] > 120) != (item['ground_truth'] == 3)).mean() < 0.06
    assert dataset.load(0)['image'].shape == (1, 80, 3) and dataset.load(2)['image'].shape == (12, 16, 3)
    whole = ImageLabelDataset(dict(type='FolderReader', data_root=str(photos), max_side=None))
    assert whole.load(1)['image'].shape == (90, 160, 3)
    with pytest.raises(ValueError, match='max_side'):
        FolderReader(str(photos), max_side=0)


def test_background_nouns_lie_beside_the_images(photos):
    assert 'ground' in FolderReader(str(photos)).vocabulary.background_nouns
    (photos / 'background.txt').write_text('shelf\ncarpet\n')
    assert FolderReader(str(photos)).vocabulary.background_nouns == ('shelf', 'carpet')
    assert FolderReader(str(photos), background_nouns=['desk']).vocabulary.background_nouns == ('desk',)
    with pytest.raises(FileNotFoundError, match='nouns.txt.*one noun a line'):
        FolderReader(str(photos), background_nouns='nouns.txt')


@pytest.mark.parametrize('name', ['background', 'Background', '_background_', '__background__', '__ignore__', 'void'])
def test_background_is_no_class(photos, name):
    (photos / 'classes.txt').write_text(f'{name}\ncat\ndog\nboat\n')
    with pytest.raises(ValueError, match=f"classes.txt: '{name}' is no class of its own"):
        FolderReader(str(photos))


@pytest.mark.parametrize(('text', 'message'), [
    ('\n', 'got none: write one class name a line'), ('cat\ndog\ncat\nboat\n', "got 4 with 'cat' repeated")])
def test_a_class_list_that_is_empty_or_says_a_name_twice_is_named(photos, text, message):
    (photos / 'classes.txt').write_text(text)
    with pytest.raises(ValueError, match=rf'photos/classes\.txt: expected 1 to 254 different names, {message}'):
        FolderReader(str(photos))


def test_a_line_that_could_mean_two_images_is_refused(photos, write_image):
    write_image(photos / 'images' / 'a.jpg')
    write_image(photos / 'images' / 'my photo.jpg')
    (photos / 'labels.csv').write_text('image,classes\na.jpg,dog\na.png,cat\nmy photo.jpg,cat\n')
    with pytest.raises(ValueError, match=r"share the id 'a': .*a\.jpg and .*a\.png; rename one"):
        FolderReader(str(photos))
    (photos / 'list.txt').write_text('a\n')
    with pytest.raises(ListError, match=r"list\.txt: image 'a' could be 'a\.jpg' or 'a\.png'; write its suffix"):
        FolderReader(str(photos), split='list.txt')
    (photos / 'list.txt').write_text('a.png\nmy photo\n')
    assert [r.image_id for r in FolderReader(str(photos), split='list.txt').records] == ['a', 'my photo']


@pytest.mark.parametrize('on_disk', ['NFC', 'NFD'])
@pytest.mark.parametrize('typed', ['NFC', 'NFD'])
def test_names_are_found_in_either_unicode_form(tmp_path, write_image, on_disk, typed):
    def disk(name):
        return unicodedata.normalize(on_disk, name)
    for name in ('café.jpg', 'Übung/ä.png'):
        write_image(tmp_path / 'images' / disk(name))
        write_labels(tmp_path / 'masks' / Path(disk(name)).with_suffix('.png'), np.zeros((12, 16), np.uint8))
    table = 'image,classes\ncafé.jpg,pâté\nÜbung\\ä.png,\n'
    (tmp_path / 'labels.csv').write_text(unicodedata.normalize(typed, table), encoding='utf-8')
    (tmp_path / 'classes.txt').write_text(disk('pâté\n'), encoding='utf-16')
    (tmp_path / 'list.txt').write_text(unicodedata.normalize(typed, 'Übung\\ä.png\ncafé\n'), encoding='utf-8-sig')
    (tmp_path / 'prompts.json').write_text(json.dumps({disk('pâté'): 'pie'}), encoding='utf-8-sig')
    for split in ('all', 'list.txt'):
        reader = FolderReader(str(tmp_path), split=split)
        assert [(r.image_id, r.classes) for r in reader.records] == [('café', (0,)), ('Übung/ä', ())]
    assert reader.vocabulary.classes == ('pâté',) and reader.vocabulary.prompt_names == ('pie',)
    assert reader.unlisted() == []
    dataset = ImageLabelDataset(reader, with_masks=True)
    assert dataset[0]['ground_truth'].shape == dataset[1]['image'].shape[:2]


def test_a_row_that_could_mean_two_files_is_refused(tmp_path, write_image):
    for form in ('NFC', 'NFD'):
        write_image(tmp_path / unicodedata.normalize(form, 'é.jpg'))
    if len(list(tmp_path.glob('*.jpg'))) < 2:
        pytest.skip('this file system knows one form')
    (tmp_path / 'labels.csv').write_text('image,classes\né.jpg,cat\n', encoding='utf-8')
    with pytest.raises(ListError, match="2 files are called 'é.jpg', in different Unicode forms"):
        FolderReader(str(tmp_path))


def test_nouns_that_name_a_class_are_left_out_whatever_their_capitals(photos):
    (photos / 'labels.csv').write_text('image,classes\nb.jpg,Tree\n')
    (photos / 'background.txt').write_text('sky\ntree\nTREE\n')
    vocabulary = FolderReader(str(photos)).vocabulary
    assert vocabulary.background_nouns == ('sky',) and vocabulary.left_out == ('tree', 'TREE')


def test_an_unknown_class_mentions_the_file_of_classes(photos):
    with pytest.raises(ValueError, match=r"unknown class 'boat'\..* Else add it to classes.txt in the data folder"):
        FolderReader(str(photos), classes=['cat', 'dog'])


def test_what_is_passed_over_is_counted_and_links_are_followed(photos, write_image, tmp_path):
    write_image(tmp_path / 'disk' / 'far.jfif')
    os.symlink(tmp_path / 'disk', photos / 'images' / 'more')
    os.symlink('..', photos / 'images' / 'trip' / 'up')
    for name in ('._b.jpg', 'trip/Thumbs.db', 'raw.CR2', 'raw.txt'):
        (photos / 'images' / name).write_bytes(b'')
    found = FolderReader(str(photos)).search()
    assert found.files == [photos / 'images' / 'more' / 'far.jfif']
    assert found.told() == ('other kinds of files 2 (1 .cr2, 1 .txt), hidden or of the system 2, links back to what is '
                            'searched anyway 1')


def test_the_project_s_own_files_are_not_counted(photos):
    for name in ('classes.txt', 'background.txt'):
        (photos / name).write_text('boat\ncat\ndog\n')
    for name in ('labels.csv', 'classes.txt', 'background.txt'):
        (photos / name).rename(photos / 'images' / name)
    write_labels(photos / 'images' / 'masks' / 'b.png', np.zeros((12, 16), np.uint8))
    write_labels(photos / 'images' / 'b.png', np.zeros((12, 16), np.uint8))
    root = str(photos / 'images')
    assert FolderReader(root).search().told() == '' and FolderReader(root, mask_dir='.').unlisted() == []
    assert FolderReader(root).unlisted() == [photos / 'images' / 'b.png']


def test_masks_in_capitals(photos):
    write_labels(photos / 'masks' / 'b.png', np.ones((12, 16), np.uint8))
    (photos / 'masks' / 'b.png').rename(photos / 'masks' / 'b.PNG')
    records = {record.image_id: record.mask_path.name for record in FolderReader(str(photos)).records}
    assert records == {'a': 'a.png', 'b': 'b.PNG', 'trip/c': 'c.png'}


def test_a_name_whose_mask_can_have_none_is_an_image_like_others(photos, write_image):
    name = 'x' * 255
    (photos / 'images' / 'b.jpg').rename(photos / 'images' / name)
    (photos / 'labels.csv').write_text(f'image,classes\n{name},cat\n')
    reader = FolderReader(str(photos))
    assert reader.load_image(0).size == (16, 12)
    with pytest.raises(FileNotFoundError, match='1 of 1 ground-truth masks are missing'):
        reader.check_masks()


@pytest.mark.parametrize('on_disk', ['NFC', 'NFD'])
def test_masks_and_unlisted_files_in_either_form_with_any_suffix(tmp_path, write_image, on_disk):
    place = unicodedata.normalize(on_disk, '\u00dcbung')
    name = unicodedata.normalize(on_disk, '\u00e9')
    write_image(tmp_path / place / f'{name}.jpg')
    write_labels(tmp_path / 'masks' / place / f'{name}.png', np.ones((12, 16), np.uint8))
    (tmp_path / 'masks' / place / f'{name}.png').rename(tmp_path / 'masks' / place / f'{name}.PNG')
    (tmp_path / 'labels.csv').write_text('image,classes\n\u00dcbung/\u00e9.jpg,cat\n', encoding='utf-8')
    reader = FolderReader(str(tmp_path))
    assert reader.records[0].mask_path == tmp_path / 'masks' / place / f'{name}.PNG'
    reader.check_masks()
    assert FolderReader(str(tmp_path), mask_dir='.').search().files == [] == reader.unlisted()
    write_labels(tmp_path / place / f'{name}.png', np.ones((12, 16), np.uint8))
    assert reader.unlisted() == [tmp_path / place / f'{name}.png']
    assert FolderReader(str(tmp_path), mask_dir='.').unlisted() == []


@pytest.mark.parametrize('there, listed', [
    ('cat_01.jpg', 'cat_01'), ('1.jpg', '1'), ('0001.jpg', '1'), ('0001.jpg', '1.0'), ('A.JPG', 'a.jpg'),
    ('a.jpeg', 'a.jpg'), ('cat_01.jpg', 'images/cat_01.jpg')])
def test_the_file_that_a_name_stands_for_is_told(tmp_path, write_image, there, listed):
    for name in (there, 'b.jpg', 'cat_02.jpg'):
        write_image(tmp_path / 'images' / name)
    (tmp_path / 'labels.csv').write_text(f'image,classes\n{listed},cat\n')
    with pytest.raises(MissingImages, match=f"Did you mean '{there}'"):
        FolderReader(str(tmp_path))


@pytest.mark.parametrize('classes, message', [
    ('0;1', 'the classes are numbers'), ('1.0', 'the classes are numbers'), ('1 0 1', 'the classes are numbers'),
    ('cat;nan', "'nan' reads like an empty cell"), ('"[\'cat\', \'dog\']"', 'is a list')])
def test_what_stands_in_the_place_of_names_is_refused(photos, classes, message):
    (photos / 'labels.csv').write_text(f'image,classes\nb.jpg,{classes}\n')
    with pytest.raises(ValueError, match=message):
        FolderReader(str(photos))


def test_numbers_with_texts_or_in_a_list_are_classes(photos):
    (photos / 'labels.csv').write_text('image,classes\nb.jpg,3;7\n')
    (photos / 'prompts.json').write_text('{"3": "boat", "7": "dog"}')
    assert FolderReader(str(photos)).vocabulary.prompt_names == ('boat', 'dog')
    (photos / 'prompts.json').unlink()
    assert FolderReader(str(photos), classes=['7', '3']).records[0].classes == (0, 1)


@pytest.mark.parametrize('lines, message', [('0\n1\n2', 'label 0 is the background'), ('# names\ncat', 'is a comment'),
                                            ('0 background\n1: cat', 'numbers before the names')])
def test_a_class_list_that_would_shift_the_labels_is_refused(photos, lines, message):
    (photos / 'classes.txt').write_text(lines)
    with pytest.raises(ValueError, match=f'classes.txt: .*{message}'):
        FolderReader(str(photos))


def test_a_data_root_beside_the_data_folder_is_told(photos):
    with pytest.raises(FileNotFoundError, match=f'label file is missing: .*One is in {photos}, perhaps the data f'):
        FolderReader(str(photos / 'images'))
    with pytest.raises(ValueError, match=f'labels.csv: is a file; .*data_root={photos}$'):
        FolderReader(str(photos / 'labels.csv'))


def test_masks_that_are_called_otherwise_are_told(photos):
    for name in ('a', 'b', 'trip/c'):
        write_labels(photos / 'masks' / f'{name}_mask.png', np.zeros((4, 4), int))
    with pytest.raises(FileNotFoundError, match=r"3 of 3 ground-truth masks are missing.*Did you mean 'a_mask.png'\?"):
        FolderReader(str(photos)).check_masks()
