"""Rank prompt templates on your own images by sharpness (CLIP-ES): ``python tools/select_prompt.py CONFIG``.

Uses images and image labels alone. The best template goes into the config (``model.templates``).
"""
from __future__ import annotations

import argparse
from pathlib import Path

from weclip_sam.choices import COMPETITORS, SPLITS
from weclip_sam.cli.starting import starting
from weclip_sam.io.config_files import find_config
from weclip_sam.io.files import write_json
from weclip_sam.io.text import read_lines
from weclip_sam.registry import DATASETS, MODELS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Rank prompt templates by sharpness.')
    parser.add_argument('config', help='a config with a CLIP, e.g. configs/clip_es/...py')
    parser.add_argument('--split', choices=tuple(SPLITS), default='train', help='which images (default: train)')
    parser.add_argument('--templates', metavar='FILE', help='one template with {} a line (default: a built-in list and '
                                                            "the config's own)")
    parser.add_argument('--max-images', type=int, default=500, help='images with several classes (default: 500)')
    parser.add_argument('--competitors', choices=COMPETITORS, default='present',
                        help="who takes part in the softmax: present = the image's classes and the background nouns; "
                             "all = every class and the background nouns; present_foreground = the image's classes "
                             'alone (default: %(default)s)')
    parser.add_argument('--json', metavar='FILE', help='write the table there, too')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    return parser.parse_args(argv)


def read_templates(path: str | None, own: list[str]) -> list[str]:
    """Templates of a file, or the config's own and the built-in candidates; each has one ``{}``."""
    if path is None:
        from weclip_sam.datasets.vocabulary import CANDIDATE_TEMPLATES
        templates, where = [*own, *CANDIDATE_TEMPLATES], 'model.templates of the config'
    elif not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such list of templates')
    else:
        templates, where = read_lines(path), path
        if not templates:
            raise ValueError(f'{path}: holds no template; expected one with {{}} a line')
    for template in templates:
        if template.count('{}') != 1:
            raise ValueError(f"{where}: template '{template}' needs exactly one {{}} where the name of a class goes, "
                             "for example 'a photo of a {}.'")
    return templates


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        import torch

        from weclip_sam.engine import ProgressReporter, friendly_errors, load_config, prepare_work_dir
        from weclip_sam.engine.hooks.seed_eval import spread
        from weclip_sam.models.prompt_selection import localisation_embeddings, rank_templates
        from weclip_sam.offline.splits import seed_images
    with friendly_errors():
        config = load_config(args.config, args.cfg_options)
        if not config.model.get('clip'):
            raise ValueError(f'{args.config}: this model has no CLIP to ask')
        if args.json:
            prepare_work_dir(Path(args.json).absolute().parent, '--json')
        templates = read_templates(args.templates, list(config.model.get('templates') or []))
        dataset = DATASETS.build(seed_images(config, args.split))
        several = (dataset.image_labels.sum(1) >= 2).nonzero()[:, 0].tolist()
        chosen = [several[i] for i in spread(len(several), args.max_images)]
        if not chosen:
            raise ValueError(f'no image of split {args.split} has two classes; sharpness compares those of an image')
        clip = MODELS.build(config.model.clip).to('cuda' if torch.cuda.is_available() else 'cpu')
        bar = ProgressReporter()
        bar.start('images', len(chosen))
        try:
            embeddings = localisation_embeddings(clip, dataset, chosen, bar.update)
        finally:
            bar.stop()
        rows = rank_templates(clip, embeddings, dataset.image_labels[chosen], dataset.metainfo, templates,
                              args.competitors)
        print(f'{"sharpness":>10} {"score":>7}  template   ({len(chosen)} images with several classes; lowest is best)')
        for row in rows:
            print(f'{row["sharpness"]:10.4f} {row["mean_score"]:7.4f}  {row["template"]}')
        print(f'use it: --cfg-options "model.templates=[\'{rows[0]["template"]}\']"')
        if args.json:
            write_json(args.json, dict(config=args.config, split=args.split, images=len(chosen),
                                       competitors=args.competitors, templates=rows))


if __name__ == '__main__':
    main()
