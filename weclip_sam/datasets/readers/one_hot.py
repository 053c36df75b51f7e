"""``cls_labels.npy``: image labels as the field's repositories keep them, a dict of one row of 0 and 1 an image."""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from weclip_sam.datasets.readers.faults import Faults, nearest
from weclip_sam.io.folders import is_clutter
from weclip_sam.io.images import is_image_name, strip_suffix
from weclip_sam.io.names import listed_name, stem
from weclip_sam.io.object_arrays import read_rows

ONE_HOT_FILES = ('cls_labels.npy', 'cls_labels_onehot.npy')


def is_one_hot(labels: str) -> bool:
    """Whether a label file is one of these, by its suffix."""
    return labels.lower().endswith('.npy')


def find_one_hot(root: Path) -> str | None:
    """The name of such a file in a folder, if there is one."""
    return next((name for name in ONE_HOT_FILES if (root / name).is_file()), None)


class OneHotLabels:
    """Rows of 0 and 1 by image.

    Images are called by their ids, with or without a suffix, or by a number that the digits of the id make:
    2007000032 is ``2007_000032``, and 9 is ``COCO_train2014_000000000009``.

    Args:
        path: the file.
        classes: the class names, in the order of the columns.

    Raises:
        ValueError: naming the file: not one of these, another number of columns, or other values than 0 and 1.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        self._rows: dict[str | int, np.ndarray] = {}
        for key, row in read_rows(path).items():
            if len(row) != len(classes):
                more = '; if the first column is the background, take it out' if len(row) == len(classes) + 1 else ''
                raise ValueError(f'{path}, image {key!r:.60}: {len(row)} columns, but there are {len(classes)} '
                                 f'classes: one column each, in the order of the classes{more}')
            if not np.isin(row, (0, 1)).all():
                raise ValueError(f'{path}, image {key!r:.60}: expected 0 and 1, got {row[~np.isin(row, (0, 1))][0]}')
            name = strip_suffix(listed_name(key)) if isinstance(key, str) else key
            if name in self._rows:
                raise ValueError(f'{path}: image {name!r} is listed twice')
            self._rows[name] = row

    @property
    def names(self) -> list[str]:
        """The ids, where images are called by ids and not by numbers."""
        return [key for key in self._rows if isinstance(key, str)]

    def find(self, image_id: str) -> tuple[int, ...] | None:
        """Positions of an image's classes, ascending; None where the file does not have the image."""
        name = image_id.rsplit('/', 1)[-1]
        digits, last = re.sub('[^0-9]', '', name), re.search('[0-9]+$', name)
        keys: list[str | int] = [image_id, name]
        keys += [int(each) for each in (digits, last.group() if last else '') if each and len(each) < 20]
        row = next((self._rows[key] for key in keys if key in self._rows), None)
        return None if row is None else tuple(np.flatnonzero(row).tolist())

    def of(self, image_ids: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Positions of the classes of all these images.

        Raises:
            ListError: naming those that the file does not have.
        """
        faults, found = Faults(), {}
        for image_id in image_ids:
            positions = self.find(image_id)
            with faults:
                if positions is None:
                    raise ValueError(f'{self.path}: no row for image {image_id!r}.{nearest(image_id, self.names)}')
                found[image_id] = positions
        faults.check()
        return found

    def pictures(self, files: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
        """Of the files of a folder, the images that have a row, with the positions of their classes."""
        found = {name: self.find(stem(name)) for name in files if is_image_name(name) and not is_clutter(name)}
        return {name: positions for name, positions in found.items() if positions is not None}
