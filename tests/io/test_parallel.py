"""Work on many processes, and what becomes of a command when one of them is killed."""
import importlib
import json
import os
import signal
from pathlib import Path

import pytest

from weclip_sam.checking import data
from weclip_sam.datasets import coco_masks
from weclip_sam.engine import explain
from weclip_sam.io.parallel import WorkerError, parallel_map

ROOT = Path(__file__).resolve().parents[2]
paint = coco_masks.paint


def _die_at_five(task):
    if task == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def _die_painting(task):
    if task[0].stem == '30':
        os.kill(os.getpid(), signal.SIGKILL)
    return paint(task)


def _die(task):
    os.kill(os.getpid(), signal.SIGKILL)


def _error_of(tool, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f'weclip_sam.cli.{tool}').main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_dead_worker_is_explained():
    with pytest.raises(WorkerError) as caught:
        list(parallel_map(_die_at_five, range(100), 100, workers=2, name='reading'))
    told = explain(caught.value)
    assert told == str(caught.value) and told.startswith('reading: a worker process died after ') and ' of 100 ' in told


def test_preparation_is_one_line_when_a_worker_dies_and_goes_on(tmp_path, write_image, monkeypatch, capsys):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    names = [f'{i}.jpg' for i in range(40)]
    for name in names:
        write_image(tmp_path / 'train2014' / name)
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'instances_train2014.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=name, height=12, width=16) for i, name in enumerate(names)],
        categories=[dict(id=1, name='person')], annotations=[])))
    arguments = [str(tmp_path), '--splits', 'train2014', '--workers', '2']
    with monkeypatch.context() as patch:
        patch.setattr(coco_masks, 'paint', _die_painting)
        error = _error_of('prepare_coco', arguments, capsys)
    assert 'error: masks of train2014: a worker process died' in error and '--workers' in error
    # The pool ends the other worker, too, perhaps while it writes.
    (tmp_path / 'semantic_masks' / 'train2014' / '.31.png.abc.tmp').write_bytes(b'half')
    with pytest.raises(SystemExit) as ended:
        importlib.import_module('weclip_sam.cli.prepare_coco').main(arguments)
    assert ended.value.code in (0, None)
    made = {path.name for path in (tmp_path / 'semantic_masks' / 'train2014').iterdir()}
    assert {f'{i}.png' for i in range(40)} == made


def test_a_check_is_one_line_when_a_worker_dies(tmp_path, write_image, monkeypatch, capsys):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    for number in range(4):
        write_image(tmp_path / 'images' / f'{number}.png', (40, 40), number)
    (tmp_path / 'labels.csv').write_text('image,classes\n' + ''.join(f'{i}.png,cat\n' for i in range(4)))
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'folder.py'
    (tmp_path / 'config.py').write_text(f"_base_ = [r'{base}']\nmodel = dict()\n")
    monkeypatch.setattr(data, 'inspect', _die)
    error = _error_of('check_data', [str(tmp_path / 'config.py'), '--workers', '2', '--cfg-options',
                                     f'data_root={tmp_path}'], capsys)
    assert 'error: files: a worker process died after 0 of 4 files' in error
