"""Configs are loaded by name from any folder, and a ``_base_`` may be one of the package's."""
from pathlib import Path

import pytest
from mmengine.config import Config

from weclip_sam.comparison.experiment import load_experiment
from weclip_sam.engine import load_config
from weclip_sam.engine.start.config import read_config

ROOT = Path(__file__).parents[3]
NAME = 'weclip_tiny_400_shapes'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_name_is_a_config_and_options_apply():
    config = load_config(NAME, ['train_cfg.max_iters=7'])
    assert config.filename == str(ROOT / 'configs' / 'weclip' / f'{NAME}.py') and config.train_cfg.max_iters == 7


@pytest.mark.parametrize('base', [f"'weclip_sam::weclip/{NAME}.py'", f"['weclip-sam::{NAME}']"])
def test_a_config_of_ones_own_on_one_of_the_packages(base):
    Path('sub').mkdir()
    Path('sub/mine.py').write_text(f'_base_ = {base}\ntrain_cfg = dict(max_iters=7)\n')
    Path('sub/leaf.py').write_text("_base_ = './mine.py'\nrandomness = dict(seed=3)\n")
    mine, theirs = load_config('sub/leaf.py').to_dict(), load_config(NAME).to_dict()
    assert mine['train_cfg'].pop('max_iters') == 7 != theirs['train_cfg'].pop('max_iters')
    assert mine.pop('randomness') == dict(seed=3) and theirs.pop('randomness', None) != dict(seed=3)
    assert mine == theirs


def test_parts_of_the_package_beside_files_of_ones_own():
    Path('own.py').write_text('own = 1\n')
    Path('mine.py').write_text("_base_ = ['weclip_sam::_base_/runtime.py', 'own.py']\nmodel = dict(type='SeedMaker')\n")
    config = read_config(Path('mine.py'))
    assert config.own == 1 and config.default_scope == 'weclip_sam'


def test_an_experiment_of_ones_own():
    Path('mine.py').write_text("_base_ = 'weclip_sam::compare/shapes.py'\nseeds = 1\nroot = 'runs'\n")
    experiment, theirs = load_experiment('mine'), load_experiment('shapes')
    assert (experiment.seeds, experiment.root) == (1, Path('runs'))
    assert list(experiment.methods) == list(theirs.methods) and theirs.seeds == 3


@pytest.mark.parametrize('base, told', [
    (f'configs/weclip/{NAME}.py', f"mine.py: its _base_ is missing: .*{NAME}.py.*"
                                  f"The package's own is _base_ = \\['weclip_sam::weclip/{NAME}.py'\\]"),
    ('../_base_/runtime.py', r"The package's own is _base_ = \['weclip_sam::_base_/runtime.py'\]"),
    ('weclip_sam::weclip/weclip_tiny_400_shape.py',
     f"mine.py: its _base_ is missing: .*Did you mean 'weclip_sam::weclip/{NAME}.py'"),
    ('nowhere.py', "its _base_ is missing: (?!.*package)")])
def test_a_base_that_is_missing(base, told):
    Path('mine.py').write_text(f"_base_ = '{base}'\nmodel = dict()\n")
    with pytest.raises(FileNotFoundError, match=told):
        load_config('mine.py')


def test_other_packages_bases_are_mmengines_as_before():
    Path('mine.py').write_text("_base_ = 'mmdet::faster_rcnn/x.py'\nmodel = dict()\n")
    with pytest.raises(ModuleNotFoundError, match='mmdet|pkg_resources'):  # its way there needs an old setuptools
        Config.fromfile('mine.py')
