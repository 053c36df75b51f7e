"""Image labels in files that people write: ``labels.csv`` or JSON.

CSV (UTF-8, with or without a byte-order mark, any line ending): the header ``image,classes``, then one image a line
with its class names separated by ``;``, none for an image without a label. JSON: an object that maps images to lists
of names, or a list of ``{"image": ..., "classes": [...]}``.
"""
from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from weclip_sam.io.files import atomic_open

MAX_BYTES = 1 << 30
SEPARATOR = ';'


def read_label_table(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read the labels of images.

    Args:
        path: a ``.csv`` or ``.json`` file as described at the module.

    Returns:
        Class names by image name, in the order of the file; a name repeated within one image counts once.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: naming the file and the line or entry: no header, a wrong number of fields, an image listed twice,
            an empty name, undecodable text or half a character, another kind of file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'label file is missing: {path}')
    if path.suffix.lower() not in ('.csv', '.json'):
        raise ValueError(f'{path}: a label file is .csv (image,classes) or .json, got {path.suffix!r}')
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f'{path}: {path.stat().st_size} bytes are too many for a label file')
    try:
        text = path.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8') from None
    if '\0' in text:
        raise ValueError(f'{path}: contains NUL characters; it is no text file, or not UTF-8')
    return _parse_csv(text, path) if path.suffix.lower() == '.csv' else _parse_json(text, path)


def write_label_table(path: str | os.PathLike[str], table: Mapping[str, Iterable[str]]) -> None:
    """Write a table that :func:`read_label_table` reads back unchanged, as CSV or JSON by its suffix, atomically.

    Raises:
        ValueError: when a name contains the separator, a line break or NUL, or has outer blanks, in CSV; when it holds
            half a character.
    """
    path = Path(path)
    table = {image: list(names) for image, names in table.items()}
    for image, names in table.items():
        for name in (image, *names):
            check_text(name, str(path))
    with atomic_open(path, 'w') as file:
        if path.suffix.lower() == '.json':
            json.dump(table, file, indent=0, ensure_ascii=False)
            return
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['image', 'classes'])
        for image, names in table.items():
            for name in (image, *names):
                if not name or name != name.strip() or any(sign in name for sign in '\n\r\0'):
                    raise ValueError(f'{path}: {name!r} cannot be written to CSV; use .json')
            if any(SEPARATOR in name for name in names):
                raise ValueError(f'{path}: a class name of {image!r} contains {SEPARATOR!r}; use .json')
            writer.writerow([image, SEPARATOR.join(names)])


def _parse_csv(text: str, path: Path) -> dict[str, tuple[str, ...]]:
    rows = csv.reader(io.StringIO(text, newline=''), strict=True)
    table: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    header = None
    try:
        for row in rows:
            if not any(field.strip() for field in row):
                continue
            if header is None:
                header = [field.strip().lower() for field in row]
                if header != ['image', 'classes']:
                    raise ValueError(f'{path}, line {rows.line_num}: expected the header image,classes, got {row}')
                continue
            where = f'{path}, line {rows.line_num}'
            if len(row) != 2:
                raise ValueError(f'{where}: expected 2 fields, image and classes, got {len(row)}: {row}; classes are '
                                 f'separated by {SEPARATOR!r}, a name with a comma needs quotes')
            image = row[0].strip()
            _add(table, image, [name for name in row[1].split(SEPARATOR) if name.strip()], where, lines.get(image))
            lines[image] = rows.line_num
    except csv.Error as error:
        raise ValueError(f'{path}, line {rows.line_num}: not valid CSV ({error})') from None
    if header is None:
        raise ValueError(f'{path}: empty; expected the header image,classes and one image a line')
    return table


def _parse_json(text: str, path: Path) -> dict[str, tuple[str, ...]]:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f'{twice!r} is listed twice')
        return result

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}, line {error.lineno}: not valid JSON ({error.msg})') from None
    except RecursionError:
        raise ValueError(f'{path}: nested too deeply for a label file') from None
    except ValueError as error:  # a name listed twice, or a number of thousands of digits
        raise ValueError(f'{path}: {error}') from None
    if isinstance(data, dict):
        entries: list[tuple[Any, Any]] = list(data.items())
    elif isinstance(data, list) and all(isinstance(e, dict) and set(e) == {'image', 'classes'} for e in data):
        entries = [(entry['image'], entry['classes']) for entry in data]
    else:
        raise ValueError(f'{path}: expected an object of image: [classes], or a list of '
                         '{"image": ..., "classes": [...]}')
    table: dict[str, tuple[str, ...]] = {}
    for number, (image, names) in enumerate(entries):
        where = f'{path}, entry {number + 1}'
        strings = isinstance(image, str) and isinstance(names, list) and all(isinstance(n, str) for n in names)
        if not strings:
            raise ValueError(f'{where}: expected an image name and a list of class names, got '
                             f'{image!r:.100}: {names!r:.100}')
        _add(table, image.strip(), names, where, None)
    return table


def check_text(text: str, where: str) -> None:
    """JSON can hold half a character (a lone surrogate), which can be neither printed nor written to a file.

    Raises:
        ValueError: naming ``where`` and the text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f'{where}: {text!r} holds half a character, which cannot be written as UTF-8; mend the '
                         'name') from None


def _add(table: dict[str, tuple[str, ...]], image: str, names: Sequence[str], where: str, earlier: int | None) -> None:
    names = tuple(dict.fromkeys(name.strip() for name in names))
    if not image or '' in names:
        raise ValueError(f'{where}: empty {"class" if image else "image"} name')
    for name in (image, *names):
        check_text(name, where)
    if image in table:
        first = f' (first in line {earlier})' if earlier else ''
        raise ValueError(f'{where}: image {image!r} is listed twice{first}')
    table[image] = names
