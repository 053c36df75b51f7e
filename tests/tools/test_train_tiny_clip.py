"""The tiny CLIP's trainer: its schedule, and what it says when it cannot start."""
import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope='module')
def tool():
    path = Path(__file__).parents[2] / 'tools' / 'pretrain' / 'train_tiny_clip.py'
    spec = importlib.util.spec_from_file_location('train_tiny_clip', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stages_follow_one_another(tool):
    schedule = tool.Schedule('80:0.5:25,112:1:10', 10)
    assert schedule.total == 3
    assert [schedule(i) for i in range(3)] == [(80, 0.5, 0), (80, 0.5, 1), (112, 1.0, 0)]


@pytest.mark.parametrize('given, message', [
    (['--stages', '80:0.5'], "--stages: '80:0.5' is not SIZE:SHARE:SAMPLES"),
    (['--stages', '80:0.5:1000,x:1:1000'], "'x:1:1000' is not"), (['--stages', '81:0.5:1000'], 'size 81'),
    (['--stages', '80:1.5:1000'], 'share 1.5'), (['--stages', '80:1:5'], 'samples 5: expected at least one batch (128'),
    (['--export', 'tiny'], 'train first'), (['--device', 'gpu'], "device 'gpu' cannot be used"),
    (['--device', 'cuda:99'], "device 'cuda:99' cannot be used"), (['--batch', '5000'], '--batch 5000'),
    (['--save-every', '0'], '--save-every 0')])
def test_slips_end_with_one_line_before_any_work(tool, tmp_path, capsys, given, message):
    with pytest.raises(SystemExit) as stop:
        tool.main(['--work-dir', str(tmp_path / 'run'), *given])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1
    assert not (tmp_path / 'run').exists()


def test_the_lines_of_its_help_can_be_pasted(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--help'])
    assert ' --work-dir work_dirs/tiny_clip \\\n        --export ' in capsys.readouterr().out
