#!/usr/bin/env python
"""Faults at random moments lose nothing: ``python tests/fault_campaign.py --kills 20 --tries 5``.

Training, mask making and seed making run once without interruption. Then each is struck by a fault and started again,
until there were so many; what comes out at the end must equal the uninterrupted run bit by bit. A kind of work that
ends before its tries are used up is compared, and begins again in an empty folder. The faults:

``kill``
    ``kill -9`` of the whole process group.
``disk``
    The work dir is on a small tmpfs, which is filled up; where none can be mounted, no file of the process may grow.
``worker``
    ``kill -9`` of a process that loads images (training and seeds; mask making has none).
``read-only``
    The work dir and its folders lose their write permission.

``replaced``
    Photos are replaced, cropped, touched and copied between two runs of mask and of seed making, the first of which is
    killed; masks and labels must then be those of the photos that are there.
``mixups``
    Runs that meet: two in one folder, another in a finished one's, a copied folder, a loss that is no number; see
    ``faults/mixups.py``.

After ``disk``, ``worker`` and ``read-only`` the run must have ended by itself, with exit code 2 and one error that
names the place, without a traceback; a start while the disk is full or read-only must end likewise; and when that is
mended, the same command must go on.

The moments: half of the faults fall anywhere in the run's time, the start of the interpreter included; a quarter at a
random time after the work itself has begun; a quarter at the very moment a file is being written. Runs whose start-up
is of no interest are forked from a server that has imported everything already.

The works are in ``faults/works.py``, the faults in ``faults/kinds.py`` and ``faults/replaced.py``.

Exit code: 0 nothing was lost, 1 something was. pytest does not collect this file.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent))
os.environ['PYTHONPATH'] = os.pathsep.join(map(str, (TESTS.parent, TESTS)))  # for the server that forks
os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch is imported

from faults.campaign import LOSSES, campaign, format_table  # noqa: E402
from faults.kinds import ALL_FAULTS  # noqa: E402
from faults.mixups import run_mixups  # noqa: E402
from faults.replaced import replaced_inputs  # noqa: E402
from faults.works import Masks, Seeds, Training, Work  # noqa: E402

PRIVATE = ['unshare', '--user', '--map-root-user', '--mount']  # mounts of its own, which end with it


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    kinds, faults = [kind.name for kind in (Training, Masks, Seeds)], [fault.name for fault in ALL_FAULTS]
    faults += ['replaced', 'mixups']
    parser = argparse.ArgumentParser(description='Strike the tools at random moments and look for what is lost.')
    parser.add_argument('--kills', type=int, default=20, help='of each kind of work (default: 20)')
    parser.add_argument('--tries', type=int, default=5, help='of every other fault, of each kind of work (default: 5)')
    parser.add_argument('--faults', choices=faults, nargs='+', default=faults, help='these faults (default: all)')
    parser.add_argument('--seed', type=int, default=0, help='of the random moments (default: 0)')
    parser.add_argument('--out', type=Path, help='the report as JSON')
    parser.add_argument('--only', choices=kinds, nargs='+', default=kinds, help='these kinds of work (default: all)')
    parser.add_argument('--keep', type=Path, metavar='DIR', help='work in DIR and leave everything there')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    reports: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix='fault_campaign_') as temporary:
        for kind in (Training, Masks, Seeds):
            works: dict[int, Work] = {}  # by the number of workers: each has an uninterrupted run of its own
            for fault in (each() for each in ALL_FAULTS):
                if kind.name not in args.only or fault.name not in args.faults or kind.name not in fault.kinds:
                    continue
                if fault.workers not in works:
                    home = (args.keep or Path(temporary)) / f'{kind.name}{"_workers" if fault.workers else ""}'
                    works[fault.workers] = kind(home, fault.workers)
                name = f'{kind.name}, {fault.name}'
                tries = args.kills if fault.name == 'kill' else args.tries
                reports[name] = campaign(works[fault.workers], fault, tries, random.Random(f'{args.seed} {name}'))
                print(format_table({name: reports[name]}), flush=True)
                if args.out:
                    args.out.write_text(json.dumps(dict(seed=args.seed, work=reports), indent=2) + '\n')
        if 'replaced' in args.faults:
            home = (args.keep or Path(temporary)) / 'replaced'
            reports['photos, replaced'] = replaced_inputs(home, args.tries, random.Random(f'{args.seed} replaced'))
            if args.out:
                args.out.write_text(json.dumps(dict(seed=args.seed, work=reports), indent=2) + '\n')
        lost = []
        if 'mixups' in args.faults:
            met = run_mixups((args.keep or Path(temporary)) / 'mixups')
            lost = [name for name, wrong in met.items() if wrong]
            print(f'runs that meet: {len(met)} tried, {len(met) - len(lost)} survived, {len(lost)} lost', flush=True)
    print(f'\n{format_table(reports)}')
    return int(bool(lost) or any(report[kind] for report in reports.values() for kind in LOSSES)
               or any(report['survived'] != report['tries'] for report in reports.values()))


if __name__ == '__main__':
    private = 'FAULT_CAMPAIGN_PRIVATE'
    if private not in os.environ and shutil.which(PRIVATE[0]) and \
            subprocess.run([*PRIVATE, 'true'], capture_output=True).returncode == 0:
        os.environ[private] = '1'
        os.execvp(PRIVATE[0], [*PRIVATE, sys.executable, *sys.argv])
    sys.exit(main())
