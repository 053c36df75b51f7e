"""Whether what a command line names is there; config files aside, which :mod:`weclip_sam.io.config_files` finds."""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from weclip_sam.checks import suggest_name
from weclip_sam.choices import SAM_FILES, SAMS


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The file of a checkpoint; nothing of it is read.

    Raises:
        FileNotFoundError: no such file (names a similar one in the folder).
        ValueError: it is a folder.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        newest = newest_checkpoint(path)
        raise ValueError(f'{path} is a folder' + ('; a checkpoint is a file such as iter_1000.pth, and none lies in it'
                                                  if newest is None else f'; the checkpoint in it is {newest}'))
    if not path.exists():
        neighbours = [p.name for p in path.parent.glob('*.p*t*')] if path.parent.is_dir() else []
        raise FileNotFoundError(f'{path}: no such checkpoint.{suggest_name(path.name, neighbours)}')
    return path


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the most iterations in a work dir, or None."""
    numbers = {int(match[1]): path for path in folder.glob('iter_*.pth')
               if (match := re.fullmatch(r'iter_(\d+)\.pth', path.name))}
    return numbers[max(numbers)] if numbers else None


def find_file(path: str | os.PathLike, what: str) -> Path:
    """A file that has to be there.

    Args:
        path: of the file.
        what: it is, for the error: ``--classes``.

    Raises:
        FileNotFoundError: there is none (names a similar one in the folder).
        ValueError: it is a folder.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f'{what} {path}: is a folder, expected a file')
    if not path.exists():
        raise FileNotFoundError(f'{what} {path}: no such file.{_near(path)}')
    return path


def find_photos(paths: Iterable[str | os.PathLike]) -> None:
    """Whether photos, and folders of them, are there.

    Raises:
        FileNotFoundError: one is not (names a similar one in the folder).
    """
    for path in map(Path, paths):
        if not os.path.exists(path):
            raise FileNotFoundError(f'{path}: no such image or folder of images.{_near(path)}')


def check_sam(named: str | bool | None, typed: bool = True) -> None:
    """Whether ``--sam`` may be a SAM: a name, or a file.

    Args:
        named: what was given.
        typed: whether on a command line, for the error; else in Python.

    Raises:
        ValueError: no such name, nor one of a file.
    """
    if isinstance(named, str) and named not in SAMS and Path(named).suffix not in SAM_FILES:
        said = f'--sam {named}' if typed else f'sam={named!r}'
        raise ValueError(f'{said}: expected one of {SAMS}, or the file of a SAM ({", ".join(SAM_FILES)}).'
                         f'{suggest_name(named, SAMS)}')


def check_word_or_file(value: str | None, option: str, words: Sequence[str]) -> None:
    """Whether an option is one of some words, a number, or a file that is there.

    Raises:
        ValueError, FileNotFoundError: none of these.
    """
    if value is not None and value.lower() not in words and not value.isdigit() and not Path(value).is_file():
        raise ValueError(f"{option} '{value}': neither {', '.join(words)}, a number nor a file."
                         f'{suggest_name(value, words) or _near(Path(value))}')


def _near(path: Path) -> str:
    try:
        return suggest_name(path.name, os.listdir(path.parent))
    except OSError:
        return ''


def find_folder(path: str | os.PathLike, what: str) -> Path:
    """A folder that has to be there.

    Args:
        path: of the folder.
        what: it is one of, for the error: ``labels``.

    Raises:
        FileNotFoundError: there is none.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f'{path}: no such folder of {what}')
    return Path(path)
