"""Zip archives of strangers, read in place: nothing is unpacked to disk, and what cannot be read is told at once."""
from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from weclip_sam.io.folders import find_files, in_clutter
from weclip_sam.io.names import normal

LARGEST_MEMBER = 1 << 28  # bytes of one file when unpacked; a label map of 10,000 x 10,000 stays below
_READ_HERE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_PACKERS = {9: 'Deflate64', 93: 'Zstandard', 95: 'XZ', 96: 'JPEG', 97: 'WavPack', 98: 'PPMd', 99: 'AES encryption'}
_ENCRYPTED = 0x1 | 0x40  # flags of a member


def open_archive(path: Path) -> zipfile.ZipFile:
    """An archive, opened.

    Raises:
        ValueError: not a readable zip.
        OSError: the file cannot be read.
    """
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f'{path}: neither a folder nor a readable zip archive ({error})') from None
    except zipfile.BadZipFile:
        raise ValueError(f'{path}: neither a folder nor a readable zip archive') from None
    except Exception as error:  # zipfile raises nearly any type on a broken table of members
        raise ValueError(f'{path}: neither a folder nor a readable zip archive ({error})') from None


def check_packing(archive: zipfile.ZipFile, members: Sequence[str], name: str) -> None:
    """Find members that cannot be unpacked here before any work is done on the others.

    Raises:
        ValueError: naming the first, and how to pack it.
    """
    for member in members:
        info = archive.getinfo(member)
        if info.compress_type not in _READ_HERE:
            how = f'packed with {_PACKERS.get(info.compress_type, f"method {info.compress_type}")}'
        elif info.flag_bits & _ENCRYPTED:
            how = 'encrypted'
        else:
            continue
        raise ValueError(f'{name}/{member}: cannot be unpacked ({how}); make the archive anew with the ordinary '
                         'method, Deflate, and without a password, or unpack it and give the folder')


def unpack(archive: zipfile.ZipFile, member: str, name: str) -> BytesIO:
    """The content of a member.

    Raises:
        ValueError: damaged, or larger than ``LARGEST_MEMBER`` when unpacked; ``name`` says which.
    """
    info = archive.getinfo(member)
    if info.file_size > LARGEST_MEMBER:
        raise ValueError(f'{name}: refused, it unpacks to {info.file_size / 1e6:.0f} MB')
    try:
        return BytesIO(archive.read(info))
    except Exception as error:  # damaged: zipfile, zlib, bz2 and lzma raise nearly any type
        raise ValueError(f'{name}: cannot be unpacked ({error}); make the archive anew') from None


class Files:
    """The files of one kind below a folder or in a zip archive, clutter aside.

    Args:
        path: a folder or a ``.zip``.
        wanted: whether a file of this name is looked for.

    Attributes:
        names: their paths below it, ``/`` between the parts, in normal form, sorted.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: not a zip, one with members that cannot be unpacked here, or a folder that cannot be opened.
    """

    def __init__(self, path: str | os.PathLike, wanted: Callable[[str], bool]) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            found = find_files(self.path, wanted)
            for place, reason in found.unreadable.items():
                raise ValueError(f'{place}: cannot be opened ({reason}); make it readable, or move it out of {path}')
            members = [file.relative_to(self.path).as_posix() for file in found.files]
        elif not self.path.exists():
            raise FileNotFoundError(f'{path}: no such file or folder')
        else:
            self._archive = open_archive(self.path)
            members = [name for name in self._archive.namelist() if not name.endswith('/') and wanted(name)
                       and not in_clutter(name.replace('\\', '/'))]
            check_packing(self._archive, members, str(path))
        self._members = {normal(member.replace('\\', '/') if self._archive else member): member
                         for member in sorted(members)}
        self.names = tuple(sorted(self._members))

    def where(self, name: str) -> str:
        """How to call a file in a message."""
        return f'{self.path}/{self._members[name]}'

    def read(self, name: str) -> BytesIO:
        """Its content.

        Raises:
            ValueError: damaged, or too large; naming it.
            OSError: it cannot be read.
        """
        member = self._members[name]
        if self._archive is not None:
            return unpack(self._archive, member, self.where(name))
        return BytesIO((self.path / member).read_bytes())
