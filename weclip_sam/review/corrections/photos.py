"""PNGs of a source that are photos, not labels: as their folder says, or because they show what the photo shows."""
from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from weclip_sam.io.image_files import MAX_PIXELS, ImageReadError, with_image
from weclip_sam.io.images import as_rgb, read_image

# Of two such folders side by side the one holds photos, the other labels: YOLO's, FiftyOne's and ADE20K's layouts.
PHOTO_FOLDERS, LABEL_FOLDERS = ('images', 'data'), ('masks', 'labels', 'annotations')


def lying_with_photos(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The files below a folder of photos that has a folder of labels beside it, by name, with these two folders.

    Args:
        names: of all files of a source, ``/`` between the parts.
    """
    paths = [(name, PurePosixPath(name).parts[:-1]) for name in names]
    beside = {parts[:depth]: '/'.join(parts[:depth + 1]) for _, parts in reversed(paths)
              for depth, part in enumerate(parts) if part.casefold() in LABEL_FOLDERS}
    found = {}
    for name, parts in paths:
        for depth, part in enumerate(parts):  # the outermost such folder decides what is below it
            if part.casefold() in LABEL_FOLDERS:
                break
            if part.casefold() in PHOTO_FOLDERS and parts[:depth] in beside:
                found[name] = '/'.join(parts[:depth + 1]), beside[parts[:depth]]
                break
    return found


def is_same_picture(photo: Path, where: str, content: BytesIO) -> bool:
    """Whether a PNG is a photo: the same file, or one of the same kind of pixels with the same values.

    Args:
        photo: a file.
        where: the PNG's file, or what it is called.
        content: what is in it.
    """
    try:
        if photo.samefile(where):
            return True
    except OSError:  # a member of an archive, or a photo that is gone
        pass
    try:
        if with_image(photo, MAX_PIXELS, _head) != with_image(where, MAX_PIXELS, _head, content=content):
            return False  # most photos are never decoded
        shown = with_image(where, MAX_PIXELS, lambda image: as_rgb(image, where), content=content)
        return np.array_equal(np.asarray(shown), np.asarray(read_image(photo)))
    except ImageReadError:
        return False


def _head(image: Image.Image) -> tuple[str, list[int]]:
    """Mode and sides; these in any order, since one of both files may have been turned as its EXIF says."""
    return image.mode, sorted(image.size)
