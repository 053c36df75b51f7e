import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.datasets import FolderReader, ShapesReader, VocReader
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.engine import load_config
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.registry import DATASETS

ROOT = Path(__file__).parents[2]


def tool():
    module = importlib.import_module('weclip_sam.cli.prepare_shapes')
    return module


def run(*arguments):
    return tool().main([str(argument) for argument in arguments])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('disk') / 'my shapes'
    assert run(out, '--train', 6, '--val', 3, '--tune', 2, '--size', 48) == 0
    return out


def test_the_layout_is_vocs_and_labels_fit_the_masks(folder):
    classes = (folder / 'classes.txt').read_text().split()
    table = read_label_table(folder / 'image_labels.csv')
    names = (folder / 'ImageSets/Segmentation/train.txt').read_text().split()
    assert len(classes) == 10 and len(table) == 11 and len(names) == 6
    for name in names:
        assert Image.open(folder / f'JPEGImages/{name}.jpg').size == (48, 48)
        mask = np.asarray(Image.open(folder / f'SegmentationClass/{name}.png'))
        assert {classes[label - 1] for label in np.unique(mask) if label} == set(table[f'{name}.jpg'])


def voc(folder, split):
    return VocReader(str(folder), split)


def own(folder, split):
    return FolderReader(str(folder), 'image_labels.csv', 'JPEGImages', 'SegmentationClass',
                        f'ImageSets/Segmentation/{split}.txt')


@pytest.mark.parametrize('read', [voc, own])
@pytest.mark.parametrize(('split', 'count'), [('train', 6), ('val', 3), ('tune', 2)])
def test_both_readers_give_what_the_reader_of_scenes_gives(folder, read, split, count):
    drawn, there = ShapesReader(split, count, 48), read(folder, split)
    assert there.vocabulary == drawn.vocabulary
    assert [(r.image_id, r.classes) for r in there.records] == [(r.image_id, r.classes) for r in drawn.records]
    there.check_masks()
    for index in range(count):
        assert np.array_equal(there.load_ground_truth(index), drawn.load_ground_truth(index))
        pixels, scene = (np.asarray(reader.load_image(index), float) for reader in (there, drawn))
        assert np.abs(pixels - scene).mean() < 8  # JPEG
        assert all(np.any(there.load_ground_truth(index) == 1 + c) for c in there.records[index].classes)


def test_the_printed_command_reads_the_folder_everywhere(folder):
    words = shlex.split(tool().train_command(folder))
    config = load_config(ROOT / words[2], words[words.index('--cfg-options') + 1:])
    fill_shared_settings(config)
    hooks = {hook.type: hook for hook in config.custom_hooks}
    for node, split, count in ((config.train_dataloader.dataset, 'train', 6), (config.val_dataloader.dataset, 'val', 3),
                               (config.test_dataloader.dataset, 'val', 3), (config.seed_dataset, 'train', 6),
                               (hooks['SeedEvalHook'].dataset, 'train', 6), (config.tune_dataset, 'tune', 2)):
        assert dict(node.reader) == dict(type='VocReader', data_root=str(folder), split=split)
        assert len(DATASETS.build(dict(node, mask_bank=None))) == count
    assert hooks['MaskBankHook'].bank == config.train_dataloader.dataset.mask_bank == f'{folder}/masks_train'


def test_as_many_images_to_tune_on_as_the_config_has():
    config = load_config(ROOT / 'configs/weclip/weclip_tiny_400_shapes.py')
    args = tool().parse_args(['out'])
    for split, node in (('train', config.train_dataloader.dataset), ('val', config.val_dataloader.dataset),
                        ('tune', config.tune_dataset)):
        assert getattr(args, split) == node.reader.num_images


def test_writing_again_changes_nothing(tmp_path):
    run(tmp_path, '--train', 1, '--val', 1, '--tune', 1, '--size', 48)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.*')}
    run(tmp_path, '--train', 1, '--val', 1, '--tune', 1, '--size', 48)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob('*.*')} and len(before) == 12


def test_text_files_of_others_are_not_written_over(tmp_path, capsys):
    few = ('--train', 1, '--val', 1, '--tune', 1, '--size', 48)
    run(tmp_path, *few)
    path = tmp_path / 'image_labels.csv'
    path.write_text(path.read_text() + 'mine.jpg,bird\n')
    text, pictures = path.read_text(), {p: p.read_bytes() for p in tmp_path.rglob('*.jpg')}
    for options in ((), ('--seed', 5)):
        with pytest.raises(SystemExit) as end:
            run(tmp_path, *few, *options)
        told = capsys.readouterr().err
        assert end.value.code == 2 and 'is not what would be written' in told and '--overwrite' in told
    assert path.read_text() == text and {p: p.read_bytes() for p in tmp_path.rglob('*.jpg')} == pictures
    assert run(tmp_path, *few, '--overwrite') == 0 and 'mine' not in path.read_text()
