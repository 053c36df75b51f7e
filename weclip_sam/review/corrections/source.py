"""A file or folder of corrections: which form it has, and what is in it."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from weclip_sam.choices import CORRECTIONS
from weclip_sam.io.archives import Files
from weclip_sam.io.text import parse_json, read_json
from weclip_sam.offline.results import EXPORT_RECORD
from weclip_sam.review.corrections.coco import read_coco
from weclip_sam.review.corrections.found import ClassLabels, Corrections
from weclip_sam.review.corrections.label_studio import read_label_studio
from weclip_sam.review.corrections.masks import Meaning, holds_masks, read_masks
from weclip_sam.review.corrections.target import Target

_SUFFIXES = ('.png', '.txt', '.json')


def read_source(path: Path, labels: ClassLabels, kind: str = 'auto', numbers: Sequence[str] | None = None,
                else_as: Meaning | None = None, target: Target | None = None) -> Corrections:
    """The corrections in a JSON file, a folder or a zip.

    Args:
        path: the source.
        labels: of the classes.
        kind: one of :data:`CORRECTIONS`. ``auto``: a JSON is Label Studio's if it is a list and COCO's if it is an
            object; a zip without masks but with one JSON is that; all else is masks (``cvat`` and ``voc`` are one).
        numbers: names of the numbers in masks, background first.
        else_as: what masks mean where nothing else says it.
        target: the images that are meant; PNGs that are their photos are no labels.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: another form, damaged, or what cannot be understood.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file or folder of corrections')
    if kind not in CORRECTIONS:
        raise ValueError(f'--format {kind}: expected one of {", ".join(CORRECTIONS)}')
    masks = kind in ('cvat', 'voc')
    if path.is_file() and path.suffix.lower() == '.json':
        if masks:
            raise ValueError(f'{path}: --format {kind} means a folder or a zip of masks, got a JSON file')
        return _read_json(read_json(path), str(path), labels, kind)
    files = Files(path, lambda name: name.lower().endswith(_SUFFIXES))
    jsons = [name for name in files.names if name.lower().endswith('.json')
             and PurePosixPath(name).name != EXPORT_RECORD]
    if masks or (kind == 'auto' and holds_masks(files)):
        return read_masks(files, labels, numbers, else_as, target)
    if len(jsons) > 1:  # CVAT writes one for keypoints and one for captions, too
        jsons = [name for name in jsons if PurePosixPath(name).name.startswith('instances')] or jsons
    if len(jsons) != 1:
        raise ValueError(f'{path}: holds {len(jsons)} JSON files' + (' and no mask' if kind == 'auto' else '')
                         + '; give the JSON of COCO or Label Studio itself, or a folder or zip of masks')
    return _read_json(parse_json(files.read(jsons[0]).getvalue(), files.where(jsons[0])), files.where(jsons[0]), labels,
                      kind)


def _read_json(data: Any, source: str, labels: ClassLabels, kind: str) -> Corrections:
    if kind == 'label-studio' or (kind == 'auto' and isinstance(data, list)):
        return read_label_studio(data, source, labels)
    return read_coco(data, source, labels)
