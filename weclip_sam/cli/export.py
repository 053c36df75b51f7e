"""Write labels in the forms of other tools: ``python tools/export.py FOLDER NAME...``.

FOLDER is what predict.py, make_labels.py or make_seeds.py wrote, or label PNGs of anybody (with --classes, and
--images where the photos are needed). Each NAME (--list shows them) becomes a folder ``FOLDER/export/NAME``, whole or
not at all.

Exit code 0 if all were written, 2 if not.
"""
from __future__ import annotations

import argparse

from weclip_sam.choices import EXPORTS
from weclip_sam.cli.outputs import check_exports
from weclip_sam.cli.starting import starting
from weclip_sam.export.options import Options
from weclip_sam.io.given import find_file, find_folder


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    given = Options()
    parser = argparse.ArgumentParser(description='Write labels in the forms of other tools.')
    parser.add_argument('folder', nargs='?', help='predictions, seeds, or a folder of label PNGs')
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(EXPORTS))
    parser.add_argument('--list', action='store_true', help='show the forms and who opens them, and end')
    parser.add_argument('--images', metavar='DIR', help='where the photos are, if the folder does not say, or '
                        'they moved')
    parser.add_argument('--classes', metavar='FILE', help='class names, one a line without the background, if the '
                        'folder does not say, or others than it says')
    parser.add_argument('--out', metavar='DIR', help='where each form gets a folder (default: FOLDER/export)')
    photos = parser.add_mutually_exclusive_group()
    photos.add_argument('--copy-images', dest='photos', action='store_const', const='copy',
                        help='copy the photos beside the labels')
    photos.add_argument('--link-images', dest='photos', action='store_const', const='link',
                        help='link them there (what forms that need photos do anyway)')
    parser.add_argument('--min-area', type=int, default=given.min_area, metavar='PX',
                        help='leave out regions of fewer pixels (default: %(default)s)')
    parser.add_argument('--simplify', type=float, default=given.simplify, metavar='PX',
                        help="how far a polygon's border may move (default: %(default)s)")
    parser.add_argument('--val-share', type=float, default=given.val_share, metavar='SHARE',
                        help='of the images in the list val, in forms that have one (default: %(default)s)')
    parser.add_argument('--url-prefix', default=given.url_prefix, metavar='URL',
                        help="what comes before a photo's name in Label Studio (default: %(default)s)")
    parser.add_argument('--model-version', metavar='TEXT', help="in Label Studio (default: the checkpoint's name)")
    args = parser.parse_args(argv)
    if not args.list and not args.names:
        parser.error('say which folder of labels, and which forms: see --list')
    return args


def list_exports() -> str:
    """A line or two for each form."""
    from weclip_sam.export import EXPORTS as FORMS
    width = max(map(len, FORMS))
    return '\n'.join(f'{name:{width}}  {form.line}\n{"":{width}}  opens in: {form.opens}'
                     for name, form in FORMS.items())


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.list:
        print(list_exports())
        return
    with starting():
        check_exports(args.names, '')
        find_folder(args.folder, 'labels')
        if args.images:
            find_folder(args.images, 'images')
        if args.classes:
            find_file(args.classes, '--classes')
        from weclip_sam.engine import friendly_errors
        from weclip_sam.engine.progress import phase_progress
        from weclip_sam.export import export_folder
        from weclip_sam.offline.results import open_labels
    with friendly_errors():
        folder = open_labels(args.folder, args.images, args.classes)
        with phase_progress() as progress:
            export_folder(
                folder, args.names, args.out, told=print, progress=progress, photos=args.photos, min_area=args.min_area,
                simplify=args.simplify, val_share=args.val_share, url_prefix=args.url_prefix,
                model_version=args.model_version)


if __name__ == '__main__':
    main()
