"""Lists of a data set: the images of a split, and the classes that a table names for them."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from weclip_sam.datasets.readers.faults import Faults
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.io.files import inside
from weclip_sam.io.images import is_image_name, strip_suffix
from weclip_sam.io.names import RealNames, listed_name, real_path
from weclip_sam.io.text import read_lines


def class_positions(table: Mapping[str, Sequence[str]], names: Iterable[str], vocabulary: Vocabulary, source: str,
                    faults: Faults) -> dict[str, tuple[int, ...]]:
    """The classes of the named images as ascending positions; an unknown one is one fault, whatever images have it."""
    positions = {name: index for index, name in enumerate(vocabulary.classes)}
    unknown: set[str] = set()
    found = {}
    for name in names:
        for each in table[name]:
            if each not in positions and each not in unknown:
                unknown.add(each)
                with faults:
                    vocabulary.index(each, f'{source}, image {name!r}')
        found[name] = tuple(sorted(positions[each] for each in table[name] if each in positions))
    return found


def image_name(line: str) -> str:
    """The id in a line of a list, see :func:`read_list`."""
    return strip_suffix(PurePosixPath(listed_name(line.split()[0])).name)


class _ImageNames:
    """Names without suffix of the images below a folder; each folder is looked at once, when first asked for."""

    def __init__(self, root: Path | None) -> None:
        self._root, self._real, self._names = root, RealNames(), dict[Path, set[str]]()

    def __contains__(self, name: object) -> bool:
        if self._root is None or not isinstance(name, str):
            return False
        try:
            path = inside(self._root, name, str(self._root))
            if path.parent not in self._names:
                self._names[path.parent] = {strip_suffix(file) for file in self._real.listed(
                    real_path(self._root, path.parent.relative_to(self._root).as_posix())) if is_image_name(file)}
        except (ValueError, OSError):  # no name that a file can have
            return False
        return path.name in self._names[path.parent]


def read_list(path: Path, images: Path | None = None) -> list[str]:
    """Image names of a split file, one a line.

    Of lines such as ``/JPEGImages/a.jpg /SegmentationClassAug/a.png`` (as some SBD lists have) and of names with an
    extension only the stem of the first word counts.

    Args:
        path: the list.
        images: folder of the images; a line with a blank or a folder that is, as it stands, the name of
            an image there means that image.

    Raises:
        ValueError: on undecodable text, no name at all, a repeated name, or a line that could mean two images.
    """
    lines = read_lines(path)
    names = list(map(image_name, lines))
    there = _ImageNames(images)
    for place, line in enumerate(lines if images is not None else ()):
        whole = strip_suffix(listed_name(line))
        if whole != names[place] and whole in there:
            if names[place] in there:
                raise ValueError(f'{path}: the line {line!r} could mean the image {whole!r} or {names[place]!r} in '
                                 f'{images}; rename one of them')
            names[place] = whole
    repeated = len(names) - len(set(names))
    if not names or repeated:
        raise ValueError(f'{path}: ' + (f'{repeated} names occur twice' if repeated else 'names no image'))
    return names
