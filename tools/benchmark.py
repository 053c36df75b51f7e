#!/usr/bin/env python
"""Speed and memory of the parts and of the whole, against each other in one run: ``python tools/benchmark.py``.

Models have random weights and images are made up; nothing is downloaded and no data is needed. Every ratio is a median
over turns in which all ways run one after the other, so a busy machine disturbs it little. Beside each time stands its
floor: what this machine allows at best. docs/performance.md says how to read the numbers.
"""
from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from benchmarks.floors import Machine
from benchmarks.made_up import SETTINGS, Bench, Setting
from benchmarks.measure import Case, measure
from benchmarks.parts import CURVES, ONLY_FULL, PARTS
from benchmarks.report import table

from weclip_sam.api import choose_device
from weclip_sam.engine import ProgressReporter, friendly_errors
from weclip_sam.io.files import write_json

Place = dict[str, int]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Speed and memory of the parts and of the whole.')
    parser.add_argument('--setting', choices=tuple(SETTINGS), default='tiny',
                        help='sizes: the embedded default, or ViT-B/16 at the sizes of VOC (default: %(default)s)')
    parser.add_argument('--parts', nargs='+', choices=tuple(PARTS), help='only these')
    parser.add_argument('--curve', nargs='+', metavar=('AXIS', 'VALUE'),
                        help=f'along one of {", ".join(CURVES)}: --curve batch 1 4 16 (size: side of the crops; named: '
                             'classes an image)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--repeats', type=int, default=15, help='timed turns (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=3, help='runs before them (default: %(default)s)')
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--quick', action='store_true', help='three turns after one run, and fewer files')
    size.add_argument('--full', action='store_true', help='also the memory of large photos, and all 1,464 label maps')
    parser.add_argument('--threads', type=int, help="CPU threads (default: torch's)")
    parser.add_argument('--json', metavar='FILE', help='write all numbers there, too')
    return parser.parse_args(argv)


def places(curve: list[str] | None) -> list[Place]:
    """``['batch', '1', '4']`` to ``[{'batch': 1}, {'batch': 4}]``; one place without a name where there is no curve.

    Raises:
        ValueError: an unknown axis, or values that are no whole numbers.
    """
    if curve is None:
        return [{}]
    axis, *values = curve
    if axis not in CURVES or not values or not all(value.isdigit() and int(value) for value in values):
        raise ValueError(f'--curve: expected one of {", ".join(CURVES)} and whole numbers from 1, such as --curve '
                         f'batch 1 4 16, got {" ".join(curve)}')
    return [{axis: int(value)} for value in values]


def cases(args: argparse.Namespace, setting: Setting, device: torch.device) -> Iterator[tuple[Place, Case]]:
    """All that is asked for, each made when it is its turn."""
    parts = args.parts or (CURVES[args.curve[0]] if args.curve else
                           [name for name in PARTS if args.full or name not in ONLY_FULL])
    for place in places(args.curve):
        bench = Bench(replace(setting, **place), device, args.quick, args.full)
        for part in parts:
            for case in PARTS[part](bench):
                yield place, case


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with friendly_errors():
        device = choose_device(args.device)
        if args.threads:
            torch.set_num_threads(args.threads)
        places(args.curve)
        repeats, warmup = (3, 1) if args.quick else (args.repeats, args.warmup)
        # One thread's own seconds are disturbed less by what else the machine does than those of a clock on the wall.
        alone = device.type == 'cpu' and torch.get_num_threads() == 1
        machine = Machine(device, time.process_time if alone else time.perf_counter)
        host = Machine(torch.device('cpu'))  # its worker processes have seconds of their own
        about = describe(args, machine, repeats, warmup)
        bar, rows = ProgressReporter(), []
        bar.start('measure', 1)
        try:
            for place, case in cases(args, SETTINGS[args.setting], device):
                measured = measure(case, host if case.on_host else machine, repeats, warmup)
                rows += (found := [replace(row, at=place) for row in measured])
                print(f'\n{table(found)}', flush=True)
        finally:
            bar.stop()
            if args.json:  # of a run that was interrupted, too: what it has measured
                write_json(args.json, {**about, 'measured': [row.as_dict() for row in rows]})


def describe(args: argparse.Namespace, machine: Machine, repeats: int, warmup: int) -> dict[str, Any]:
    """Where this runs and how fast that is at best; printed, too."""
    name = torch.cuda.get_device_name(machine.device) if machine.device.type == 'cuda' else \
        f'{platform.machine()}, {torch.get_num_threads()} CPU thread(s)'
    rates, clock = machine.rates(), 'the process' if machine.clock is time.process_time else 'the wall clock'
    print(f'{args.setting} on {name}, torch {torch.__version__}; medians of {repeats} turns, '
          f'seconds of {clock}\n'
          f'this machine: {rates["float32_operations_per_second"] / 1e9:.0f} billion operations/s in float32, '
          f'{rates["bfloat16_operations_per_second"] / 1e9:.0f} in bfloat16, '
          f'{rates["bytes_per_second"] / 1e9:.1f} GB/s', flush=True)
    return dict(setting=args.setting, device=str(machine.device), machine=name, torch=torch.__version__,
                threads=torch.get_num_threads(), repeats=repeats, warmup=warmup, clock=clock, rates=rates)


if __name__ == '__main__':
    main()
