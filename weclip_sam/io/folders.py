"""Searching a folder with its sub-folders: what people put there, and not what their programs left beside it."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# What macOS, Windows, Synology's and Windows' servers leave in folders and archives, in lower case.
_CLUTTER = {'__macosx', 'thumbs.db', 'ehthumbs.db', 'desktop.ini', '@eadir', '$recycle.bin',
            'system volume information'}
_SHOWN = 5  # suffixes and folders that are named
_HIDDEN, _OTHER = 'hidden or of the system', 'other kinds of files'
_BROKEN, _TWICE = 'broken links', 'links back to what is searched anyway'


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is passed over: hidden ones, and those that systems and editors leave."""
    return name.startswith('.') or name.lower() in _CLUTTER


def in_clutter(path: str) -> bool:
    """Whether any part of a relative path is clutter."""
    return any(is_clutter(part) for part in PurePosixPath(path).parts if part not in ('.', '..'))


@dataclass
class Found:
    """What a search found.

    Attributes:
        files: the wanted ones, sorted, each below the folder that was searched, whatever links lead to it.
        folders: where they lie really: the folder that was searched, and what links in it lead to.
        passed_over: how many others there were, by why.
        suffixes: how many files of other kinds, by suffix in lower case.
        unreadable: folders that could not be opened, with the reason.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    suffixes: Counter[str] = field(default_factory=Counter)
    unreadable: dict[Path, str] = field(default_factory=dict)

    def told(self) -> str:
        """One line of what was passed over, or nothing."""
        parts = [f'{why} {self.passed_over[why]}' + (f' ({_most(self.suffixes)})' if why == _OTHER else '')
                 for why in (_OTHER, _HIDDEN, _BROKEN, _TWICE) if self.passed_over[why]]
        if self.unreadable:
            parts.append('folders that cannot be opened ' + ', '.join(
                f'{path} ({reason})' for path, reason in sorted(self.unreadable.items())[:_SHOWN])
                + (', ...' if len(self.unreadable) > _SHOWN else ''))
        return ', '.join(parts)

    def add(self, other: Found) -> None:
        """Count what another search found, too."""
        self.files = sorted({*self.files, *other.files})
        self.folders += other.folders
        self.passed_over.update(other.passed_over)
        self.suffixes.update(other.suffixes)
        self.unreadable.update(other.unreadable)


def _most(counts: Counter[str]) -> str:
    shown = sorted(counts, key=lambda suffix: (-counts[suffix], suffix))
    return ', '.join(f'{counts[suffix]} {suffix or "without suffix"}' for suffix in shown[:_SHOWN]) + (
        ', ...' if len(shown) > _SHOWN else '')


def find_files(folder: str | os.PathLike[str], wanted: Callable[[str], bool], deep: bool = True,
               leave: Callable[[str], bool] = lambda path: False) -> Found:
    """Search a folder with its sub-folders.

    Linked folders are searched, too, each place once: where one leads back into what has been searched, or to a folder
    that holds it, it is counted instead. What really lies in the folder comes before what is linked. Clutter
    (:func:`is_clutter`) is passed over with all that is in it.

    Args:
        folder: may itself be a link, or have a hidden name.
        wanted: whether a file of this name is looked for.
        deep: whether to search sub-folders.
        leave: whether the file or folder of this path, which begins with ``folder``, is left out without being counted.

    Raises:
        OSError: the folder itself cannot be read.
    """
    found, seen = Found(), set[tuple[int, int]]()
    links = [Path(folder)]
    for place in links:  # grows while links are found
        real = place.resolve()
        if any(done.is_relative_to(real) for done in found.folders):
            found.passed_over[_TWICE] += 1
        else:
            before = len(seen)
            links += sorted(_search(place, wanted, deep, leave, found, seen))
            found.folders += [real] if len(seen) > before else []
    found.files.sort()
    return found


def _search(top: Path, wanted: Callable[[str], bool], deep: bool, leave: Callable[[str], bool], found: Found,
            seen: set[tuple[int, int]]) -> list[Path]:
    """Search what really lies in a folder; returns the linked folders in it."""
    links: list[Path] = []
    waiting = [top]
    while waiting:
        place = waiting.pop()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:  # a link led here before
                found.passed_over[_TWICE] += 1
                continue
            with os.scandir(place) as listing:
                entries = list(listing)
        except OSError as error:
            if not seen:
                raise
            found.unreadable[place] = error.strerror or str(error)
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = Path(entry.path)
            if leave(str(path)):
                continue
            if is_clutter(entry.name):
                found.passed_over[_HIDDEN] += 1
            elif _is_dir(entry):
                if deep:
                    (links if entry.is_symlink() else waiting).append(path)
            elif not os.path.exists(path):
                found.passed_over[_BROKEN] += 1
            elif wanted(entry.name) and os.path.isfile(path):
                found.files.append(path)
            else:
                found.passed_over[_OTHER] += 1
                found.suffixes[path.suffix.lower()] += 1
    return links


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or where nobody may look
        return False
