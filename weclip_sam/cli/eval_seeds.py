"""Score label PNGs against ground truth: ``python tools/eval_seeds.py --pred PRED --gt GT``.

PRED and GT are folders or zip archives of label PNGs with equal names, or what predict.py or make_labels.py wrote. One
confusion matrix over the set; 255 in the ground truth is ignored. Every image of the list (or of GT) needs a prediction
of its size. Class names are those that predictions.json or seeds.json beside the predictions lists, unless --classes
names them; without either, VOC's.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from weclip_sam.cli.starting import starting
from weclip_sam.io.files import write_json
from weclip_sam.io.given import check_word_or_file, find_file
from weclip_sam.io.parallel import default_workers


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Score label PNGs against ground truth.')
    parser.add_argument('--pred', required=True, help='folder or zip of predicted label PNGs')
    parser.add_argument('--gt', required=True, help='folder or zip of ground-truth label PNGs')
    parser.add_argument('--list', metavar='FILE', help='image ids to score, one per line (default: all of --gt)')
    parser.add_argument('--classes', metavar='voc|coco|N|FILE',
                        help='class names, the number of labels with background, or a file of names '
                             '(default: those that predictions.json or seeds.json of --pred lists, else voc)')
    parser.add_argument('--labels', metavar='FILE',
                        help='a label table (image,classes): whether the masks of --gt hold what images are named for')
    parser.add_argument('--jobs', type=int, default=default_workers(), help='processes (default: all cores)')
    parser.add_argument('--json', metavar='FILE', help='write the table there, too')
    return parser.parse_args(argv)


def label_pngs(folder: str) -> str | Path:
    """Where the label PNGs are: of what ``predict.py`` or ``make_labels.py`` wrote, one of the folders below it."""
    from weclip_sam.engine.start.predictions import HEADER
    from weclip_sam.offline.results import LABELS
    own = Path(folder) / LABELS
    return own if (Path(folder) / HEADER).is_file() and own.is_dir() else folder


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        check_word_or_file(args.classes, '--classes', ('voc', 'coco'))
        for option in ('list', 'labels'):
            if getattr(args, option):
                find_file(getattr(args, option), f'--{option}')
        from weclip_sam.datasets.readers.labels import read_label_table
        from weclip_sam.engine import ProgressReporter, friendly_errors
        from weclip_sam.engine.start.class_names import read_id_list
        from weclip_sam.engine.start.label_names import classes_to_score
        from weclip_sam.evaluation import IoUReport
        from weclip_sam.evaluation.label_files import LabelStore, NamedTruths, score_label_files
        from weclip_sam.evaluation.palettes import PaletteCheck
        from weclip_sam.evaluation.truth import much_ignored, no_class_in_truth
    with friendly_errors():
        classes, told = classes_to_score(args.classes, args.pred)
        named = NamedTruths(read_label_table(args.labels), classes, args.labels) if args.labels else None
        predictions, truths = LabelStore(label_pngs(args.pred)), LabelStore(label_pngs(args.gt))
        ids = read_id_list(args.list) if args.list else truths.ids()
        if told:
            print(told, flush=True)
        ignored, palettes = list[int](), PaletteCheck(classes[1:])
        bar = ProgressReporter()
        bar.start('score', len(ids))
        try:
            matrix = score_label_files(predictions, truths, len(classes), ids, args.jobs, bar.update,
                                       ignored=ignored.append, coloured=palettes.add,
                                       **({} if named is None else dict(counted=named)))
        finally:
            bar.stop()
        report = IoUReport.from_confusion(matrix, classes, len(ids))
        if wrong := no_class_in_truth(report.pixels, sum(ignored)):
            raise ValueError(f'ground truth {args.gt}: {wrong}')
        print(report.format(f'{args.pred} against {args.gt}: IoU by class, percent'))
        if much := much_ignored(report.pixels, sum(ignored)):
            print(f'NOTE {much}')
        truth = None if named is None else named.check()
        if truth is not None and truth.disagreeing:
            print(f'WARNING {truth.message()}')
        if recoloured := palettes.message():
            print(f'WARNING {recoloured}')
        unused = len(predictions) - len(ids)
        if unused > 0:
            print(f'({unused} further predictions have no ground truth in the list and were not scored)')
        if args.json:
            checked = {} if truth is None else dict(ground_truth_check=truth.to_json())
            write_json(args.json, dict(pred=args.pred, gt=args.gt, **report.to_json(), **checked))


if __name__ == '__main__':
    main()
