"""The preflight finds every fault that is planted, and nothing where there is none."""
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.checking.built_datasets import find_datasets
from weclip_sam.checking.data import check_datasets
from weclip_sam.checking.findings import Report
from weclip_sam.io.images import write_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.structures import MaskSet


@pytest.fixture
def photos(tmp_path, write_image):
    root = tmp_path / 'photos'
    for number in range(6):
        write_image(root / 'images' / f'{number}.png', size=(40, 50), seed=number)
        write_labels(root / 'masks' / f'{number}.png', np.ones((40, 50), int))
    (root / 'labels.csv').write_text('image,classes\n' + ''.join(f'{i}.png,{"cat" if i % 2 else "cat;dog"}\n'
                                                                 for i in range(6)))
    (root / 'train.txt').write_text('0.png\n1.png\n2.png\n3.png\n')
    (root / 'val.txt').write_text('4.png\n5.png\n')
    return root


def _config(root, **train):
    def dataset(split, **more):
        reader = dict(type='FolderReader', data_root=str(root), split=f'{split}.txt')
        return dict(type='ImageLabelDataset', reader=reader, pipeline=[dict(type='PackSample')], **more)
    val = dict(dataset=dataset('val', with_masks=True))
    return dict(train_dataloader=dict(dataset={**dataset('train'), **train}), val_dataloader=val, test_dataloader=val,
                custom_hooks=[dict(type='SeedEvalHook', dataset=dataset('train', with_masks=True))])


def _check(config, **options):
    report = Report()
    check_datasets(config, report, **{'workers': 1, **options})
    return report


def _found(report, level='error'):
    return [(f.check, f.where, f.message) for f in report.findings if f.level == level]


def test_good_data_pass(photos):
    report = _check(_config(photos))
    assert report.ok and report.findings == []
    assert report.datasets['train_dataloader'] == dict(
        images=4, classes=2, without_label=0, labels_per_image=1.5, masks=False, files_read=4, smallest='40x50',
        largest='40x50', images_of_class=dict(cat=4, dog=2))
    assert '\n  classes: cat 4, dog 2\n' in report.text() and 'images_of_class' not in report.text()
    assert report.as_dict()['datasets']['train_dataloader']['images_of_class'] == dict(cat=4, dog=2)
    assert 'OK: 0 errors, 0 warnings, 0 notes' in report.text()


def test_data_sets_are_found_once_wherever_they_are(photos):
    assert list(find_datasets(_config(photos))) == ['train_dataloader', 'val_dataloader', 'custom_hooks.0']


@pytest.mark.parametrize('workers', [1, 2])
def test_truncated_image_is_named(photos, workers):
    path = photos / 'images' / '2.png'
    path.write_bytes(path.read_bytes()[:-500])
    (check, where, message), = _found(_check(_config(photos), workers=workers))
    assert check == 'image' and where == 'custom_hooks.0 and train_dataloader' and '2.png: not a readable' in message


def test_masks_of_another_size_or_with_unknown_values(photos):
    write_labels(photos / 'masks' / '4.png', np.zeros((40, 51), int))
    write_labels(photos / 'masks' / '5.png', np.full((40, 50), 77))
    found = _found(_check(_config(photos)))
    assert [(check, where) for check, where, _ in found] == [('mask', 'val_dataloader')] * 2
    assert '4.png: labels are 40 x 51' in found[0][2] and '5.png: label values [77] name no class' in found[1][2]


def test_missing_masks_do_not_hide_broken_images(photos):
    (photos / 'masks' / '4.png').unlink()
    (photos / 'images' / '5.png').write_bytes(b'no image')
    found = _found(_check(_config(photos)))
    assert [check for check, _, _ in found] == ['data set', 'image']
    assert '1 of 2 ground-truth masks are missing' in found[0][2]


def test_masks_of_training_images_are_not_opened_for_training(photos):
    config = _config(photos)
    config.pop('custom_hooks')
    for number in range(4):
        (photos / 'masks' / f'{number}.png').write_bytes(b'noise')
    assert _check(config).ok


def test_the_quick_check_opens_no_ground_truth(photos, memory_reader, monkeypatch):
    for number in range(6):
        (photos / 'masks' / f'{number}.png').write_bytes(b'noise')
    config = _config(photos)
    assert _check(config, full=False).ok and len(_found(_check(config))) == 6
    drawn = memory_reader(4)
    monkeypatch.setattr(drawn, 'load_ground_truth', lambda index: pytest.fail('drew ground truth'))
    report = _check(dict(val_dataloader=dict(type='ImageLabelDataset', reader=drawn, with_masks=True)), full=False)
    assert report.ok and report.datasets['val_dataloader']['masks'] is True
    (photos / 'masks' / '5.png').unlink()
    (check, where, message), = _found(_check(config, full=False))
    assert (check, where) == ('data set', 'val_dataloader') and '1 of 2 ground-truth masks are missing' in message


def test_masks_for_scoring_seeds_are_not_needed_to_train_without_scoring(photos):
    config = _config(photos)
    config['train_cfg'] = dict(max_iters=3)
    config['seed_dataset'] = config['custom_hooks'].pop()['dataset']
    for number in range(4):
        (photos / 'masks' / f'{number}.png').unlink()
    assert _check(config, full=False).ok
    assert [where for _, where, _ in _found(_check(config))] == ['seed_dataset']
    for hooks in (dict(custom_hooks=[dict(type='SeedEvalHook', dataset=dict(config['seed_dataset']))]),
                  dict(default_hooks=dict(sheets=dict(type='SheetHook', dataset=dict(config['seed_dataset'])))),
                  dict(train_cfg=None)):  # tools/make_seeds.py --evaluate is all that such a config is for
        (check, where, message), = _found(_check({**config, **hooks}, full=False))
        assert '4 of 4 ground-truth masks are missing' in message


def test_the_same_picture_in_training_and_evaluation(photos):
    (photos / 'images' / '5.png').write_bytes((photos / 'images' / '1.png').read_bytes())
    (photos / 'images' / '2.png').write_bytes((photos / 'images' / '3.png').read_bytes())
    report = _check(_config(photos))
    (check, where, message), = _found(report)
    assert (check, where) == ('duplicate', 'val_dataloader') and '5.png' in message and '1.png' in message
    warnings = _found(report, 'warning')
    assert {where for _, where, _ in warnings} == {'train_dataloader', 'custom_hooks.0'}
    assert all('same picture 2 times' in message and '2.png' in message for _, _, message in warnings)


def test_labels_without_class_and_classes_without_label(photos):
    (photos / 'classes.txt').write_text('cat\ndog\nhorse\n')
    (photos / 'labels.csv').write_text('image,classes\n0.png,\n1.png,cat\n2.png,\n3.png,cat\n4.png,dog\n5.png,dog\n')
    report = _check(_config(photos))
    assert report.ok
    messages = {check: message for check, _, message in _found(report, 'warning')}
    assert '2 of 4 images have no label' in messages['no label'] and '0, 2' in messages['no label']
    assert '--cfg-options train_dataloader.dataset.unlabelled=skip)' in messages['no label']
    assert '2 classes are in no training image: dog, horse' in messages['classes']
    assert _found(_check(_config(photos, unlabelled='skip')), 'warning')[0][0] == 'classes'


def test_class_names_that_look_like_slips(photos):
    (photos / 'labels.csv').write_text('image,classes\n0.png,chair\n1.png,chair\n2.png,chiar\n3.png,"cat,dog"\n'
                                       '4.png,chair\n5.png,chair\n')
    report = _check(_config(photos))
    warnings = [(check, message) for check, where, message in _found(report, 'warning') if where == 'train_dataloader']
    assert report.ok and [check for check, _ in warnings] == ['classes', 'class names', 'class names']
    assert "2 classes are in one training image only" in warnings[0][1] and 'cat,dog, chiar' in warnings[0][1]
    assert "'cat,dog' has a comma" in warnings[1][1]
    assert "'chair' (images: 2) and 'chiar' (images: 1) are written almost alike" in warnings[2][1]
    (photos / 'classes.txt').write_text('chair\nchiar\ncat,dog\n')
    assert not any('alike' in message for _, _, message in _found(_check(_config(photos)), 'warning'))


def test_of_many_classes_the_rarest_are_shown():
    report = Report(datasets=dict(train_dataloader=dict(images_of_class={f'c{i}': i for i in range(90)})))
    lines = report.text().splitlines()
    assert '  the 40 rarest of 90 classes: c0 0, c1 1, c2 2' in lines[1] and max(map(len, lines)) <= 110
    assert not any(line.rstrip(',').split()[-1].startswith('c') for line in lines[1:-1])  # none ends before a number
    assert 'c39 39' in report.text() and 'c40 40' not in report.text()


@pytest.mark.parametrize(('line', 'message'), [
    ('0.png,catt\n', "unknown class 'catt'. Did you mean 'cat'"), ('../x.png,cat\n', 'stays inside'),
    ('9.png,cat\n', '9.png'), ('0.png,cat\n0.png,dog\n', 'listed twice')])
def test_faults_in_the_table(photos, line, message):
    (photos / 'classes.txt').write_text('cat\ndog\n')
    (photos / 'labels.csv').write_text('image,classes\n' + line)
    (photos / 'train.txt').write_text(line.split(',')[0])
    assert any(message in text for _, where, text in _found(_check(_config(photos))) if where == 'train_dataloader')


def test_all_missing_images_are_named_and_the_others_checked(photos, monkeypatch):
    for number in (0, 2):
        (photos / 'images' / f'{number}.png').unlink()
    (photos / 'images' / '3.png').write_bytes(b'no image')
    (photos / 'masks' / '1.png').unlink()
    report = _check(_config(photos))
    both = 'custom_hooks.0 and train_dataloader'
    assert [(check, where) for check, where, _ in _found(report)] == [
        ('data set', 'train_dataloader'), ('data set', 'custom_hooks.0'), ('data set', 'custom_hooks.0'),
        ('image', both), ('image', both), ('image', both)]
    texts = [message for _, _, message in _found(report)]
    assert texts[0] == texts[1] and '2 of 4 images are missing' in texts[0]
    assert '1 of 2 ground-truth masks are missing' in texts[2]
    assert texts[3:5] == [f'{photos}/images/{number}.png: no such file' for number in (0, 2)]
    assert '3.png: not a readable image' in texts[5] and report.datasets['train_dataloader']['images'] == 2
    monkeypatch.setattr('weclip_sam.checking.built_datasets.MAX_MISSING', 1)
    texts = [message for check, _, message in _found(_check(_config(photos))) if check == 'image']
    assert texts[:2] == [f'{photos}/images/0.png: no such file', '... and 1 more missing files']


def test_no_image_at_all_is_said_once(photos):
    (photos / 'images').rename(photos / 'pictures')
    config = {'train_dataloader': _config(photos)['train_dataloader']}
    assert [check for check, _, _ in _found(_check(config))] == ['data set', *['image'] * 4]


def test_all_faults_of_a_table_and_of_a_list(photos):
    (photos / 'classes.txt').write_text('cat\ndog\n')
    (photos / 'labels.csv').write_text('image,classes\n../x.png,cat\n/y.png,cat\n0.png,catt\n1.png,catt;dogg\n')
    (photos / 'train.txt').write_text('0.png\n1.png\n7.png\n1.png\n8.png\n')
    config = {'train_dataloader': _config(photos)['train_dataloader']}
    found = _found(_check(config))
    assert {(check, where) for check, where, _ in found} == {('data set', 'train_dataloader')}
    wanted = ["'../x.png' must be", "'/y.png' must be", "image '7.png' is not in", "image '1.png' is listed twice",
              "image '8.png' is not in", "image '0.png': unknown class 'catt'", "image '1.png': unknown class 'dogg'"]
    assert len(found) == len(wanted) and all(part in text for part, (_, _, text) in zip(wanted, found, strict=True))


def test_photographs_that_no_row_names(photos, write_image):
    config = {'train_dataloader': _config(photos)['train_dataloader']}
    assert _found(_check(config), 'warning') == []
    for name in ('new.png', 'trip/b.JPG', 'trip/a.webp'):
        write_image(photos / 'images' / name)
    (photos / 'images' / 'notes.txt').write_text('no image')
    (photos / 'images' / '._0.png').write_bytes(b'of a Mac')
    (check, where, message), = _found(_check(config, full=False), 'warning')
    assert (check, where) == ('unlisted', 'train_dataloader') and message == (
        '3 image files are in no line of the label file, so nothing is learnt from them, for example '
        + ', '.join(f'{photos}/images/{name}' for name in ('new.png', 'trip/a.webp', 'trip/b.JPG')))


def test_beside_the_table_only_folders_with_its_images_are_looked_through(photos, write_image):
    for path in (photos / 'images').iterdir():
        path.rename(photos / path.name)
    (photos / 'images').rmdir()
    config = {'train_dataloader': _config(photos)['train_dataloader']}
    write_image(photos / 'runs' / 'sheet.png')
    assert _found(_check(config), 'warning') == []  # nor are the masks taken for photographs
    write_image(photos / 'new.png')
    (_, _, message), = _found(_check(config), 'warning')
    assert message.startswith('1 image files') and message.endswith(f'{photos}/new.png')
    config['train_dataloader']['dataset']['reader']['mask_dir'] = '.'
    for number in range(6):
        (photos / f'{number}.png').rename(photos / f'{number}.jpg')
        write_labels(photos / f'{number}.png', np.zeros((40, 50), int))
    table = (photos / 'labels.csv').read_text()
    (photos / 'labels.csv').write_text(table.replace('.png', '.jpg'))
    (photos / 'train.txt').write_text('0.jpg\n1.jpg\n2.jpg\n')
    assert _found(_check(config), 'warning')[-1][2] == message


def test_small_images_and_odd_links(photos, tmp_path, write_image):
    write_image(tmp_path / 'elsewhere.png', size=(2, 3))
    (photos / 'images' / '0.png').unlink()
    (photos / 'images' / '0.png').symlink_to(tmp_path / 'elsewhere.png')
    config = _config(photos)
    config.pop('custom_hooks')
    report = _check(config)
    assert report.ok and '2 x 3 pixels' in _found(report, 'warning')[0][2]
    assert '1 images are links that lead out' in _found(report, 'note')[0][2]


def test_different_classes_in_training_and_evaluation(photos):
    config = _config(photos)
    config['val_dataloader']['dataset']['reader']['classes'] = ['cat', 'dog', 'cow']
    assert ('classes', 'val_dataloader') in [found[:2] for found in _found(_check(config))]


def test_offline_labels_are_read(photos):
    steps = [dict(type='LoadPixelLabels', folder=str(photos / 'seeds')), dict(type='PackSample')]
    for number in range(3):
        write_labels(photos / 'seeds' / f'{number}.png', np.full((40, 50), 255 if number else 9))
    found = _found(_check(_config(photos, pipeline=steps)))
    assert [(check, where) for check, where, _ in found] == [('mask', 'train_dataloader')] * 2
    assert '[9] name no class' in found[1][2]
    assert f'{photos}/seeds: 1 of 4 images have no label PNG, for example 3; every image needs one' in found[0][2]
    assert 'tools/make_seeds.py' in found[0][2]


@pytest.mark.parametrize('full', [True, False])
def test_one_missing_label_among_many_is_found_by_listing_the_folder(photos, write_image, full):
    names = [f'trip/{number:03d}' for number in range(60)]
    for number, name in enumerate(names):
        write_image(photos / 'images' / f'{name}.png', size=(40, 40), seed=100 + number)
        write_labels(photos / 'seeds' / f'{name}.png', np.zeros((40, 40), int))
    (photos / 'labels.csv').write_text('image,classes\n' + ''.join(f'{name}.png,cat;dog\n' for name in names))
    (photos / 'train.txt').write_text('\n'.join(names))
    config = {'train_dataloader': _config(photos, pixel_labels=str(photos / 'seeds'))['train_dataloader']}
    assert _check(config, full=full).ok
    (photos / 'seeds' / 'trip' / '017.png').unlink()
    (check, where, message), = _found(_check(config, full=full))
    assert (check, where) == ('mask', 'train_dataloader')
    assert '1 of 60 images have no label PNG, for example trip/017;' in message and 'make_seeds.py' in message


@pytest.mark.parametrize('full', [True, False])
def test_labels_of_images_made_in_memory(memory_reader, tmp_path, full):
    for number in range(40):
        write_labels(tmp_path / f'image{number:03d}.png', np.full((20, 30), number % 4))
    config = dict(train_dataloader=dict(dataset=dict(type='ImageLabelDataset', reader=memory_reader(40),
                                                     pixel_labels=str(tmp_path))))
    assert _check(config, full=full).ok
    (tmp_path / 'image011.png').unlink()
    write_labels(tmp_path / 'image000.png', np.full((20, 30), 17))  # the quick check looks at the first and the last
    write_labels(tmp_path / 'image039.png', np.zeros((20, 31), int))
    write_labels(tmp_path / 'image012.png', np.full((20, 30), 99))
    found = [message for check, where, message in _found(_check(config, full=full))]
    assert '1 of 40 images have no label PNG, for example image011;' in found[0]
    assert 'image000.png: label values [17] name no class; allowed are 0 (background) to 3 and 255' in found[1]
    assert ('image012.png: label values [99]' in found[2]) == full
    assert 'image039.png: labels are 20 x 31 (height x width), but the image is 20 x 30' in found[-1]
    assert len(found) == (4 if full else 3)


@pytest.mark.parametrize('full', [True, False])
def test_labels_made_for_other_classes(photos, full):
    for number in range(4):
        write_labels(photos / 'seeds' / f'{number}.png', np.ones((40, 50), int))
    header = dict(format='weclip_sam seeds 1', classes=['cat', 'dog'], image_folder=str(photos / 'images'))
    (photos / 'seeds' / 'seeds.json').write_text(json.dumps(header))
    config = _config(photos, pixel_labels=str(photos / 'seeds'))
    assert _check(config, full=full).ok
    table = (photos / 'labels.csv').read_text()
    (photos / 'labels.csv').write_text(table.replace('3.png,cat', '3.png,ape'))
    (photos / 'images' / '2.png').write_bytes(b'no image')  # is found all the same
    found = _found(_check(config, full=full))
    assert found[0][:2] == ('data set', 'train_dataloader') and 'train_dataloader' in found[1][1]
    assert f'{photos}/seeds/seeds.json: these labels were made for 2 classes (cat, dog), but the data set has 3 ' \
        "(ape, cat, dog): label 1 was 'cat' and would teach 'ape'" in found[0][2]
    assert '2.png: not a readable image' in found[1][2] and len(found) == 2


def test_offline_labels_of_large_photographs_have_the_size_they_are_read_at(photos):
    steps = [dict(type='LoadPixelLabels', folder=str(photos / 'seeds')), dict(type='PackSample')]
    config = _config(photos, pipeline=steps)
    config['train_dataloader']['dataset']['reader']['max_side'] = 25
    for number in range(4):
        write_labels(photos / 'seeds' / f'{number}.png', np.zeros((20, 25), int))
    assert not _found(_check(config))
    write_labels(photos / 'seeds' / '0.png', np.zeros((40, 50), int))
    assert '40 x 50' in _found(_check(config))[0][2]


def test_a_missing_folder_of_labels_is_one_finding(photos):
    steps = [dict(type='LoadPixelLabels', folder=str(photos / 'seeds')), dict(type='PackSample')]
    (check, where, message), = _found(_check(_config(photos, pipeline=steps)))
    assert (check, where) == ('mask', 'train_dataloader') and 'make_seeds.py' in message


def test_mask_bank(photos):
    bank = str(photos / 'bank')
    assert 'SAM masks of 4 of 4 images' in _found(_check(_config(photos, mask_bank=bank)), 'note')[0][2]
    with MaskBank(bank, fingerprint='mine') as writer:
        one, zero = torch.ones(1), torch.zeros(1, dtype=torch.long)
        writer.put('0', MaskSet(torch.ones(1, 40, 50, dtype=torch.bool), zero, one, one, zero))
    assert 'SAM masks of 3 of 4 images' in _found(_check(_config(photos, mask_bank=bank)), 'note')[0][2]
    other = _found(_check(_config(photos, mask_bank=dict(bank=bank, fingerprint='other'))))
    assert other[0][:2] == ('mask bank', 'train_dataloader')


def test_quick_reads_little_but_finds_missing_files(photos, monkeypatch):
    monkeypatch.setattr('weclip_sam.checking.image_files.read_image', lambda *args: pytest.fail('decoded an image'))
    assert _check(_config(photos), full=False).ok
    os.rename(photos / 'images' / '0.png', photos / 'images' / 'x.png')
    assert 'images are missing' in _found(_check(_config(photos), full=False))[0][2]


def test_images_made_in_memory(memory_reader):
    report = _check(dict(train_dataloader=dict(dataset=dict(type='ImageLabelDataset', reader=memory_reader(4)))))
    assert report.ok and report.datasets['train_dataloader']['files_read'] == 'none (made in memory)'


def test_report_shows_some_and_keeps_all():
    report = Report()
    for number in range(30):
        report.add('error', 'image', 'train', f'file{number}')
    text = report.text(limit=3)
    assert 'ERROR image, train: 30' in text and 'file2' in text and 'file3' not in text and 'and 27 more' in text
    assert len(report.as_dict()['findings']) == 30 and report.as_dict()['ok'] is False
    with pytest.raises(ValueError, match='fatal'):
        report.add('fatal', 'image', 'train', 'x')


def test_a_class_longer_than_clip_reads_is_told(photos):
    long = 'a cup of very fine porcelain ' * 20
    (photos / 'labels.csv').write_text(f'image,classes\n0.png,{long.strip()};cat\n1.png,cat\n2.png,\n3.png,\n4.png,\n'
                                       '5.png,\n')
    model = dict(type='WeClip', clip=dict(type='FrozenClip', arch='tiny', checkpoint='tiny'))
    report = _check({**_config(photos), 'model': model}, full=False)
    (check, where, message), = _found(report)
    assert (check, where) == ('class names', 'model') and message.startswith("class 'a cup of very fine")
    assert 'tokens, but CLIP reads 24: shorten the name, or give the class a short text in prompts.json' in message
    (photos / 'prompts.json').write_text(json.dumps({long.strip(): 'cup'}))
    assert _check({**_config(photos), 'model': model}, full=False).ok
    (photos / 'background.txt').write_text(f'sky\nnot {long}\n')
    assert 'background noun' in _found(_check({**_config(photos), 'model': model}, full=False))[0][2]
    assert _check({**_config(photos), 'model': {**model, 'prompts': 'learnt.safetensors'}}, full=False).ok


@pytest.mark.parametrize(('model', 'fits'), [
    (dict(type='WeClip'), True), (dict(type='WeClip', templates=['a ' * 80 + '{}.']), False),
    (dict(type='PromptTuner', n_ctx=4), True), (dict(type='PromptTuner', n_ctx=75), False),
    (dict(type='Segmentor'), True)])
def test_prompts_are_counted_as_the_model_makes_them(photos, model, fits):
    config = {**_config(photos), 'model': dict(model, clip=dict(type='FrozenClip', arch='ViT-B-16-quickgelu'))}
    assert _check(config, full=False).ok == fits


def test_nouns_left_out_are_said(photos):
    (photos / 'labels.csv').write_text((photos / 'labels.csv').read_text().replace('dog', 'Tree'))
    assert ('class names', 'train_dataloader', 'background nouns that name a class are left out: tree') in \
        _found(_check(_config(photos), full=False), 'note')


def test_one_finding_is_told_once(photos):
    (photos / 'labels.csv').write_text('image;classes\n0.png;cat|dog,bird\n')
    report = _check(_config(photos))
    assert len(report.errors) == 3  # training, validation, hook
    text = report.text()
    assert text.count('is not clear') == 1 and text.endswith('NOT OK: 1 error, 0 warnings, 0 notes')
    assert 'ERROR data set, train_dataloader and val_dataloader and custom_hooks.0: 1' in text
    assert [finding['where'] for finding in report.as_dict()['findings']] == \
        ['train_dataloader and val_dataloader and custom_hooks.0']


def test_a_separator_of_another_tool_is_told(photos):
    (photos / 'labels.csv').write_text((photos / 'labels.csv').read_text().replace('cat;dog', 'cat|dog'))
    assert any("class 'cat|dog' has a | in its name" in message for *_, message in
               _found(_check(_config(photos), full=False), 'warning'))


def test_files_whose_names_are_no_utf8(photos):
    name = os.fsdecode(b'caf\xe9.png')
    try:
        (photos / 'images' / name).write_bytes((photos / 'images' / '0.png').read_bytes())
    except OSError:
        pytest.skip('this file system has no such names')
    report = _check(_config(photos))
    assert report.ok and 'caf\\udce9.png; rename them' in report.text()
    report.text().encode()
    assert report.as_dict()['findings'] and json.dumps(report.as_dict()).encode()


def test_ground_truth_with_other_classes_than_the_names(photos):
    write_labels(photos / 'masks' / '5.png', np.full((40, 50), 2))  # named cat alone
    report = _check(_config(photos))
    (check, where, message), = _found(report, 'warning')
    assert report.ok and (check, where) == ('truth', 'val_dataloader')
    assert message.startswith('1 of 2 ground-truth masks disagree') and '5 (named cat; its mask has dog' in message
    assert 'very probably wrong' in message
    assert not _found(_check(_config(photos), full=False), 'warning')


def test_ground_truth_painted_in_memory_is_compared_too(memory_reader):
    reader = memory_reader(6)  # image i is named for class i % 3 and has label i % 3 + 1, but 0 is named for nothing
    check = dict(val_dataloader=dict(type='ImageLabelDataset', reader=reader, with_masks=True))
    assert _found(_check(check), 'warning') == []  # of drawn images only the first is looked at, and it has no name
    reader.records[0] = type(reader.records[0])('image000', (1,))
    (_, _, message), = _found(_check(check), 'warning')
    assert 'image000 (named class1; its mask has class0 on 100 %)' in message


def test_what_is_passed_over_is_one_note(photos):
    for name in ('._0.png', 'a.heic', 'b.heic'):
        (photos / 'images' / name).write_bytes(b'')
    assert _found(_check(_config(photos)), 'note') == [
        ('passed over', 'train_dataloader', 'not looked at in the folders of the images: other kinds of files 2 '
         '(2 .heic), hidden or of the system 1')]


@pytest.mark.parametrize('full', [True, False])
def test_values_of_fewer_bits_than_the_file_has_are_one_warning(photos, full):
    values = np.linspace(0, 4095, 2000).astype(np.uint16).reshape(40, 50)
    for number in range(2):
        Image.fromarray(values + number).save(photos / 'images' / f'{number}.png')
    (check, where, message), = _found(_check(_config(photos), full=full), 'warning')[:1]
    assert (check, where) == ('depth', 'train_dataloader') and message.startswith('2 of the images looked at')
    assert f'{photos / "images" / "0.png"} (12)' in message


def test_ground_truth_with_a_renumbered_palette_is_told(photos):
    image = Image.fromarray(np.ones((40, 50), np.uint8))
    image.putpalette([0, 0, 0, 0, 128, 0])  # VOC's colour of label 2
    image.save(photos / 'masks' / '4.png')
    found = [(check, message) for check, where, message in _found(_check(_config(photos)), 'warning')
             if where == 'val_dataloader']
    assert [check for check, _ in found] == ['truth']
    assert 'label 1 is #008000 in ' in found[0][1] and 'masks/4.png and #800000' in found[0][1]


@pytest.mark.parametrize('classes, message', [
    ('1;cat', 'CLIP is asked for numbers (1)'), ('cat dog', "'cat dog' is made of the names of other classes")])
def test_names_that_are_no_names_are_told(photos, classes, message):
    (photos / 'labels.csv').write_text(f'image,classes\n0.png,cat;dog\n1.png,cat;dog\n2.png,{classes}\n'
                                       f'3.png,{classes}\n4.png,cat\n5.png,cat\n')
    assert any(message in text for _, _, text in _found(_check(_config(photos)), 'warning'))
