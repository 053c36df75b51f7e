"""Folders that are made for results, and go again where a command ends in an error before there are any."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_made: list[list[Path]] = []  # by block of :func:`unused_folders_removed`, the outer ones first


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder with its parents, if it is not there, and remember those that are new.

    Raises:
        OSError: it cannot be made.
    """
    path = Path(path)
    new = [place for place in (path, *path.absolute().parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    finally:  # of a path that cannot be made whole, its beginning may be there
        if _made:
            _made[-1] += [place.absolute() for place in new]
    return path


@contextmanager
def unused_folders_removed() -> Iterator[None]:
    """If the block raises, remove the folders that :func:`make_folder` made in it and that are empty still: whoever
    looks for results is not to find a folder without any. What was there before stays, empty or not."""
    _made.append([])
    try:
        yield
    except BaseException:
        for folder in sorted(set(_made[-1]), key=lambda each: len(each.parts), reverse=True):
            with suppress(OSError):  # holds something, or was never made
                folder.rmdir()
        raise
    finally:
        made = _made.pop()
        if _made:
            _made[-1] += made
