"""Train a model: ``python tools/train.py CONFIG``.

Several processes: ``torchrun --nproc-per-node N tools/train.py CONFIG --launcher pytorch`` (GPUs with NCCL, else CPUs
with gloo), or ``srun python tools/train.py CONFIG --launcher slurm``.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.choices import TRACKERS
from weclip_sam.cli.outputs import add_launcher_option
from weclip_sam.cli.starting import starting
from weclip_sam.commands import command_line
from weclip_sam.io.config_files import find_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='a config file, e.g. configs/weclip_sam/...py')
    parser.add_argument('--work-dir', help='where everything is written (default: work_dirs/<name of the config>)')
    again = parser.add_mutually_exclusive_group()
    again.add_argument('--resume', nargs='?', const='auto', metavar='auto|CHECKPOINT',
                       help='go on from the newest checkpoint of the work dir, or from the one given; '
                            'where there is none yet, "auto" starts from the beginning')
    again.add_argument('--overwrite', action='store_true',
                       help='begin anew in a work dir that holds a run: removes its checkpoints, scores and sheets')
    parser.add_argument('--from', dest='start', metavar='CHECKPOINT',
                        help='start from what another training learnt, perhaps of other classes: they are matched by '
                             'name; iterations, optimizer and curriculum begin anew')
    parser.add_argument('--amp', action='store_true', help='bfloat16 mixed precision (CPU and GPU)')
    parser.add_argument('--seed', type=int, help="of every random generator (default: the config's, else 0)")
    parser.add_argument('--deterministic', action='store_true', help='slower GPU kernels that repeat bit for bit')
    parser.add_argument('--track', choices=tuple(TRACKERS),
                        help='have it watched elsewhere, too: losses, scores, sheets and the config go there '
                             "(default: the config's tracker; TensorBoard's files are always written)")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='change the config, e.g. train_cfg.max_iters=100 mask_bank=DIR')
    add_launcher_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        from weclip_sam.engine import friendly_errors, load_config
        from weclip_sam.jobs import run_training
    state: dict[str, str] = {}

    def on_stop() -> str:
        if 'begun' not in state:
            return ''
        given = sys.argv[1:] if argv is None else argv
        rest = [] if args.resume else ['--resume']
        if not args.work_dir:
            rest += ['--work-dir', state['begun']]
        # The config first: an option that takes several values would swallow it.
        others = [given[i] for i in range(len(given)) if i != given.index(args.config)
                  and not (len(given[i]) > 3 and '--overwrite'.startswith(given[i]))]
        return f'Go on with: {command_line("train", args.config, *rest, *others)}'

    with friendly_errors(lambda: state.get('work_dir'), on_stop):
        config = load_config(args.config, args.cfg_options)
        run_training(config, Path(args.config).stem, args.work_dir, resume=args.resume, overwrite=args.overwrite,
                     amp=args.amp, seed=args.seed, deterministic=args.deterministic, launcher=args.launcher,
                     track=args.track, start=args.start, state=state,
                     seed_named=any(option.startswith('randomness') for option in args.cfg_options))


if __name__ == '__main__':
    main()
