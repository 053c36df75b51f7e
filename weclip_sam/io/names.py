"""Names of files to be written that would meet: found before the first of them is."""
from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath


def folded(name: str) -> str:
    """What file systems that know no capitals, or one form of a letter only, make of a name."""
    return unicodedata.normalize('NFC', name).casefold()


def folds_names(folder: str | os.PathLike) -> bool:
    """Whether a folder takes ``a`` and ``A`` for one name; False where nothing can be written anyway."""
    try:
        with tempfile.NamedTemporaryFile(prefix='.a', suffix='.x.tmp', dir=folder) as probe:
            path = Path(probe.name)
            return path.with_name(path.name.upper()).exists()
    except OSError:
        return False


def meeting(files: Iterable[str], fold: bool) -> tuple[str, str] | None:
    """The first two names of which one would overwrite the other, or of which one is a file and the other its folder.

    Args:
        files: relative names with ``/`` between their parts.
        fold: whether names that differ in capitals (or in how an accent is written) are one.
    """
    key = folded if fold else str
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in files:
        path = PurePosixPath(key(name))
        above = [str(each) for each in path.parents[:-1]]
        other = taken.get(str(path)) or folders.get(str(path)) or next((taken[up] for up in above if up in taken), None)
        if other is not None:
            return other, name
        taken[str(path)] = name
        for up in above:
            folders.setdefault(up, name)
    return None


def check_apart(out: str | os.PathLike, image_ids: Iterable[str], suffix: str = '.png') -> None:
    """Call it before images' files ``out/<image id><suffix>`` are written.

    Raises:
        ValueError: naming two images whose files would meet.
    """
    if pair := meeting((f'{image_id}{suffix}' for image_id in image_ids), folds_names(out)):
        first, second = (name.removesuffix(suffix) for name in pair)
        raise ValueError(f'{out}: the files of the images {first!r} and {second!r} would meet there ({pair[0]} and '
                         f'{pair[1]}); rename one of the images')
