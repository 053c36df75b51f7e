"""Corrected labels come back: they score a model, and teach a second stage that is told to read them; nothing else."""
import json
from pathlib import Path

import numpy as np
import pytest
from blocks import blocks
from brush_code import brush
from PIL import Image

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.engine import build_runner, load_config
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.offline.results import open_labels
from weclip_sam.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs'
CLASSES = ['cat', 'dog']
CORRECTED = dict(p0=blocks(0, 1, 2), p1=blocks(2, 255))


@pytest.fixture
def data(tmp_path, write_image):
    """Photos with names, the labels that some run made of them, and corrections of two in Label Studio's form."""
    root = tmp_path / 'data'
    for number in range(4):
        write_image(root / 'images' / f'p{number}.jpg', (24, 32), number)
        write_labels(tmp_path / 'seeds' / f'p{number}.png', blocks(1 + number % 2))
    (root / 'labels.csv').write_text('image,classes\n' + ''.join(f'p{n}.jpg,cat;dog\n' for n in range(4)))
    (root / 'classes.txt').write_text('\n'.join(CLASSES))
    (tmp_path / 'seeds' / 'seeds.json').write_text(json.dumps(dict(classes=CLASSES)))
    tasks = []
    for name, labels in CORRECTED.items():
        size = dict(original_height=24, original_width=32)
        result = [dict(size, type='brushlabels', value=dict(rle=brush(labels == label), brushlabels=[text]))
                  for label, text in ((2, 'Hund'), (1, 'cat'), (255, 'void'))]
        tasks.append(dict(id=name, data=dict(image=f'/data/upload/1/0123abcd-{name}.jpg'),
                          annotations=[dict(result=result)]))
    (tmp_path / 'project.json').write_text(json.dumps(tasks))
    return root


@pytest.fixture
def imported(data, tmp_path, run_tool):
    """The complete folder, for a second stage."""
    out = tmp_path / 'corrected'
    assert run_tool('import_labels', tmp_path / 'project.json', '--like', tmp_path / 'seeds', '--images',
                    data / 'images', '--rename', 'Hund=dog', '--complete', '--out', out) == 0
    return out


def test_they_teach_a_second_stage_that_reads_them(data, imported):
    config = load_config(CONFIGS / 'two_stage' / 'deeplab-v2_resnet101_5k_folder.py', {
        'data_root': str(data), 'train_dataloader.dataset.pixel_labels': str(imported)})
    settings = config.train_dataloader.dataset
    settings.pipeline = [dict(type='PackSample')]
    dataset = DATASETS.build(settings)
    assert dataset.image_ids == ['p0', 'p1', 'p2', 'p3']
    for index, expected in enumerate((*CORRECTED.values(), blocks(1), blocks(2))):
        assert np.array_equal(dataset[index]['data_samples'].pixel_labels.numpy(), expected)
    other = dict(settings, reader=dict(settings.reader, classes=CLASSES[::-1]))
    with pytest.raises(ValueError, match=r'seeds\.json: these labels were made for 2 classes'):
        DATASETS.build(other)  # numbers would mean other classes


@pytest.mark.slow
def test_a_second_stage_trains_on_them(data, imported, tmp_path):
    config = load_config(CONFIGS / 'two_stage' / 'offline-decoder_tiny_400_shapes.py')
    dataset = config.train_dataloader.dataset
    dataset.reader = dict(type='FolderReader', data_root=str(data))
    dataset.pixel_labels = str(imported)
    dataset.pipeline = [dict(type='RandomCrop', size=32), dict(type='PackSample')]
    config.train_dataloader.batch_size = 2
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg'):
        config[key] = None
    config.update(seed_dataset=None, custom_hooks=[], work_dir=str(tmp_path / 'run'))
    config.model.clip.checkpoint = 'random'
    config.train_cfg.max_iters = 2
    config.default_hooks.checkpoint = None
    config.default_hooks.pop('sheets')
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    runner = build_runner(config)
    runner.train()
    assert runner.iter == 2


def test_they_score_a_model(data, tmp_path, run_tool, capsys):
    out = data / 'masks'
    assert run_tool('import_labels', tmp_path / 'project.json', '--like', tmp_path / 'seeds', '--rename', 'Hund=dog',
                    '--out', out) == 0
    said = capsys.readouterr().out
    assert f'2 labels written to {out}' in said and f'train_dataloader.dataset.pixel_labels={out}' in said
    assert (split := f'val_split={out}/corrected.txt') in said
    config = load_config(CONFIGS / 'weclip_sam' / 'weclip-sam-validated_vit-b16_5k_folder.py', {
        'data_root': str(data), 'val_split': split.split('=')[1], 'train_split': 'masks/others.txt'})
    dataset = DATASETS.build(config.val_dataloader.dataset)
    assert dataset.image_ids == ['p0', 'p1']
    for index, expected in enumerate(CORRECTED.values()):
        assert np.array_equal(dataset.load_ground_truth(index), expected)
    training = dict(config.train_dataloader.dataset, mask_bank=None, pipeline=[dict(type='PackSample')])
    assert DATASETS.build(training).image_ids == ['p2', 'p3']


def test_nothing_reads_them_for_training_unless_it_is_told_to(data, tmp_path, run_tool, monkeypatch):
    reader = dict(type='FolderReader', data_root=str(data))
    run_tool('import_labels', tmp_path / 'project.json', '--like', tmp_path / 'seeds', '--rename', 'Hund=dog', '--out',
             data / 'masks')
    opened = []
    monkeypatch.setattr('weclip_sam.datasets.readers.base.read_labels', lambda *args, **more: opened.append(args))
    monkeypatch.setattr('weclip_sam.datasets.packing.read_labels', lambda *args, **more: opened.append(args))
    dataset = ImageLabelDataset(reader, [dict(type='PackSample')])
    for index in range(4):
        sample = dataset[index]['data_samples']
        assert 'pixel_labels' not in sample and 'ground_truth' not in sample
    assert not opened


def test_what_came_back_can_be_reviewed_and_corrected_again(imported, data, tmp_path, run_tool, capsys):
    assert run_tool('review', imported, '--out', tmp_path / 'review', '--jobs', 1) == 0
    assert '4 images' in capsys.readouterr().out
    assert run_tool('import_labels', imported, '--like', tmp_path / 'seeds', '--out', tmp_path / 'again') == 0
    for name in ('p0', 'p1', 'p2', 'p3'):
        assert np.array_equal(read_labels(tmp_path / 'again' / f'{name}.png'), read_labels(imported / f'{name}.png'))


def test_some_fail_the_rest_is_written(data, tmp_path, run_tool, capsys):
    write_labels(tmp_path / 'png' / 'p2.png', blocks(1, width=20))
    write_labels(tmp_path / 'png' / 'p3.png', blocks(2))
    (tmp_path / 'png' / 'classes.txt').write_text('dog\ncat\n')
    assert run_tool('import_labels', tmp_path / 'png', '--classes', data / 'classes.txt', '--images', data / 'images',
                    '--out', tmp_path / 'out') == 1
    said = capsys.readouterr().out
    assert f'failed: {tmp_path}/png/p2.png: 20 x 24 pixels, but {data}/images/p2.jpg has 32 x 24' in said
    assert (read_labels(tmp_path / 'out' / 'p3.png') == 1).all()  # by name, not by number


@pytest.mark.parametrize('options, message', [
    (['--like', '{0}/nowhere'], 'no such folder of labels'),
    (['--like', '{0}/seeds'], "'Hund' is none of the 2 classes. Give --rename Hund=CLASS"),
    (['--like', '{0}/seeds', '--rename', 'Hund'], "--rename: expected OLD=NEW, got 'Hund'"),
    (['--like', '{0}/seeds', '--rename', 'Hund=dogg'], "'dogg' is none of the classes. Did you mean 'dog'?"),
    (['--classes', 'voc', '--format', 'coco'], 'no COCO instances file'),
    (['--like', '{0}/seeds', '--rename', 'Hund=dog', '--max-side', '0'], '--max-side: expected a positive number'),
    (['--like', '{0}/seeds', '--rename', 'Hund=dog', '--out', '{0}/seeds'], 'were not imported, but made')])
def test_one_line_each(data, tmp_path, run_tool, capsys, options, message):
    before = sorted(tmp_path.rglob('*'))
    options = [option.format(tmp_path) for option in options]
    out = [] if '--out' in options else ['--out', tmp_path / 'out']
    assert run_tool('import_labels', tmp_path / 'project.json', *options, *out) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('error:') == 1 and 'Traceback' not in error
    assert [path for path in sorted(tmp_path.rglob('*')) if path.is_file()] == [p for p in before if p.is_file()]


@pytest.mark.parametrize('options', [[], ['--classes', 'voc', '--complete'], ['--classes', 'voc', '--keep-ignored']])
def test_options_that_do_not_go_together(run_tool, tmp_path, options):
    assert run_tool('import_labels', tmp_path, '--out', tmp_path / 'out', *options) == 2


@pytest.fixture
def labelled(tmp_path, write_image):
    """A folder of labels as predict.py writes it, with the photos that they are of."""
    photos, out = tmp_path / 'photos', tmp_path / 'labels'
    images = []
    for number in range(2):
        name = f'p{number}'
        write_image(photos / f'{name}.jpg', (24, 32), number)
        write_labels(out / 'labels' / f'{name}.png', blocks(1), [(0, 0, 0), (9, 0, 0), (0, 9, 0)])
        images.append(dict(image=str(photos / f'{name}.jpg'), labels=f'labels/{name}.png', names=['cat']))
    (out / 'predictions.json').write_text(json.dumps(dict(
        classes=['background', *CLASSES], palette=[[0, 0, 0], [9, 0, 0], [0, 9, 0]], images=images, pixels_noted=True)))
    return out


@pytest.mark.parametrize('kind', ['palette', 'colours'])
def test_a_corrected_copy_means_what_the_labels_meant(labelled, tmp_path, run_tool, kind):
    corrected = tmp_path / 'edited' / 'p1.png'
    write_labels(corrected, blocks(2, 1), [(0, 0, 0), (9, 0, 0), (0, 9, 0)])
    if kind == 'colours':
        Image.open(corrected).convert('RGB').save(corrected)
    assert run_tool('import_labels', corrected.parent, '--like', labelled, '--out', tmp_path / 'out') == 0
    assert np.array_equal(read_labels(tmp_path / 'out' / 'p1.png'), blocks(2, 1))
    back = open_labels(tmp_path / 'out')  # and goes on to exports and the review: the photo is known
    assert back.images[0].image == tmp_path / 'photos' / 'p1.jpg' and back.images[0].names == ('cat',)


def test_a_label_that_was_corrected_in_its_place(labelled, tmp_path, run_tool, capsys):
    write_labels(labelled / 'labels' / 'p0.png', blocks(2), [(0, 0, 0), (9, 0, 0), (0, 9, 0)])
    with Image.open(labelled / 'labels' / 'p0.png') as image:  # an editor's: no note of what was there
        image.load()
        image.info.clear()
        image.save(labelled / 'labels' / 'p0.png')
    assert run_tool('import_labels', labelled, '--like', labelled, '--out', tmp_path / 'out') == 0
    said = capsys.readouterr().out
    assert '1 label written' in said and 'earlier labels say' not in said
    assert np.array_equal(read_labels(tmp_path / 'out' / 'p0.png'), blocks(2))
