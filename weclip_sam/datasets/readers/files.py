"""Where the files of a data set's images and masks are, whatever form and suffix their names have on disk."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from weclip_sam.datasets.readers.base import Record
from weclip_sam.datasets.readers.faults import Faults, MissingImages, nearest
from weclip_sam.io.folders import is_clutter
from weclip_sam.io.images import is_image_name, strip_suffix
from weclip_sam.io.names import RealNames, normal


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
