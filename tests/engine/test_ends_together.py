"""Two processes: what ends one ends both, with one line; a process without images takes part in every collective."""
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / 'toy'
FAULT = """
import signal, sys, time
import torch
from torch import distributed
from weclip_sam.engine import friendly_errors
from weclip_sam.engine.start import together
from weclip_sam.offline.shards import start_sharing, stop_sharing
together._POLL, together._GRACE = 0.2, 3.0
what = sys.argv[1]
with friendly_errors(on_stop=lambda: 'Go on.'):
    start_sharing('pytorch')
    rank = distributed.get_rank()
    if what == 'same':
        raise ValueError('the same fault everywhere')
    if what == 'success':
        distributed.barrier()
        stop_sharing()
        time.sleep(0.5 * rank)
        sys.exit(0)
    if rank == int(what):
        time.sleep(0.5)
        raise RuntimeError('only here') if sys.argv[2] == 'collective' else KeyboardInterrupt
    if sys.argv[2] == 'collective':
        distributed.barrier()
    else:
        time.sleep(60)
    print('went on')
"""


def run_two(command, cwd, timeout=120):
    """(exit code, output) of two processes, started as torchrun would."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in range(2):
        env = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{TOY}', OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
                   RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        env.pop('WECLIP_SAM_TRACEBACK', None)
        processes.append(subprocess.Popen([sys.executable, *map(str, command)], env=env, text=True, cwd=cwd,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize('args, codes, line', [
    (['0', 'collective'], [2, 2], 'error: RuntimeError: only here'), (['same', ''], [2, 2], 'error: the same fault'),
    (['1', 'collective'], [2, 2], 'error: RuntimeError: only here'), (['1', 'work'], [2, 130], 'stopped. Go on.'),
    (['success', ''], [0, 0], None)])
def test_what_ends_one_ends_both_with_one_line(args, codes, line, tmp_path):
    script = tmp_path / 'fault.py'
    script.write_text(FAULT)
    results = run_two([script, *args], tmp_path)
    together = '\n'.join(output for _, output in results)
    assert [code for code, _ in results] == codes, together
    told = [each for each in together.splitlines() if each.startswith(('error:', 'stopped'))]
    assert (len(told) == 1 and told[0].startswith(line)) if line else not told, together
    assert 'Traceback' not in together and 'went on' not in together


@pytest.mark.slow
def test_a_training_whose_one_process_fails_ends_with_one_line(tmp_path):
    hook = dict(type='ToyFaultHook', rank=1, iteration=2)
    results = run_two([ROOT / 'tools' / 'train.py', TOY / 'toy_config.py', '--work-dir', tmp_path / 'run', '--launcher',
                       'pytorch', '--cfg-options', f'custom_hooks=[{hook}]'], tmp_path)
    together = '\n'.join(output for _, output in results)
    assert [code for code, _ in results] == [2, 2], together
    told = [each for each in together.splitlines() if each.startswith('error:')]
    assert len(told) == 1 and told[0].startswith('error: a fault of process 1'), together
    assert 'Traceback' not in together


@pytest.mark.slow
def test_a_process_without_images_takes_part_in_everything(tmp_path):
    out = tmp_path / 'run'
    seeds = dict(type='SeedEvalHook', dataset=dict(type='ToyPictures', length=1, with_masks=True))
    few = ['val_dataloader.dataset.length=1', 'test_dataloader.dataset.length=1', 'train_dataloader.dataset.length=1']
    results = run_two([ROOT / 'tools' / 'train.py', TOY / 'toy_config.py', '--work-dir', out, '--launcher', 'pytorch',
                       '--cfg-options', *few, 'train_cfg.max_iters=2', 'train_cfg.val_interval=1',
                       'model.stages=True', f'custom_hooks=[{seeds}]'], tmp_path)
    assert [code for code, _ in results] == [0, 0], results
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['train_seeds']['images'] == 1 and list(summary['train_seeds']['stages']) == ['first']
    assert json.loads((out / 'iou_val.json').read_text())['images'] == 1
    results = run_two([ROOT / 'tools' / 'test.py', TOY / 'toy_config.py', out / 'iter_2.pth', '--launcher', 'pytorch',
                       '--cfg-options', *few, 'custom_hooks=[]'], tmp_path)
    assert [code for code, _ in results] == [0, 0], results
    assert json.loads((out / 'test' / 'iou_test.json').read_text())['images'] == 1
