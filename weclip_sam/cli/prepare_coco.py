"""Make a COCO 2014 folder ready: ``python tools/prepare_coco.py data/coco``.

Checks the layout, writes the image labels of each split from the instances JSON, and paints semantic masks for
evaluation (in parallel; an interrupted run goes on where it stopped). Says what is missing and where to get it. Exit
code 1 if something is.

An instances JSON of an annotation tool is taken where it lies: ``prepare_coco.py --json FILE --images DIR`` writes
labels, class list and masks beside FILE (or into ROOT) in the layout of your own photos, and says how to go on.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.cli.starting import starting


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Make a COCO 2014 folder ready.')
    parser.add_argument('root', type=Path, nargs='?', help='the folder with train2014, val2014 and annotations; with '
                        '--json, where to write (default: a folder beside FILE)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='an instances JSON, wherever it lies')
    parser.add_argument('--images', type=Path, metavar='DIR', help='the folder of the images of --json')
    parser.add_argument('--splits', nargs='+', default=['train2014', 'val2014'],
                        help='written after ROOT (default: %(default)s)')
    parser.add_argument('--no-masks', action='store_true', help='labels only; masks are then painted when evaluating')
    parser.add_argument('--classes', choices=('coco', 'json'),
                        help='the 80 classes of COCO, or the categories of the JSON (another set in COCO form; '
                             'default: coco, with --json json)')
    parser.add_argument('--overwrite', action='store_true', help='write existing files anew')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    args = parser.parse_args(argv)
    if (args.json is None) != (args.images is None):
        parser.error('--json and --images belong together: the file, and the folder of its images')
    if args.json is None and args.root is None:
        parser.error('give ROOT, the folder with train2014, val2014 and annotations, or --json FILE --images DIR')
    with starting():
        from weclip_sam.datasets.prepare_coco import prepare_coco, prepare_json
        from weclip_sam.engine import friendly_errors
        from weclip_sam.engine.progress import phase_progress
    options = args.overwrite, args.workers
    with friendly_errors():
        with phase_progress() as progress:
            if args.json is not None:
                report = prepare_json(args.json, args.images, args.root, not args.no_masks, args.classes or 'json',
                                      *options, progress)
            else:
                report = prepare_coco(args.root, args.splits, not args.no_masks, args.classes or 'coco', *options,
                                      progress)
        print(report.text())
    sys.exit(0 if report.ok else 1)


if __name__ == '__main__':
    main()
