"""Train a model: ``python tools/train.py CONFIG``.

Several processes: ``torchrun --nproc-per-node N tools/train.py CONFIG --launcher pytorch`` (GPUs with NCCL, else CPUs
with gloo), or ``srun python tools/train.py CONFIG --launcher slurm``.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from weclip_sam.checking.configs import log_warnings, require_sound
from weclip_sam.checking.findings import Report
from weclip_sam.commands import command_line
from weclip_sam.engine import (
    build_runner,
    friendly_errors,
    load_config,
    prepare_work_dir,
    safe_load,
    start_distributed,
    unwrapped,
    use_resume,
)
from weclip_sam.engine.start.config import use_amp, use_randomness
from weclip_sam.engine.start.launch import LAUNCHERS, asked_to_resume
from weclip_sam.engine.start.restore import changed_settings
from weclip_sam.engine.start.tracker import TRACKERS
from weclip_sam.engine.start.warm_start import match_classes, use_start
from weclip_sam.engine.start.work_dir import check_outside_images, own_work_dir
from weclip_sam.engine.tracking import end_trackers
from weclip_sam.offline.shards import stop_sharing


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
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how the processes were started')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
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
        default = config.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
        check_outside_images(config, args.work_dir or default)
        config.work_dir = prepare_work_dir(args.work_dir or default)
        if args.amp:
            use_amp(config)
        use_randomness(config, args.seed, args.deterministic)
        if args.track:
            config.tracker = args.track
        if args.start:
            use_start(config, args.start, bool(args.resume))
        start_distributed(args.launcher, config)
        checked = require_sound(config)
        resume = args.resume or asked_to_resume(config)
        named = any(option.startswith('randomness') for option in args.cfg_options)
        seed = config.randomness['seed'] if named else args.seed
        with own_work_dir(config, resume, args.overwrite, seed) as work_dir:
            if work_dir.finished:
                if is_main_process():
                    print(work_dir.finished)
            else:
                state['work_dir'] = config.work_dir  # from here on it is ours: errors may be written there
                resumed = use_resume(config, resume, work_dir.classes)
                runner = build_runner(config)
                try:
                    if args.start and not resumed and work_dir.classes:  # tells what does not fit before it is too late
                        match_classes(unwrapped(runner.model), safe_load(args.start, kind='weights'),
                                      work_dir.classes, args.start, config.model)
                    work_dir.begin()
                    state['begun'] = config.work_dir
                    train(runner, resume, resumed, checked)
                    work_dir.finish()
                finally:
                    end_trackers(runner.visualizer, failed=True)  # those that have not ended with the training
                del runner
        stop_sharing()


def train(runner: Runner, resume: str | None, resumed: str | None, checked: Report) -> None:
    """Train, and say first what of the data and of a resumed run is not as it should be."""
    log_warnings(checked, runner.logger)
    if resume:
        runner.logger.info(f'Resuming from {resumed}' if resumed else
                           f'Nothing to resume in {runner.work_dir}: starting from the beginning')
    if resumed and (changed := changed_settings(resumed, runner.cfg)):
        runner.logger.warning('The run goes on with other settings than it began with: ' + '; '.join(changed[:8])
                              + ('' if len(changed) <= 8 else f' and {len(changed) - 8} more'))
    runner.train()


if __name__ == '__main__':
    main()
