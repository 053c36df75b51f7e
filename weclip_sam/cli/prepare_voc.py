"""Make a VOC 2012 folder ready: ``python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE``.

Checks the layout, writes the train_aug list and the image labels (from the XML annotations, never from masks), and says
what is missing and where to get it. Exit code 1 if something is.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.cli.starting import starting


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Make a VOC 2012 folder ready.')
    parser.add_argument('root', type=Path, help='the folder VOC2012, with JPEGImages in it')
    parser.add_argument('--sbd', type=Path, help='the unpacked SBD benchmark, for the list train_aug')
    parser.add_argument('--overwrite', action='store_true', help='write existing files anew')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    args = parser.parse_args(argv)
    with starting():
        from weclip_sam.datasets.prepare import prepare_voc
        from weclip_sam.engine import friendly_errors
        from weclip_sam.engine.progress import phase_progress
    with friendly_errors():
        with phase_progress() as progress:
            report = prepare_voc(args.root, args.sbd, args.overwrite, args.workers, progress)
        print(report.text())
    sys.exit(0 if report.ok else 1)


if __name__ == '__main__':
    main()
