#!/usr/bin/env python
"""Segment images with a trained model: ``python tools/predict.py CHECKPOINT IMAGES... --out DIR``.

IMAGES are files or folders (searched with their sub-folders). For ``photo.jpg`` it writes ``DIR/labels/photo.png``
(labels as palette PNG) and ``DIR/overlays/photo.png``; ``DIR/predictions.json`` has every image's area per class, and
the failures.

Exit code 0 if all images were segmented, 1 if some failed, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from weclip_sam.api import SegmentationResult, Segmenter
from weclip_sam.engine import ProgressReporter, friendly_errors, prepare_work_dir
from weclip_sam.io.files import write_json
from weclip_sam.io.names import folded, meeting

SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.ppm', '.jp2'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Segment images with a trained model.')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file of a training run')
    parser.add_argument('images', nargs='+', help='image files, or folders of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='where everything is written')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--batch-size', type=int, default=8, help='images of equal size at once (default: %(default)s)')
    parser.add_argument('--tta', action='store_true', help='multi-scale and flip')
    parser.add_argument('--crf', action='store_true', help='refine with a dense CRF')
    parser.add_argument('--overwrite', action='store_true',
                        help='remove what an earlier run with other images wrote to --out')
    parser.add_argument('--no-overlay', action='store_true', help='write labels only')
    parser.add_argument('--config', help="use this config instead of the checkpoint's own")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='change the config, e.g. model.clip.checkpoint=/elsewhere/ViT-B-16.pt')
    return parser.parse_args(argv)


def list_images(arguments: list[str]) -> list[tuple[Path, str]]:
    """(file, name of its outputs without suffix), sorted within each folder.

    A name is the path inside its folder without suffix; files that would share a name keep their suffix (``a.jpg``,
    ``a.png``), and those that still do are numbered. Names that differ in capitals alone are one name: elsewhere the
    outputs would overwrite each other.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a folder without images.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = sorted(p for p in path.rglob('*') if p.suffix.lower() in SUFFIXES and p.is_file())
            if not files:
                raise ValueError(f'{path}: no image in this folder (looked for {", ".join(sorted(SUFFIXES))})')
            for file in files:
                found.setdefault(file, file.relative_to(path))
        elif not path.exists():
            raise FileNotFoundError(f'{argument}: no such image or folder of images')
        else:  # a file that is no image is recorded with its reason, like any other failure
            found.setdefault(path, Path(path.name))
    plain = Counter(folded(str(relative.with_suffix(''))) for relative in found.values())
    taken = {folded(str(folder)) for relative in found.values() for folder in relative.parents}
    named = []
    for file, relative in found.items():
        name = str(relative.with_suffix(''))
        if plain[folded(name)] > 1:
            name = str(relative)
        numbers = itertools.count(2)
        unique = name
        while folded(f'{unique}.png') in taken:
            unique = f'{name}_{next(numbers)}'
        taken.add(folded(f'{unique}.png'))
        named.append((file, unique))
    if pair := meeting([f'{name}.png' for _, name in named], fold=True):
        raise ValueError(f'the outputs of two images would meet: {pair[0]} and {pair[1]}; rename one of the images')
    return named


def claim_out(out: Path, images: list[tuple[Path, str]], overwrite: bool) -> None:
    """See to it that ``out`` holds outputs of these images only.

    Raises:
        ValueError: an earlier run wrote outputs of other images there, and ``overwrite`` does not allow to remove them.
    """
    now = {f'labels/{name}.png': file for file, name in images}
    others = {}
    for labels, image in _earlier(out).items():
        if labels not in now or os.path.abspath(now[labels]) != os.path.abspath(image):
            others[labels] = image
    for labels, image in others.items():
        if not overwrite:
            taken = f' and would be overwritten by that of {now[labels]}' if labels in now else ''
            raise ValueError(f'--out {out}: holds outputs of {len(others)} other images of an earlier run, for example '
                             f'{labels} of {image}{taken}; give another folder, or --overwrite to remove them')
        for kind in ('labels', 'overlays'):
            (out / kind / Path(labels).relative_to('labels')).unlink(missing_ok=True)


def _earlier(out: Path) -> dict[str, str]:
    """By label file, the image that the last run into a folder wrote it of; those it had only begun with, too."""
    found = {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record = json.loads((out / 'predictions.json').read_text(encoding='utf-8'))
        found.update({str(entry['labels']): str(entry['image']) for entry in record['images']})
        found.update({str(labels): str(image) for labels, image in record.get('inputs', {}).items()})
    return {labels: image for labels, image in found.items()
            if labels.startswith('labels/') and '..' not in Path(labels).parts and (out / labels).is_file()}


def check_apart(arguments: list[str], out: str) -> None:
    """Raise ValueError where a run would overwrite its images, or the next one take its outputs for images."""
    target = Path(out).expanduser().resolve()
    for argument in arguments:
        path = Path(argument).resolve()
        if path.is_dir() and target.is_relative_to(path):
            raise ValueError(f'--out {out}: lies in the image folder {argument}, so the next run would segment these '
                             'outputs; give a folder outside of it')
        if any(path.is_relative_to(target / kind) for kind in ('labels', 'overlays')):
            raise ValueError(f'--out {out}: {argument} lies where the outputs go and would be overwritten; give '
                             'another folder')


def write(result: SegmentationResult, out: Path, name: str, overlay: bool) -> dict[str, Any]:
    """Write one image's files; returns its entry in the JSON."""
    labels, picture = out / 'labels' / f'{name}.png', out / 'overlays' / f'{name}.png'
    result.save(labels, picture if overlay else None)
    entry = dict(image=result.name, labels=str(labels.relative_to(out)))
    if overlay:
        entry['overlay'] = str(picture.relative_to(out))
    height, width = result.labels.shape
    return dict(entry, height=height, width=width,
                areas={key: round(value, 6) for key, value in result.areas().items()})


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with friendly_errors():
        images = list_images(args.images)
        check_apart(args.images, args.out)
        out = Path(prepare_work_dir(args.out))
        segmenter = Segmenter(args.checkpoint, args.device, config=args.config, options=args.cfg_options,
                              multi_scale=args.tta, crf=args.crf)
        claim_out(out, images, args.overwrite)
        record: dict[str, Any] = dict(
            checkpoint=str(args.checkpoint), classes=segmenter.classes, multi_scale=args.tta, crf=args.crf,
            inputs={f'labels/{name}.png': os.path.abspath(file) for file, name in images}, images=[], failed={})
        write_json(out / 'predictions.json', record)  # a run that is killed has said of what its outputs are
        done, failed, began, bar = [], {}, time.monotonic(), ProgressReporter()
        bar.start('segment', len(images))
        try:
            stream = segmenter.stream([file for file, _ in images], batch_size=args.batch_size)
            for count, (index, result) in enumerate(stream, start=1):
                file, name = images[index]
                if isinstance(result, Exception):
                    failed[str(file)] = str(result)
                    bar.write(f'failed: {result}\n')
                else:
                    done.append((index, write(result, out, name, not args.no_overlay)))
                bar.update(count, lambda: f'{len(failed)} failed' if failed else '')
        finally:
            bar.stop()
        seconds = time.monotonic() - began
        write_json(out / 'predictions.json', dict(
            record, seconds=round(seconds, 3), failed=failed,
            images=[entry for _, entry in sorted(done, key=lambda item: item[0])]))
    print(f'{len(done)} of {len(images)} images segmented in {seconds:.1f} s, {len(failed)} failed; '
          f'written to {out} (areas per class: predictions.json)')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
