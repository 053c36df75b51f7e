"""browse_dataset.py: what a training sees, on sheets that people look at."""
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.checking.browse import browsable, browse_row, write_sheets
from weclip_sam.datasets.samplers import InfiniteSeededSampler
from weclip_sam.registry import DATASETS
from weclip_sam.visualization import Panel, Row, enlarge

TRANSFORMS = [dict(type='RandomFlip'), dict(type='RandomCrop', size=24), dict(type='PackSample')]


def titles(row):
    return [panel.title for panel in row.panels]


def test_draws_are_those_of_the_training_s_own_sampler(photos):
    root, _ = photos
    reader = dict(type='FolderReader', data_root=str(root))
    dataset = DATASETS.build(browsable(dict(type='ImageLabelDataset', reader=reader, pipeline=TRANSFORMS)))
    row = browse_row(dataset, 4, draws=3, seed=5, height=48)
    assert row.caption == 'p4: cat, dog' and row.labels == ()
    assert titles(row) == ['photo', 'draw 1', 'draw 2', 'draw 3'] and row.panels[0].note == '37 x 39'
    assert np.array_equal(row.panels[0].image, enlarge(np.asarray(dataset.load_image(4)), (48, 46)))
    sampler = InfiniteSeededSampler(dataset, seed=5, shuffle=False)
    seen = [next_index for next_index, _ in zip(sampler, range(3 * 8), strict=False) if next_index == 4]
    for panel, index in zip(row.panels[1:], seen, strict=True):
        expected = dataset[index]['inputs'].permute(1, 2, 0).numpy()
        assert np.array_equal(panel.image, enlarge(np.ascontiguousarray(expected), (48, 48)))
    assert browse_row(dataset, 0, 1, 0, 48).caption == 'p0: no names, background only'


def test_without_random_transforms_one_draw_is_enough_and_the_truth_is_shown(photos):
    root, _ = photos
    dataset = DATASETS.build(browsable(dict(
        type='ImageLabelDataset', reader=dict(type='FolderReader', data_root=str(root)), with_masks=True)))
    row = browse_row(dataset, 1, draws=4, seed=0, height=40)
    assert titles(row) == ['photo', 'ground truth', 'draw 1'] and row.labels == (1, 2, 3)


def test_labels_that_are_taught_are_shown_where_the_draws_have_them(photos, run_tool, tmp_path):
    root, config = photos
    assert run_tool('make_seeds', config, '--out', tmp_path / 'seeds') == 0
    dataset = DATASETS.build(browsable(dict(
        type='ImageLabelDataset', reader=dict(type='FolderReader', data_root=str(root), classes=['cat', 'dog', 'bus']),
        pixel_labels=str(tmp_path / 'seeds'), pipeline=[dict(type='RandomCrop', size=64), dict(type='PackSample')])))
    row = browse_row(dataset, 1, draws=2, seed=0, height=40)
    assert titles(row) == ['photo', 'draw 1, labels', 'draw 2, labels']
    assert {255} <= set(row.labels) <= {1, 255}, 'labels of an image of cats, and what the crop added'


def test_masks_are_shown_as_they_are_and_as_a_draw_has_them(photos, run_tool, tmp_path, capsys):
    root, config = photos
    pipeline = f'train_dataloader.dataset.pipeline={TRANSFORMS}'
    options = ['--cfg-options', pipeline, 'train_dataloader.dataset.mask_bank=True']
    assert run_tool('browse_dataset', config, '--out', tmp_path / 'before', '-n', '2', *options) == 0
    out = capsys.readouterr().out
    assert f'without SAM masks: {root}/bank_train does not exist yet; tools/make_masks.py makes it' in out
    assert f'2 of 8 images on 1 sheet: {tmp_path}/before/browse_train_01.png' in out
    assert run_tool('make_masks', config) == 0
    bank = dict(type='ImageLabelDataset', reader=dict(type='FolderReader', data_root=str(root)), pipeline=TRANSFORMS,
                mask_bank=f'{root}/bank_train', feature_bank='/nowhere')
    dataset = DATASETS.build(browsable(bank))
    row = browse_row(dataset, 2, draws=2, seed=0, height=40)
    assert titles(row) == ['photo', 'SAM masks', 'draw 1', 'its masks', 'draw 2']
    masks = dataset.pipeline[0](dataset.load(2))['masks']
    assert row.panels[1].note == str(len(masks)) and len(masks) > 0
    covered = enlarge(masks.masks.any(0).numpy().astype(np.int64), row.panels[1].image.shape[:2], smooth=False)
    coloured = np.ptp(row.panels[1].image.astype(int), axis=2) > 60
    assert (coloured & (covered == 1)).any()


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_shown(photos, run_tool, tmp_path, capsys):
    root, config = photos
    (root / 'images' / 'p3.png').write_bytes(b'no picture')
    options = ['--cfg-options', f'train_dataloader.dataset.pipeline={TRANSFORMS}']
    assert run_tool('browse_dataset', config, '--out', tmp_path / 'out', *options) == 1
    told = capsys.readouterr()
    assert 'failed: ' in told.err and 'p3.png' in told.err and '7 of 8 images on 1 sheet' in told.out
    assert Image.open(tmp_path / 'out' / 'browse_train_01.png').size[0] > 400


def test_sheets_are_numbered_and_older_ones_of_the_split_go(tmp_path):
    row = Row((Panel('photo', np.zeros((16, 16, 3), np.uint8)),), 'a')
    mine = tmp_path / 'browse_val_01.png'
    mine.write_bytes(b'of another split')
    assert [path.name for path in write_sheets([row] * 17, ['cat'], tmp_path, 'train')] == [
        f'browse_train_{number:02}.png' for number in (1, 2, 3)]
    write_sheets([row], ['cat'], tmp_path, 'train')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['browse_train_01.png', mine.name]


@pytest.mark.parametrize('arguments, told', [
    (['--out', '{root}/images/sheets'], '--out {root}/images/sheets: lies in the image folder'),
    (['--out', 'x', '-n', '0'], '-n: expected at least 1, got 0'),
    (['--out', 'x', '--split', 'tune'], 'the config has no tune_dataset (its splits: train, val)')])
def test_what_is_wrong_is_one_line(photos, run_tool, capsys, monkeypatch, arguments, told, tmp_path):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    monkeypatch.chdir(tmp_path)
    root, config = photos
    assert run_tool('browse_dataset', config, *(text.format(root=root) for text in arguments)) == 2
    error, = capsys.readouterr().err.splitlines()
    assert told.format(root=root) in error and not Path('x').exists()
