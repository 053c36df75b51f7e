"""Image labels in files that people write: ``labels.csv`` or JSON.

CSV (any line ending): the header ``image,classes``, then one image a line with its class names separated by ``;``,
none for an image without a label; a name that holds a ``;`` stands in quotes of its own within the field. As European
spreadsheets write it, the table's own separator may be ``;`` or a tab: ``image;classes``, with ``,``, ``|`` or, the
field in quotes, ``;`` between the names. JSON: an object that maps images to lists of names, or a list of
``{"image": ..., "classes": [...]}``.
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
from weclip_sam.io.names import is_utf8, listed_name, merge_forms
from weclip_sam.io.text import read_json, read_text

MAX_BYTES = 1 << 30
SEPARATOR = ';'
HEADER = ['image', 'classes']
SUFFIXES = ('.csv', '.tsv', '.txt', '.json')


def read_label_table(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Read the labels of images.

    Args:
        path: a ``.csv`` (``.tsv``, ``.txt``) or ``.json`` file as described at the module.

    Returns:
        Class names by image name, in the order of the file; a name repeated within one image counts once.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: naming the file and the line or entry: no header, a wrong number of fields, an image listed twice,
            an empty name, undecodable text or half a character, another kind of file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'label file is missing: {path.absolute()}')
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f'{path}: a label file is .csv (image,classes) or .json, got {path.suffix!r}')
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f'{path}: {path.stat().st_size} bytes are too many for a label file')
    return _read_json(path) if path.suffix.lower() == '.json' else _parse_table(read_text(path), path)


def write_label_table(path: str | os.PathLike[str], table: Mapping[str, Iterable[str]]) -> None:
    """Write a table that :func:`read_label_table` reads back unchanged, as CSV or JSON by its suffix, atomically.

    Raises:
        ValueError: when a name contains a line break or NUL, or has outer blanks, in CSV; when it holds half a
            character.
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
            writer.writerow([image, join_names(names)])


def join_names(names: Iterable[str]) -> str:
    """Class names as one field of a table."""
    return SEPARATOR.join(map(_quoted, names))


def split_names(field: str, where: str) -> list[str]:
    """The class names in a field that :func:`join_names` made.

    Raises:
        ValueError: naming ``where``: quotes that do not close.
    """
    return _split(field, SEPARATOR, where)


def _quoted(name: str) -> str:
    """A class name as it stands among others: in quotes of its own where it holds ``;`` or begins with a quote."""
    return '"' + name.replace('"', '""') + '"' if SEPARATOR in name or name.startswith('"') else name


def _split(field: str, separator: str, where: str) -> list[str]:
    """The names in a field, without outer blanks and without empty ones."""
    if '"' not in field:
        return [name for name in field.split(separator) if name.strip()]
    try:
        (names,) = csv.reader([field], delimiter=separator, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):  # a line break within a name
        raise ValueError(f'{where}: the quotes in {field!r:.100} do not close; a name with a quote at its beginning '
                         'stands in quotes, its own doubled') from None
    return [name for name in names if name.strip()]


def _parse_table(text: str, path: Path) -> dict[str, tuple[str, ...]]:
    rows: list[tuple[int, list[str]]] = []
    delimiter, begins = _delimiter(text, path)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if not _is_blank(row):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise ValueError(f'{path}, line {reader.line_num}: not valid CSV ({error})') from None
    separator = SEPARATOR if delimiter == ',' else _between_names(rows[begins:], path)
    table: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for line, row in rows[begins:]:
        where = f'{path}, line {line}'
        while len(row) > 2 and not row[-1].strip():  # columns that a spreadsheet once had
            row.pop()
        if len(row) != 2:
            raise ValueError(f'{where}: expected 2 fields, image and classes, got {len(row)}: {row}; '
                             + (f'classes are separated by {SEPARATOR!r}, a name with a comma needs quotes'
                                if delimiter == ',' else f'in a table with {delimiter!r} between its columns, separate '
                                "classes by ',' or '|', or put the field in quotes"))
        image = listed_name(row[0].strip())
        _add(table, image, _split(row[1], separator, where), where, lines.get(image))
        lines[image] = line
    return table


def _is_blank(row: Sequence[str]) -> bool:
    """Whether a line holds nothing, or only separators that a spreadsheet filled it up with."""
    signs = f' \t{SEPARATOR}' if len(row) == 1 else ' \t'  # among others, a field of them is a name
    return not any(field.strip(signs) for field in row)


def _delimiter(text: str, path: Path) -> tuple[str, int]:
    """What stands between the columns, by the header, and how many rows there are before the first image."""
    first: list[str] = []
    for delimiter in ',;\t':
        rows = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter)
        count = 0
        try:
            for row in rows:
                fields = [field.strip().casefold().rstrip(SEPARATOR) for field in row]
                while len(fields) > 2 and not fields[-1]:
                    fields.pop()
                count += not _is_blank(row)
                if fields == HEADER:
                    return delimiter, count
                if not _is_blank(row) and not fields[0].startswith('sep='):  # the line that tells Excel the separator
                    columns = '' if len(fields) < 3 else ('; the names of the classes stand in one field, with '
                                                          f'{SEPARATOR!r} between them, not in a column each')
                    first = first or [f'{path}, line {rows.line_num}: expected the header image,classes, got {row}'
                                      f'{columns}']
                    break
        except csv.Error as error:
            raise ValueError(f'{path}, line {rows.line_num}: not valid CSV ({error})') from None
    raise ValueError(first[0] if first else f'{path}: empty; expected the header image,classes and one image a line')


def _between_names(rows: Sequence[tuple[int, list[str]]], path: Path) -> str:
    """The one sign that separates classes in a table whose columns are not separated by commas."""
    found: dict[str, tuple[int, str]] = {}
    for line, row in rows:
        for sign in ',|;':
            if len(row) > 1 and sign in row[1]:
                found.setdefault(sign, (line, row[1]))
    if len(found) > 1:
        (first, (line, field)), (other, (second, text)) = list(found.items())[:2]
        raise ValueError(f'{path}, line {second}: classes are separated by {first!r} in line {line} ({field!r:.60}), '
                         f'but there is a {other!r} in {text!r:.60}: it is not clear what belongs to a name. Use '
                         "one sign, or the header image,classes with ';' between classes and names with a comma in "
                         'quotes, or .json')
    return next(iter(found), SEPARATOR)


def _read_json(path: Path) -> dict[str, tuple[str, ...]]:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f'{twice!r} is listed twice')
        return result

    data = read_json(path, pairs=unique)
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
        _add(table, listed_name(image.strip()), names, where, None)
    return table


def check_text(text: str, where: str) -> None:
    """JSON can hold half a character (a lone surrogate), which can be neither printed nor written to a file.

    Raises:
        ValueError: naming ``where`` and the text.
    """
    if not is_utf8(text):
        raise ValueError(f'{where}: {text!r} holds half a character, which cannot be written as UTF-8; mend the name')


def _add(table: dict[str, tuple[str, ...]], image: str, names: Sequence[str], where: str, earlier: int | None) -> None:
    names = tuple(merge_forms(name.strip() for name in names))
    if not image or '' in names:
        raise ValueError(f'{where}: empty {"class" if image else "image"} name')
    for name in (image, *names):
        check_text(name, where)
    if image in table:
        first = f' (first in line {earlier})' if earlier else ''
        raise ValueError(f'{where}: image {image!r} is listed twice{first}')
    table[image] = names
