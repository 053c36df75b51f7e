"""Photos that were replaced since something was made of them: found before the work, not in the middle of it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process

from weclip_sam.engine.progress import ProgressReporter
from weclip_sam.io.identity import FileIdentity, identify, recognise
from weclip_sam.mask_bank import FeatureBank, MadeOf, MaskBank

_UNUSABLE = (ValueError, OSError)  # of a photo: whoever uses it will say so


@dataclass
class PhotoReader:
    """Recognises photos, and reads those that have a new time and their old size in bytes.

    Attributes:
        limit: bytes that are read at most; what is left is believed to be the same. None: no limit.
    """

    limit: int | None = None

    def recognise(self, path: Path, known: Sequence[FileIdentity]) -> FileIdentity | None:
        """See :func:`weclip_sam.io.identity.recognise`."""
        if self.limit is None:
            return recognise(path, known)
        found = recognise(path, known, read=self.limit > 0)
        if found is not None and found in known:
            return found  # by its time
        size = path.stat().st_size
        self.limit -= size if any(each.bytes == size for each in known) else 0
        return found


@dataclass
class BankPhotos:
    """Of the photos that a bank has masks of:

    Attributes:
        changed: ids of those that are others now, or are read at another size.
        to_note: for :meth:`MaskBank.note`, those that nobody noted so far and those with a new time (touched, copied).
    """

    changed: list[str] = field(default_factory=list)
    to_note: dict[str, tuple[FileIdentity, int | None]] = field(default_factory=dict)


def share_of(count: int) -> range:
    """The positions that this process takes, as :func:`weclip_sam.offline.work.work_through` shares them."""
    return range(get_rank(), count, get_world_size())


def gather_ids(ids: Sequence[str]) -> list[str]:
    """The ids of all processes, sorted; every process calls it."""
    return sorted(sum(all_gather_object(list(ids)), []))


def look_at_bank(bank: MaskBank | FeatureBank, dataset: Any, indices: Sequence[int], reader: PhotoReader | None = None,
                 show: bool = True) -> BankPhotos:
    """Compare the photos of a data set with those that a bank's masks (or features) were made of.

    Of a photo whose size in bytes and time are known nothing is read: 100,000 take a second or two. Masks that are not
    of the size at which the photo is read are never its own. Images made in memory have no photos.

    Args:
        bank: opened and up to date.
        dataset: an ``ImageLabelDataset``.
        indices: which of its images.
        reader: how much is read; None: whatever must be.
        show: progress.
    """
    found, records, reader = BankPhotos(), dataset.records, reader or PhotoReader()
    with _Bar('look at photos', len(indices) if show else 0) as bar:
        for index in indices:
            record = records[index]
            known = None if record.image_path is None else bank.made_of(record.image_id)
            if known is not None:
                with suppress(*_UNUSABLE):
                    _compare(record, known, dataset, index, reader, found)
            bar.step()
    return found


def _compare(record: Any, known: MadeOf, dataset: Any, index: int, reader: PhotoReader, found: BankPhotos) -> None:
    max_side = dataset.reader.max_side
    now = reader.recognise(record.image_path, known.photos) if known.photos else None
    if known.photos and now is None:
        found.changed.append(record.image_id)
    elif any((now, max_side) == each for each in zip(known.photos, known.max_sides, strict=True)):
        pass
    elif max_side not in known.max_sides and dataset.image_size(index) != tuple(known.size):
        found.changed.append(record.image_id)
    elif reader.limit is None:
        found.to_note[record.image_id] = now or identify(record.image_path), max_side


def require_own_photos(bank: MaskBank | FeatureBank, dataset: Any, reader: PhotoReader | None = None) -> None:
    """A bank whose header names another folder is taken if it has masks of all these very photos: the folder was
    copied or renamed. The processes share the work; every process calls it.

    Args:
        bank: opened with ``moved=True``, up to date.
        dataset: an ``ImageLabelDataset``.
        reader: how much is read; None: whatever must be.

    Raises:
        ValueError: the bank was made for images in another folder, and these are not all known to be the same.
    """
    if not bank.elsewhere:
        return
    reader, strange, records = reader or PhotoReader(), [], dataset.records
    for index in share_of(len(dataset)):
        record, found = records[index], None
        known = bank.made_of(record.image_id)
        if record.image_path is not None and known is not None and known.photos:
            with suppress(*_UNUSABLE):
                found = reader.recognise(record.image_path, known.photos)
        if found is None:
            strange.append(record.image_id)
            break
    if gather_ids(strange):
        raise ValueError(bank.elsewhere)


def note_photos(bank: MaskBank | FeatureBank, photos: BankPhotos) -> None:
    """Keep what :func:`look_at_bank` found worth keeping; where nothing can be written, it is found again next time."""
    with suppress(OSError):
        for image_id, (photo, max_side) in photos.to_note.items():
            bank.note(image_id, photo, max_side)


def identify_photos(dataset: Any, known: Mapping[str, FileIdentity]) -> dict[str, FileIdentity] | None:
    """The identity of every photo of a data set; the processes share the work, all get all.

    Args:
        dataset: an ``ImageLabelDataset``.
        known: what they were; of those with that size and time nothing is read.

    Returns:
        By image id; photos that cannot be read are left out. None for images made in memory.
    """
    if dataset.image_folder is None or dataset.records[0].image_path is None:
        return None
    records, mine = dataset.records, {}
    with _Bar('look at photos', len(share_of(len(records)))) as bar:
        for index in share_of(len(records)):
            path, image_id = records[index].image_path, records[index].image_id
            with suppress(*_UNUSABLE):
                before = known.get(image_id)
                mine[image_id] = before and recognise(path, [before]) or identify(path)
            bar.step()
    return {key: value for part in all_gather_object(mine) for key, value in part.items()}


def changed_photos(dataset: Any, known: Mapping[str, FileIdentity], reader: PhotoReader) -> list[str]:
    """Ids of the images that are others than they are known to be, sorted.

    Args:
        dataset: an ``ImageLabelDataset``.
        known: what they were, by image id; others are believed.
        reader: how much is read.
    """
    changed = []
    for record in dataset.records:
        if record.image_path is not None and record.image_id in known:
            with suppress(*_UNUSABLE):
                if reader.recognise(record.image_path, [known[record.image_id]]) is None:
                    changed.append(record.image_id)
    return sorted(changed)


def some(ids: Sequence[str], total: int) -> str:
    """``2 of 6 images (a, b)``; the first five are named."""
    return f'{len(ids)} of {total} images ({", ".join(ids[:5])}{", ..." if len(ids) > 5 else ""})'


class _Bar:
    """Progress of the main process."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done, self.reporter = title, total, 0, ProgressReporter()

    def __enter__(self) -> _Bar:
        if self.total and is_main_process():
            self.reporter.start(self.title, self.total)
        return self

    def step(self) -> None:
        self.done += 1
        if self.total and is_main_process() and (self.done % 100 == 0 or self.done == self.total):
            self.reporter.update(self.done)

    def __exit__(self, *_: object) -> None:
        self.reporter.stop()
