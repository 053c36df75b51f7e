"""A folder of files, whole or not at all."""
from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weclip_sam.io.new_folders import make_folder


@contextmanager
def whole_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a temporary folder beside ``target``; on success it takes the place of ``target``.

    What was there is removed only when the new one is whole. If the block raises, ``target`` stays as it was. The
    temporary folder starts with a dot and ends in ``.tmp``; what a ``kill -9`` left of an earlier one is removed first,
    so nobody else may be filling the same folder.

    Yields:
        The folder to fill. Plain writes will do in it: nobody sees them one by one.

    Raises:
        OSError: naming ``target``, never the temporary folder.
    """
    target = Path(target)
    make_folder(target.parent)
    for stale in target.parent.glob(f'.{target.name}.*.tmp'):
        shutil.rmtree(stale, ignore_errors=True)
    filling, before = (target.with_name(f'.{target.name}.{uuid.uuid4().hex[:8]}.tmp') for _ in range(2))
    try:
        filling.mkdir()
        yield filling
        if target.exists():
            target.rename(before)
        filling.rename(target)
        shutil.rmtree(before, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(filling, ignore_errors=True)
        if before.exists() and not target.exists():
            before.rename(target)
        if isinstance(error, OSError) and error.errno is not None and _is_of(error.filename, filling):
            name = target if error.filename is None else target / Path(os.fsdecode(error.filename)).relative_to(filling)
            raise OSError(error.errno, error.strerror, str(name)) from error
        raise


def _is_of(name: object, folder: Path) -> bool:
    """Whether an error is about a file in a folder, or does not say about which."""
    return name is None or isinstance(name, (str, bytes)) and Path(os.fsdecode(name)).is_relative_to(folder)
