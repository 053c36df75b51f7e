"""What differs between data sets: which images there are, what is in them, and where to find a mask."""
from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.io.files import inside
from weclip_sam.io.folders import is_clutter
from weclip_sam.io.images import (
    MAX_PIXELS,
    fit_within,
    image_size,
    is_image_name,
    read_image,
    read_labels,
    strip_suffix,
)
from weclip_sam.io.names import RealNames, listed_name, normal, real_path
from weclip_sam.io.text import read_lines

MAX_FAULTS = 20  # of a list that are told at once; looking for the name that was meant takes a while for each

@dataclass(frozen=True)
class Record:
    """One image of a data set.

    Attributes:
        image_id: its name, unique in the data set; seeds, masks and reports are filed under it.
        classes: positions of the classes named for it, ascending; empty means background only.
        image_path: its file, or None for images made in memory.
        mask_path: its ground-truth PNG, which only evaluation opens, or None.
    """

    image_id: str
    classes: tuple[int, ...]
    image_path: Path | None = None
    mask_path: Path | None = None


class Reader:
    """Lists the images of one kind of data set; :class:`ImageLabelDataset` does the rest.

    A subclass fills ``records`` and ``vocabulary``. One whose images are no files overrides :meth:`load_image` and
    :meth:`load_ground_truth`, which get a position in ``records`` and may make their result on the spot; nothing
    is kept between calls.

    Args:
        vocabulary: the names.
        records: the images; they are sorted by ``image_id``.
        max_pixels: larger images are refused.
        max_side: images with a longer side are shrunk to it when they are read, and their ground truth with them:
            what everything else then takes for the original. None keeps all pixels.

    Raises:
        ValueError: when two images share an id, or there are none.
    """

    notes: Sequence[str] = ()  # what of its files it passed over; tools/check_data.py tells

    def __init__(self, vocabulary: Vocabulary, records: Sequence[Record], max_pixels: int = MAX_PIXELS,
                 max_side: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.records = sorted(records, key=lambda record: record.image_id)
        self.max_pixels = max_pixels
        self.max_side = max_side
        if max_side is not None and max_side < 1:
            raise ValueError(f'max_side: expected a positive number of pixels or None, got {max_side}')
        for first, second in itertools.pairwise(self.records):
            if first.image_id == second.image_id:
                raise ValueError(f'two images share the id {first.image_id!r}: {first.image_path} and '
                                 f'{second.image_path}; rename one')
        if not self.records:
            raise ValueError(f'{type(self).__name__}: no image is listed')

    @property
    def image_folder(self) -> str | None:
        """Where the image files lie, links resolved: what tells two sets with the same names apart.

        None for images made in memory. The parts of an image's id are taken off its path, so that it does not matter
        which images are listed.
        """
        record = self.records[0]
        if record.image_path is None:
            return None
        folders = record.image_path.parents
        return str(folders[min(len(PurePosixPath(record.image_id).parts), len(folders)) - 1].resolve())

    def load_image(self, index: int) -> Image.Image:
        """The image as PIL RGB.

        Raises:
            ImageReadError: naming the file, when it cannot be used.
        """
        path = self.records[index].image_path
        if path is None:
            raise NotImplementedError(f'{type(self).__name__} has no image files and must override load_image')
        return read_image(path, self.max_pixels, self.max_side)

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of :meth:`load_image`'s result, from the header of the file alone where there is one."""
        path = self.records[index].image_path
        if path is None:
            return self.load_image(index).size[::-1]
        return fit_within(image_size(path, self.max_pixels), self.max_side)

    def load_ground_truth(self, index: int) -> np.ndarray:
        """The ground truth, H W uint8 at the size of the image; called for evaluation only.

        Raises:
            ValueError: naming the file, when there is none or it has values outside the classes.
        """
        record = self.records[index]
        if record.mask_path is None:
            raise ValueError(f'{record.image_id}: there is no ground-truth mask; set with_masks=False')
        labels = read_labels(record.mask_path, self.vocabulary.num_classes, max_pixels=self.max_pixels)
        height, width = fit_within(labels.shape, self.max_side)
        if (height, width) != labels.shape:
            labels = np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
        return labels

    def check_masks(self) -> None:
        """Called once before masks are wanted: find out early, and without opening any, whether all are there.

        Raises:
            FileNotFoundError: naming the first missing masks.
        """
        missing = [record for record in self.records
                   if record.mask_path is None or not os.path.isfile(record.mask_path)]  # or no file can be called so
        if missing:
            shown = ', '.join(str(record.mask_path or record.image_id) for record in missing[:3])
            first = missing[0].mask_path
            near = '' if first is None or not first.parent.is_dir() else nearest(first.name, os.listdir(first.parent))
            raise FileNotFoundError(f'{len(missing)} of {len(self.records)} ground-truth masks are missing, for '
                                    f'example {shown}.{near} Evaluation needs them all (or set with_masks=False)')


class ListError(ValueError):
    """All faults of a list or table at once.

    Attributes:
        faults: a sentence for each.
    """

    @property
    def faults(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return '\n'.join(self.args)


class Faults:
    """Collects ValueErrors, ``with faults: ...`` for each line of a list, so that people need not mend them one by one.

    After ``MAX_FAULTS`` a :class:`ListError` ends it.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, ValueError):
            return False
        self.found.append(str(error))
        if len(self.found) == MAX_FAULTS:
            raise ListError(*self.found, f'Stopped looking after {MAX_FAULTS} faults') from None
        return True

    def check(self) -> None:
        """End here if anything was found.

        Raises:
            ListError: with all of it.
        """
        if self.found:
            raise ListError(*self.found)


class MissingImages(FileNotFoundError):
    """Image files that a list names and that are not there.

    Attributes:
        paths: all of them.
        total: how many images the list has.
    """

    def __init__(self, message: str, paths: Sequence[Path] = (), total: int = 0) -> None:
        super().__init__(message)
        self.paths, self.total = list(paths), total


def find_file(path: Path, what: str, remedy: str) -> Path:
    """Return ``path`` if it exists.

    Raises:
        FileNotFoundError: saying what was looked for, where, what is near, and the remedy.
    """
    if path.exists():
        return path
    if (real := real_path(path.parent, path.name)).exists():
        return real
    near = ''
    if path.parent.is_dir():
        near = nearest(path.name, os.listdir(path.parent))
    raise FileNotFoundError(f'{what} is missing: {path}.{near} {remedy}')


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the file or image that a name may stand for, or an empty string.

    It is the one with another suffix, or none, other capitals, folders or leading zeros, which spreadsheets drop, or
    with something behind it (``a_mask.png``); else :func:`suggest_name`'s of the first few thousand: comparing with all
    of a large set would take minutes.
    """
    known, meant = list(known), _bare(name)
    longer = re.compile(re.escape(meant) + r'[^\w]|' + re.escape(meant) + '_')
    alike = next((each for each in known if _bare(each) == meant),
                 next((each for each in known if longer.match(_bare(each))), None))
    return f" Did you mean '{alike}'?" if alike is not None else suggest_name(name, itertools.islice(known, 5000))


def _bare(name: str) -> str:
    name = re.sub(r'^(\d+)\.0$', r'\1', strip_suffix(PurePosixPath(name).name))  # numbers become 1.0 in some tables
    return name.casefold().lstrip('0') or name


def locate_files(records: Sequence[Record], remedy: str) -> list[Record]:
    """The records with the names that their files have on disk, where Unicode has several forms of one name.

    One look at each folder instead of one at each file; masks are looked for only where their names could differ.

    Raises:
        MissingImages: with the number of image files that are missing, an example, what is near, and the remedy.
        ValueError: two files are called the same in different forms.
    """
    names = RealNames()
    images = [None if record.image_path is None else names.find(record.image_path) for record in records]
    missing = [record.image_path for record, path in zip(records, images, strict=True)
               if record.image_path is not None and path is None]
    if missing:
        first = missing[0]
        place = next((folder for folder in first.parents if folder.is_dir()), first.parent)
        raise MissingImages(f'{len(missing)} of {len(records)} images are missing, for example {first}.'
                            f'{nearest(first.name, names.listed(place))} {remedy}', missing, len(records))
    masks = [record.mask_path if record.mask_path is None or record.image_id.isascii()
             else names.find(record.mask_path) or record.mask_path for record in records]
    return [replace(record, image_path=image, mask_path=mask)
            for record, image, mask in zip(records, images, masks, strict=True)]


def image_paths(folder: Path, names: Sequence[str]) -> list[Path]:
    """The image file of each name, whatever its suffix: ``.jpg`` if there is one, else any of an image.

    Args:
        folder: holds them all; looked at once.
        names: without suffix.

    Returns:
        A path for each name, as the disk has it in either Unicode form; where there is no file, that of the JPEG that
        is missing. Of two files that differ in form alone it is one; :func:`locate_files` refuses them.

    Raises:
        ListError: two files, neither of them ``.jpg``, have the same name but for the suffix.
    """
    there, faults, paths = RealNames().listed(folder), Faults(), []
    others: dict[str, list[str]] = {}
    for file in sorted(there):
        if is_image_name(file) and not is_clutter(file):
            others.setdefault(strip_suffix(file), []).append(file)
    for name in map(normal, names):
        files = [f'{name}.jpg'] if f'{name}.jpg' in there else others.get(name, [f'{name}.jpg'])
        with faults:
            if len(files) > 1:
                raise ValueError(f'{folder}: image {name!r} may be {" or ".join(files)}; rename or remove one of them')
        paths.append(folder / there.get(files[0], files)[0])
    faults.check()
    return paths


def png_paths(folder: Path, image_ids: Sequence[str]) -> list[Path]:
    """``folder/<id>.png`` for each id, or the file with another spelling of it, as ``.PNG``, if only that is there.

    Files and folders may have either Unicode form. Each folder is looked at once; no file is opened, and none need be
    there.
    """
    real = RealNames()
    there: dict[Path, tuple[Path, dict[str, str]]] = {}
    paths = []
    for image_id in image_ids:
        path = folder / f'{image_id}.png'
        if path.parent not in there:
            place = path.parent if path.parent.is_dir() else real.find(path.parent) or path.parent
            files = {file: forms[0] for file, forms in real.listed(place).items() if file.lower().endswith('.png')}
            spelled = {f'{file[:-4]}.png': files[file] for file in sorted(files, reverse=True)}
            there[path.parent] = place, spelled | {file: own for file, own in files.items() if file.endswith('.png')}
        place, spelled = there[path.parent]
        paths.append(place / spelled.get(normal(path.name), path.name))
    return paths


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
