"""Whether a file is still the one that something was made of: size and time first, its content where they differ."""
from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class FileIdentity(NamedTuple):
    """What a file was when something was made of it.

    Attributes:
        bytes: its size.
        time: its modification time in nanoseconds. Touching and copying change it, and mean nothing.
        digest: of its content, see :func:`file_digest`; what counts in the end.
    """

    bytes: int
    time: int
    digest: str

    @classmethod
    def parse(cls, value: Any) -> FileIdentity | None:
        """From JSON; None if it is no identity."""
        if not isinstance(value, (list, tuple)) or [type(each) for each in value] != [int, int, str]:
            return None
        return cls(*value)


def file_digest(path: str | os.PathLike) -> str:
    """16 hexadecimal digits of a file's content."""
    with open(path, 'rb') as file:
        digest = hashlib.blake2b(digest_size=8)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(path: str | os.PathLike, progress: Callable[[int, int], None] = lambda done, total: None) -> str:
    """The SHA-256 of a file's content, as publishers tell it: 64 hexadecimal digits.

    Args:
        path: of the file.
        progress: told of bytes that are read, and of all.
    """
    with open(path, 'rb') as file:
        digest, done, total = hashlib.sha256(), 0, os.fstat(file.fileno()).st_size
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            progress(done, total)
    return digest.hexdigest()


def identify(path: str | os.PathLike) -> FileIdentity:
    """The identity of a file. Take it before the file is used: if it is replaced meanwhile, that shows next time.

    Raises:
        OSError: it is not there or cannot be read.
    """
    status = os.stat(path)
    return FileIdentity(status.st_size, status.st_mtime_ns, file_digest(path))


def recognise(path: str | os.PathLike, known: Sequence[FileIdentity], read: bool = True) -> FileIdentity | None:
    """The identity of a file if its content is one of those that are known; None if it is another one.

    Args:
        path: the file. It is read only where its size is known and its time is not.
        known: what it was, at different times.
        read: False reads no file: of an unknown time and a known size, it is believed to be the same.

    Returns:
        The known identity, with the file's time of now.

    Raises:
        OSError: it is not there or cannot be read.
    """
    status = os.stat(path)
    alike = [each for each in known if each.bytes == status.st_size]
    for each in alike:
        if each.time == status.st_mtime_ns:
            return each
    if not alike:
        return None
    digest = file_digest(path) if read else alike[0].digest
    return next((each._replace(time=status.st_mtime_ns) for each in alike if each.digest == digest), None)


class IdentityNotes:
    """Lines about files, kept beside what was made of them; any number of processes add theirs without a lock.

    Each process appends to a file ``photos-*.jsonl`` of its own. Half a line, which a kill leaves, is no line.

    Args:
        root: the folder.
        kind: what the files are called instead of ``photos``.
    """

    def __init__(self, root: Path, kind: str = 'photos') -> None:
        self.root, self.kind = root, kind
        self._file: tuple[int, Any] | None = None  # (process, open file)

    def read(self) -> Iterable[list[Any]]:
        """All whole lines, each a list."""
        for path in sorted(self.root.glob(f'{self.kind}-*.jsonl')):
            for line in path.read_bytes().split(b'\n')[:-1]:
                with suppress(ValueError, RecursionError):
                    if isinstance(value := json.loads(line), list):
                        yield value

    def add(self, *values: Any) -> None:
        """Add a line.

        Raises:
            OSError: the disk is full or not writable.
        """
        if self._file is None or self._file[0] != os.getpid():
            self._file = os.getpid(), open(self.root / f'{self.kind}-{uuid.uuid4().hex}.jsonl', 'xb', buffering=0)
        self._file[1].write(json.dumps(values, separators=(',', ':')).encode() + b'\n')

    def clear(self) -> None:
        """Remove all lines; call it only where no other process adds any."""
        self.close()
        for path in self.root.glob(f'{self.kind}-*.jsonl'):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """The next line goes to a new file."""
        if self._file is not None:
            self._file[1].close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_file': None}
