"""Training and seeds as functions: the tools' work, returned instead of printed, raised instead of exited."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import weclip_sam
from weclip_sam.engine import load_config
from weclip_sam.engine.start.config import use_randomness
from weclip_sam.io.checkpoints import safe_load

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py'
SEEDS = ROOT / 'configs' / 'clip_es' / 'clip-es_tiny_free_shapes.py'
SHORT = {
    'model.clip.checkpoint': 'random', 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2,
    'param_scheduler.0.warmup_iters': 1, 'param_scheduler.0.end': 2, 'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.reader.num_images': 4, 'val_dataloader.dataset.reader.num_images': 2,
    'test_dataloader.dataset.reader.num_images': 2, 'custom_hooks': [], 'default_hooks.sheets': None}
FEW = {'seed_dataset.reader.num_images': 3, 'train_dataloader.dataset.reader.num_images': 3}


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_train_returns_the_summary_and_leaves_the_config_as_it_is(at_home, forget_runs):
    config = load_config(TRAIN, SHORT)
    before = config.to_dict()
    summary = weclip_sam.train(config, seed=3)
    folder = at_home / 'work_dirs' / 'weclip_tiny_400_shapes'
    assert summary['work_dir'] == str(folder) and (folder / 'iter_2.pth').is_file()
    assert summary['iterations'] == 2 and 0 <= summary['val']['mIoU'] <= 100 and summary['seed'] == 3
    assert config.to_dict() == before

    again = weclip_sam.train(config, seed=3)  # has ended: nothing is done
    assert again == summary
    with pytest.raises(ValueError, match='resume or overwrite, not both'):
        weclip_sam.train(config, resume='auto', overwrite=True)
    with pytest.raises(ValueError, match='work_dirs/weclip_tiny_400_shapes'):
        weclip_sam.train(config, seed=4)  # the folder holds another run
    longer = load_config(TRAIN, {**SHORT, 'train_cfg.max_iters': 4, 'param_scheduler.0.end': 4})
    with pytest.raises(ValueError, match=r'goes on with the learning rates it began with.*scheduler.0.end: 2 -> 4'):
        weclip_sam.train(longer, seed=3, resume='auto')  # the checkpoint's have come to their end, and would stay there
    assert (folder / 'iter_2.pth').is_file() and not (folder / 'iter_4.pth').exists()


def test_a_deterministic_training_leaves_torch_as_it_was(monkeypatch):
    def training(config, *args, deterministic, **kwargs):
        use_randomness(config, 0, deterministic)
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        raise ValueError('stopped')
    monkeypatch.setattr('weclip_sam.jobs.run_training', training)
    with pytest.raises(ValueError, match='stopped'):
        weclip_sam.train(TRAIN, options=SHORT, deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


@pytest.mark.slow
def test_train_is_what_the_tool_does(at_home, forget_runs):
    from weclip_sam.cli.train import main
    summary = weclip_sam.train(str(TRAIN), 'here', options=SHORT)
    options = [f'{key}={value}' for key, value in SHORT.items()]
    main([str(TRAIN), '--work-dir', 'there', '--cfg-options', *options])
    here, there = (safe_load(f'{name}/iter_2.pth', kind='weights')['state_dict'] for name in ('here', 'there'))
    assert here.keys() == there.keys() and all((here[key] == there[key]).all() for key in here)
    assert summary['work_dir'] == str(at_home / 'here')


@pytest.mark.slow
def test_make_seeds_returns_the_summary(at_home):
    summary = weclip_sam.make_seeds(SEEDS, options=FEW, evaluate=True)
    folder = at_home / 'work_dirs' / SEEDS.stem / 'seeds' / 'train'
    assert summary['out'] == str(folder) and summary['made'] == 3 and not summary['failed']
    assert 0 <= summary['evaluation']['mIoU'] <= 100 and len(list(folder.glob('*.png'))) == 3
    assert json.loads((folder / 'summary.json').read_text())['made'] == 3
    assert weclip_sam.make_seeds(load_config(SEEDS, FEW), out='elsewhere')['made'] == 3


@pytest.mark.parametrize('call', [weclip_sam.train, weclip_sam.make_seeds])
def test_what_is_wrong_is_raised_and_nothing_exits(call):
    with pytest.raises(FileNotFoundError, match="Did you mean '"):
        call(str(TRAIN).replace('400', '401'))
    with pytest.raises(ValueError, match="has no 'modell'"):
        call(TRAIN, options=['modell.x=1'])
    with pytest.raises(ValueError, match='was read from no file'):
        call(Config(load_config(TRAIN, SHORT).to_dict()))


def test_a_type_that_nobody_knows_is_said_in_this_package_s_words(at_home):
    with pytest.raises(ValueError, match="'GradCamm'.*Did you mean 'GradCam'"):
        weclip_sam.make_seeds(SEEDS, options={**FEW, 'model.seeds': [dict(type='GradCamm')]})
    with pytest.raises(ValueError, match="expected 'SeedMaker'"):
        weclip_sam.make_seeds(TRAIN, options={'seed_dataset.reader.num_images': 2})
