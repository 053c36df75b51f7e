"""Look at what a training sees: ``python tools/browse_dataset.py CONFIG --out DIR``.

Sheets of images, evenly spread over the split: the photo with its given names, its SAM masks if there is a bank, the
ground truth where evaluation opens it, and several draws of the transforms, as training makes them.

Exit code 0, 1 if some images could not be read, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import sys

from weclip_sam.choices import SPLITS
from weclip_sam.cli.starting import starting
from weclip_sam.commands import tool
from weclip_sam.io.config_files import find_config
from weclip_sam.io.names import printable
from weclip_sam.registry import DATASETS
from weclip_sam.words import counted


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Look at what a training sees.')
    parser.add_argument('config', help='a config file')
    parser.add_argument('--out', required=True, metavar='DIR', help='where the sheets are written')
    parser.add_argument('--split', choices=tuple(SPLITS), default='train', help='which images (default: train)')
    parser.add_argument('-n', '--images', type=int, default=24, help='how many (default: %(default)s)')
    parser.add_argument('--draws', type=int, default=4, help='of the transforms, each image (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the draws (default: %(default)s)')
    parser.add_argument('--height', type=int, default=160, help='of a picture in pixels (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        from weclip_sam.checking.browse import browsable, browse_row, lacks_bank, write_sheets
        from weclip_sam.datasets.image_label import ImageLabelDataset
        from weclip_sam.engine import ProgressReporter, explain, friendly_errors, load_config, prepare_work_dir
        from weclip_sam.engine.hooks.seed_eval import spread
        from weclip_sam.engine.start.shared_settings import fill_shared_settings
        from weclip_sam.engine.start.work_dir import check_outside_images
        from weclip_sam.offline.splits import split_dataset
    failed = 0
    with friendly_errors():
        for option, value, least in (('-n', args.images, 1), ('--draws', args.draws, 0), ('--height', args.height, 16),
                                     ('--seed', args.seed, 0)):
            if value < least:
                raise ValueError(f'{option}: expected at least {least}, got {value}')
        config = load_config(args.config, args.cfg_options)
        check_outside_images(config, args.out, '--out')
        fill_shared_settings(config)
        settings = browsable(split_dataset(config, args.split))
        dataset = DATASETS.build(settings)
        if not isinstance(dataset, ImageLabelDataset):
            raise ValueError(f'--split {args.split}: an ImageLabelDataset can be browsed, not a '
                             f'{type(dataset).__name__}')
        out = prepare_work_dir(args.out, '--out')
        rows, bar = [], ProgressReporter()
        chosen = spread(len(dataset), args.images)
        bar.start('browse', len(chosen))
        try:
            for done, index in enumerate(chosen, start=1):
                try:
                    rows.append(browse_row(dataset, index, args.draws, args.seed, args.height))
                except (ValueError, OSError) as error:
                    failed += 1
                    bar.write(f'failed: {printable(explain(error) or str(error))}\n')
                bar.update(done)
        finally:
            bar.stop()
        if not rows:
            raise ValueError(f'--split {args.split}: none of {len(chosen)} images could be read')
        paths = write_sheets(rows, dataset.metainfo['classes'], out, args.split)
        if bank := lacks_bank(settings):
            print(f'without SAM masks: {bank} does not exist yet; {tool("make_masks")} makes it, or training')
        print(f'{len(rows)} of {counted(len(dataset), "image")} on {counted(len(paths), "sheet")}: {paths[0]}'
              + (f' to {paths[-1].name}' if len(paths) > 1 else ''))
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
