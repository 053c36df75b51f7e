import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from weclip_sam.datasets.labels import read_label_table

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_shapes.py'


def run(*arguments):
    spec = importlib.util.spec_from_file_location('prepare_shapes', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.main([str(argument) for argument in arguments])


def test_the_layout_is_vocs_and_labels_fit_the_masks(tmp_path):
    assert run(tmp_path, '--train', 3, '--val', 2, '--tune', 1, '--size', 48) == 0
    classes = (tmp_path / 'classes.txt').read_text().split()
    table = read_label_table(tmp_path / 'image_labels.csv')
    names = (tmp_path / 'ImageSets/Segmentation/train.txt').read_text().split()
    assert len(classes) == 10 and len(table) == 6 and len(names) == 3
    for name in names:
        assert Image.open(tmp_path / f'JPEGImages/{name}.jpg').size == (48, 48)
        mask = np.asarray(Image.open(tmp_path / f'SegmentationClass/{name}.png'))
        assert {classes[label - 1] for label in np.unique(mask) if label} == set(table[name])


def test_writing_again_changes_nothing(tmp_path):
    run(tmp_path, '--train', 1, '--val', 1, '--tune', 1, '--size', 48)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.*')}
    run(tmp_path, '--train', 1, '--val', 1, '--tune', 1, '--size', 48)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob('*.*')} and len(before) == 11
