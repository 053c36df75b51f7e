"""Label PNGs in folders or zip archives, and the score of one such set against another."""
from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.evaluation.iou import confusion_matrix
from weclip_sam.io.images import decode_labels
from weclip_sam.io.names import normal
from weclip_sam.io.parallel import parallel_map

_LARGEST_MEMBER = 1 << 28  # bytes of one PNG when unpacked; a label map of 10,000 x 10,000 stays below


class LabelStore:
    """The label PNGs below a folder or in a zip archive, by image id (the file name without its suffix).

    Nothing is unpacked to disk. Ids are unique over all sub-folders.

    Args:
        path: a folder or a ``.zip``.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: not a zip, no PNG in it, or two PNGs of one name.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            names = [p.relative_to(self.path).as_posix() for p in self.path.rglob('*') if p.suffix.lower() == '.png']
        elif not self.path.exists():
            neighbours = [p.name for p in self.path.parent.iterdir()] if self.path.parent.is_dir() else []
            raise FileNotFoundError(f'{path}: no such folder or zip archive.{suggest_name(self.path.name, neighbours)}')
        else:
            try:
                self._archive = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile:
                raise ValueError(f'{path}: neither a folder nor a readable zip archive') from None
            names = [name for name in self._archive.namelist() if name.lower().endswith('.png')]
        self._members: dict[str, str] = {}
        for name in sorted(names):
            parts = PurePosixPath(name)
            if parts.name.startswith('.') or '__MACOSX' in parts.parts:
                continue
            image_id = normal(parts.stem)
            if image_id in self._members:
                raise ValueError(f'{path}: two label maps are called {parts.name} ({self._members[image_id]} and '
                                 f'{name}); file names must be unique')
            self._members[image_id] = name
        if not self._members:
            raise ValueError(f'{path}: holds no .png; expected one label PNG per image')

    def __contains__(self, image_id: str) -> bool:
        return normal(image_id) in self._members

    def __len__(self) -> int:
        return len(self._members)

    def ids(self) -> list[str]:
        """All image ids, sorted."""
        return sorted(self._members)

    def where(self, image_id: str) -> str:
        """How to call an image's file in a message."""
        return f'{self.path}/{self._members.get(normal(image_id), image_id + ".png")}'

    def read(self, image_id: str) -> np.ndarray:
        """H W integers.

        Raises:
            ValueError: missing, unreadable, or not a label map (one channel: palette or grey).
        """
        if image_id not in self:
            raise ValueError(f'{self.where(image_id)}: missing; every image needs its label PNG.'
                             f'{suggest_name(image_id, self._members)}')
        name = self.where(image_id)
        packed = None if self._archive is None else _unpack(self._archive, self._members[normal(image_id)], name)
        return decode_labels(name, packed, deep=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # An open archive cannot be shared: another process opens it for itself, once.
        return _open_store, (self.path,)


def _unpack(archive: zipfile.ZipFile, member: str, name: str) -> BytesIO:
    info = archive.getinfo(member)
    if info.file_size > _LARGEST_MEMBER:
        raise ValueError(f'{name}: refused, it unpacks to {info.file_size / 1e6:.0f} MB')
    try:
        return BytesIO(archive.read(info))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:  # damaged, or encrypted
        raise ValueError(f'{name}: cannot be unpacked ({error}); make the archive anew') from None


@lru_cache(maxsize=4)
def _open_store(path: Path) -> LabelStore:
    return LabelStore(path)


def _count(predictions: LabelStore, truths: LabelStore, num_classes: int, image_id: str) -> np.ndarray:
    """The confusion matrix of one image (num_classes x num_classes int64, rows ground truth)."""
    predicted, truth = (torch.from_numpy(store.read(image_id).astype(np.int64)) for store in (predictions, truths))
    return confusion_matrix(predicted, truth, num_classes, name=predictions.where(image_id)).numpy()


def score_label_files(predictions: LabelStore, truths: LabelStore, num_classes: int, ids: Sequence[str] | None = None,
                      workers: int = 1, progress: Callable[[int], None] = lambda done: None) -> Tensor:
    """Sum of the images' confusion matrices.

    Args:
        predictions: every id must be in it; its other files are not looked at.
        truths: 255 is ignored.
        num_classes: labels in all, background included.
        ids: images to score; None for all of ``truths``.
        workers: processes; 1 works in this one.
        progress: called with the number of images done.

    Returns:
        num_classes x num_classes int64, rows ground truth.

    Raises:
        ValueError: a missing file, another size, labels outside the classes; names the file and the rule.
        WorkerError: a process died.
    """
    ids = truths.ids() if ids is None else list(ids)
    missing = [image_id for image_id in ids if image_id not in predictions]
    if missing:
        more = f' ({len(missing)} of {len(ids)} are missing)' if len(missing) > 1 else ''
        raise ValueError(f'{predictions.where(missing[0])}: missing{more}; every ground truth needs its prediction')
    total = np.zeros((num_classes, num_classes), np.int64)
    for counts in parallel_map(partial(_count, predictions, truths, num_classes), ids, len(ids), workers, 'scoring',
                               lambda name, done, total: progress(done), option='--jobs'):
        total += counts
    return torch.from_numpy(total)
