"""Names of images, classes and files: one form to compare them in, and the form that the disk has.

One text may be written in two ways: ``é`` is one character on most keyboards and two (``e`` and an accent) in the names
that a Mac gives to files. Names are compared, kept and written composed (NFC); files are opened by their own names.

Names of files to be written that would meet are found before the first of them is.
"""
from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

# Windows takes these for devices, whatever suffix they have.
_NUMBERS = (*range(1, 10), '\u00b9', '\u00b2', '\u00b3')
_DEVICES = {'CON', 'PRN', 'AUX', 'NUL', 'CONIN$', 'CONOUT$',
            *(f'{port}{n}' for port in ('COM', 'LPT') for n in _NUMBERS)}


def normal(name: str) -> str:
    """``name`` in the one form in which names are compared: composed (NFC)."""
    return name if name.isascii() else unicodedata.normalize('NFC', name)


def listed_name(name: str) -> str:
    """A file's name as a list or a table gives it, in normal form, with ``/`` where Windows writes a backslash."""
    return normal(name).replace('\\', '/')


def is_utf8(name: str) -> bool:
    """Whether a name can be written to a file: not one of the disk that is no UTF-8, and without half a character."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """``text`` as every terminal, log and file can take it: what is no UTF-8 in a name becomes ``\\udcff``."""
    return text.encode('utf-8', 'backslashreplace').decode()


def real_path(folder: str | os.PathLike[str], name: str) -> Path:
    """Where a file lies whose name the disk may have in another form; ``folder / name`` where there is none.

    It looks for the composed and the decomposed form, so a name may not mix them: :class:`RealNames` finds those, too.

    Args:
        folder: is taken as it is.
        name: below it, with ``/`` between its parts.
    """
    path = Path(folder, name)
    if name.isascii():
        return path
    forms = (path, *(Path(folder, unicodedata.normalize(form, name)) for form in ('NFC', 'NFD')))
    return next((each for each in forms if os.path.lexists(each)), path)


class RealNames:
    """Finds files by name in normal form, with one look at each folder."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def listed(self, folder: Path) -> dict[str, list[str]]:
        """Names on disk by their normal form; nothing of a folder that is not there."""
        if folder not in self._listed:
            found: dict[str, list[str]] = {}
            for name in os.listdir(folder) if folder.is_dir() else ():
                found.setdefault(normal(name), []).append(name)
            self._listed[folder] = found
        return self._listed[folder]

    def find(self, path: Path) -> Path | None:
        """``path`` as the disk has it; None where there is no such file.

        Raises:
            ValueError: two files differ in the form of their names alone.
        """
        folder = path.parent
        names = self.listed(folder).get(normal(path.name))
        if names is None and not str(path).isascii() and folder != path and not folder.is_dir():
            above = self.find(folder)
            if above is None:
                return None
            folder = above
            names = self.listed(folder).get(normal(path.name))
        if names is None:
            return None
        if len(names) > 1:
            raise ValueError(f'{folder}: {len(names)} files are called {normal(path.name)!r}, in different Unicode '
                             'forms (composed and decomposed accents look alike); rename or remove one')
        return folder / names[0]


def merge_forms(names: Iterable[str]) -> list[str]:
    """The names in normal form, those that differed in form alone once, at the place of the first."""
    return list(dict.fromkeys(map(normal, names)))


def stem(name: str) -> str:
    """A listed name without its suffix, folders kept."""
    return PurePosixPath(name).with_suffix('').as_posix()


def folded(name: str) -> str:
    """What file systems that know no capitals, or one form of a letter only, make of a name."""
    return normal(normal(name).casefold())


def folds_names(folder: str | os.PathLike[str]) -> bool:
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
    key = folded if fold else normal
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


def unfit_for_windows(name: str) -> str:
    """Why no file of Windows can have a relative name with ``/`` between its parts; empty where one can."""
    for part in PurePosixPath(name).parts:
        if found := sorted({c for c in part if c in '<>:"|?*\\' or c < ' '}):
            return f'it holds {", ".join(map(repr, found))}'
        if part.endswith((' ', '.')) and part.strip('.'):
            return f'{part!r} ends in a dot or a blank'
        if part.split('.')[0].rstrip(' ').upper() in _DEVICES:
            return f'{part!r} is the name of a device'
    return ''


def check_apart(out: str | os.PathLike[str], image_ids: Iterable[str], suffix: str = '.png') -> None:
    """Call it before images' files ``out/<image id><suffix>`` are written.

    Raises:
        ValueError: naming two images whose files would meet, or one whose file this system (Windows) cannot have.
    """
    image_ids = list(image_ids)
    if os.name == 'nt':
        _check_fit(out, image_ids)
    if pair := meeting((f'{image_id}{suffix}' for image_id in image_ids), folds_names(out)):
        first, second = (name.removesuffix(suffix) for name in pair)
        raise ValueError(f'{out}: the files of the images {first!r} and {second!r} would meet there ({pair[0]} and '
                         f'{pair[1]}); rename one of the images')


def _check_fit(out: str | os.PathLike[str], image_ids: Iterable[str]) -> None:
    for image_id in image_ids:
        if reason := unfit_for_windows(image_id):
            raise ValueError(f'{out}: no file can be written for the image {image_id!r}, since on Windows no file has '
                             f'such a name: {reason}; rename the image, in the list or JSON that names it, too')
