"""What results were made with is written beside them."""
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

import weclip_sam
from weclip_sam.engine.start import environment as module
from weclip_sam.engine.start.environment import describe_environment, write_environment, write_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is remembered from one test to the next."""
    for remembered in (module._machine, module._checkout):
        remembered.cache_clear()
    yield
    for remembered in (module._machine, module._checkout):
        remembered.cache_clear()


def test_versions_machine_and_command_are_told(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'a config.py', '--seed', '1'])
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    found = describe_environment()
    assert found['command'] == "tools/train.py 'a config.py' --seed 1"
    assert found['packages']['weclip_sam'] == weclip_sam.__version__
    assert found['packages']['numpy'] == np.__version__ and torch.__version__.startswith(found['packages']['torch'])
    assert {'timm', 'open_clip_torch'} <= set(found['packages'])
    assert any(name.startswith('mmengine') for name in found['packages'])
    assert found['python'] == '.'.join(map(str, sys.version_info[:3]))
    assert found['threads'] == torch.get_num_threads() and found['cpu'] and found['cpu_count'] >= 1
    assert len(found['gpus']) == torch.cuda.device_count() and found['variables']['OMP_NUM_THREADS'] == '1'
    assert json.loads(json.dumps(found)) == found


def test_a_checkout_tells_its_commit_and_whether_its_files_were_changed(tmp_path, monkeypatch):
    package = tmp_path / 'weclip_sam'
    package.mkdir()
    (package / '__init__.py').write_text('')
    monkeypatch.setattr(weclip_sam, '__file__', str(package / '__init__.py'))

    def git(*arguments):
        return subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *arguments], cwd=tmp_path,
                              capture_output=True, text=True, check=True).stdout.strip()

    def told():
        module._checkout.cache_clear()
        return module._checkout()
    assert told() is None
    git('init')
    git('add', '.')
    git('commit', '-m', 'first')
    (tmp_path / 'notes.txt').write_text('of no matter')
    assert told() == dict(commit=git('rev-parse', 'HEAD'), dirty=False)
    (package / 'own_step.py').write_text('x = 1')
    assert told()['dirty'] is True
    # Installed into an environment that lies in somebody's repository: that one's commit is not ours.
    inside = tmp_path / 'venv' / 'weclip_sam'
    inside.mkdir(parents=True)
    monkeypatch.setattr(weclip_sam, '__file__', str(inside / '__init__.py'))
    assert told() is None


def test_environments_of_before_are_kept_where_they_were_others(tmp_path, monkeypatch):
    def written():
        return json.loads((tmp_path / 'environment.json').read_text())
    write_environment(tmp_path, goes_on=True)
    first = written()
    write_environment(tmp_path, goes_on=True)
    assert 'earlier' not in written()
    for threads in (7, 8):
        monkeypatch.setattr(torch, 'get_num_threads', lambda threads=threads: threads)
        write_environment(tmp_path, goes_on=True)
    assert written()['threads'] == 8 and [each['threads'] for each in written()['earlier']] == [first['threads'], 7]
    write_environment(tmp_path)
    assert 'earlier' not in written()
    (tmp_path / 'environment.json').write_text('[torn')
    write_environment(tmp_path, goes_on=True)
    assert written()['threads'] == 8


def test_settings_are_written_as_a_config(tmp_path):
    config = Config(dict(model=dict(type='A', sizes=(1, 2)), names={'it\'s': 1}))
    write_settings(tmp_path, config)
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == config.to_dict()


def test_a_training_has_it_in_its_work_dir(run_toy, tmp_path):
    run_toy(train_cfg__max_iters=1, default_hooks__sheets=None, custom_hooks=[], train_cfg__val_interval=5)
    found = json.loads((tmp_path / 'run' / 'environment.json').read_text())
    assert found['processes'] == 1 and found['packages']['torch'] and 'commit' in (found['git'] or {'commit': None})
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert summary['written']['environment'] == str(tmp_path / 'run' / 'environment.json')
