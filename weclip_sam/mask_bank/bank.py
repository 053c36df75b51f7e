"""The bank: which image's masks are where, reading and adding them."""
from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weclip_sam.io.files import write_json
from weclip_sam.io.identity import FileIdentity, IdentityNotes
from weclip_sam.io.names import normal
from weclip_sam.mask_bank.header import HEADER, WITH_GENERATIONS, is_imported, open_header, other_folder, read_header
from weclip_sam.mask_bank.records import from_record, parse, to_record
from weclip_sam.mask_bank.shards import Place, ShardWriter, generation_of, read_record
from weclip_sam.structures import MaskSet

# Masks of small images are kept once they are decoded: a data set of a few hundred is read again and again.
KEPT_BYTES, KEPT_AN_IMAGE = 1 << 25, 1 << 17
_HEAD = 4096  # bytes of a record that are sure to hold all but its masks, if its id is short


@dataclass(frozen=True)
class MadeOf:
    """What the masks of an image were made of.

    Attributes:
        size: (H, W) of the masks.
        photos: the photo, as it was seen at different times; empty if nobody has noted it (yet).
        max_sides: for each, the longest side that it was shrunk to before its masks were made, or None.
    """

    size: tuple[int, int]
    photos: tuple[FileIdentity, ...] = ()
    max_sides: tuple[int | None, ...] = ()


class MaskBank:
    """All masks of a data set, by image id.

    Args:
        root: folder of the bank.
        fingerprint: of the mask generator (``MaskGenerator.fingerprint()``); None accepts any.
        dataset: name or hash of the data set; None accepts any.
        mode: ``r`` reads an existing bank, ``a`` also adds to it and creates it where there is none.
        image_folder: where the image files lie, so that other images of the same names are not taken for them; None
            (images made in memory, say) accepts any, and a bank created with None is for any.
        moved: a bank of images in another folder is opened, too, and :attr:`elsewhere` says what there is to say: the
            caller finds out whether they are the same images (:func:`weclip_sam.offline.photos.require_own_photos`).

    Attributes:
        elsewhere: empty, or that the bank was made for images in another folder than ``image_folder``.

    Raises:
        FileNotFoundError: mode ``r`` and no bank in ``root``.
        ValueError: the bank belongs to other images or another generator, or its header is damaged.
    """

    def __init__(self, root: str | os.PathLike[str], fingerprint: str | None = None, dataset: str | None = None,
                 mode: str = 'a', image_folder: str | None = None, moved: bool = False) -> None:
        if mode not in ('r', 'a'):
            raise ValueError(f"mode must be 'r' (read) or 'a' (read and add), got {mode!r}")
        self.root, self.mode = Path(root), mode
        self.header = open_header(self.root, mode, fingerprint, dataset, image_folder)
        self.elsewhere = other_folder(self.root / HEADER, self.header, image_folder)
        if self.elsewhere and not moved:
            raise ValueError(self.elsewhere)
        self._places: dict[str, list[Place]] = {}  # id -> (shard, offset, length)
        self._read_to: dict[str, int] = {}  # shard -> bytes known so far
        self._lost: dict[str, int] = {}  # id -> generation of its damaged record
        self._writer: ShardWriter | None = None
        self._kept: dict[Place, MaskSet] = {}
        self._room = KEPT_BYTES
        self._notes = IdentityNotes(self.root)
        self._noted: dict[tuple[str, int], MadeOf] | None = None  # by id and generation; read when first asked for
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and normal(image_id) in self._places

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process writes a shard of its own.
        return {**self.__dict__, '_writer': None, '_noted': None, '_kept': {}, '_room': KEPT_BYTES}

    @property
    def imported(self) -> bool:
        """Whether another program made the masks (:mod:`weclip_sam.offline.mask_import`)."""
        return is_imported(self.header)

    def ids(self) -> list[str]:
        """Image ids in the bank, sorted."""
        return sorted(self._places)

    def bytes_of(self, image_id: str) -> int:
        """What the masks of an image take on the disk; 0 where the bank has none."""
        places = self._places.get(normal(image_id))
        return places[0][2] if places else 0

    def refresh(self) -> None:
        """Take in what other processes have added since."""
        for path in sorted(self.root.glob('shard-*.masks')):
            known = self._read_to.get(path.name, 0)
            if path.stat().st_size > known:
                self._read_to[path.name] = self._read_shard(path, known)

    def get(self, image_id: str, size: tuple[int, int] | None = None) -> MaskSet | None:
        """The masks of an image on the CPU, as bits, or None where the bank has none (yet). Not to be changed in place.

        A record that is damaged on disk counts as missing: a warning names it, and the masks can be put again.

        Args:
            image_id: as it was put.
            size: (H, W) of the image, to be sure the masks are its own.

        Raises:
            ValueError: the masks are of another size than ``size``.
        """
        image_id = normal(image_id)
        if image_id not in self._places:
            self.refresh()
        for place in list(self._places.get(image_id, ())):
            try:
                found = self._kept.get(place) or self._decode(place, image_id)
            except (ValueError, OSError) as error:
                warnings.warn(f'mask bank {self.root / place[0]}: the record of {image_id!r} at byte {place[1]} is '
                              f'damaged and counts as missing ({error})', stacklevel=2)
                self._forget(image_id, place)
                continue
            if size is not None and found.size != tuple(size):
                raise ValueError(f'mask bank {self.root / place[0]}: the masks of {image_id!r} are {found.size}, the '
                                 f'image is {tuple(size)} (height, width). A bank belongs to one data set with images '
                                 f'of unchanged size: use another folder or make the masks anew')
            return found
        return None

    def origin(self, image_id: str) -> str | None:
        """What :meth:`put` was told about an image's masks; None if nothing, or the record is damaged."""
        for place in self._places.get(normal(image_id), ()):
            try:
                return parse(read_record(self.root, place)).get('origin')
            except (ValueError, OSError):
                continue
        return None

    def made_of(self, image_id: str) -> MadeOf | None:
        """What an image's masks were made of; None where the bank has none, or their record is damaged.

        What others note meanwhile is not seen.
        """
        image_id = normal(image_id)
        places = self._places.get(image_id)
        if not places:
            return None
        if self._noted is None:
            self._noted = {}
            for line in self._notes.read():
                self._take_note(line)
        noted = self._noted.get((image_id, generation_of(places[0][0])))
        return noted or self._read_head(places[0], image_id)

    def note(self, image_id: str, photo: FileIdentity, max_side: int | None) -> None:
        """Keep which photo the masks of an image are of: of a bank made before that was kept, or a photo with a new
        time.

        Args:
            image_id: one that the bank has.
            photo: what it is now.
            max_side: the longest side that it is shrunk to, or None.

        Raises:
            ValueError: a bank opened with mode ``r``, or an image that it does not have.
            OSError: the disk is full or not writable.
        """
        self._need_writing()
        image_id = normal(image_id)
        known = self.made_of(image_id)
        if known is None:
            raise ValueError(f'mask bank {self.root}: has no masks of {image_id!r}')
        line = [image_id, generation_of(self._places[image_id][0][0]), list(known.size), max_side, list(photo)]
        self._notes.add(*line)
        self._take_note(line)

    def put(self, image_id: str, mask_set: MaskSet, origin: str | None = None, photo: FileIdentity | None = None,
            max_side: int | None = None, replace: bool = False) -> None:
        """Add the masks of one image; on return they are on the disk. An image the bank already has is left alone.

        Args:
            image_id: of the data set.
            mask_set: of this image only.
            origin: kept with the masks, see :meth:`origin`.
            photo: the file that they were made of, taken before it was read; None for images made in memory.
            max_side: the longest side that the photo was shrunk to, or None.
            replace: an image the bank already has gets these masks instead: its photo was replaced.

        Raises:
            ValueError: a bank opened with mode ``r``, an id that is no string, the masks of several images, or levels
                that SAM does not have.
            OSError: the disk is full or not writable; everything put before stays intact.
        """
        self._need_writing()
        if not isinstance(image_id, str) or not image_id:
            raise ValueError(f'image_id must be a non-empty string, got {image_id!r}')
        image_id = normal(image_id)
        before = self._places.get(image_id)
        if before and not replace:
            return
        text = to_record(image_id, mask_set, origin, photo, max_side)
        place = self._writer_of(1 + generation_of(before[0][0]) if before else self._lost.get(image_id, 0)).append(
            image_id, text)
        self._places[image_id] = [place]
        self._read_to[place[0]] = place[1] + place[2]
        if photo is not None:
            line = [image_id, generation_of(place[0]), list(mask_set.size), max_side, list(photo)]
            with suppress(OSError):  # the record itself has it
                self._notes.add(*line)
            self._take_note(line)

    def _need_writing(self) -> None:
        if self.mode != 'a':
            raise ValueError(f"mask bank {self.root} was opened with mode 'r'; open it with mode 'a' to add masks")

    def _writer_of(self, generation: int) -> ShardWriter:
        """The shard that this process appends to, of at least a generation."""
        # A new one at first use, and in a forked worker: a shard is written by one process only.
        if self._writer is not None and self._writer.pid == os.getpid() and self._writer.generation >= generation:
            return self._writer
        if generation and self.header['version'] != WITH_GENERATIONS:
            # First, and as it is now: people edit it.
            self.header = {**read_header(self.root / HEADER), 'version': WITH_GENERATIONS}
            write_json(self.root / HEADER, self.header)
        if self._writer is not None and self._writer.pid == os.getpid():
            self._writer.close()
        self._writer = ShardWriter(self.root, generation)
        return self._writer

    def close(self) -> None:
        """Close the shard this process writes. Reading goes on; a later put starts a new shard."""
        self._notes.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> MaskBank:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Records ---------------------------------------------------------------------------------------------------------

    def _read_shard(self, path: Path, begin: int) -> int:
        """Take in a shard from byte ``begin``; returns the byte up to which it is known."""
        if begin == 0:
            begin = self._read_index(path)
        with open(path, 'rb') as file:
            file.seek(begin)
            for line in file:
                if not line.endswith(b'\n'):
                    break  # still being written, or torn by a kill
                try:
                    self._learn(parse(line)['id'], (path.name, begin, len(line)))
                except (ValueError, KeyError, TypeError) as error:
                    warnings.warn(f'mask bank {path}: the record at byte {begin} is damaged and is skipped ({error})',
                                  stacklevel=3)
                begin += len(line)
        return begin

    def _read_index(self, path: Path) -> int:
        """Take in a shard's index as far as it makes sense; returns the byte of the shard up to which it reaches."""
        reached, size = 0, path.stat().st_size
        try:
            lines = path.with_suffix('.index').read_bytes().split(b'\n')[:-1]
        except OSError:
            return 0
        for line in lines:
            try:
                image_id, offset, length = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                break
            sound = isinstance(image_id, str) and isinstance(length, int) and length > 0 and offset == reached
            if not sound or offset + length > size:
                break
            self._learn(image_id, (path.name, offset, length))
            reached += length
        return reached

    def _learn(self, image_id: str, place: Place) -> None:
        """Records of the highest generation count; of those each may serve where another is damaged."""
        places = self._places.setdefault(normal(image_id), [])
        if places and (older := generation_of(places[0][0]) - generation_of(place[0])):
            if older > 0:
                return
            places.clear()
        if place not in places:
            places.append(place)

    def _take_note(self, line: list[Any]) -> None:
        """Remember a line of the notes; what is no note is passed over."""
        if self._noted is None or len(line) != 5:
            return
        image_id, generation, size, max_side, photo = line
        photo = FileIdentity.parse(photo)
        if photo is None or not isinstance(image_id, str) or not isinstance(generation, int) or \
                not isinstance(size, list) or len(size) != 2:
            return
        image_id = normal(image_id)
        before = self._noted.get((image_id, generation), MadeOf(tuple(size)))
        self._noted[image_id, generation] = MadeOf(before.size, (*before.photos, photo), (*before.max_sides, max_side))

    def _read_head(self, place: Place, image_id: str) -> MadeOf | None:
        """What a record says of itself, from its first bytes: its masks may be megabytes."""
        try:
            head = read_record(self.root, place, _HEAD + 6 * len(image_id))[9:]
            # The quotes of an id are escaped, so that this is found in no id.
            record = json.loads(head[:head.index(b',"level":')] + b'}')
            height, width = record['size']
            photo = FileIdentity.parse((record.get('photo') or [None])[:3])
            if normal(record['id']) != image_id or not isinstance(height, int) or not isinstance(width, int):
                return None
            return MadeOf((height, width), *(((photo,), (record['photo'][3],)) if photo is not None else ()))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def _decode(self, place: Place, image_id: str) -> MaskSet:
        found = from_record(read_record(self.root, place), image_id)
        if found.held.numel() <= min(KEPT_AN_IMAGE, self._room):
            self._kept[place] = found
            self._room -= found.held.numel()
        return found

    def _forget(self, image_id: str, place: Place) -> None:
        self._lost[image_id] = generation_of(place[0])
        self._places[image_id].remove(place)
        if not self._places[image_id]:
            del self._places[image_id]
