"""Two processes on CPUs: the same data, each image scored once, equal parameters, the loss of a doubled batch."""
import importlib.util
import json
import sys
from pathlib import Path

import child_processes
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from two_ranks import run_on_two

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / 'toy'
STEPS = 4
SEED_HOOK = dict(type='SeedEvalHook', dataset=dict(type='ToyPictures', length=4, with_masks=True))
pytestmark = pytest.mark.slow


def arguments(out, batch, launcher):
    """A short training without dropout and noise, so that only the data can differ."""
    out.mkdir(exist_ok=True)
    return [str(TOY / 'toy_config.py'), '--work-dir', str(out), '--launcher', launcher, '--cfg-options',
            'model.dropout=0.0', f'train_dataloader.batch_size={batch}', 'train_dataloader.dataset.noise=False',
            f'train_cfg.max_iters={STEPS}', f'train_cfg.val_interval={STEPS}',
            f"custom_hooks=[{dict(type='ToySeenHook', out_dir=str(out))}, {SEED_HOOK}]"]


def train_here(out, batch):
    """The same on this process alone, while the two others are running."""
    tool = importlib.import_module('weclip_sam.cli.train')
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
    folder = tmp_path_factory.mktemp('distributed')
    two = child_processes.start(child_processes.torchrun(ROOT / 'tools' / 'train.py',
                                                         *arguments(folder / 'two', 2, 'pytorch')),
                                child_processes.environment(TOY), folder / 'two')
    try:
        train_here(folder / 'one', 4)
        child_processes.finish(two)
    finally:
        child_processes.kill(two)
    return folder


def test_no_process_waits_for_one_whose_masks_are_there_or_have_failed(tmp_path):
    ended, = run_on_two([[TOY / 'late_process.py', tmp_path]], tmp_path, TOY)
    assert [code for code, _ in ended] == [0, 0], ended
    failed = 'SAM masks of 1 images could not be made, for example b: torn'
    for failing, said in (('none', 'fine'), ('b', failed)):
        for rank in range(2):
            assert json.loads((tmp_path / f'{failing}{rank}.json').read_text()) == [said, said]


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
