"""print_config.py: what is printed is the config that a run uses, and a config again."""
import json
from pathlib import Path

import pytest
from mmengine.config import Config

from weclip_sam.engine import load_config
from weclip_sam.engine.start.identity import run_identity

ROOT = Path(__file__).parents[2]
LEAF = ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py'
SMALL = ['train_dataloader.dataset.reader.num_images=4', 'mask_bank=/banks/one']


@pytest.fixture
def print_config(load_tool, capsys):
    """Runs the tool; returns what it said on stdout and stderr."""
    def run(*arguments):
        load_tool('print_config').main([str(argument) for argument in arguments])
        return capsys.readouterr()
    return run


def test_what_a_config_says_once_and_its_classes_stand_where_they_are_used(print_config, tmp_path):
    said = print_config(LEAF, '--seed', '3', '--amp', '--cfg-options', *SMALL)
    (tmp_path / 'printed.py').write_text(said.out)
    assert said.err == ''
    config = Config.fromfile(tmp_path / 'printed.py')
    assert config.train_dataloader.dataset.mask_bank == config.seed_dataset.mask_bank == '/banks/one'
    hooks = {hook.type: hook for hook in config.custom_hooks}
    assert hooks['MaskBankHook'].generator == config.mask_generator and hooks['MaskBankHook'].bank == '/banks/one'
    assert len(config.model.vocabulary.classes) == 10 and config.randomness == dict(seed=3)
    assert config.optim_wrapper.type == 'Bf16OptimWrapper'


def test_it_is_the_same_training_and_takes_the_same_options(print_config, tmp_path):
    file = tmp_path / 'printed.py'
    assert print_config(LEAF, '--out', file, '--cfg-options', *SMALL).out == f'written: {file}\n'
    assert file.read_text().startswith(f'"""{LEAF} with everything filled in."""\n')
    first, second = load_config(LEAF, SMALL), load_config(file)
    first.work_dir = second.work_dir = str(tmp_path)
    assert run_identity(first) == run_identity(second)
    moved = load_config(file, ['mask_bank=/banks/two'])
    assert moved.train_dataloader.dataset.mask_bank == moved.seed_dataset.mask_bank == '/banks/two'


def test_without_the_data_it_says_so(print_config, tmp_path):
    said = print_config(ROOT / 'configs' / 'clip_es' / 'clip-es_vit-b16_free_folder.py', '--cfg-options',
                        f'data_root={tmp_path}/none')
    assert 'note: the names of the data are not in it, for they cannot be read: the data folder is missing: ' \
           f'{tmp_path}/none' in said.err
    assert 'vocabulary' not in Config.fromstring(said.out, '.py').model


def test_what_is_wrong_is_one_line(run_tool, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    for arguments, told in (([LEAF, '--out', tmp_path / 'x.txt'], 'a config is a .py file'),
                            ([LEAF, '--out', LEAF], 'would overwrite the config itself'),
                            (['weclip_sam/weclip-sam_tiny_400_shapes.py', '--out', LEAF], 'would overwrite the config'),
                            ([LEAF, '--cfg-options', 'model.decoder.stride=3', 'modl=1'], "Did you mean 'model'?"),
                            ([LEAF.with_name('weclip-sam_tiny_40_shapes.py')], 'no such config. Did you mean')):
        assert run_tool('print_config', *arguments) == 2
        error, = capsys.readouterr().err.splitlines()
        assert error.startswith('error: ') and told in error
    assert not list(tmp_path.iterdir())


def test_folders_of_masks_and_labels_keep_their_config_and_environment(photos, run_tool, tmp_path):
    _, config = photos
    assert run_tool('make_masks', config) == 0
    assert run_tool('make_seeds', config, '--out', tmp_path / 'seeds') == 0
    for folder in (tmp_path / 'photos' / 'bank_train', tmp_path / 'seeds'):
        assert Config.fromfile(folder / 'config.py').mask_dataset == 'photos'
        assert json.loads((folder / 'environment.json').read_text())['packages']['torch']
