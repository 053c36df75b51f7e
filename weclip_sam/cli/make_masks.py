"""Make the SAM masks of a split and keep them in a mask bank: ``python tools/make_masks.py CONFIG``.

Several processes: ``torchrun --nproc-per-node N tools/make_masks.py CONFIG --launcher pytorch``, or ``srun python
tools/make_masks.py CONFIG --launcher slurm``. Stopped or killed, the same command goes on with what is missing.

Masks that segment_anything's ``scripts/amg.py`` made, as JSON files or folders of PNGs: ``--from DIR`` puts them into
the bank, for ``make_seeds.py configs/sepl/...`` or ``train.py configs/weclip_sam/...``. Formats: see
``weclip_sam/offline/mask_import.py``.

Exit code: 0 all masks are there, 1 some images failed (see summary.json), 2 the config or a checkpoint is at fault.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.choices import SPLITS
from weclip_sam.cli.outputs import add_launcher_option
from weclip_sam.cli.starting import starting
from weclip_sam.io.config_files import find_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Make the SAM masks of a split.')
    parser.add_argument('config', help='a config with mask_generator and mask_bank, e.g. configs/weclip_sam/...py')
    parser.add_argument('--split', choices=tuple(SPLITS), default='train', help='which images (default: train)')
    parser.add_argument('--out', help="folder of the bank (default: the config's mask_bank)")
    parser.add_argument('--from', dest='source', metavar='DIR',
                        help="import masks that are there instead of making them: amg.py's IMAGE.json or IMAGE/*.png")
    parser.add_argument('--features', action=argparse.BooleanOptionalAction, default=None,
                        help="keep what SAM's encoder sees of each image, too, in OUT/features: one pass serves masks "
                             "and a second eye (default: if the config's training set has a feature_bank)")
    parser.add_argument('--batch-size', type=int,
                        help="images of one size that SAM's encoder sees at once (default: the generator's "
                             'encode_batch, 1); more needs more memory and may move the last bits of masks')
    parser.add_argument('--amp', action=argparse.BooleanOptionalAction, default=None,
                        help='let SAM compute in bfloat16 (default: on a GPU, unless the bank was begun in fp32; on a '
                             'CPU only if asked for: the program says whether it would pay)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    add_launcher_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        if args.source and not Path(args.source).is_dir():
            raise FileNotFoundError(f'--from {args.source}: no such folder')
        from weclip_sam.engine import friendly_errors, load_config, prepare_work_dir
        from weclip_sam.offline.mask_run import run_masks
        from weclip_sam.offline.shards import start_sharing, stop_sharing
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        config = load_config(args.config, args.cfg_options)
        out = prepare_work_dir(args.out, '--out') if args.out else None
        device = start_sharing(args.launcher)
        report = run_masks(config, args.split, out, device, args.batch_size, args.source, args.amp,
                           args.features)
        stop_sharing()
    sys.exit(1 if report.failed else 0)


if __name__ == '__main__':
    main()
