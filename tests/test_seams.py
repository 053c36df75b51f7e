"""The house can be extended from outside: an encoder, a step with a parameter, and a refinement, a few lines each.

They lie in a module of their own, which the config names in ``custom_imports``; every tool takes them from there.
"""
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.api import Segmenter
from weclip_sam.io.checkpoints import safe_load
from weclip_sam.io.images import read_labels

ROOT = Path(__file__).resolve().parents[1]
MODULE = '''
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from weclip_sam.registry import MODELS, SEED_STEPS
from weclip_sam.structures import ClipFeatures


@MODELS.register_module()
class Grey(nn.Module):
    """An encoder: one token a patch, its mean brightness, twice."""
    patch_size, width, layers = 8, 2, 2

    def forward(self, rgb):
        patches = F.avg_pool2d(rgb.mean(1, keepdim=True) / 255, 8)
        tokens = F.pad(patches.flatten(2).transpose(1, 2), (0, 1, 1, 0), value=1.0)
        return ClipFeatures(tokens.expand(2, *tokens.shape), None, tuple(patches.shape[2:]))


@SEED_STEPS.register_module()
class Tint(nn.Module):
    """A seed step: maps times a learnt power of the brightness."""
    needs, gives = frozenset({'maps', 'grey'}), frozenset({'maps'})

    def __init__(self, start):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(float(start)))

    def forward(self, state):
        grey = state.features['grey']
        brightness = grey.tokens[-1][:, 1:, 0].unflatten(1, grey.grid)[state.maps.sample_index]
        scores = state.maps.scores * brightness.clamp(min=0.01) ** self.power.detach()
        return replace(state.with_maps('tint', state.maps.with_scores(scores)), losses=dict(tint=self.power ** 2))


@SEED_STEPS.register_module()
class Darker(object):
    """A refinement: dark pixels are background."""
    needs, gives = frozenset({'maps', 'rgb'}), frozenset({'maps'})

    def __init__(self, below):
        self.below = below

    def __call__(self, state):
        dark = state.rgb.mean(1) < self.below
        return replace(state, background=torch.where(dark, 2.0, state.background))
'''
DIM = '''

@SEED_STEPS.register_module()
class Dim(nn.Module):
    needs, gives = frozenset({'maps'}), frozenset({'maps'})

    def __init__(self):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(0.5))

    def forward(self, state):
        scores = state.maps.scores ** self.power.detach()
        return replace(state.with_maps('dim', state.maps.with_scores(scores)), losses=dict(dim=self.power ** 2))
'''
CONFIG = '''
_base_ = {base!r}
custom_imports = dict(imports=['toy_rooms'])
model = dict(
    clip=dict(type='FrozenClip', arch='tiny', checkpoint='random'), encoders=dict(grey=dict(type='Grey')),
    seeds=[dict(type='GradCam'), dict(type='Tint', start=0.5), dict(type='PixelLabels')], {more})
train_dataloader = dict(dataset=dict(reader=dict(num_images=4, size=56), pipeline=[dict(type='PackSample')]))
'''
TRAINING = '''
train_dataloader['batch_size'] = 2
val_dataloader = test_dataloader = dict(dataset=dict(reader=dict(num_images=2, size=56)))
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = [dict(type='PolyWarmupLR', warmup_iters=1, by_epoch=False, end=4)]
default_hooks = dict(sheets=None, checkpoint=dict(type='AtomicCheckpointHook', interval=2, max_keep_ckpts=9))
custom_hooks = []
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
'''


@pytest.fixture()
def house(tmp_path, monkeypatch):
    """Write the module and two configs; returns a function that runs a tool in this process."""
    (tmp_path / 'toy_rooms.py').write_text(MODULE)
    bases = ROOT / 'configs'
    decoder = "decoder=dict(token_layers=[0, 1], encoder='grey'), test=dict(refine=[dict(type='Darker', below=300)])"
    (tmp_path / 'train.py').write_text(
        CONFIG.format(base=str(bases / 'weclip' / 'weclip_tiny_400_shapes.py'), more=decoder) + TRAINING)
    (tmp_path / 'seeds.py').write_text(
        CONFIG.format(base=str(bases / 'clip_es' / 'clip-es_tiny_free_shapes.py'), more='templates=["a {}"]'))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        tool = importlib.import_module(f'weclip_sam.cli.{name}')
        tool.main([str(argument) for argument in arguments])

    yield tmp_path, run
    forget('toy_rooms')


def forget(module):
    """Take what a module registered out of the registries, so that the next import registers it again."""
    from weclip_sam.registry import MODELS, SEED_STEPS
    for registry in (MODELS, SEED_STEPS):
        for name in [n for n, kind in registry.module_dict.items() if kind.__module__ == module]:
            del registry._module_dict[name]
    sys.modules.pop(module, None)


def power_of(checkpoint):
    return safe_load(checkpoint, kind='weights')['state_dict']['seeds.1.power'].item()


def test_parts_from_outside_train_resume_make_seeds_and_predict(house, capsys):
    folder, run = house
    run('train', 'train.py', '--work-dir', 'whole')
    assert power_of('whole/iter_4.pth') != 0.5, 'the step did not learn'

    shutil.copytree('whole', 'stopped')
    (folder / 'stopped' / 'iter_4.pth').unlink()
    run('train', 'train.py', '--work-dir', 'stopped', '--resume', 'stopped/iter_2.pth')
    whole, resumed = (safe_load(f'{name}/iter_4.pth', kind='weights')['state_dict'] for name in ('whole', 'stopped'))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())

    with pytest.raises(SystemExit) as stop:
        run('make_seeds', 'seeds.py', '--out', 'seeds')
    assert stop.value.code in (0, None)
    made = json.loads((folder / 'seeds' / 'summary.json').read_text())
    assert made['made'] == 4 and not made['failed']

    Image.fromarray(np.full((40, 48, 3), 128, np.uint8)).save('grey.png')
    with pytest.raises(SystemExit) as stop:
        run('predict', 'whole/iter_4.pth', 'grey.png', '--out', 'out', '--config', 'train.py', '--device', 'cpu')
    assert stop.value.code == 0
    # The refinement was used: everything is darker than 300.
    assert not np.asarray(read_labels('out/labels/grey.png', 10)).any()


def test_a_checkpoint_predicts_without_the_modules_of_its_own_seed_steps(house):
    folder, run = house
    own = (folder / 'train.py').read_text().replace("encoders=dict(grey=dict(type='Grey')),", '')
    own = own.replace("decoder=dict(token_layers=[0, 1], encoder='grey'), test=dict(refine=[dict(type='Darker', "
                      'below=300)])', '')
    (folder / 'steps.py').write_text(own.replace("dict(type='Tint', start=0.5)", "dict(type='Dim')"))
    (folder / 'toy_rooms.py').write_text(MODULE + DIM)
    run('train', 'steps.py', '--work-dir', 'whole')
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    expected = Segmenter('whole/iter_4.pth', 'cpu', config='steps.py')(image).labels
    assert 'seeds.1.power' in safe_load('whole/iter_4.pth', kind='weights')['state_dict']
    forget('toy_rooms')
    segmenter = Segmenter('whole/iter_4.pth', 'cpu')
    assert segmenter.model.seeds is None and 'toy_rooms' not in sys.modules
    assert np.array_equal(segmenter(image).labels, expected)


def test_a_checkpoint_imports_no_code(house, capsys):
    folder, run = house
    run('train', 'train.py', '--work-dir', 'whole')
    forget('toy_rooms')
    Image.fromarray(np.full((40, 48, 3), 128, np.uint8)).save('grey.png')
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run('predict', 'whole/iter_4.pth', 'grey.png', '--out', 'out', '--device', 'cpu')
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert '--config' in said and 'Traceback' not in said
    assert 'toy_rooms' not in sys.modules
