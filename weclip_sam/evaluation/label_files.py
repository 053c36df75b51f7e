"""Label PNGs in folders or zip archives, and the score of one such set against another."""
from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.evaluation.iou import confusion_matrix
from weclip_sam.evaluation.palettes import Colours, colours_of
from weclip_sam.evaluation.truth import TruthCheck, TruthRecord, compare_truth
from weclip_sam.io.archives import check_packing, open_archive, unpack
from weclip_sam.io.folders import find_files, in_clutter
from weclip_sam.io.images import decode_labels, label_palette
from weclip_sam.io.names import normal
from weclip_sam.io.parallel import parallel_map
from weclip_sam.structures import IGNORE_LABEL


class LabelStore:
    """The label PNGs below a folder or in a zip archive, by image id (the file name without its suffix).

    Nothing is unpacked to disk. Ids are unique over all sub-folders, linked ones included; what systems and editors
    leave (``__MACOSX``, ``.ipynb_checkpoints``, ``._a.png``) is passed over.

    Args:
        path: a folder or a ``.zip``.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: not a zip, or one with members that cannot be unpacked here; no PNG in it, two PNGs of one name, or
            a sub-folder that cannot be opened.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            names = _search(self.path)
        elif not self.path.exists():
            neighbours = [p.name for p in self.path.parent.iterdir()] if self.path.parent.is_dir() else []
            raise FileNotFoundError(f'{path}: no such folder or zip archive.{suggest_name(self.path.name, neighbours)}')
        else:
            self._archive = open_archive(self.path)
            names = [name for name in self._archive.namelist() if name.lower().endswith('.png')]
        self._members: dict[str, str] = {}
        for name in sorted(names):
            parts = PurePosixPath(name.replace('\\', '/') if self._archive is not None else name)
            if in_clutter(str(parts)):
                continue
            image_id = normal(parts.stem)
            if image_id in self._members:
                raise ValueError(f'{path}: two label maps are called {parts.name} ({self._members[image_id]} and '
                                 f'{name}); file names must be unique')
            self._members[image_id] = name
        if not self._members:
            raise ValueError(f'{path}: holds no .png; expected one label PNG per image')
        if self._archive is not None:
            check_packing(self._archive, list(self._members.values()), str(path))

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
        packed = None if self._archive is None else unpack(self._archive, self._members[normal(image_id)], name)
        return decode_labels(name, packed, deep=True)

    def colours(self, image_id: str, labels: np.ndarray) -> dict[int, tuple[int, int, int]]:
        """The colours of an image's ``labels``, as :meth:`read` gave them, by number; none of a grey one."""
        name = self.where(image_id)
        packed = None if self._archive is None else unpack(self._archive, self._members[normal(image_id)], name)
        return colours_of(labels, label_palette(name, packed))

    def __reduce__(self) -> tuple[Any, ...]:
        # An open archive cannot be shared: another process opens it for itself, once.
        return _open_store, (self.path,)


def _search(folder: Path) -> list[str]:
    """The PNGs below a folder, relative to it."""
    found = find_files(folder, lambda name: name.lower().endswith('.png'))
    for place, reason in found.unreadable.items():
        raise ValueError(f'{place}: cannot be opened ({reason}), so nobody knows which label maps are in it; make it '
                         f'readable, or move it out of {folder}')
    return [path.relative_to(folder).as_posix() for path in found.files]


@lru_cache(maxsize=4)
def _open_store(path: Path) -> LabelStore:
    return LabelStore(path)


def _count(predictions: LabelStore, truths: LabelStore, num_classes: int, image_id: str
           ) -> tuple[np.ndarray, int, dict[int, tuple[int, int, int]]]:
    """One image's confusion matrix (num_classes x num_classes int64, rows ground truth), ignored pixels, and colours
    of its ground truth."""
    labels = (store.read(image_id) for store in (predictions, truths))
    predicted, truth = (torch.from_numpy(one if one.dtype == np.uint8 else one.astype(np.int64)) for one in labels)
    matrix = confusion_matrix(predicted, truth, num_classes, name=predictions.where(image_id)).numpy()
    left_out = truth.numel() - int(matrix.sum())  # every other pixel was counted
    held = np.append(np.flatnonzero(matrix.sum(1)), [IGNORE_LABEL] * (left_out > 0))
    return matrix, left_out, truths.colours(image_id, held)


def score_label_files(predictions: LabelStore, truths: LabelStore, num_classes: int, ids: Sequence[str] | None = None,
                      workers: int = 1, progress: Callable[[int], None] = lambda done: None,
                      counted: Callable[[str, np.ndarray], None] = lambda image_id, matrix: None,
                      ignored: Callable[[int], None] = lambda pixels: None,
                      coloured: Callable[[str, Colours], None] = lambda name, colours: None) -> Tensor:
    """Sum of the images' confusion matrices.

    Args:
        predictions: every id must be in it; its other files are not looked at.
        truths: 255 is ignored.
        num_classes: labels in all, background included.
        ids: images to score; None for all of ``truths``.
        workers: processes; 1 works in this one.
        progress: called with the number of images done.
        counted: called with every image's id and matrix.
        ignored: called with the number of every image's pixels that are 255 in its ground truth.
        coloured: called with every ground truth's file and the colours of its labels: :meth:`PaletteCheck.add`.

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
        raise ValueError(f'{predictions.where(missing[0])}: missing{more}; every ground truth needs its prediction.'
                         f'{suggest_name(missing[0], predictions.ids())}')
    total = np.zeros((num_classes, num_classes), np.int64)
    matrices = parallel_map(partial(_count, predictions, truths, num_classes), ids, len(ids), workers, 'scoring',
                            lambda name, done, total: progress(done), option='--jobs')
    for image_id, (counts, left_out, colours) in zip(ids, matrices, strict=True):
        counted(image_id, counts)
        ignored(left_out)
        coloured(truths.where(image_id), colours)
        total += counts
    return torch.from_numpy(total)


class NamedTruths:
    """Ground truth that is compared with a table of names while it is scored: the ``counted`` of the above.

    Args:
        table: class names by image (:func:`read_label_table`); images are found by their names without suffix.
        classes: names of all labels, background first.
        source: of the table, for errors.

    Raises:
        ValueError: on a name that is no class.
    """

    def __init__(self, table: Mapping[str, Sequence[str]], classes: Sequence[str], source: str) -> None:
        self._classes = tuple(classes)
        labels = {name: label for label, name in enumerate(classes) if label}
        unknown = sorted({name for names in table.values() for name in names} - set(labels))
        if unknown:
            raise ValueError(f'{source}: {unknown[0]!r} is none of the classes.{suggest_name(unknown[0], labels)}')
        self._named = {PurePosixPath(image).stem: frozenset(labels[name] for name in names)
                       for image, names in table.items()}
        self._records: list[TruthRecord] = []

    def __call__(self, image_id: str, matrix: np.ndarray) -> None:
        if image_id in self._named:
            pixels = {label: int(count) for label, count in enumerate(matrix.sum(1)) if count}
            self._records.append(TruthRecord(image_id, self._named[image_id], pixels))

    def check(self) -> TruthCheck:
        """What the comparison found."""
        return compare_truth(self._records, self._classes[1:])
