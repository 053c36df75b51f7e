"""Look through labels, the doubtful ones first: ``python tools/review.py FOLDER``.

FOLDER is what predict.py, make_labels.py or make_seeds.py wrote, or any folder of label PNGs with ``--classes``. It
writes ``review.html``, one page that opens without a server, and ``review.csv``. docs/review.md says how to read them,
and how corrections come back.

Exit code 0, 1 if photos or labels are not there or cannot be read (those stand first on the page), 2 if it could not
start.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.choices import ORDERS
from weclip_sam.cli.starting import starting
from weclip_sam.io.given import find_file, find_folder
from weclip_sam.io.names import printable
from weclip_sam.io.parallel import default_workers
from weclip_sam.review import INLINE, SIDE


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='A page to look through labels, the doubtful ones first.')
    parser.add_argument('folder', help='what predict, make-labels or make-seeds wrote, or label PNGs')
    parser.add_argument('--out', metavar='DIR', help='where the page is written (default: review in FOLDER)')
    parser.add_argument('--images', metavar='DIR', help='where the photos are, if FOLDER does not say or they moved')
    parser.add_argument('--classes', metavar='FILE',
                        help='class names, one a line without the background, if FOLDER does not say')
    parser.add_argument('--sort', choices=tuple(ORDERS), default='worst',
                        help='what comes first (default: %(default)s: the sum of the other three)')
    parser.add_argument('--limit', type=int, metavar='N', help='show only the first N images')
    parser.add_argument('--inline', action=argparse.BooleanOptionalAction,
                        help=f'pictures in the page itself, one file to send around (default: up to {INLINE} images)')
    parser.add_argument('--side', type=int, default=SIDE, metavar='PIXELS',
                        help='long side of the pictures (default: %(default)s)')
    parser.add_argument('--jobs', type=int, default=default_workers(), help='processes (default: all cores)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_folder(args.folder, 'labels')
        if args.images:
            find_folder(args.images, 'images')
        if args.classes:
            find_file(args.classes, '--classes')
        from weclip_sam.engine import friendly_errors, prepare_work_dir
        from weclip_sam.engine.progress import phase_progress
        from weclip_sam.engine.start.work_dir import own_folder
        from weclip_sam.offline.results import open_labels
        from weclip_sam.review.make import make_review
    with friendly_errors():
        folder = open_labels(args.folder, args.images, args.classes)
        out = Path(prepare_work_dir(args.out or str(folder.root / 'review'), '--out'))
        with own_folder(out, 'review', option='--out'), phase_progress() as progress:
            review = make_review(folder, out, args.sort, args.limit, args.inline, args.jobs, args.side, progress)
        print(printable(review.text()))
        for entry in [each for each in review.unreadable if not each.failed][:5]:
            print(printable(f'unreadable: {entry.facts.fault}'))
    sys.exit(1 if review.unreadable or review.lost else 0)


if __name__ == '__main__':
    main()
