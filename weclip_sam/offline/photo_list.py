"""The photos that a command line means, and what their results are called."""
from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from weclip_sam.datasets.readers.folder import IMAGE_DIR, LABEL_FILE
from weclip_sam.engine.start.predictions import HEADER
from weclip_sam.io.folders import Found, find_files
from weclip_sam.io.images import SUFFIXES, is_image_name
from weclip_sam.io.names import folded, meeting, normal


def photo_root(folder: Path) -> Path:
    """Where the photos of a folder lie: of a data set (``labels.csv``, ``images``, perhaps ``masks``) in ``images``, as
    :class:`FolderReader` looks for them, so that results are called as its images are."""
    inner = folder / IMAGE_DIR
    return inner if (folder / LABEL_FILE).is_file() and inner.is_dir() else folder


def search(arguments: Sequence[str]) -> dict[str, Found]:
    """What the folders among the arguments hold.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a folder without images, or one of results.
    """
    found = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            path = photo_root(path)
            if (path / HEADER).is_file():
                raise ValueError(f'{path}: holds results ({HEADER}), whose PNGs would be taken for photos; give the '
                                 'folder of the photos')
            found[argument] = find_files(path, is_image_name)
            if not found[argument].files:
                told = found[argument].told()
                raise ValueError(f'{path}: no image in this folder (looked for {", ".join(SUFFIXES)})'
                                 + (f'; passed over: {told}' if told else ''))
        elif not os.path.exists(path):
            raise FileNotFoundError(f'{argument}: no such image or folder of images')
    return found


def list_images(arguments: Sequence[str], folders: Mapping[str, Found]) -> list[tuple[Path, str]]:
    """(file, name of its outputs without suffix), sorted within each folder.

    A name is the path inside its folder without suffix; files that would share a name keep their suffix (``a.jpg``,
    ``a.png``), and those that still do are numbered. Names that differ in capitals alone are one name: elsewhere the
    outputs would overwrite each other. ``folders`` is what :func:`search` found.

    Raises:
        ValueError: no names were found for which outputs would not meet.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if argument in folders:
            root = photo_root(path)
            for file in folders[argument].files:
                found.setdefault(file, file.relative_to(root))
        else:  # a file that is no image is recorded with its reason, like any other failure
            found.setdefault(path, Path(path.name))
    plain = Counter(folded(str(relative.with_suffix(''))) for relative in found.values())
    taken = {folded(str(folder)) for relative in found.values() for folder in relative.parents}
    named = []
    for file, relative in found.items():
        name = normal(str(relative.with_suffix('')))
        if plain[folded(name)] > 1:
            name = normal(str(relative))
        numbers, unique = itertools.count(2), name
        while folded(f'{unique}.png') in taken:
            unique = f'{name}_{next(numbers)}'
        taken.add(folded(f'{unique}.png'))
        named.append((file, unique))
    if pair := meeting([f'{name}.png' for _, name in named], fold=True):
        raise ValueError(f'the outputs of two images would meet: {pair[0]} and {pair[1]}; rename one of the images')
    return named


def check_apart(arguments: Sequence[str], out: str, folders: Mapping[str, Found], places: Sequence[str]) -> None:
    """Find out whether a run would overwrite its images, or the next one take its outputs for images.

    Args:
        arguments, folders: as above.
        out: where results go.
        places: the folders below it that they go to.

    Raises:
        ValueError: it would.
    """
    target = Path(out).expanduser().resolve()
    for argument in arguments:
        own = folders[argument].folders if argument in folders else [Path(argument).resolve()]  # links resolved
        if argument in folders and any(target.is_relative_to(place) for place in own):
            raise ValueError(f'--out {out}: lies in the image folder {argument}, so the next run would segment these '
                             'outputs; give a folder outside of it')
        if any(place.is_relative_to(target / kind) for kind in places for place in own):
            raise ValueError(f'--out {out}: {argument} lies where the outputs go and would be overwritten; give '
                             'another folder')
