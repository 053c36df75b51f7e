"""A folder of predictions is of one model with one protocol: predictions of two are never mixed.

Nor are those of two images with one name: more images are added, but none takes the place of another. And what people
corrected by hand is not written over.
"""
from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from weclip_sam.commands import tool
from weclip_sam.engine.start.identity import quick_digest
from weclip_sam.io.files import inside, write_json
from weclip_sam.io.images import labels_changed
from weclip_sam.io.names import folded, real_path

HEADER = 'predictions.json'
NOTED = 'pixels_noted'  # in the header of a folder: each of its label PNGs says what it showed when it was written
_SAME = ('weights', 'config', 'options', 'multi_scale', 'crf', 'sam', 'product', 'split')
PREDICTION, LABELS = 'prediction', 'labels'  # products: what a model says of any image; final labels of named ones
_MAKES = {PREDICTION: 'predict', LABELS: 'make_labels'}
_OPTIONS = dict(config='--config', options='--cfg-options', multi_scale='--tta', crf='--crf', sam='--sam',
                split='--split')


def prediction_card(checkpoint: str | os.PathLike, config: str | None, options: list[str], tta: bool, crf: bool,
                    sam: bool | str = False, product: str = PREDICTION, split: str | None = None) -> dict[str, Any]:
    """What predictions were made with: the checkpoint and a digest of it, and what was said on the command line."""
    return dict(checkpoint=str(checkpoint), weights=quick_digest(Path(checkpoint).expanduser()), config=config,
                options=sorted(options), multi_scale=tta, crf=crf, sam=sam, product=product, split=split)


def claim_predictions(out: str | os.PathLike, card: dict[str, Any], overwrite: bool = False,
                      places: tuple[str, ...] = ('labels', 'overlays'), inputs: Mapping[str, str] | None = None,
                      done: Collection[str] = ()) -> list[dict[str, Any]]:
    """Say in ``predictions.json`` what the predictions of a folder are made with, or compare with what it says.

    Args:
        out: the folder, nobody else writing in it.
        card: see :func:`prediction_card`. Whether all label PNGs that are there were written with a note of what they
            show is added to it.
        overwrite: remove predictions that are there, and only those.
        places: the folders below ``out`` that label PNGs go to.
        inputs: by label PNG below ``out``, the image that it will be of, as an absolute path. They are kept, so that a
            run that is killed has said of what its files are; None where images are known by their ids.
        done: those of ``inputs`` that are there and will stay.

    Returns:
        The entries of the images that were predicted there before with the same card.

    Raises:
        ValueError: predictions of another model or protocol are there, or of other images where the new ones would
            go, or label PNGs of unknown origin, or one that was corrected by hand would be written over. Nothing was
            changed.
    """
    out = Path(out)
    try:
        there = json.loads((out / HEADER).read_text(encoding='utf-8'))
        entries = [dict(entry) for entry in there['images']]
    except FileNotFoundError:
        there, entries = {}, []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f'{out / HEADER}: not the record of predictions that it should be; choose another --out') \
            from None
    if overwrite and there:
        for place in places:
            for path in sorted((out / place).rglob('*.png')):
                path.unlink()
        there, entries = {}, []
    # Records of before the digest was kept know the checkpoint's path alone.
    known = _SAME if 'weights' in there else ('checkpoint', 'multi_scale', 'crf', 'sam')
    was = {'sam': False, 'product': PREDICTION, **there}  # before there was such an option
    if there and (differ := [key for key in known if was.get(key) != card[key]]):
        raise ValueError(f'{out}: holds results that were made in another way: {_told(was, card, differ)}. A folder '
                         'is of one checkpoint with the same options. Nothing was changed: choose another --out, or '
                         'add --overwrite to remove what is there')
    if not there and (strange := next((path for place in places for path in (out / place).glob('*.png')), None)):
        raise ValueError(f'{strange}: label PNGs are there, but no {HEADER}, so nobody knows what made them; choose '
                         'another --out, or move them away')
    kept = _images_of(out, there)
    if taken := _taken(kept, inputs or {}):
        (label, image), now = taken[0], (inputs or {}).get(taken[0][0], 'another one')
        raise ValueError(f'{out}: {label} of an earlier run is of {image} and would be overwritten by that of {now}, '
                         f'{len(taken)} such images in all. Nothing was changed: choose another --out, or add '
                         '--overwrite to remove what is there')
    card[NOTED] = bool(there.get(NOTED)) if there else True
    written = None if inputs is None else {label: image for label, image in inputs.items() if label not in done}
    if by_hand := _corrected(out, places, written, card[NOTED]):
        raise ValueError(f'{out}: {by_hand[0]} was changed since it was written, as by hand, and would be written over '
                         f'({len(by_hand)} such files in all). Nothing was changed: choose another --out, move '
                         'corrected files away, or add --overwrite to remove what is there')
    write_json(out / HEADER, {**card, 'images': entries, **({} if inputs is None else {'inputs': {**kept, **inputs}})})
    return [entry for entry in entries if inside(out, str(entry.get('labels'))).is_file()]


def _told(was: Mapping[str, Any], card: Mapping[str, Any], differ: Iterable[str]) -> str:
    """What differs between the record of a folder and what is asked for, as it is typed."""
    told = []
    for key in differ:
        then, now = was.get(key), card[key]
        if key in ('weights', 'checkpoint'):
            then, now = was.get('checkpoint'), card['checkpoint']
            told.append(f'by {then}, not {now}' if then != now else f'by {then} before that file was changed')
        elif key == 'product':
            told.append(f'by {tool(_MAKES[then])}, not {tool(_MAKES[now])}' if then in _MAKES else f'as {then}')
        else:
            told.append(f'{_typed(_OPTIONS[key], then)} before, now {_typed(_OPTIONS[key], now)}')
    return '; '.join(told)


def _typed(option: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        value = ' '.join(map(str, value))
    if value is True:
        return f'{option} without a name' if option == _OPTIONS['sam'] else option
    return f'{option} {value}' if value else f'no {option}'


def _corrected(out: Path, places: tuple[str, ...], inputs: Mapping[str, str] | None, noted: bool) -> list[str]:
    """Label PNGs that would be written over and show something else than when they were written."""
    if inputs is None:
        labels = [path.relative_to(out).as_posix() for place in places for path in sorted((out / place).rglob('*.png'))]
    else:
        labels = sorted(inputs)
    return [label for label in labels if labels_changed(real_path(out, label), unsaid=noted)]


def _images_of(out: Path, there: Mapping[str, Any]) -> dict[str, str]:
    """By label PNG that is there, the image that earlier runs wrote it of; those they had only begun with, too."""
    found = {str(entry.get('labels')): str(entry['image']) for entry in there.get('images', ()) if entry.get('image')}
    if isinstance(begun := there.get('inputs'), dict):
        found.update({str(label): str(image) for label, image in begun.items()})
    return {label: image for label, image in found.items() if inside(out, label, str(out / HEADER)).is_file()}


def _taken(kept: Mapping[str, str], inputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Label PNGs that are there and would meet those of other images, with the images that they are of."""
    files = {folded(label) for label in inputs}
    folders = {str(up) for file in files for up in PurePosixPath(file).parents}

    def meets(label: str) -> bool:
        key = folded(label)
        return key in files or key in folders or any(str(up) in files for up in PurePosixPath(key).parents)
    return [(label, image) for label, image in kept.items() if meets(label)
            and (label not in inputs or os.path.abspath(inputs[label]) != os.path.abspath(image))]
