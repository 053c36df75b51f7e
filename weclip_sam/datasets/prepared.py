"""What the prepare tools made in a data folder, and of what: so that nothing stays in use when its source has changed.

``prepared.json`` in the folder has an entry for each prepared file or folder: ``tool``, the command that made it;
``made_of``, size, time and digest of every source; and facts of its own, such as the classes that label numbers mean.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from weclip_sam.commands import tool
from weclip_sam.io.files import write_json
from weclip_sam.io.text import read_json

RECORD = 'prepared.json'
_CHUNK = 1 << 20


class Prepared:
    """The entries of ``prepared.json``; a folder without one has none.

    Args:
        root: the data folder.

    Raises:
        ValueError: naming the file, when it is no such record.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.path = self.root / RECORD
        self._entries: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            try:
                self._entries = read_json(self.path)
                if any(len(known) != 3 for entry in self._entries.values() for known in entry['made_of'].values()):
                    raise TypeError
            except (ValueError, TypeError, KeyError, AttributeError):
                raise ValueError(f'{self.path}: not the record of a prepare tool; remove it, and run the tool again '
                                 'with --overwrite') from None

    def get(self, name: str) -> dict[str, Any] | None:
        """The entry of a prepared file or folder, by its path below the data folder."""
        return self._entries.get(name)

    def put(self, name: str, tool: str, sources: Iterable[Path], **facts: Any) -> None:
        """Note what was made, and save. Digests of sources that have not changed since are not taken again."""
        known = (self.get(name) or {}).get('made_of', {})
        made_of = {self._key(path): _identity(path, known.get(self._key(path))) for path in sources}
        entry = dict(facts, tool=tool, made_of=made_of)
        if entry != self.get(name):  # else the folder may be read-only
            self._entries = {**Prepared(self.root)._entries, name: entry}  # another split may be under way
            write_json(self.path, self._entries)

    def changed(self, name: str, sources: Iterable[Path] | None = None) -> list[Path]:
        """The sources whose content is another now. Files that are gone, or were no source, are not compared.

        Args:
            name: of the entry; without one nothing has changed.
            sources: those to look at; None for all.
        """
        known = (self.get(name) or {}).get('made_of', {})
        paths = [self.root / key for key in known] if sources is None else sources
        return [path for path in paths if (was := known.get(self._key(path))) is not None
                and path.is_file() and _identity(path, was)[2] != was[2]]

    def check(self, name: str, sources: Iterable[Path] | None = None,
              instead: str = f', or remove {RECORD} to use it as it is') -> None:
        """Refuse what was made of sources that have changed since.

        Args:
            name, sources: see :meth:`changed`.
            instead: how to use it all the same.

        Raises:
            ValueError: naming both, and the tool to run again.
        """
        changed = self.changed(name, sources)
        if changed:
            more = f' and {len(changed) - 1} more files' if len(changed) > 1 else ''
            raise ValueError(f'{self.root / name}: {changed[0]}{more} changed since it was made; run '
                             f'{self._maker(name)} again{instead}')

    def check_classes(self, name: str, classes: Sequence[str]) -> None:
        """Refuse masks whose label numbers mean other classes.

        Raises:
            ValueError: naming the folder and the first class that differs.
        """
        made_for = (self.get(name) or {}).get('classes')
        if made_for is not None and list(made_for) != list(classes):
            first = next(i for i, (was, now) in enumerate(zip_longest(made_for, classes)) if was != now)
            was, now = (repr(names[first]) if first < len(names) else 'no class' for names in (made_for, classes))
            raise ValueError(f'{self.root / name}: these masks were made for {len(made_for)} classes, but the data set '
                             f'has {len(classes)}: label {first + 1} was {was} and would mean {now}; run '
                             f'{self._maker(name)} again')

    def _maker(self, name: str) -> str:
        """The tool that made an entry, as it is called here: records name it by its file."""
        return tool(Path(self._entries[name]['tool']).stem)

    def _key(self, path: Path) -> str:
        path = Path(os.path.abspath(path))
        root = Path(os.path.abspath(self.root))
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def table_digest(table: Mapping[str, Iterable[str]]) -> str:
    """Of what a label table says, whatever the order and the line ends in which it is written."""
    return _digest([json.dumps(sorted([image, sorted(names)] for image, names in table.items())).encode()])


def lines_digest(lines: Iterable[str]) -> str:
    """Of the lines of a list."""
    return _digest([json.dumps(list(lines)).encode()])


def _identity(path: Path, known: Sequence[Any] | None) -> list[Any]:
    """[size, time, digest]; the file is read only where size or time is not as known."""
    status = path.stat()
    if known is not None and list(known[:2]) == [status.st_size, status.st_mtime_ns]:
        return list(known)
    with open(path, 'rb') as file:
        return [status.st_size, status.st_mtime_ns, _digest(iter(lambda: file.read(_CHUNK), b''))]


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
