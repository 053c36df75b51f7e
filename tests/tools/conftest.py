"""Photographs with labels, and the tools that work on them."""
import errno
import importlib.util
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.io.images import write_labels

ROOT = Path(__file__).parents[2]
CARD = {'embed_dim': 16, 'quick_gelu': True,
        'vision_cfg': {'image_size': 32, 'layers': 3, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
CONFIG = """
data_root = {root!r}
_reader = dict(type='FolderReader', data_root=data_root, classes=['cat', 'dog', 'bus'])
train_dataloader = dict(dataset=dict(type='ImageLabelDataset', reader=_reader))
val_dataloader = dict(dataset=dict(type='ImageLabelDataset', reader=dict(_reader, labels='val.csv')))
seed_dataset = dict(pipeline=[dict(type='ResizeToMultiple', divisor=8), dict(type='PackSample')])
mask_bank = {root!r} + '/bank_train'
mask_dataset = 'photos'
mask_generator = dict(type='MaskGenerator', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'),
                      points_per_side=3, pred_iou_thresh=0.2, stability_thresh=0.2, min_region_area=4)
model = dict(type='SeedMaker', clip=dict(type='FrozenClip', arch={card!r}, checkpoint='random'),
             seeds=[dict(type='GradCam'), dict(type='AttentionAffinity', layers=2), dict(type='PixelLabels')])
"""


@pytest.fixture(scope='session')
def load_tool():
    """A function: the module of the tool of a name."""
    def load(name):
        # Benchmarks are no part of the package: pytest finds them in tools/.
        return importlib.import_module(name if name == 'benchmark' else f'weclip_sam.cli.{name}')
    return load


@pytest.fixture(scope='session')
def run_tool(load_tool):
    """A function: runs a tool on a command line; returns its exit code."""
    def run(name, *args):
        with pytest.raises(SystemExit) as stop:
            load_tool(name).main([str(a) for a in args])
        return stop.value.code
    return run


@pytest.fixture(scope='session')
def summary_of():
    """A function: the summary in a folder."""
    return lambda folder: json.loads((folder / 'summary.json').read_text())


@pytest.fixture
def run_slowly(monkeypatch, run_tool):
    """A function: runs a tool that takes ``seconds`` for every image, and is interrupted at image ``stop_at``."""
    load = ImageLabelDataset.load_image

    def run(tool, *args, seconds, stop_at=None):
        def slow(self, index):
            if index == stop_at:
                raise KeyboardInterrupt
            time.sleep(seconds)
            return load(self, index)
        with monkeypatch.context() as patch:
            patch.setattr(ImageLabelDataset, 'load_image', slow)
            return run_tool(tool, *args)
    return run


@pytest.fixture
def photos(tmp_path):
    """Eight small photographs, sides no multiple of the patch, one without a label; and ground truth."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'photos'
    (root / 'images').mkdir(parents=True)
    lines = ['image,classes']
    for i in range(8):
        size = (35 + i, 41 - i, 3)
        smooth = np.kron(rng.integers(0, 255, (5, 5, 3)), np.ones((9, 9, 1)))[:size[0], :size[1]]
        Image.fromarray(smooth.astype(np.uint8)).save(root / 'images' / f'p{i}.png')
        names = ['', 'cat', 'dog;bus', 'bus', 'cat;dog', 'dog', 'cat;dog;bus', 'bus;cat'][i]
        lines.append(f'p{i}.png,{names}')
        write_labels(root / 'masks' / f'p{i}.png', rng.integers(0, 4, size[:2]))
    (root / 'labels.csv').write_text('\n'.join(lines) + '\n')
    (root / 'val.csv').write_text('image,classes\np1.png,cat\np2.png,dog\n')
    card, config = tmp_path / 'card.json', tmp_path / 'photos_config.py'
    card.write_text(json.dumps(CARD))
    config.write_text(CONFIG.format(root=str(root), card=str(card)))
    return root, config


@pytest.fixture
def disk_full_at(monkeypatch):
    """A function: the disk is full once ``wanted()`` says so."""
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    fsync = os.fsync

    def arrange(patch, wanted):
        def full(handle):
            if wanted():
                raise OSError(errno.ENOSPC, 'No space left on device')
            fsync(handle)
        patch.setattr(os, 'fsync', full)
    return arrange


@pytest.fixture
def twins(photos, tmp_path):
    """Another folder with files, sizes and labels of the same names, but other pictures, and its options."""
    root, config = photos
    twin = tmp_path / 'twin'
    shutil.copytree(root, twin)
    for path in (twin / 'images').iterdir():
        Image.fromarray(255 - np.array(Image.open(path))).save(path)
    return twin, ['--cfg-options', *(f'{loader}_dataloader.dataset.reader.data_root={twin}' for loader in
                                     ('train', 'val'))]


@pytest.fixture
def merging(photos, tmp_path, run_tool):
    """A config that merges anybody's labels with SAM masks that are there, and a folder of such labels."""
    root, config = photos
    assert run_tool('make_masks', config) == 0
    text = config.read_text()
    path, start = tmp_path / 'sepl_config.py', tmp_path / 'start'
    path.write_text(text[:text.index('model = dict(')] + "model = dict(type='SeedMaker', seeds=["
                    "dict(type='SeplMerge')])")
    for i in range(8):
        write_labels(start / f'p{i}.png', np.full((35 + i, 41 - i), i % 4))
    return path, start
