"""Two processes: what ends one ends both, with one line; a process without images takes part in every collective."""
import json
from pathlib import Path

import pytest
from two_ranks import run_on_two

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / 'toy'
pytestmark = pytest.mark.slow
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


FEW = ['val_dataloader.dataset.length=1', 'test_dataloader.dataset.length=1', 'train_dataloader.dataset.length=1']


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
    """(exit code, output) of both processes by what they did, and the folder where it was."""
    folder = tmp_path_factory.mktemp('together')
    (folder / 'fault.py').write_text(FAULT)
    faults = (['0', 'collective'], ['same', ''], ['1', 'collective'], ['1', 'work'], ['success', ''])
    commands = {' '.join(args): [folder / 'fault.py', *args] for args in faults}
    hook = dict(type='ToyFaultHook', rank=1, iteration=2)
    seeds = dict(type='SeedEvalHook', dataset=dict(type='ToyPictures', length=1, with_masks=True))
    toy, two = TOY / 'toy_config.py', ['--launcher', 'pytorch', '--cfg-options']
    commands['failing'] = [ROOT / 'tools' / 'train.py', toy, '--work-dir', folder / 'failing', *two,
                           f'custom_hooks=[{hook}]']
    commands['train'] = [ROOT / 'tools' / 'train.py', toy, '--work-dir', folder / 'run', *two, *FEW,
                         'train_cfg.max_iters=2', 'train_cfg.val_interval=1', 'model.stages=True',
                         f'custom_hooks=[{seeds}]']
    commands['test'] = [ROOT / 'tools' / 'test.py', toy, folder / 'run' / 'iter_2.pth', *two, *FEW, 'custom_hooks=[]']
    results = run_on_two(list(commands.values()), folder, TOY)
    return dict(zip(commands, results, strict=True), folder=folder)



@pytest.mark.parametrize('args, codes, line', [
    (['0', 'collective'], [2, 2], 'error: RuntimeError: only here'), (['same', ''], [2, 2], 'error: the same fault'),
    (['1', 'collective'], [2, 2], 'error: RuntimeError: only here'), (['1', 'work'], [2, 130], 'stopped. Go on.'),
    (['success', ''], [0, 0], None)])
def test_what_ends_one_ends_both_with_one_line(args, codes, line, ended):
    results = ended[' '.join(args)]
    together = '\n'.join(output for _, output in results)
    assert [code for code, _ in results] == codes, together
    told = [each for each in together.splitlines() if each.startswith(('error:', 'stopped'))]
    assert (len(told) == 1 and told[0].startswith(line)) if line else not told, together
    assert 'Traceback' not in together and 'went on' not in together


def test_a_training_whose_one_process_fails_ends_with_one_line(ended):
    results = ended['failing']
    together = '\n'.join(output for _, output in results)
    assert [code for code, _ in results] == [2, 2], together
    told = [each for each in together.splitlines() if each.startswith('error:')]
    assert len(told) == 1 and told[0].startswith('error: a fault of process 1'), together
    assert 'Traceback' not in together


def test_a_process_without_images_takes_part_in_everything(ended):
    out = ended['folder'] / 'run'
    assert [code for code, _ in ended['train']] == [0, 0], ended['train']
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['train_seeds']['images'] == 1 and list(summary['train_seeds']['stages']) == ['first']
    assert json.loads((out / 'iou_val.json').read_text())['images'] == 1
    assert [code for code, _ in ended['test']] == [0, 0], ended['test']
    assert json.loads((out / 'test' / 'iou_test.json').read_text())['images'] == 1
