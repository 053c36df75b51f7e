"""A wheel, built by way of an sdist, has all that the commands need: they work from any folder, without a checkout."""
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import weclip_sam

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
SOURCES = ('MANIFEST.in', 'pyproject.toml', 'setup.cfg', 'setup.py', 'README.md', 'LICENSE', 'CHANGELOG.md',
           'CONTRIBUTING.md', 'configs', 'docs', 'tests', 'tools', 'weclip_sam')
NAME = 'weclip_tiny_400_shapes'
TINY = ('--cfg-options', 'model.clip.checkpoint=random', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'param_scheduler.0.warmup_iters=1', 'param_scheduler.0.end=2', 'train_dataloader.batch_size=2',
        *(f'{place}.reader.num_images=4' for place in ('train_dataloader.dataset', 'val_dataloader.dataset',
                                                       'seed_dataset')))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Built of a copy: ``pip wheel`` would leave its folder ``build`` in the checkout."""
    folder = tmp_path_factory.mktemp('built')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / 'source' / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            (folder / 'source').mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, folder / 'source' / name)
    # What an earlier build of other sources left must not come along.
    stale = folder / 'source' / 'build' / 'lib' / 'weclip_sam' / 'configs' / 'weclip' / 'gone.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    build = 'from setuptools.build_meta import build_sdist; build_sdist("../sdist")'
    subprocess.run([sys.executable, '-c', build], cwd=folder / 'source', check=True, capture_output=True, timeout=300)
    sdist, = (folder / 'sdist').iterdir()
    to_wheel = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation',
                  '--disable-pip-version-check', '--wheel-dir']
    for target, source in (('of_sdist', sdist), ('of_checkout', folder / 'source')):
        subprocess.run([*to_wheel, folder / target, source], check=True, capture_output=True, timeout=300)
    first, second = (next((folder / target).iterdir()) for target in ('of_sdist', 'of_checkout'))
    assert sorted(zipfile.ZipFile(first).namelist()) == sorted(zipfile.ZipFile(second).namelist())
    return first


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The wheel's files in a folder of their own, as ``pip install`` lays them out."""
    folder = tmp_path_factory.mktemp('site-packages')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """A function: runs ``python -m weclip_sam`` with the wheel's package in an empty folder; returns the process."""
    empty = tmp_path / 'somewhere'
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith('WECLIP_SAM')}

    def run(*arguments, code=0):
        result = subprocess.run([sys.executable, '-m', 'weclip_sam', *map(str, arguments)], cwd=empty, text=True,
                                env=dict(environment, PYTHONPATH=str(installed)), capture_output=True, timeout=600)
        assert result.returncode == code, result.stderr[-2000:]
        return result
    run.folder = empty
    return run


def test_what_is_in_it_and_what_is_not(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'weclip_sam').rglob('*')
            if path.is_file() and '__pycache__' not in path.parts}
    configs = {f'weclip_sam/{path.relative_to(ROOT).as_posix()}' for path in (ROOT / 'configs').rglob('*.py')}
    info = f'weclip_sam-{weclip_sam.__version__}.dist-info'
    assert {name for name in names if not name.startswith(info)} == ours | configs
    assert {'weclip_sam/py.typed', 'weclip_sam/comparison/report.html.j2', 'weclip_sam/__main__.py',
            'weclip_sam/foundation/weights/tiny_sam.safetensors',
            'weclip_sam/foundation/weights/tiny_dino.safetensors'} <= ours and len(configs) > 90
    archive = zipfile.ZipFile(wheel)
    assert 'weclip-sam = weclip_sam.cli.main:main' in archive.read(f'{info}/entry_points.txt').decode()
    assert archive.read(f'{info}/top_level.txt').decode().split() == ['weclip_sam']
    metadata = archive.read(f'{info}/METADATA').decode()
    assert f'\nVersion: {weclip_sam.__version__}\n' in metadata and f'{info}/licenses/LICENSE' in names


def test_help_version_and_configs_from_an_empty_folder(run, installed):
    assert 'make-masks' in run('--help').stdout
    inside = installed / 'weclip_sam' / 'configs'
    assert run('--version').stdout.endswith(f'package: {installed / "weclip_sam"}\nconfigs: {inside}\n')
    assert '  weclip-sam_tiny_400_shapes\n' in run('configs').stdout
    assert list(run.folder.iterdir()) == []


def test_from_a_name_to_a_prediction(run, write_image):
    """``.ci/run`` does more of it, with the wheel installed."""
    told = run('train', NAME, *TINY).stdout
    work_dir = run.folder / 'work_dirs' / NAME
    assert (work_dir / 'summary.json').is_file() and str(work_dir) in told
    run('predict', work_dir / 'iter_2.pth', write_image(run.folder / 'photo.png'), '--out', 'predicted')
    assert len(list((run.folder / 'predicted' / 'labels').iterdir())) == 1
