"""Which classes a table names for photos that are given by files or folders."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.readers.faults import nearest
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.datasets.vocabulary import check_class_names, is_number
from weclip_sam.io.images import strip_suffix
from weclip_sam.io.names import normal

_SHOWN = 30  # classes that an error lists
# What photos were before they were converted to something that is read here; a table may still call them so.
_CONVERTED = ('.heic', '.heif', '.hif', '.avif', '.jxl', '.dng', '.cr2', '.nef', '.arw', '.psd', '.svg')


def names_of_photos(table: str | os.PathLike[str], photos: Sequence[Path], folders: Sequence[str],
                    classes: Sequence[str]) -> list[tuple[str, ...] | None]:
    """The classes that a table names for each photo.

    A row means the photo of that path below the table's folder, below ``images`` beside the table, or below one of
    ``folders``, with or without suffix; or else the only photo of that file name.

    Args:
        table: see :func:`read_label_table`.
        photos: files.
        folders: in which some of them were found.
        classes: that the model knows, without the background, in label order.

    Returns:
        The names in label order, an empty tuple for one of background alone; None for a photo that no row names.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_label_table`; a name that no class has; a row that several photos
            may be; no row that is of any of the photos.
    """
    rows = read_label_table(table)
    place = Path(table).parent
    found = _match(rows, photos, [place / 'images', place, *map(Path, folders)])
    if photos and not any(row is not None for row in found):
        raise ValueError(f'{table}: names none of the {len(photos)} photos, {photos[0]} for example.'
                         f'{nearest(photos[0].name, rows)} A row gives the path of a photo below the folder')
    for row in found:
        check_names(() if row is None else rows[row], classes, f'{table}, image {row!r}')
    return [None if row is None else in_label_order(rows[row], classes) for row in found]


def in_label_order(names: Iterable[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Names that are classes, once each, in the order of their labels."""
    wanted = set(map(normal, names))
    return tuple(name for name in classes if name in wanted)


def check_names(names: Iterable[str], classes: Sequence[str], source: str) -> None:
    """Whether all names are classes of a model (without the background).

    Raises:
        ValueError: naming ``source``, the first that is none, and the class that may be meant.
    """
    check_class_names(names, source)
    for name in names:
        if normal(name) not in classes:
            hint = suggest_name(name, classes) or (
                f' It knows {len(classes)}: {", ".join(classes[:_SHOWN])}{", ..." if len(classes) > _SHOWN else ""}.')
            hint += ' They are called by name, not by number.' if is_number(name) else ''
            raise ValueError(f'{source}: the model knows no class {name!r}.{hint}')


def require_listed(names: Sequence[tuple[str, ...] | None], photos: Sequence[Path], table: str | os.PathLike[str],
                   remedy: str) -> None:
    """Whether a table names all photos.

    Raises:
        ValueError: with how many it does not, an example and the remedy.
    """
    strange = [photo for photo, named in zip(photos, names, strict=True) if named is None]
    if strange:
        raise ValueError(f'{table}: does not name {len(strange)} of the {len(photos)} photos, for example {strange[0]}'
                         f'. Add them (an empty classes field: nothing but background), leave them out, or {remedy}')


def _match(rows: Iterable[str], photos: Sequence[Path], folders: Sequence[Path]) -> list[str | None]:
    """The row of each photo, or None."""
    whole, stems, files = (_unique(rows, key) for key in (str, _bare, _file_stem))
    found: list[str | None] = []
    for photo in photos:
        paths = [normal(Path(os.path.relpath(photo, folder)).as_posix()) for folder in folders]
        found.append(next(filter(None, [*map(whole.get, paths), *(stems.get(_bare(path)) for path in paths)]), None))
    taken = set(found)
    alike = Counter(_file_stem(photo.name) for photo, row in zip(photos, found, strict=True) if row is None)
    for index, photo in enumerate(photos):
        row = files.get(name := _file_stem(photo.name))
        if found[index] is None and row is not None and row not in taken:
            if alike[name] > 1:
                raise ValueError(f'the row {row!r} may be any of {alike[name]} photos of that name, {photo} for '
                                 'example; write the path below the folder')
            found[index] = row
    return found


def _file_stem(name: str) -> str:
    return _bare(normal(PurePosixPath(name).name))


def _bare(name: str) -> str:
    """A name without the suffix of an image; what else is behind a dot, as in ``img.001``, tells photos apart."""
    bare, suffix = os.path.splitext(name)
    return bare if suffix.lower() in _CONVERTED else strip_suffix(name)


def _unique(rows: Iterable[str], key: Callable[[str], str]) -> dict[str, str]:
    """The rows by their keys, without those that share one."""
    count = Counter(map(key, rows))
    return {name: row for row in rows if count[name := key(row)] == 1}
