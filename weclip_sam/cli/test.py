"""Evaluate a trained model: ``python tools/test.py CONFIG CHECKPOINT``.

``--tta`` adds multi-scale and flip, ``--crf`` the dense CRF, ``--sam`` SAM (and prints what comes out without it, too,
and what it costs), ``--out DIR`` writes the predictions as palette PNGs.
"""
from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from weclip_sam.cli.outputs import add_launcher_option, add_sam_option
from weclip_sam.cli.starting import starting
from weclip_sam.io.config_files import find_config
from weclip_sam.io.given import check_sam, find_checkpoint


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a trained model.')
    parser.add_argument('config', help='the config the model was trained with')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file')
    parser.add_argument('--work-dir', help="for logs and tables (default: a folder 'test' beside the checkpoint)")
    parser.add_argument('--out', metavar='DIR', help='write every prediction there as a palette PNG')
    parser.add_argument('--overwrite', action='store_true', help="remove another model's predictions from --out first")
    parser.add_argument('--tta', action='store_true', help='multi-scale and flip')
    parser.add_argument('--crf', action='store_true', help='refine predictions with a dense CRF')
    add_sam_option(parser)
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    add_launcher_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        find_checkpoint(args.checkpoint)
        check_sam(args.sam)
        from mmengine.dist import is_main_process

        from weclip_sam.engine import (
            build_runner,
            friendly_errors,
            load_config,
            prepare_work_dir,
            safe_load,
            start_distributed,
        )
        from weclip_sam.engine.start.config import use_randomness, use_test_options
        from weclip_sam.engine.start.predictions import claim_predictions, prediction_card
        from weclip_sam.engine.start.sam_at_test import score_without_sam
        from weclip_sam.engine.start.vocabulary import known_names
        from weclip_sam.engine.start.work_dir import own_folder
        from weclip_sam.io.checkpoints import require_finite
        from weclip_sam.offline.shards import stop_sharing
    state: dict[str, str] = {}
    with friendly_errors(lambda: state.get('work_dir')):
        config = load_config(args.config, args.cfg_options)
        content = safe_load(args.checkpoint, kind='weights')
        require_finite(content['state_dict'], args.checkpoint)
        known = known_names(content)
        work_dir = args.work_dir or Path(args.checkpoint).resolve().parent / 'test'
        config.work_dir = state['work_dir'] = prepare_work_dir(work_dir)
        if config.get('test_dataloader') is None:
            raise ValueError(f'{args.config}: has no test_dataloader, so there is nothing to test on')
        use_test_options(config, tta=args.tta, crf=args.crf, sam=args.sam)
        score_without_sam(config)
        use_randomness(config)
        if args.out:
            out = prepare_work_dir(args.out, '--out')
            hook = dict(type='SavePredictionsHook', out_dir=out)
            config.custom_hooks = [*(config.get('custom_hooks') or []), hook]
        start_distributed(args.launcher, config)
        config.load_from, config.resume, config.tracker = args.checkpoint, False, None  # a test is no run to watch
        apart = args.out and Path(out).resolve() != Path(config.work_dir).resolve()
        with own_folder(config.work_dir, 'test', args.launcher), \
                own_folder(out, 'test', args.launcher, '--out') if apart else nullcontext():
            runner = build_runner(config, known)
            if args.out and is_main_process():
                claim_predictions(out, prediction_card(args.checkpoint, args.config, args.cfg_options, args.tta,
                                                       args.crf, args.sam), args.overwrite, ('.',))
            runner.test()
        stop_sharing()


if __name__ == '__main__':
    main()
