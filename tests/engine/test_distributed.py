"""Two processes on CPUs: the same data, each image scored once, equal parameters, the loss of a doubled batch."""
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / 'toy'
STEPS = 4
SEED_HOOK = dict(type='SeedEvalHook', dataset=dict(type='ToyPictures', length=4, with_masks=True))


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def arguments(out, batch, launcher):
    """A short training without dropout and noise, so that only the data can differ."""
    out.mkdir(exist_ok=True)
    return [str(TOY / 'toy_config.py'), '--work-dir', str(out), '--launcher', launcher, '--cfg-options',
            'model.dropout=0.0', f'train_dataloader.batch_size={batch}', 'train_dataloader.dataset.noise=False',
            f'train_cfg.max_iters={STEPS}', f'train_cfg.val_interval={STEPS}',
            f"custom_hooks=[{dict(type='ToySeenHook', out_dir=str(out))}, {SEED_HOOK}]"]


def start(out, batch, rank, port):
    """One of two processes, as torchrun would start it."""
    env = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{TOY}', OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
               RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), *arguments(out, batch, 'pytorch')]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out)


def train_here(out, batch):
    """The same on this process alone, while the two others are running."""
    spec = importlib.util.spec_from_file_location('train_tool', ROOT / 'tools' / 'train.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    sys.path.insert(0, str(TOY))
    try:
        tool.main(arguments(out, batch, 'none'))
    finally:
        sys.path.remove(str(TOY))
        for kind in (MMLogger, Visualizer, DefaultScope, MessageHub):
            kind._instance_dict.clear()


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A training on two processes with batch 2 each, and one on a single process with batch 4."""
    folder, port = tmp_path_factory.mktemp('distributed'), free_port()
    processes = []
    for rank in range(2):
        processes.append(start(folder / 'two', 2, rank, port))
    try:
        train_here(folder / 'one', 4)
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.mark.parametrize('failing, said', [('none', "['fine', 'fine']"), ('b', 'for example b: torn')])
def test_no_process_waits_for_one_whose_masks_are_there_or_have_failed(failing, said, tmp_path):
    port, processes = free_port(), []
    for rank in range(2):
        env = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{TOY}', OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
                   RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        processes.append(subprocess.Popen([sys.executable, str(TOY / 'late_process.py'), str(tmp_path / 'bank'),
                                           failing], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                          text=True, cwd=tmp_path))
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0 and output.count(said) == (1 if failing == 'none' else 2), output


def load(path):
    return torch.load(path, weights_only=True)


def test_both_processes_end_with_equal_parameters(runs):
    first, second = (load(runs / 'two' / f'rank{rank}.pt')['state'] for rank in range(2))
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_the_same_images_are_seen_and_the_losses_agree(runs):
    one = load(runs / 'one' / 'rank0.pt')['seen']
    two = [load(runs / 'two' / f'rank{rank}.pt')['seen'] for rank in range(2)]
    for step in range(STEPS):
        halves = [two[rank][step] for rank in range(2)]
        assert sorted(one[step][0]) == sorted(halves[0][0] + halves[1][0])
        assert not set(halves[0][0]) & set(halves[1][0])
        assert one[step][1] == pytest.approx((halves[0][1] + halves[1][1]) / 2, abs=1e-5)


def test_the_parameters_are_those_of_one_process_with_the_doubled_batch(runs):
    one, two = load(runs / 'one' / 'rank0.pt')['state'], load(runs / 'two' / 'rank0.pt')['state']
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=1e-5)


def test_validation_counts_every_image_once(runs):
    # Five images on two processes in batches of three: the sampler repeats one.
    one, two = (json.loads((runs / name / 'iou_val.json').read_text()) for name in ('one', 'two'))
    assert one['images'] == two['images'] == 5
    assert [c['pixels'] for c in one['classes'].values()] == [c['pixels'] for c in two['classes'].values()]
    assert not (runs / 'two' / '.dist_test').exists()


def test_seeds_of_train_are_scored_once_each(runs):
    summaries = [json.loads((runs / name / 'summary.json').read_text()) for name in ('one', 'two')]
    assert [s['train_seeds']['images'] for s in summaries] == [4, 4]
    assert summaries[0]['train_seeds']['pseudo labels'] == summaries[1]['train_seeds']['pseudo labels']


def test_the_checkpoint_holds_the_random_numbers_of_both(runs):
    from weclip_sam.engine import safe_load
    assert len(safe_load(runs / 'two' / f'iter_{STEPS}.pth')['rng_state']) == 2
