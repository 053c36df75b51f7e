"""Write the labels that teach a trained model: ``python tools/make_labels.py CHECKPOINT [PHOTOS...] --out DIR``.

Without PHOTOS they are of the images that the checkpoint was trained on (``--split``). With them, of photos that a
label table names: ``--labels FILE`` (header ``image,classes``), or ``labels.csv`` in the one folder that is given. The
seed pipeline runs as in training, the decoder heard, at the size of the image; ``--sam`` and ``--crf`` refine what
comes out, as ``predict.py`` refines predictions. The folder is like one of ``predict.py``, with
``DIR/doubts/photo.png`` besides: where CAM, SAM's votes or the decoder say something else.

Several processes: ``torchrun --nproc-per-node N tools/make_labels.py ... --launcher pytorch``, or ``srun``. Stopped or
killed, the same command goes on with what is missing.

Exit code 0 if all images were labelled, 1 if some failed, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from weclip_sam.choices import SPLITS
from weclip_sam.cli.examples import ParserWithExample, for_checkpoint
from weclip_sam.cli.outputs import (
    add_launcher_option,
    add_model_options,
    add_output_options,
    add_sam_option,
    check_given,
    write_exports,
)
from weclip_sam.cli.starting import starting
from weclip_sam.commands import tool
from weclip_sam.io.folders import Found
from weclip_sam.io.names import check_apart as check_names_apart
from weclip_sam.io.names import printable

if TYPE_CHECKING:
    import torch


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ParserWithExample(for_checkpoint('make_labels', '--out', '{run}/labels'),
                               description='Write the final labels of named photos with a trained model.')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file of a training run')
    parser.add_argument('photos', nargs='*', help='photos, or folders of them (default: those of --split)')
    add_output_options(parser)
    parser.add_argument('--labels', metavar='FILE', help='the table that names what is in PHOTOS (default: labels.csv '
                                                         'in the one folder that is given)')
    parser.add_argument('--split', choices=tuple(SPLITS), default='train',
                        help="which images of the checkpoint's own data, without PHOTOS (default: train)")
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--crf', action='store_true', help='refine with a dense CRF')
    add_sam_option(parser)
    add_model_options(parser)
    add_launcher_option(parser)
    return parser.parse_args(argv)


def find_table(args: argparse.Namespace) -> Path:
    """The label table of the photos.

    Raises:
        ValueError: nothing says which.
    """
    if args.labels:
        return Path(args.labels)
    beside = Path(args.photos[0]) / 'labels.csv'
    if len(args.photos) == 1 and beside.is_file():
        return beside
    raise ValueError('labels are made of what is named: give the table of the photos, --labels FILE (header '
                     f'image,classes; {tool("predict")} needs none)')


def make_labels(args: argparse.Namespace, device: torch.device) -> int:
    """Returns how many images failed."""
    from mmengine.dist import is_main_process

    from weclip_sam.engine import prepare_work_dir
    from weclip_sam.engine.start.predictions import LABELS, prediction_card
    from weclip_sam.engine.start.work_dir import own_folder
    from weclip_sam.offline.label_making import LabelMaker
    from weclip_sam.offline.photo_list import check_apart, list_images, search
    from weclip_sam.offline.photo_names import names_of_photos, require_listed
    from weclip_sam.offline.result_folder import PLACES, ResultFolder
    from weclip_sam.offline.result_run import run_results
    folders: dict[str, Found] = {}
    if args.photos:
        table, folders = find_table(args), search(args.photos)
        images = list_images(args.photos, folders)
        check_apart(args.photos, args.out, folders, PLACES)
    elif args.labels:
        raise ValueError(f'--labels {args.labels}: of which photos? Without PHOTOS the names are those of the '
                         "checkpoint's own data")
    out = Path(prepare_work_dir(args.out, '--out'))
    maker = LabelMaker(args.checkpoint, device, config=args.config, options=args.cfg_options, crf=args.crf,
                       sam=args.sam)
    if args.photos:
        files = [file for file, _ in images]
        names = names_of_photos(table, files, list(folders), maker.classes[1:])
        require_listed(names, files, table, f'predict them: {tool("predict")}')
        maker.take_photos([(file, name, given or ()) for (file, name), given in zip(images, names, strict=True)])
    else:
        maker.take_split(args.split)
        check_names_apart(out, [one.name for one in maker.asked])
    with own_folder(out, 'label making', args.launcher, '--out'):
        card = prediction_card(args.checkpoint, args.config, args.cfg_options, False, args.crf, args.sam, LABELS,
                               None if args.photos else args.split)
        folder = ResultFolder(out, card, maker.asked, maker.classes, overlays=not args.no_overlay,
                              confidence=not args.no_confidence, doubts=True, overwrite=args.overwrite)
        report = run_results('labels', folder, maker.load, maker.make, done='labelled', palette=maker.palette,
                             device=device)
        if is_main_process():
            for argument, found in folders.items():
                if told := found.told():
                    print(printable(f'{argument}: passed over: {told}'))
            write_exports(out, args)
    return len(report.failed)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        check_given(args, args.photos)
        if args.photos:
            find_table(args)
        from weclip_sam.engine import friendly_errors
        from weclip_sam.engine.start.devices import choose_device
        from weclip_sam.offline.shards import start_sharing, stop_sharing
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        device = start_sharing(args.launcher)
        try:
            failed = make_labels(args, device if args.device is None else choose_device(args.device))
        finally:
            stop_sharing()
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
