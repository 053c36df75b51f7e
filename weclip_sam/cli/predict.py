"""Segment images with a trained model: ``python tools/predict.py CHECKPOINT IMAGES... --out DIR``.

IMAGES are files or folders (searched with their sub-folders, linked ones, too, but not hidden ones). For ``photo.jpg``
it writes ``DIR/labels/photo.png`` (labels as palette PNG) and ``DIR/overlays/photo.png``; ``DIR/predictions.json`` has
every image's area per class, and the failures. A folder is of one checkpoint and protocol; more images of the same are
added.

Exit code 0 if all images were segmented, 1 if some failed, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from weclip_sam.api import SegmentationResult, Segmenter
from weclip_sam.engine import ProgressReporter, friendly_errors, prepare_work_dir
from weclip_sam.engine.start.environment import write_environment
from weclip_sam.engine.start.errors import explain
from weclip_sam.engine.start.predictions import claim_predictions, prediction_card
from weclip_sam.engine.start.sam_at_test import add_sam_option
from weclip_sam.engine.start.work_dir import own_folder
from weclip_sam.evaluation import SamReport
from weclip_sam.io.files import is_of_one_file, write_json
from weclip_sam.io.folders import Found, find_files
from weclip_sam.io.images import SUFFIXES, is_image_name
from weclip_sam.io.names import folded, meeting, normal, printable
from weclip_sam.models.refine import SamUse

PATIENCE = 10  # so many images that cannot be written, and none that can: it is not their names


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Segment images with a trained model.')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file of a training run')
    parser.add_argument('images', nargs='+', help='image files, or folders of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='where everything is written')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--batch-size', type=int, default=8, help='images of equal size at once (default: %(default)s)')
    parser.add_argument('--tta', action='store_true', help='multi-scale and flip')
    parser.add_argument('--crf', action='store_true', help='refine with a dense CRF')
    add_sam_option(parser)
    parser.add_argument('--overwrite', action='store_true',
                        help='remove the predictions that are in DIR first: of another model, or of other images')
    parser.add_argument('--no-overlay', action='store_true', help='write labels only')
    parser.add_argument('--config', help="use this config instead of the checkpoint's own")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='change the config, e.g. model.clip.checkpoint=/elsewhere/ViT-B-16.pt')
    return parser.parse_args(argv)


def search(arguments: list[str]) -> dict[str, Found]:
    """What the folders among the arguments hold.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a folder without images.
    """
    found = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found[argument] = find_files(path, is_image_name)
            if not found[argument].files:
                told = found[argument].told()
                raise ValueError(f'{path}: no image in this folder (looked for {", ".join(SUFFIXES)})'
                                 + (f'; passed over: {told}' if told else ''))
        elif not os.path.exists(path):
            raise FileNotFoundError(f'{argument}: no such image or folder of images')
    return found


def list_images(arguments: list[str], folders: Mapping[str, Found]) -> list[tuple[Path, str]]:
    """(file, name of its outputs without suffix), sorted within each folder.

    A name is the path inside its folder without suffix; files that would share a name keep their suffix (``a.jpg``,
    ``a.png``), and those that still do are numbered. Names that differ in capitals alone are one name: elsewhere the
    outputs would overwrite each other. ``folders`` is what :func:`search` found.

    Raises:
        ValueError: no names were found for which outputs would not meet.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if argument in folders:
            for file in folders[argument].files:
                found.setdefault(file, file.relative_to(path))
        else:  # a file that is no image is recorded with its reason, like any other failure
            found.setdefault(path, Path(path.name))
    plain = Counter(folded(str(relative.with_suffix(''))) for relative in found.values())
    taken = {folded(str(folder)) for relative in found.values() for folder in relative.parents}
    named = []
    for file, relative in found.items():
        name = normal(str(relative.with_suffix('')))
        if plain[folded(name)] > 1:
            name = normal(str(relative))
        numbers, unique = itertools.count(2), name
        while folded(f'{unique}.png') in taken:
            unique = f'{name}_{next(numbers)}'
        taken.add(folded(f'{unique}.png'))
        named.append((file, unique))
    if pair := meeting([f'{name}.png' for _, name in named], fold=True):
        raise ValueError(f'the outputs of two images would meet: {pair[0]} and {pair[1]}; rename one of the images')
    return named


def check_apart(arguments: list[str], out: str, folders: Mapping[str, Found]) -> None:
    """Raise ValueError where a run would overwrite its images, or the next one take its outputs for images."""
    target = Path(out).expanduser().resolve()
    for argument in arguments:
        places = folders[argument].folders if argument in folders else [Path(argument).resolve()]  # links resolved
        if argument in folders and any(target.is_relative_to(place) for place in places):
            raise ValueError(f'--out {out}: lies in the image folder {argument}, so the next run would segment these '
                             'outputs; give a folder outside of it')
        if any(place.is_relative_to(target / kind) for kind in ('labels', 'overlays') for place in places):
            raise ValueError(f'--out {out}: {argument} lies where the outputs go and would be overwritten; give '
                             'another folder')


def write(result: SegmentationResult, out: Path, name: str, overlay: bool) -> dict[str, Any]:
    """Write one image's files; returns its entry in the JSON."""
    labels, picture = out / 'labels' / f'{name}.png', out / 'overlays' / f'{name}.png'
    result.save(labels, picture if overlay else None)
    entry: dict[str, Any] = dict(image=result.name, labels=str(labels.relative_to(out)))
    if overlay:
        entry['overlay'] = str(picture.relative_to(out))
    height, width = result.labels.shape
    if result.sam is not None and result.sam.masks is not None:
        entry['masks'] = result.sam.masks
    return dict(entry, height=height, width=width,
                areas={key: round(value, 6) for key, value in result.areas().items()})


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with friendly_errors(), ExitStack() as stack:
        folders = search(args.images)
        images = list_images(args.images, folders)
        check_apart(args.images, args.out, folders)
        out = Path(prepare_work_dir(args.out, '--out'))
        segmenter = Segmenter(args.checkpoint, args.device, config=args.config, options=args.cfg_options,
                              multi_scale=args.tta, crf=args.crf, sam=args.sam)
        stack.enter_context(own_folder(out, 'prediction', option='--out'))
        card = prediction_card(args.checkpoint, args.config, args.cfg_options, args.tta, args.crf, args.sam)
        inputs = {f'labels/{name}.png': os.path.abspath(file) for file, name in images}
        earlier = claim_predictions(out, card, args.overwrite, inputs=inputs)
        done: list[tuple[int, dict[str, Any]]] = []
        failed: dict[str, str] = {}
        shallow: dict[str, int] = {}
        unwritten: list[str] = []
        used: list[SamUse] = []
        began, bar = time.monotonic(), ProgressReporter()
        bar.start('segment', len(images))
        try:
            stream = segmenter.stream([file for file, _ in images], batch_size=args.batch_size)
            for count, (index, result) in enumerate(stream, start=1):
                file, name = images[index]
                entry: Any = result
                if not isinstance(result, Exception):
                    try:
                        entry = write(result, out, name, not args.no_overlay)
                    except OSError as error:  # if none can be written, it is not the images' names
                        if not is_of_one_file(error) or (len(unwritten) + 1 >= PATIENCE and not done):
                            raise
                        entry = error
                        unwritten.append(name)
                if isinstance(entry, Exception):
                    failed[str(file)] = explain(entry) or str(entry)
                    bar.write(f'failed: {printable(failed[str(file)])}\n')
                elif not isinstance(result, Exception):
                    done.append((index, entry))
                    if result.sam is not None:
                        used.append(result.sam)
                    if result.suspected_bits is not None:
                        shallow[str(file)] = result.suspected_bits
                bar.update(count, lambda: f'{len(failed)} failed' if failed else '')
        finally:
            bar.stop()
        seconds = time.monotonic() - began
        entries = [entry for _, entry in sorted(done, key=lambda item: item[0])]
        new = {entry['labels'] for entry in entries}
        entries = [entry for entry in earlier if entry['labels'] not in new] + entries
        write_environment(out, goes_on=bool(earlier))
        write_json(out / 'predictions.json', dict(
            card, classes=segmenter.classes, seconds=round(seconds, 3), images=entries, failed=failed,
            suspected_bits=shallow))
        for argument, found in folders.items():
            if told := found.told():
                print(printable(f'{argument}: passed over: {told}'))
        if shallow:
            first, bits = next(iter(shallow.items()))
            print(f'files of 16 bits whose values seem to have fewer: {len(shallow)} images, for example '
                  f'{printable(first)} ({bits}); they were segmented as dark as they are: scale the values to 16 bits, '
                  'or state their depth (PNG sBIT, TIFF SMaxSampleValue)')
        if used:
            print(SamReport.of(used).text())
        print(f'{len(done)} of {len(images)} images segmented in {seconds:.1f} s, {len(failed)} failed; '
              f'written to {out} (areas per class: predictions.json)')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
