"""Label PNGs in folders or zip archives, and the score of one such set against another."""
from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.evaluation.iou import confusion_matrix

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
        self._opened_by = -1
        if self.path.is_dir():
            names = [p.relative_to(self.path).as_posix() for p in self.path.rglob('*') if p.suffix.lower() == '.png']
        elif not self.path.exists():
            neighbours = [p.name for p in self.path.parent.iterdir()] if self.path.parent.is_dir() else []
            raise FileNotFoundError(f'{path}: no such folder or zip archive.{suggest_name(self.path.name, neighbours)}')
        else:
            names = [name for name in self._open().namelist() if name.lower().endswith('.png')]
        self._members: dict[str, str] = {}
        for name in sorted(names):
            parts = PurePosixPath(name)
            if parts.name.startswith('.') or '__MACOSX' in parts.parts:
                continue
            if parts.stem in self._members:
                raise ValueError(f'{path}: two label maps are called {parts.name} ({self._members[parts.stem]} and '
                                 f'{name}); file names must be unique')
            self._members[parts.stem] = name
        if not self._members:
            raise ValueError(f'{path}: holds no .png; expected one label PNG per image')

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._members

    def __len__(self) -> int:
        return len(self._members)

    def ids(self) -> list[str]:
        """All image ids, sorted."""
        return sorted(self._members)

    def where(self, image_id: str) -> str:
        """How to call an image's file in a message."""
        return f'{self.path}/{self._members.get(image_id, image_id + ".png")}'

    def _open(self) -> zipfile.ZipFile:
        # A forked child shares the parent's place in an open file, so every process opens the archive for itself.
        if self._archive is None or self._opened_by != os.getpid():
            try:
                self._archive, self._opened_by = zipfile.ZipFile(self.path), os.getpid()
            except zipfile.BadZipFile:
                raise ValueError(f'{self.path}: neither a folder nor a readable zip archive') from None
        return self._archive

    def read(self, image_id: str) -> np.ndarray:
        """H W integers.

        Raises:
            ValueError: missing, unreadable, or not a label map (one channel: palette or grey).
        """
        if image_id not in self:
            raise ValueError(f'{self.where(image_id)}: missing; every image needs its label PNG.'
                             f'{suggest_name(image_id, self._members)}')
        name = self.where(image_id)
        try:
            source = self._bytes(image_id)
            with Image.open(source, formats=['PNG']) as image:
                if image.mode not in ('P', 'L', '1', 'I;16', 'I'):
                    raise ValueError(f'{name}: a colour image ({image.mode}); labels are PNGs with one channel '
                                     '(palette or grey) whose values are the labels')
                return np.array(image)
        except Image.DecompressionBombError:
            raise ValueError(f'{name}: refused, it claims more pixels than any label map has') from None
        except (UnidentifiedImageError, OSError, SyntaxError, zipfile.BadZipFile) as error:
            raise ValueError(f'{name}: not a readable PNG ({error})') from None

    def _bytes(self, image_id: str) -> BytesIO | Path:
        member = self._members[image_id]
        if self.path.is_dir():
            return self.path / member
        info = self._open().getinfo(member)
        if info.file_size > _LARGEST_MEMBER:
            raise ValueError(f'{self.where(image_id)}: refused, it unpacks to {info.file_size / 1e6:.0f} MB')
        return BytesIO(self._open().read(info))


def score_image(predictions: LabelStore, truths: LabelStore, image_id: str, num_classes: int) -> Tensor:
    """The confusion matrix of one image (num_classes x num_classes int64, rows ground truth)."""
    predicted = torch.from_numpy(predictions.read(image_id).astype(np.int64))
    truth = torch.from_numpy(truths.read(image_id).astype(np.int64))
    return confusion_matrix(predicted, truth, num_classes, name=predictions.where(image_id))


def score_images(predictions: LabelStore, truths: LabelStore, num_classes: int, ids: Sequence[str]) -> Tensor:
    """The sum of the confusion matrices of several images."""
    return sum((score_image(predictions, truths, image_id, num_classes) for image_id in ids),
               start=torch.zeros(num_classes, num_classes, dtype=torch.int64))


_score_chunk: Callable[[Sequence[str]], Tensor]


def _start_worker(predictions: LabelStore, truths: LabelStore, num_classes: int) -> None:
    """A worker keeps its archives open from one chunk to the next."""
    global _score_chunk
    torch.set_num_threads(1)
    _score_chunk = partial(score_images, predictions, truths, num_classes)


def _run_chunk(ids: Sequence[str]) -> np.ndarray:
    return _score_chunk(ids).numpy()


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
    """
    ids = truths.ids() if ids is None else list(ids)
    missing = [image_id for image_id in ids if image_id not in predictions]
    if missing:
        more = f' ({len(missing)} of {len(ids)} are missing)' if len(missing) > 1 else ''
        raise ValueError(f'{predictions.where(missing[0])}: missing{more}; every ground truth needs its prediction')
    chunks = [ids[start:start + 16] for start in range(0, len(ids), 16)]
    total, done = torch.zeros(num_classes, num_classes, dtype=torch.int64), 0
    if workers <= 1:
        for chunk in chunks:
            total, done = total + score_images(predictions, truths, num_classes, chunk), done + len(chunk)
            progress(done)
        return total
    # Forked: the children need not import torch again; they read files and count, nothing else.
    with ProcessPoolExecutor(workers, mp_context=get_context('fork'), initializer=_start_worker,
                             initargs=(predictions, truths, num_classes)) as pool:
        try:
            for chunk, counts in zip(chunks, pool.map(_run_chunk, chunks), strict=True):
                total, done = total + torch.from_numpy(counts), done + len(chunk)
                progress(done)
        except BrokenProcessPool:
            raise ValueError('a scoring process died (out of memory?); try fewer --jobs') from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return total
