"""What is wrong with the files and lists of a data set, and what may have been meant."""
from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.io.images import is_image_name, strip_suffix
from weclip_sam.io.names import real_path

MAX_FAULTS = 20  # of a list that are told at once; looking for the name that was meant takes a while for each


class ListError(ValueError):
    """All faults of a list or table at once.

    Attributes:
        faults: a sentence for each.
    """

    @property
    def faults(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return '\n'.join(self.args)


class Faults:
    """Collects ValueErrors, ``with faults: ...`` for each line of a list, so that people need not mend them one by one.

    After ``MAX_FAULTS`` a :class:`ListError` ends it.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, ValueError):
            return False
        self.found.append(str(error))
        if len(self.found) == MAX_FAULTS:
            raise ListError(*self.found, f'Stopped looking after {MAX_FAULTS} faults') from None
        return True

    def check(self) -> None:
        """End here if anything was found.

        Raises:
            ListError: with all of it.
        """
        if self.found:
            raise ListError(*self.found)


class MissingImages(FileNotFoundError):
    """Image files that a list names and that are not there.

    Attributes:
        paths: all of them.
        total: how many images the list has.
    """

    def __init__(self, message: str, paths: Sequence[Path] = (), total: int = 0) -> None:
        super().__init__(message)
        self.paths, self.total = list(paths), total


def find_file(path: Path, what: str, remedy: str) -> Path:
    """Return ``path`` if it exists.

    Raises:
        FileNotFoundError: saying what was looked for, where, what is near, and the remedy.
    """
    if path.exists():
        return path
    if (real := real_path(path.parent, path.name)).exists():
        return real
    near = ''
    if path.parent.is_dir():
        near = nearest(path.name, os.listdir(path.parent))
    where = '' if path.is_absolute() else f' (in {Path.cwd()})'
    raise FileNotFoundError(f'{what} is missing: {path}{where}.{near} {remedy}')


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the file or image that a name may stand for, or an empty string.

    It is the one with another suffix, or none, other capitals, folders or leading zeros, which spreadsheets drop, or
    with something behind it (``a_mask.png``); of several that only have a suffix more, all are named; else
    :func:`suggest_name`'s of the first few thousand: comparing with all of a large set would take minutes.
    """
    known, meant = list(known), _bare(name)
    several = [each for each in known if is_image_name(each) and strip_suffix(each) == name]
    if len(several) > 1:
        return f' It has no suffix, and may be {" or ".join(map(repr, sorted(several)))}: write it with one.'
    longer = re.compile(re.escape(meant) + r'[^\w]|' + re.escape(meant) + '_')
    alike = next((each for each in known if _bare(each) == meant),
                 next((each for each in known if longer.match(_bare(each))), None))
    return f" Did you mean '{alike}'?" if alike is not None else suggest_name(name, itertools.islice(known, 5000))


def _bare(name: str) -> str:
    name = re.sub(r'^(\d+)\.0$', r'\1', strip_suffix(PurePosixPath(name).name))  # numbers become 1.0 in some tables
    return name.casefold().lstrip('0') or name
