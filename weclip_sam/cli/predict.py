"""Segment images with a trained model: ``python tools/predict.py CHECKPOINT IMAGES... --out DIR``.

IMAGES are files or folders (searched with their sub-folders, linked ones, too, but not hidden ones). For ``photo.jpg``
it writes ``DIR/labels/photo.png`` (labels as palette PNG), ``DIR/confidence/photo.png`` (how sure each pixel is) and
``DIR/overlays/photo.png``; ``DIR/predictions.json`` has every image's areas and scores by class, and the failures. With
``--labels labels.csv`` classes that the table does not name for a photo are impossible in it. A folder is of one
checkpoint and protocol; more images of the same are added. Stopped or killed, the same command goes on with what is
missing.

Exit code 0 if all images were segmented, 1 if some failed, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.cli.examples import ParserWithExample, for_checkpoint
from weclip_sam.cli.outputs import (
    add_model_options,
    add_output_options,
    add_sam_option,
    check_given,
    write_exports,
)
from weclip_sam.cli.starting import starting
from weclip_sam.io.names import printable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ParserWithExample(for_checkpoint('predict', '{photos}', '--out', '{run}/predictions'),
                               description='Segment images with a trained model.')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file of a training run')
    parser.add_argument('images', nargs='+', help='image files, or folders of them')
    add_output_options(parser)
    parser.add_argument('--labels', metavar='FILE', help='a label table (image,classes): classes that it does not name '
                                                         'for a photo are impossible there')
    parser.add_argument('--unlisted', choices=('error', 'all'), default='error',
                        help='photos that --labels does not name: an error, or all classes are possible')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--batch-size', type=int, default=8, help='images of equal size at once (default: %(default)s)')
    parser.add_argument('--tta', action='store_true', help='multi-scale and flip')
    parser.add_argument('--crf', action='store_true', help='refine with a dense CRF')
    add_sam_option(parser)
    add_model_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        check_given(args, args.images)
        if args.batch_size < 1:
            raise ValueError(f'--batch-size: expected at least 1 image at a time, got {args.batch_size}')
        from weclip_sam.api import Segmenter
        from weclip_sam.engine import friendly_errors, prepare_work_dir
        from weclip_sam.engine.start.predictions import prediction_card
        from weclip_sam.engine.start.work_dir import own_folder
        from weclip_sam.offline.photo_list import check_apart, list_images, search
        from weclip_sam.offline.photo_names import names_of_photos, require_listed
        from weclip_sam.offline.result_folder import PLACES, Asked, ResultFolder
        from weclip_sam.offline.result_run import run_results
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        folders = search(args.images)
        images = list_images(args.images, folders)
        check_apart(args.images, args.out, folders, PLACES)
        out = Path(prepare_work_dir(args.out, '--out'))
        segmenter = Segmenter(args.checkpoint, args.device, config=args.config, options=args.cfg_options,
                              multi_scale=args.tta, crf=args.crf, sam=args.sam)
        names: list[tuple[str, ...] | None] = [None] * len(images)
        if args.labels:
            files = [file for file, _ in images]
            names = names_of_photos(args.labels, files, list(folders), segmenter.classes[1:])
            if args.unlisted == 'error':
                require_listed(names, files, args.labels, 'let all classes be possible in them: --unlisted all')
        asked = [Asked(name, file, given) for (file, name), given in zip(images, names, strict=True)]
        with own_folder(out, 'prediction', option='--out'):
            folder = ResultFolder(
                out, prediction_card(args.checkpoint, args.config, args.cfg_options, args.tta, args.crf, args.sam),
                asked, segmenter.classes, overlays=not args.no_overlay, confidence=not args.no_confidence,
                overwrite=args.overwrite)
            report = run_results(
                'segment', folder,
                load=lambda index: segmenter.prepare(images[index][0], names[index], str(images[index][0])),
                make=lambda items, clock: segmenter.run(items, confidence=not args.no_confidence), done='segmented',
                palette=segmenter.palette, batch_size=args.batch_size, device=segmenter.device)
            for argument, found in folders.items():
                if told := found.told():
                    print(printable(f'{argument}: passed over: {told}'))
            write_exports(out, args)
    sys.exit(1 if report.failed else 0)


if __name__ == '__main__':
    main()
