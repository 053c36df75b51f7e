"""A torchvision that does not fit is told in one line, with the one that does."""
import builtins
import configparser
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from weclip_sam import torch_versions

ROOT = Path(__file__).parents[1]


@pytest.fixture
def failing(monkeypatch):
    """A function: torchvision cannot be imported, for a reason."""
    imported = builtins.__import__

    def fail(error):
        def broken(name, *args, **kwargs):
            if name == 'torchvision':
                raise error
            return imported(name, *args, **kwargs)
        monkeypatch.setattr(builtins, '__import__', broken)
    return fail


def test_the_pair_that_is_here():
    torch_versions.require_torchvision()
    release = '.'.join(torch.__version__.split('.')[:2])
    assert metadata.version('torchvision').startswith(f'{torch_versions.PAIRS[release]}.')


@pytest.mark.parametrize('version, remedy', [
    ('2.11.0+cu130', '--force-reinstall --no-deps "torchvision==0.26.*"'),
    ('2.15.0', '--force-reinstall --no-deps "torchvision==0.29.*"'),
    ('2.10.0', 'Install a pair: pip install "torch==2.15.*" "torchvision==0.29.*"')])
def test_a_torchvision_of_another_torch(failing, monkeypatch, version, remedy):
    monkeypatch.setattr(torch, '__version__', version)
    monkeypatch.setattr(metadata, 'version', lambda name: '0.20.1')
    failing(RuntimeError('operator torchvision::nms\ndoes not exist'))
    with pytest.raises(ImportError) as error:
        torch_versions.require_torchvision()
    told = f'torchvision 0.20.1 does not fit torch {version} (operator torchvision::nms does not exist). '
    assert str(error.value).startswith(told)
    assert remedy in str(error.value) and '\n' not in str(error.value)


def test_no_torchvision_at_all(failing, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, 'version', missing)
    failing(ModuleNotFoundError("No module named 'torchvision'"))
    with pytest.raises(ImportError) as error:
        torch_versions.require_torchvision()
    assert str(error.value).startswith(f'torchvision, which belongs to torch {torch.__version__}, is missing (')


def test_the_range_of_setup_cfg_is_that_of_the_pairs():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    wanted = {Requirement(line).name: Requirement(line).specifier for line in
              setup['options']['install_requires'].splitlines() if line and not line.startswith('#')}
    for own, other in torch_versions.PAIRS.items():
        assert f'{own}.0' in wanted['torch'] and f'{other}.0' in wanted['torchvision']
    assert '2.10.0' not in wanted['torch'] and '2.16.0' not in wanted['torch']
    assert '0.25.0' not in wanted['torchvision'] and '0.30.0' not in wanted['torchvision']
