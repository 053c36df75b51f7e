"""The benchmark measures what it says, and the ways it compares do the same work."""
import ast
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import child_processes
import pytest
import torch
from benchmarks import iterations, offline
from benchmarks.floors import Machine, count_operations, moved, trained
from benchmarks.launches import HostWork, count_waits
from benchmarks.made_up import CONFIGS, SETTINGS, Bench
from benchmarks.measure import Case, Measured, Way, measure
from benchmarks.parts import CURVES, PARTS
from benchmarks.report import table
from torch import nn

from weclip_sam.foundation.sam_eye import SamEye

ROOT = Path(__file__).parents[2]
CPU = torch.device('cpu')
SMALL = replace(SETTINGS['tiny'], size=32, batch=2, masks=4)


class Known(Machine):
    """A machine whose rates need not be measured."""

    def _matrix_rate(self, dtype):
        return 1e9 if dtype == torch.float32 else 2e9

    def _bandwidth(self):
        return 1e6


@pytest.fixture(scope='module')
def machine():
    return Known(CPU)


@pytest.fixture(scope='module')
def bench():
    return Bench(SMALL, CPU)


def test_ways_take_turns_and_ratios_are_of_the_same_turn():
    clock, order = [0.0], []
    machine = Known(CPU, lambda: clock[0])
    costs = dict(slow=iter([9, 9, 4, 8, 40]), fast=iter([9, 9, 1, 4, 10]))

    def work(name):
        def run():
            order.append(name)
            clock[0] += next(costs[name])
            return name
        return run
    rows = measure(Case('case', (Way('slow', work('slow'), 2), Way('fast', work('fast'), 4)),
                        lambda a, b: float(a != b)), machine, repeats=3, warmup=2)
    assert order == ['slow', 'slow', 'fast', 'fast'] + ['slow', 'fast'] * 3
    slow, fast = rows
    assert (slow.seconds, slow.per_image, slow.low, slow.high) == (8, 4, 6, 24)
    assert slow.speedup is None and slow.difference is None
    # 4/1, 8/4, 40/10, and twice as many images: the median is 8
    assert (fast.seconds, fast.per_image, fast.speedup, fast.difference) == (4, 1, 8, 1.0)
    assert '8.00 x' in table(rows) and '4.00 ms/image' not in table(rows)
    with pytest.raises(ValueError, match='repeats'):
        measure(Case('case', (Way('slow', work('slow')),)), machine, repeats=0)


def test_parts_of_a_whole_are_not_compared_and_costly_ones_run_seldom(machine):
    count = []
    case = Case('case', (Way('a', lambda: count.append(0)), Way('b', lambda: None)), compares=False, most=2)
    rows = measure(case, machine, repeats=9, warmup=3)
    assert [row.speedup for row in rows] == [None, None] and [row.repeats for row in rows] == [2, 2]
    assert len(count) == 2 + 2 and rows[0].floor is None


MEMORY = '''
import torch
from benchmarks.floors import Machine
from benchmarks.measure import Case, Way, measure
ways = Way('little', lambda: None), Way('much', lambda: torch.ones(30_000_000).sum())
print([row.memory_mb for row in measure(Case('memory', ways), Machine(torch.device('cpu')), repeats=1, warmup=1)])
'''


def test_memory_is_that_of_the_work():
    # In a process of its own: one that has freed much keeps some of it, and takes from there.
    said = child_processes.run(['-c', MEMORY], child_processes.environment(ROOT / 'tools'))
    little, much = ast.literal_eval(said.splitlines()[-1])
    if much is None:
        pytest.skip('this system does not tell the peak memory of a piece of work')
    assert 80 < much - little < 400  # 120 MB, and what the process had to spare


# ---- floors ---------------------------------------------------------------------------------------------------------

def test_the_floor_is_the_longer_of_computing_and_moving(machine):
    computing, moving = machine.floor(3e9, 1e6), machine.floor(3e9, 1e7)
    assert (computing.seconds, computing.bound) == (3, 'operations') and (moving.seconds, moving.bound) == (10, 'bytes')
    assert machine.floor(3e9, 1e6, torch.bfloat16).seconds == 1.5
    product = Way('one', lambda: torch.ones(1, 100) @ torch.ones(100, 50), reads=1.0)
    row, = measure(Case('case', (product,)), machine, 1, 1)
    assert row.floor.operations == 2 * 100 * 50 and row.floor.bytes == 1 + 50 * 4
    assert row.share == row.floor.seconds / row.seconds and row.as_dict()['share_of_floor'] == row.share


def gradient_of_a_module():
    x = torch.ones(3, 4, requires_grad=True)
    layer = nn.Linear(4, 5).requires_grad_(False)
    return torch.autograd.grad(layer(x).sum(), x)


@pytest.mark.parametrize('run, operations', [
    (lambda: torch.ones(2, 3, 4) @ torch.ones(2, 4, 5), 2 * 2 * 3 * 4 * 5),
    (lambda: torch.ones(7) + 1, 0),
    (lambda: nn.Conv2d(3, 4, 2, bias=False)(torch.ones(1, 3, 5, 5)), 2 * 4 * 16 * 3 * 4),
    (lambda: nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 2, 6, 8)), 2 * 2 * 2 * 6 * 6 * 8),
    (lambda: torch.eye(9).to_sparse() @ torch.ones(9, 4), 2 * 9 * 4),
    (lambda: nn.Linear(4, 5)(torch.ones(3, 4)).sum().backward(), 2 * 2 * 3 * 4 * 5),
    (lambda: torch.inference_mode()(nn.Linear(4, 5))(torch.ones(3, 4)), 2 * 3 * 4 * 5),
    (lambda: gradient_of_a_module(), 2 * 2 * 3 * 4 * 5)])
def test_operations_are_those_of_matrices(run, operations):
    assert count_operations(run)[1] == operations


def test_attention_in_one_operator_is_counted_like_any_other():
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.ones(1, 5, 8)
    with torch.no_grad():
        fused = count_operations(lambda: layer(x, x, x, need_weights=False))[1]
    assert fused == 2 * 5 * 8 * 8 * 4 + 2 * 2 * 5 * 5 * 8 and torch.backends.mha.get_fastpath_enabled()


def test_bytes_are_counted_wherever_tensors_are_held(bench):
    layer = nn.Linear(4, 2)
    layer.weight.requires_grad_(False)
    assert moved(torch.ones(3), torch.ones(2, dtype=torch.bool), 'a name', None) == 14
    assert moved(layer) == 40 and moved(layer, dtype=torch.bfloat16) == 20 and trained(layer) == 8 * 8
    sample, = bench.samples(1, (4, 6), masks=2)
    assert moved([dict(x=sample)]) == moved(sample) == 10 + 24 + 2 * 4 + 2 * (8 + 4 + 4 + 8)


def test_rates_are_measured_once_for_each_precision(monkeypatch):
    monkeypatch.setattr('benchmarks.floors.MATRIX', dict(cpu=8))
    monkeypatch.setattr('benchmarks.floors.STREAM', dict(cpu=64))
    machine = Machine(CPU)
    assert machine.rates() == machine.rates() and min(machine.rates().values()) > 0


# ---- the work -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('part, most', [('encoder', 0.03), ('gradcam', 1e-4), ('votes', 0.0)])
def test_the_ways_agree(bench, machine, part, most):
    case, = PARTS[part](bench)
    rows = measure(case, machine, repeats=1, warmup=1)
    assert len(rows) >= 2 and all(row.difference <= most for row in rows[1:])
    assert all(row.seconds > row.per_image > 0 and row.floor.bytes > 0 for row in rows)


def test_samples_lie_where_the_data_loader_leaves_them():
    batch = Bench(SMALL, torch.device('meta')).batch()
    assert {image.device.type for image in batch['inputs']} == {'cpu'} and batch['inputs'][0].dtype == torch.uint8
    for sample in batch['data_samples']:
        assert {value.device.type for value in sample.values()} == {'cpu'} and int(sample.image_labels.sum()) == 2


def test_an_iteration_is_a_step_of_training(bench):
    model, step = iterations.training_step(bench, 'WeCLIP-SAM', low_precision=True)
    before = [parameter.detach().clone() for parameter in model.decoder.parameters()]
    losses = step()
    assert torch.isfinite(losses['loss']) and model.training
    assert any(not torch.equal(old, new) for old, new in zip(before, model.decoder.parameters(), strict=True))


def test_a_second_eye_of_a_bank_does_not_look(bench, monkeypatch):
    case, = iterations.second_eye(bench)
    assert [way.label for way in case.ways] == ['without', 'SAM from a bank', 'SAM live']
    looks, forward = [], SamEye.forward
    monkeypatch.setattr(SamEye, 'forward', lambda *args, **kwargs: looks.append(1) or forward(*args, **kwargs))
    for way, expected in zip(case.ways, (0, 0, 1), strict=True):
        looks.clear()
        assert torch.isfinite(way.run()['loss']) and len(looks) == expected


def test_parts_of_an_iteration_are_all_that_there_are(bench):
    *_, case = iterations.parts(bench)
    labels = [way.label for way in case.ways]
    assert labels == ['batch to the device', 'encoders', 'decoder, forward and backward', 'GradCam', 'ExcelMaps',
                      'EyeAffinity', 'BlendMaps', 'BlendPrediction', 'RockSandWater', 'SamVote']
    made = {way.label: way.run() for way in case.ways}
    assert any(torch.is_tensor(value) and value.shape == (2, 32, 32) for value in made['SamVote'])
    assert made['decoder, forward and backward'].seg_logits.requires_grad


def test_every_curve_is_along_a_size_of_the_setting():
    assert all(hasattr(SMALL, axis) and set(parts) <= set(PARTS) for axis, parts in CURVES.items())
    assert all((CONFIGS / name).is_file() for setting in SETTINGS.values() for name in setting.systems.values())


def test_random_weights_let_through_a_share_of_the_masks():
    torch.manual_seed(0)
    bench = Bench(SMALL, CPU)
    image = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    config, arch = '_base_/models/tiny_sam.py', 'tiny'
    made = offline._mask_generator(bench, config, arch, image)
    everything = offline.MODELS.build(dict(
        type='MaskGenerator', sam=made.sam, points_per_side=8, pred_iou_thresh=-1e9, stability_thresh=0.0,
        nms_thresh=1.0, min_region_area=0))
    scores = everything.generate(image).predicted_iou
    assert 0 < float((scores > made.settings['pred_iou_thresh']).float().mean()) < 0.35


def test_waits_are_what_torch_warns_of(monkeypatch):
    import warnings
    modes = []
    monkeypatch.setattr(torch.cuda, 'set_sync_debug_mode', modes.append)

    def run():
        for _ in range(3):
            warnings.warn('called a synchronizing CUDA operation', stacklevel=1)
        warnings.warn('something else', stacklevel=1)
    assert count_waits(run, CPU) == 3 and modes == ['warn', 'default']
    row = Measured('case', 'way', 1, 1, 1, 1, 1, host=HostWork(600, 0, None))
    assert '600 launches' in table([row]) and '0 waits' in table([row]) and 'operators' not in table([row])


# ---- the tool -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('benchmark_tool', ROOT / 'tools' / 'benchmark.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_draws_a_curve_and_writes_it(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, 'SETTINGS', dict(tiny=SMALL))
    monkeypatch.setattr(tool, 'Machine', Known)
    tool.main(['--quick', '--device', 'cpu', '--parts', 'par', '--curve', 'batch', '1', '2', '--json',
               str(tmp_path / 'x.json')])
    data = json.loads((tmp_path / 'x.json').read_text())
    assert [(row['at'], row['way']) for row in data['measured']] == [
        ({'batch': count}, size) for count in (1, 2) for size in ('full size', 'half size')]
    assert data['repeats'] == 3 and data['rates']['bytes_per_second'] == 1e6 and data['clock'] == 'the process'
    assert all(row['seconds'] > 0 and row['floor']['bound'] == 'bytes' for row in data['measured'])
    assert 'PAR, batch 2' in capsys.readouterr().out


@pytest.mark.parametrize('args, said', [
    (['--device', 'warp'], 'warp'), (['--curve', 'colour', '1'], 'colour'), (['--curve', 'batch'], 'batch'),
    (['--curve', 'batch', '0'], 'whole numbers')])
def test_the_tool_refuses_what_it_does_not_know(tool, capsys, args, said):
    with pytest.raises(SystemExit) as stop:
        tool.main(args)
    assert stop.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.slow
def test_files_are_read_and_scored(bench, machine, monkeypatch):
    monkeypatch.setattr('benchmarks.files.WORKERS', 1)
    monkeypatch.setattr('benchmarks.files.PHOTOS', 2)
    monkeypatch.setattr('benchmarks.files.MAPS', dict(usual=3))
    loading, scoring = (measure(case, machine, 1, 1) for part in ('loading', 'miou') for case in PARTS[part](bench))
    assert len(loading) == 4 and all(row.speedup is None for row in loading)
    assert all(row.difference == 0 for row in scoring[1:])
