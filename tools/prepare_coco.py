#!/usr/bin/env python
"""Make a COCO 2014 folder ready: ``python tools/prepare_coco.py data/coco``.

Checks the layout, writes the image labels of each split from the instances JSON, and paints semantic masks for
evaluation (in parallel; an interrupted run goes on where it stopped). Says what is missing and where to get it. Exit
code 1 if something is.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.datasets.prepare import prepare_coco
from weclip_sam.engine import friendly_errors
from weclip_sam.engine.phases import phase_progress


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Make a COCO 2014 folder ready.')
    parser.add_argument('root', type=Path, help='the folder with train2014, val2014 and annotations')
    parser.add_argument('--splits', nargs='+', default=['train2014', 'val2014'],
                        help='written after ROOT (default: %(default)s)')
    parser.add_argument('--no-masks', action='store_true', help='labels only; masks are then painted when evaluating')
    parser.add_argument('--classes', choices=('coco', 'json'), default='coco',
                        help='the 80 classes of COCO, or the categories of the JSON (another set in COCO form)')
    parser.add_argument('--overwrite', action='store_true', help='write existing files anew')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    args = parser.parse_args(argv)
    with friendly_errors():
        with phase_progress() as progress:
            report = prepare_coco(args.root, args.splits, not args.no_masks, args.classes, args.overwrite, args.workers,
                                  progress)
        print(report.text())
    sys.exit(0 if report.ok else 1)


if __name__ == '__main__':
    main()
