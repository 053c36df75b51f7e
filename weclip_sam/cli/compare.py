"""Compare methods on one data set: ``python tools/compare.py configs/compare/shapes.py --run``.

The experiment file lists the methods and their stages (see ``weclip_sam/comparison/experiment.py``). ``--list`` prints
them with what they took or will take (``weclip_sam/comparison/listing.py``), and which data and checkpoints are
missing. ``--run`` runs what is missing, seed by seed, and goes on after a kill; ``--collect`` only reads what is
finished. Both write ``report.html`` (one page that needs nothing else), ``report.md`` and ``report.json`` into the
experiment's root, or into ``--out``. ``--published``, which takes no experiment, prints what others published on VOC
and COCO, with the source of each figure.

Exit code: 0, or 1 if a stage failed (the report says which).
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from weclip_sam.cli.starting import starting
from weclip_sam.commands import command_line
from weclip_sam.io.config_files import find_config
from weclip_sam.io.files import atomic_open, write_json
from weclip_sam.io.pipes import lasting_output
from weclip_sam.words import counted

if TYPE_CHECKING:
    from weclip_sam.comparison.experiment import Stage


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare methods on one data set.')
    parser.add_argument('experiment', nargs='?', help='an experiment file, e.g. configs/compare/shapes.py')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--run', action='store_true', help='run the missing stages, then report')
    what.add_argument('--collect', action='store_true', help='report what is finished; run nothing')
    what.add_argument('--list', action='store_true',
                      help='print the stages of every method, what is finished, and how long the rest takes')
    what.add_argument('--published', action='store_true',
                      help='print published figures of VOC and COCO with their sources; needs no experiment')
    parser.add_argument('--root', help="where the runs are (default: the experiment's root)")
    parser.add_argument('--seeds', type=int, help="how many seeds (default: the experiment's)")
    parser.add_argument('--methods', nargs='+', metavar='NAME',
                        help='only these methods, as --list prints them in brackets: weclip-sam')
    parser.add_argument('--commands', action='store_true', help='with --list: the command of every stage, too')
    parser.add_argument('--out', help='where the report goes (default: the root)')
    parser.add_argument('--no-pictures', action='store_true', help='tables only')
    args = parser.parse_args(argv)
    if args.published and args.experiment:
        parser.error('--published takes no experiment file: the figures are the same for all')
    if not args.published and not args.experiment:
        parser.error('the following arguments are required: experiment')
    return args


def command(stage: Stage) -> str:
    """What would be typed for a stage."""
    return command_line(stage.tool, *stage.arguments)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.published:
        with starting():
            from weclip_sam.comparison.published import published_listing
        with lasting_output():
            print('\n'.join(published_listing()))
        return
    with starting():
        find_config(args.experiment, 'experiment file')
        from weclip_sam.cli.lacking import lacking
        from weclip_sam.comparison.experiment import load_experiment
        from weclip_sam.comparison.html import to_html
        from weclip_sam.comparison.listing import listing
        from weclip_sam.comparison.report import to_json, to_markdown
        from weclip_sam.comparison.results import collect
        from weclip_sam.comparison.stages import run_experiment
        from weclip_sam.comparison.tables import incomplete
        from weclip_sam.engine import friendly_errors, prepare_work_dir
        from weclip_sam.engine.start.work_dir import own_folder
    failed = {}
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        experiment = load_experiment(args.experiment, args.root, args.seeds)
        if args.methods:
            experiment = experiment.only(args.methods)
        if args.list:
            print('\n'.join([*listing(experiment, command if args.commands else None), *lacking(experiment)]))
            return
        out = Path(prepare_work_dir(args.out or experiment.root, '--out' if args.out else '--root'))
        if args.run:
            root = prepare_work_dir(experiment.root, '--root')
            with own_folder(root, 'comparison', option='--root'):
                report = run_experiment(experiment)
            failed = report.failed
            print(f'{counted(len(report.ran), "stage")} run, {len(report.found)} found finished, {len(failed)} failed, '
                  f'{len(report.skipped)} not reached', file=sys.stderr)
        given = command_line('compare', *(sys.argv[1:] if argv is None else argv))
        comparison = collect(experiment, given, not args.no_pictures)
        markdown = to_markdown(comparison)
        for name, text in (('report.html', to_html(comparison)), ('report.md', markdown)):
            with atomic_open(out / name, 'w') as file:
                file.write(text)
        write_json(out / 'report.json', to_json(comparison))
        print(markdown.split('\n## ')[0].rstrip())
        for line in incomplete(comparison):
            print(f'not complete: {line}')
        print(f'\nwritten: {out / "report.html"}, report.md and report.json beside it')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
