"""Where an argument is missing, the line names a command that can be pasted."""
import json
import os
import re
import shlex
import time

import pytest

from weclip_sam import commands


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A work dir with checkpoints, of a training on photos; the current folder is the one that holds both."""
    folder = tmp_path / 'work_dirs' / 'my run'
    folder.mkdir(parents=True)
    for name in ('iter_40.pth', 'iter_400.pth', 'best_mIoU_iter_40.pth'):
        (folder / name).touch()
    (tmp_path / 'photos of mine' / 'images').mkdir(parents=True)
    settings = {'train_dataloader.dataset.reader.data_root': str(tmp_path / 'photos of mine')}
    (folder / 'run.json').write_text(json.dumps(dict(settings=settings)))
    (tmp_path / 'new').mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(commands.DOOR, raising=False)
    return 'work_dirs/my run'


def example(load_tool, capsys, tool, *given):
    with pytest.raises(SystemExit) as stop:
        load_tool(tool).main(list(given))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    return shlex.split(re.search(r'^for example: (.*)$', said, re.MULTILINE)[1])


def test_of_what_was_given_and_what_the_training_read(run, load_tool, capsys, tmp_path):
    checkpoint, photos = f'{run}/iter_400.pth', str(tmp_path / 'photos of mine' / 'images')
    whole = ['python', 'tools/predict.py', checkpoint, photos, '--out', f'{run}/predictions']
    assert example(load_tool, capsys, 'predict', run) == whole
    assert example(load_tool, capsys, 'predict') == whole  # the newest training here
    assert example(load_tool, capsys, 'predict', f'{run}/iter_40.pth', 'new')[2:4] == [f'{run}/iter_40.pth', 'new']
    assert example(load_tool, capsys, 'make_labels', run)[2:] == [checkpoint, '--out', f'{run}/labels']
    assert example(load_tool, capsys, 'deploy', run)[2:] == [checkpoint, '--out', f'{run}/model.onnx']
    assert example(load_tool, capsys, 'demo')[2:] == [checkpoint]


def test_as_the_command_was_called(run, load_tool, capsys, monkeypatch):
    monkeypatch.setenv(commands.DOOR, 'weclip-sam')
    assert example(load_tool, capsys, 'make_labels', run)[:2] == ['weclip-sam', 'make-labels']


def test_where_nothing_lies_it_is_a_pattern(tmp_path, load_tool, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert example(load_tool, capsys, 'predict')[2:4] == ['work_dirs/NAME/iter_400.pth', 'photos']


def test_the_newest_training_counts(run, load_tool, capsys, tmp_path):
    other = tmp_path / 'work_dirs' / 'other'
    other.mkdir()
    (other / 'iter_5.pth').touch()
    os.utime(other / 'iter_5.pth', (time.time() + 9,) * 2)
    assert example(load_tool, capsys, 'demo')[2:] == ['work_dirs/other/iter_5.pth']


def test_a_folder_in_the_place_of_a_checkpoint(run, run_tool, capsys):
    assert run_tool('predict', run, 'new', '--out', 'o') == 2
    assert f'{run} is a folder; the checkpoint in it is {run}/iter_400.pth' in capsys.readouterr().err
    assert run_tool('predict', 'new', 'new', '--out', 'o') == 2
    assert 'new is a folder; a checkpoint is a file such as iter_1000.pth, and none lies' in capsys.readouterr().err
