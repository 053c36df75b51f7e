#!/usr/bin/env python
"""Speed and memory of the parts, against each other in one run: ``python tools/benchmark.py``.

Models have random weights and images are made up; nothing is downloaded and no data is needed. Every ratio is a median
over turns in which both ways run one after the other, so a busy machine disturbs it little. ``--quick`` takes a few
turns.
"""
from __future__ import annotations

import argparse
import platform

import torch
from benchmarks.measure import measure, table
from benchmarks.parts import PARTS, SETTINGS, Bench

from weclip_sam.api import choose_device
from weclip_sam.engine import ProgressReporter, friendly_errors
from weclip_sam.io.files import write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Speed and memory of the parts.')
    parser.add_argument('--setting', choices=tuple(SETTINGS), default='tiny',
                        help='sizes: the embedded default, or ViT-B/16 with SAM ViT-B (default: %(default)s)')
    parser.add_argument('--parts', nargs='+', choices=tuple(PARTS), default=list(PARTS), help='only these')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--repeats', type=int, default=15, help='timed turns (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=3, help='runs before them (default: %(default)s)')
    parser.add_argument('--quick', action='store_true', help='three turns after one run')
    parser.add_argument('--threads', type=int, help="CPU threads (default: torch's)")
    parser.add_argument('--json', metavar='FILE', help='write all numbers there, too')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with friendly_errors():
        device = choose_device(args.device)
        if args.threads:
            torch.set_num_threads(args.threads)
        repeats, warmup = (3, 1) if args.quick else (args.repeats, args.warmup)
        bench, rows, bar = Bench(SETTINGS[args.setting], device), [], ProgressReporter()
        bar.start('measure', len(args.parts))
        try:
            for done, part in enumerate(args.parts, start=1):
                rows += measure(PARTS[part](bench), device, repeats, warmup)
                bar.update(done, part)
        finally:
            bar.stop()
        where = torch.cuda.get_device_name(device) if device.type == 'cuda' else \
            f'{platform.machine()}, {torch.get_num_threads()} CPU thread(s)'
        print(f'{args.setting} on {where}, torch {torch.__version__}; medians of {repeats} turns\n\n{table(rows)}')
        if args.json:
            write_json(args.json, dict(setting=args.setting, device=str(device), machine=where,
                                       torch=torch.__version__, repeats=repeats, warmup=warmup,
                                       measured=[row.as_dict() for row in rows]))


if __name__ == '__main__':
    main()
