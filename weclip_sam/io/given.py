"""Whether what a command line names is there; config files aside, which :mod:`weclip_sam.io.config_files` finds."""
from __future__ import annotations

import os
from pathlib import Path

from weclip_sam.checks import suggest_name


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The file of a checkpoint; nothing of it is read.

    Raises:
        FileNotFoundError: no such file (names a similar one in the folder).
        ValueError: it is a folder.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f'{path} is a folder; a checkpoint is a file such as {path}/iter_1000.pth')
    if not path.exists():
        neighbours = [p.name for p in path.parent.glob('*.p*t*')] if path.parent.is_dir() else []
        raise FileNotFoundError(f'{path}: no such checkpoint.{suggest_name(path.name, neighbours)}')
    return path


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
