"""Take corrected labels back: ``python tools/import_labels.py SOURCE... --like FOLDER --out DIR``.

SOURCE is a COCO instances JSON (or the zip of one), CVAT's "Segmentation mask 1.1" (zip or folder), a JSON export of
Label Studio, or a folder of label PNGs. Classes are matched by name, images by name, too. It writes ``DIR/<image>.png``
as validation reads them, and as a second stage does where it is asked to. docs/review.md tells the ways.

Exit code 0, 1 if some could not be taken, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from weclip_sam.choices import CORRECTIONS
from weclip_sam.cli.starting import starting
from weclip_sam.commands import command_line
from weclip_sam.io.given import check_word_or_file, find_folder
from weclip_sam.io.names import printable

if TYPE_CHECKING:
    from weclip_sam.review.corrections.importing import Imported
    from weclip_sam.review.corrections.target import Target


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Take corrected labels back.')
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='JSON files, folders or zips; later ones count')
    parser.add_argument('--out', required=True, metavar='DIR', help='where the label PNGs are written')
    parser.add_argument('--like', metavar='FOLDER',
                        help='the labels that were corrected: their classes, images and sizes are those that are meant')
    parser.add_argument('--classes', metavar='voc|coco|FILE',
                        help='class names, one a line without the background, if there is no FOLDER that says')
    parser.add_argument('--images', metavar='DIR', help='the photos: names and sizes are compared with them')
    parser.add_argument('--format', choices=CORRECTIONS, default='auto', help='of SOURCE (default: %(default)s)')
    parser.add_argument('--numbers', metavar='voc|coco|FILE',
                        help='names of the numbers in PNGs, one a line, where nothing beside them says')
    parser.add_argument('--rename', nargs='+', default=[], metavar='OLD=NEW', help='classes with other names in SOURCE')
    parser.add_argument('--empty', action='store_true', help='images in which nothing is marked are background alone')
    parser.add_argument('--complete', action='store_true',
                        help='write the labels of --like for all images that were not corrected, too')
    parser.add_argument('--keep-ignored', action='store_true',
                        help='what --like ignores and nobody marked stays ignored')
    parser.add_argument('--max-side', type=int, metavar='PIXELS',
                        help='shrink larger labels to this long side, as a reader with that max_side shrinks photos')
    parser.add_argument('--overwrite', action='store_true', help='write over label PNGs that were not imported')
    args = parser.parse_args(argv)
    if args.like is None and args.classes is None:
        parser.error('give --like FOLDER, the labels that were corrected, or --classes FILE, the names of the classes')
    for option in ('complete', 'keep_ignored'):
        if getattr(args, option) and args.like is None:
            parser.error(f'--{option.replace("_", "-")} needs --like FOLDER, the labels that were corrected')
    return args


def target_of(args: argparse.Namespace) -> Target:
    """Classes and images that are meant."""
    from weclip_sam.engine.start.class_names import resolve_classes
    from weclip_sam.offline.results import open_labels
    from weclip_sam.review.corrections.target import Target
    if args.like is None:
        return Target.build(resolve_classes(args.classes), images=args.images)
    like = open_labels(args.like, classes=None if args.classes is None else resolve_classes(args.classes)[1:])
    return Target.build(like.classes, like, args.images)


def renamed(options: list[str]) -> dict[str, str]:
    """``OLD=NEW`` as a table."""
    for option in options:
        if not all(part.strip() for part in option.rpartition('=')):
            raise ValueError(f'--rename: expected OLD=NEW, got {option!r}')
    return {old.strip(): new.strip() for old, _, new in (option.rpartition('=') for option in options)}


def hints(done: Imported) -> str:
    """How to go on."""
    from weclip_sam.review.corrections.importing import CORRECTED, OTHERS
    look, hand_on = command_line('review', done.out), command_line('export', done.out, 'coco')
    return (f'to look at them: {look}\nto hand them on: {hand_on}\n'
            f'to validate on them, where {done.out} is DATA/masks: --cfg-options val_split={done.out / CORRECTED} '
            f'train_split={done.out / OTHERS}\nto teach a second stage: --cfg-options '
            f'train_dataloader.dataset.pixel_labels={done.out}')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        if args.like is not None:
            find_folder(args.like, 'labels')
        if args.images:
            find_folder(args.images, 'images')
        for option in ('classes', 'numbers'):
            check_word_or_file(getattr(args, option), f'--{option}', ('voc', 'coco'))
        renames = renamed(args.rename)
        if args.max_side is not None and args.max_side < 1:
            raise ValueError(f'--max-side: expected a positive number of pixels, got {args.max_side}')
        from weclip_sam.engine import friendly_errors, prepare_work_dir
        from weclip_sam.engine.progress import phase_progress
        from weclip_sam.engine.start.class_names import resolve_classes
        from weclip_sam.engine.start.work_dir import own_folder
        from weclip_sam.review.corrections.found import ClassLabels
        from weclip_sam.review.corrections.importing import import_corrections
        from weclip_sam.review.corrections.masks import as_labels_of
        from weclip_sam.review.corrections.source import read_source
    with friendly_errors():
        target = target_of(args)
        labels = ClassLabels(target.classes, renames)
        numbers = None if args.numbers is None else resolve_classes(args.numbers)
        as_they_were = as_labels_of(target.classes, target.palette, args.like) if args.like else None
        sources = {str(path): read_source(Path(path), labels, args.format, numbers, as_they_were, target)
                   for path in args.sources}
        labels.check()
        out = Path(prepare_work_dir(args.out, '--out'))
        with own_folder(out, 'import', option='--out'), phase_progress() as progress:
            done = import_corrections(sources, out, target, args.empty, args.complete, args.keep_ignored, args.max_side,
                                      args.overwrite, progress)
        for note in done.notes:
            print(printable(f'NOTE {note}'))
        for reason in list(done.failed.values())[:20]:
            print(printable(f'failed: {reason}'))
        if len(done.failed) > 20:
            print(f'failed: {len(done.failed) - 20} more')
        print(printable(done.text()))
        if done.corrected:
            print(printable(hints(done)))
    sys.exit(1 if done.failed else 0)


if __name__ == '__main__':
    main()
