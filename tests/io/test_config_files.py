"""A config is found by its path, by its path below ``configs``, and by its bare name; one's own comes first."""
from pathlib import Path

import pytest

from weclip_sam.io import config_files
from weclip_sam.io.config_files import configs_folder, find_config, packaged_config, packaged_configs

ROOT = Path(__file__).parents[2]
MAIN = ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py'


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkout_has_its_configs_beside_the_package():
    assert configs_folder() == ROOT / 'configs'


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(config_files, '_PACKAGE', tmp_path / 'site-packages' / 'weclip_sam')
    (tmp_path / 'site-packages' / 'weclip_sam' / 'configs' / 'weclip').mkdir(parents=True)
    inside = tmp_path / 'site-packages' / 'weclip_sam' / 'configs'
    (tmp_path / 'site-packages' / 'configs').mkdir()  # another package's
    (inside / 'weclip' / 'a_tiny.py').write_text('model = dict()')
    assert configs_folder() == inside
    assert packaged_configs() == {'weclip/a_tiny.py': inside / 'weclip' / 'a_tiny.py'}
    assert find_config('a_tiny') == inside / 'weclip' / 'a_tiny.py'


def test_every_file_is_listed_and_parts_only_if_asked_for():
    listed, all_files = packaged_configs(), packaged_configs(parts=True)
    assert set(all_files.values()) == set((ROOT / 'configs').rglob('*.py'))
    assert set(all_files) - set(listed) == {name for name in all_files if name.startswith('_base_/')}
    assert listed['weclip_sam/weclip-sam_tiny_400_shapes.py'] == MAIN and list(listed) == sorted(listed)


def test_bare_names_are_unique():
    names = [Path(name).stem for name in packaged_configs()]
    assert len(set(names)) == len(names) > 45


@pytest.mark.parametrize('given', [
    'weclip-sam_tiny_400_shapes', 'weclip-sam_tiny_400_shapes.py', 'weclip_sam/weclip-sam_tiny_400_shapes.py',
    'weclip_sam/weclip-sam_tiny_400_shapes', 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py',
    './configs/weclip_sam/weclip-sam_tiny_400_shapes.py', 'weclip_sam::weclip_sam/weclip-sam_tiny_400_shapes.py',
    'weclip-sam::weclip-sam_tiny_400_shapes', Path('configs/weclip_sam/weclip-sam_tiny_400_shapes.py'), MAIN])
def test_ways_to_call_the_main_job_from_anywhere(elsewhere, given):
    assert find_config(given) == MAIN


@pytest.mark.parametrize('given', ['mine', 'mine.py', 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py',
                                   'weclip-sam_tiny_400_shapes', 'weclip-sam_tiny_400_shapes.py'])
def test_ones_own_file_comes_first(elsewhere, given):
    """Else edits of a copy that kept its name would be passed over in silence."""
    path = elsewhere / (given if given.endswith('.py') else f'{given}.py')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('model = dict()')
    assert find_config(given).resolve() == path
    assert find_config('weclip_sam::weclip_sam/weclip-sam_tiny_400_shapes.py') == MAIN


@pytest.mark.parametrize('given', ['runtime', '400', 'sam.py', 'elsewhere/weclip-sam_tiny_400_shapes.py', 'weclip_sam',
                                   'weclip_sam/', '.', '..', '/configs/weclip_sam/weclip-sam_tiny_400_shapes.py',
                                   '../configs/weclip_sam/weclip-sam_tiny_400_shapes.py'])
def test_what_names_none_of_the_package(given):
    """Parts have no bare names, and other folders are not ours."""
    assert packaged_config(given) is None


def test_parts_are_found_by_their_path():
    assert packaged_config('_base_/runtime.py') == ROOT / 'configs' / '_base_' / 'runtime.py'


@pytest.mark.parametrize('given, near', [
    ('weclip-sam_tiny_400_shape', "Did you mean 'weclip-sam_tiny_400_shapes'?"),
    ('configs/weclip_sam/weclip-sam_tiny_400_shape.py',
     "Did you mean 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py'?"),
    ('clip_es/clip-es_vit-b16_free_vok.py', "Did you mean 'configs/clip_es/clip-es_vit-b16_free_voc.py'?"),
    ('weclip_sam::shape', "Did you mean 'weclip_sam::compare/shapes.py'?"),
    ('my_cofig.py', "Did you mean 'my_config.py'?"),
    ('nothing-like-it', '`python tools/configs.py` lists those of the package')])
def test_a_slip_of_the_pen_is_told_as_it_was_called(elsewhere, given, near):
    (elsewhere / 'my_config.py').write_text('model = dict()')
    with pytest.raises(FileNotFoundError) as error:
        find_config(given)
    assert str(error.value) == f'{given}: no such config. {near}'
    with pytest.raises(FileNotFoundError, match='no such experiment file'):
        find_config(given, 'experiment file')
