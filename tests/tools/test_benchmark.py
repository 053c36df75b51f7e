"""The benchmark measures what it says, and the ways it compares do the same work."""
import ast
import importlib.util
import json
from pathlib import Path

import child_processes
import pytest
import torch
from benchmarks.measure import Case, Way, measure, table
from benchmarks.parts import PARTS, SETTINGS, Bench

ROOT = Path(__file__).parents[2]
CPU = torch.device('cpu')


def test_ways_take_turns_and_ratios_are_of_the_same_turn(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr('benchmarks.measure.time.perf_counter', lambda: clock[0])
    costs = dict(slow=iter([9, 9, 4, 8, 40]), fast=iter([9, 9, 1, 4, 10]))

    def work(name):
        def run():
            order.append(name)
            clock[0] += next(costs[name])
            return name
        return run
    rows = measure(Case('case', (Way('slow', work('slow'), 2), Way('fast', work('fast'), 2)),
                        lambda a, b: float(a != b)), CPU, repeats=3, warmup=2)
    assert order == ['slow', 'slow', 'fast', 'fast'] + ['slow', 'fast'] * 3
    slow, fast = rows
    assert (slow.seconds, slow.per_image, slow.low, slow.high) == (8, 4, 6, 24)
    assert slow.speedup is None and slow.difference is None
    assert (fast.seconds, fast.speedup, fast.difference) == (4, 4, 1.0)  # 4/1, 8/4, 40/10: the median is 4
    assert 'baseline' in table(rows) and '4.00 x' in table(rows)
    with pytest.raises(ValueError, match='repeats'):
        measure(Case('case', (Way('slow', work('slow')),)), CPU, repeats=0)


MEMORY = '''
import torch
from benchmarks.measure import Case, Way, measure
ways = Way('little', lambda: None), Way('much', lambda: torch.ones(30_000_000).sum())
print([row.memory_mb for row in measure(Case('memory', ways), torch.device('cpu'), repeats=1, warmup=1)])
'''


def test_memory_is_that_of_the_work():
    # In a process of its own: one that has freed much keeps some of it, and takes from there.
    said = child_processes.run(['-c', MEMORY], child_processes.environment(ROOT / 'tools'))
    little, much = ast.literal_eval(said.splitlines()[-1])
    if much is None:
        pytest.skip('this system does not tell the peak memory of a piece of work')
    assert 80 < much - little < 400  # 120 MB, and what the process had to spare


@pytest.fixture(scope='module')
def bench():
    return Bench(SETTINGS['tiny'], CPU)


@pytest.mark.parametrize('part, most', [('encoder', 0.03), ('gradcam', 1e-4), ('sams', 0.0)])
def test_the_ways_agree(bench, part, most):
    rows = measure(PARTS[part](bench), CPU, repeats=1, warmup=1)
    assert len(rows) >= 2 and all(row.difference <= most for row in rows[1:])
    assert all(row.seconds > row.per_image > 0 for row in rows)


@pytest.mark.slow
def test_the_tool_prints_and_writes(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('benchmark_tool', ROOT / 'tools' / 'benchmark.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main(['--quick', '--device', 'cpu', '--parts', 'par', 'training', 'masks', '--json', str(tmp_path / 'x.json')])
    data = json.loads((tmp_path / 'x.json').read_text())
    ways = {(row['case'], row['way']): row for row in data['measured']}
    assert data['repeats'] == 3 and len(ways) == 7 and all(row['seconds'] > 0 for row in ways.values())
    assert ways['PAR', 'half size']['speedup'] > 1.3  # a quarter of the pixels
    assert 'WeCLIP-SAM, bfloat16' in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        tool.main(['--device', 'warp'])
    assert stop.value.code == 2
