"""Make pseudo labels for a split: ``python tools/make_seeds.py CONFIG``.

Several processes: ``torchrun --nproc-per-node N tools/make_seeds.py CONFIG --launcher pytorch``, or ``srun python
tools/make_seeds.py CONFIG --launcher slurm``. Stopped or killed, the same command goes on with what is missing.

Exit code: 0 all labels are there, 1 some images failed or scoring broke off (see summary.json), 2 the config or a
checkpoint is at fault.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.choices import SPLITS
from weclip_sam.cli.outputs import add_launcher_option
from weclip_sam.cli.starting import starting
from weclip_sam.commands import tool
from weclip_sam.io.config_files import find_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Make pseudo labels for a split.')
    parser.add_argument('config', help='a config whose model is a SeedMaker, e.g. configs/clip_es/...py')
    parser.add_argument('--split', choices=tuple(SPLITS), default='train', help='which images (default: train)')
    parser.add_argument('--out', help='folder of the PNGs (default: work_dirs/<name of the config>/seeds/<split>)')
    parser.add_argument('--labels', metavar='DIR', help='label PNGs to start from, for pipelines that improve labels '
                                                        "(default: the config's input_labels)")
    parser.add_argument('--scores', action='store_true', help='also write the CAM scores (NPZ, in OUT/scores)')
    parser.add_argument('--evaluate', action='store_true', help='score the labels; only then ground truth is opened')
    parser.add_argument('--overwrite', action='store_true', help='make labels anew that are there already')
    parser.add_argument('--workers', type=int, default=0, help='processes that load images ahead (default: 0)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    add_launcher_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        if args.labels and not Path(args.labels).is_dir():
            raise FileNotFoundError(f'{args.labels}: no such folder of label PNGs to start from; make the labels first '
                                    f'with {tool("make_seeds")} configs/clip_es/...')
        from weclip_sam.engine import friendly_errors, load_config
        from weclip_sam.jobs import run_making_seeds
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        config = load_config(args.config, args.cfg_options)
        _, failed = run_making_seeds(config, Path(args.config).stem, args.split, args.out, args.launcher,
                                     labels=args.labels, scores=args.scores, evaluate=args.evaluate,
                                     overwrite=args.overwrite, workers=args.workers)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
