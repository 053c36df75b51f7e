"""Files: whole or not at all when writing, inside their root when reading."""
from __future__ import annotations

import errno
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from weclip_sam.io.new_folders import make_folder

_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, as nearly all file systems have it
_WINDOWS = os.name == 'nt'
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between two tries to change a file that another program has open
_ROOM = 40  # bytes that a temporary name may have, if the final one is shorter
# What is wrong with one file's name or place: the next file may well be written.
_ONE_FILE = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP,
             errno.EACCES, errno.EPERM}


def is_of_one_file(error: BaseException) -> bool:
    """Whether a failed write is the fault of the one file, as of its name, and not of the disk: others may go on."""
    return isinstance(error, OSError) and error.errno in _ONE_FILE


@contextmanager
def atomic_open(path: str | os.PathLike, mode: str = 'wb', sync: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` for writing; on success it becomes ``path`` in one step.

    Readers see the old content or the new, never a part of it. If the block raises, the temporary file is removed and
    ``path`` stays as it was. Missing parent folders are made. The temporary name starts with a dot and ends in
    ``.tmp``, so that what a ``kill -9`` leaves is recognised (see :func:`remove_stale_temporaries`); it is never longer
    than the final name, short ones aside, so whatever can be named can be written.

    Args:
        path: where the file shall be.
        mode: ``'wb'`` or ``'w'`` (UTF-8; what cannot be written so is escaped, as names on disk that are no UTF-8).
        sync: wait until the disk has it, so that it is whole after a power cut, too. False is for thousands of small
            files that are soon made again.

    Raises:
        OSError: naming ``path`` (or the folder that cannot be made), never the temporary file.
    """
    if mode not in ('wb', 'w'):
        raise ValueError(f"atomic_open writes whole files: mode must be 'wb' or 'w', got {mode!r}")
    path = Path(path)
    make_folder(path.parent)
    try:
        handle, temporary = tempfile.mkstemp(prefix=_temporary_prefix(path.name), suffix='.tmp', dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        encoding, errors = ('utf-8', 'backslashreplace') if mode == 'w' else (None, None)
        with os.fdopen(handle, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            # A full disk may show only now; then the old file must survive.
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        move(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # gone already, or the folder has become read-only: the first error counts
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            # A failing write does not say of which file, and a failing move names the temporary one.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def move(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Give a file another name in one step, in the place of whatever has it.

    Raises:
        OSError: naming both.
    """
    patiently(lambda: os.replace(source, target))


def patiently(change: Callable[[], None]) -> None:
    """Move or remove a file. Where it must not be open anywhere (Windows), try for two seconds: a virus scanner or a
    reader may have it for a moment.

    Raises:
        OSError: of the last try.
    """
    for pause in _PAUSES if _WINDOWS else ():
        try:
            return change()
        except PermissionError:
            time.sleep(pause)
    change()


def _temporary_prefix(name: str) -> str:
    """How a temporary name begins: with as much of the final name's end, its suffix at least, as there is room for."""
    room = max(len(os.fsencode(name)), _ROOM) - len('..12345678.tmp')  # what is put around it
    while len(os.fsencode(name)) > room:
        name = name[1:]
    return f'.{name}.'


def _umask() -> int:
    """The process's umask: mkstemp makes private files, but results are for sharing like any other file."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as strict JSON (atomic, indented). Numbers that are not finite become ``null``."""
    with atomic_open(path, 'w') as file:
        json.dump(_plain(value), file, indent=2, allow_nan=False)
        file.write('\n')


def _plain(value: Any) -> Any:
    """``value`` with numpy and torch scalars and arrays as lists and numbers, and without NaN or infinity."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def remove_stale_temporaries(folder: str | os.PathLike, name_pattern: str = '*') -> int:
    """Remove what killed writers of ``folder`` left behind; call it only where no other process is writing.

    Args:
        folder: looked at without its sub-folders; may be missing.
        name_pattern: glob of the final names concerned, e.g. ``'*.pth'``.

    Returns:
        How many files were removed.
    """
    stale = sorted(Path(folder).glob(f'.{name_pattern}.*.tmp'))
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def inside(root: str | os.PathLike, name: str, source: str = 'the file list') -> Path:
    """Join a name that came from a file to its root, refusing whatever would leave the root.

    The check is lexical, so data folders may be symbolic links of the user's own making.

    Args:
        root: the folder.
        name: a relative path with ``/`` between its parts.
        source: where the name was found, for the error.

    Raises:
        ValueError: when the name is empty, absolute, names a drive, contains a NUL, climbs out with ``..``, or is no
            name that a file can have: too long, or not encodable.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    climbs = '..' in posix.parts or '..' in windows.parts
    if not posix.parts or '\0' in name or climbs or posix.is_absolute() or windows.drive or windows.root:
        raise ValueError(f'{source}: {name!r} must be a relative path that stays inside {root}; '
                         'absolute paths and ".." are refused')
    path = Path(root, *posix.parts)
    try:
        longest, total = max(len(os.fsencode(part)) for part in posix.parts), len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ValueError(f'{source}: {name!r} has characters that no file name can have; rename the file') from None
    if longest > _LONGEST_NAME or total > _LONGEST_PATH:
        raise ValueError(f'{source}: {name[:40]!r}... is too long for a file name; a name has at most {_LONGEST_NAME} '
                         f'bytes, a whole path {_LONGEST_PATH}')
    return path


def size_text(count: float) -> str:
    """So many bytes, to three digits: ``11.5 kB``."""
    for unit in ('kB', 'MB', 'GB'):
        count /= 1000
        if count < 999.5:
            return f'{count:.3g} {unit}'
    return f'{count / 1000:.3g} TB'
