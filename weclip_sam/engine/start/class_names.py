"""Class names as a command line gives them."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.readers.lists import image_name
from weclip_sam.datasets.vocabulary import COCO_CLASSES, MAX_CLASSES, VOC_CLASSES, foreground_names
from weclip_sam.io.names import normal
from weclip_sam.io.text import read_json, read_lines

_KNOWN = {'voc': VOC_CLASSES, 'coco': COCO_CLASSES}
_TABLE = re.compile(r'\s*"?image"?\s*[,;\t]|.*;', re.IGNORECASE)  # the first line of a table of images


def resolve_classes(spec: str) -> tuple[str, ...]:
    """Names of all labels, ``background`` first.

    Args:
        spec: ``voc`` (21 labels), ``coco`` (81); a number of labels, background included; or a text file with one class
            name per line, or a JSON list (names of the background may come first: see :func:`foreground_names`).

    Raises:
        ValueError: none of these, a label table, an empty or doubled name, the background where a class should be, or
            more labels than a PNG can hold.
    """
    if spec.lower() in _KNOWN:
        return ('background', *_KNOWN[spec.lower()])
    if spec.isdigit():
        names = [f'class {label}' for label in range(1, int(spec))]
    else:
        path = Path(spec)
        if not path.is_file():
            raise ValueError(f"--classes '{spec}': neither voc, coco, a number nor a file.{suggest_name(spec, _KNOWN)}")
        if path.suffix.lower() in ('.yaml', '.yml'):
            raise ValueError(f'{path}: expected a text file with one class name per line, or a JSON list of names')
        names = read_json(path) if path.suffix.lower() == '.json' else read_lines(path)
        if path.suffix.lower() != '.json' and names and _TABLE.match(names[0]):
            raise ValueError(f'{path}: begins with {names[0]!r} and is a table of images with their classes; --classes '
                             'takes the names alone, one per line in the order of the labels: give classes.txt')
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f'{path}: expected one class name per line, or a JSON list of names')
        names = foreground_names([normal(name.strip()) for name in names], str(path))
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"{spec}: the name '{doubled[0]}' appears twice")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f'{spec}: {len(names)} classes besides the background; 1 to {MAX_CLASSES} are possible')
    return ('background', *names)


def require_same_classes(path: str, content: Any, classes: Sequence[str] | None, remedy: str = '') -> None:
    """Make sure that a checkpoint was trained on these classes, in this order: its channels are theirs.

    Args:
        path: of the checkpoint.
        content: what it holds; nothing is compared where it has no ``meta.dataset_meta.classes``.
        classes: of the data or config in use; None compares nothing.
        remedy: what to do, for the error.

    Raises:
        ValueError: with both lists.
    """
    meta = content.get('meta') if isinstance(content, Mapping) else None
    known = (meta.get('dataset_meta') or {}).get('classes') if isinstance(meta, Mapping) else None
    if not known or classes is None:
        return
    before, now = ([normal(str(name)) for name in names] for names in (known, classes))
    if before == now:
        return
    how = 'the same classes in another order' if sorted(before) == sorted(now) else 'other classes'
    remedy = remedy or 'Use the classes that it was trained on (classes.txt sets their order), or train anew'
    raise ValueError(f'{path}: was trained on {how} than those in use now. Its classes: {", ".join(before)}; '
                     f'now: {", ".join(now)}. {remedy}')


def read_id_list(path: str | Path) -> list[str]:
    """Image ids, one per line, in the order of the file; what counts of a line is told at :func:`read_list`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ids, or one twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such list of image ids')
    ids = list(map(image_name, read_lines(path)))
    if not ids:
        raise ValueError(f'{path}: holds no image id; expected one per line')
    first: dict[str, int] = {}
    doubled = next((image_id for place, image_id in enumerate(ids) if first.setdefault(image_id, place) != place), None)
    if doubled is not None:
        raise ValueError(f"{path}: image id '{doubled}' is listed twice; every image counts once")
    return ids
