"""SAM masks on disk: made once, kept for good, shared by everything that needs them.

A bank is a folder:

``bank.json``
    which data set, which folder of images and which mask generator it belongs to.
``shard-*.masks``
    one record a line: CRC-32 of the text, a blank, JSON with the image's id, size, a digest of the file if the masks
    were imported, and per mask the COCO RLE, level, predicted IoU and stability. Only ever appended to, and only by the
    process that created it, so any number of processes and machines fill one bank without a lock.
``shard-*.index``
    where each record lies. A convenience: what it lacks is found by reading the shard.
``photos-*.jsonl``
    which photo each record was made of (:class:`weclip_sam.io.identity.FileIdentity`; new records say it themselves,
    too), as one list a line: image id, generation of its record, [H, W] of the masks, longest side the photo was shrunk
    to or null, [bytes, time, digest].

A record that takes the place of an older one, because the photo was replaced, goes into a shard of a higher generation,
``shard-*.g1.masks`` and so on: of several records of an image those of the highest generation count. Such a bank has
version 2, so that a program which knows none of this refuses it instead of taking the older record.

A record counts once its line is complete. Whatever a killed process left behind its last complete line is ignored by
readers, and nobody appends after it.
"""
from __future__ import annotations

import json
import os
import re
import socket
import uuid
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weclip_sam.io.files import write_json
from weclip_sam.io.identity import FileIdentity, IdentityNotes
from weclip_sam.io.names import normal
from weclip_sam.io.rle import MAX_PIXELS, decode_masks, encode_masks
from weclip_sam.io.text import read_json
from weclip_sam.structures import MaskSet

FORMAT, VERSION, WITH_GENERATIONS = 'weclip_sam mask bank', 1, 2
HEADER = 'bank.json'
IMPORTED = 'imported '  # how the generator of a bank of others' masks begins
_HEAD = 4096  # bytes of a record that are sure to hold all but its masks, if its id is short
_GENERATION = re.compile(r'\.g(\d+)\.masks$')


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
        self.header = self._open_header(fingerprint, dataset, image_folder)
        self.elsewhere = self._other_folder(image_folder)
        if self.elsewhere and not moved:
            raise ValueError(self.elsewhere)
        self._places: dict[str, list[tuple[str, int, int]]] = {}  # id -> (shard, offset, length)
        self._read_to: dict[str, int] = {}  # shard -> bytes known so far
        self._lost: dict[str, int] = {}  # id -> generation of its damaged record
        self._writer: _ShardWriter | None = None
        self._notes = IdentityNotes(self.root)
        self._noted: dict[tuple[str, int], MadeOf] | None = None  # by id and generation; read when first asked for
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and normal(image_id) in self._places

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process writes a shard of its own.
        return {**self.__dict__, '_writer': None, '_noted': None}

    @property
    def imported(self) -> bool:
        """Whether another program made the masks (:mod:`weclip_sam.offline.mask_import`)."""
        return _is_imported(self.header)

    def ids(self) -> list[str]:
        """Image ids in the bank, sorted."""
        return sorted(self._places)

    def refresh(self) -> None:
        """Take in what other processes have added since."""
        for path in sorted(self.root.glob('shard-*.masks')):
            known = self._read_to.get(path.name, 0)
            if path.stat().st_size > known:
                self._read_to[path.name] = self._read_shard(path, known)

    def get(self, image_id: str, size: tuple[int, int] | None = None) -> MaskSet | None:
        """The masks of an image on the CPU, or None where the bank has none (yet).

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
                found = _from_record(self._read(place), image_id)
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
                return _parse(self._read(place)).get('origin')
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
        noted = self._noted.get((image_id, _generation(places[0][0])))
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
        line = [image_id, _generation(self._places[image_id][0][0]), list(known.size), max_side, list(photo)]
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
            ValueError: a bank opened with mode ``r``, an id that is no string, or the masks of several images.
            OSError: the disk is full or not writable; everything put before stays intact.
        """
        self._need_writing()
        if not isinstance(image_id, str) or not image_id:
            raise ValueError(f'image_id must be a non-empty string, got {image_id!r}')
        image_id = normal(image_id)
        before = self._places.get(image_id)
        if before and not replace:
            return
        text = _to_record(image_id, mask_set, origin, photo, max_side)
        place = self._writer_of(1 + _generation(before[0][0]) if before else self._lost.get(image_id, 0)).append(
            image_id, text)
        self._places[image_id] = [place]
        self._read_to[place[0]] = place[1] + place[2]
        if photo is not None:
            line = [image_id, _generation(place[0]), list(mask_set.size), max_side, list(photo)]
            with suppress(OSError):  # the record itself has it
                self._notes.add(*line)
            self._take_note(line)

    def _need_writing(self) -> None:
        if self.mode != 'a':
            raise ValueError(f"mask bank {self.root} was opened with mode 'r'; open it with mode 'a' to add masks")

    def _writer_of(self, generation: int) -> _ShardWriter:
        """The shard that this process appends to, of at least a generation."""
        # A new one at first use, and in a forked worker: a shard is written by one process only.
        if self._writer is not None and self._writer.pid == os.getpid() and self._writer.generation >= generation:
            return self._writer
        if generation and self.header['version'] != WITH_GENERATIONS:
            # First, and as it is now: people edit it.
            self.header = {**_read_header(self.root / HEADER), 'version': WITH_GENERATIONS}
            write_json(self.root / HEADER, self.header)
        if self._writer is not None and self._writer.pid == os.getpid():
            self._writer.close()
        self._writer = _ShardWriter(self.root, generation)
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

    # Header ----------------------------------------------------------------------------------------------------------

    def _open_header(self, fingerprint: str | None, dataset: str | None, folder: str | None) -> dict[str, Any]:
        path = self.root / HEADER
        if not path.is_file():
            if self.mode == 'r':
                raise FileNotFoundError(f'no mask bank in {self.root} ({HEADER} is missing). Make one with '
                                        f'tools/make_masks.py')
            self._create_header(path, fingerprint, dataset, folder)
        header = _read_header(path)
        if fingerprint is not None and (made := precision_of(header)) != precision_of(dict(generator=fingerprint)) and \
                fingerprint.split()[0] == header['generator'].split()[0]:
            asked = precision_of(dict(generator=fingerprint))
            raise ValueError(f'{path}: this bank holds masks made in {made}, but {asked} was asked for: go on in '
                             f'{made} ({"--no-amp" if made == "fp32" else "--amp"} or neither; precision={made!r} or '
                             "none of the mask generator's sam), or use another folder")
        for what, asked in (('generator', fingerprint), ('dataset', dataset)):
            if asked is not None and asked != header[what]:
                raise ValueError(f'{path}: this bank was made for {what} {header[what]!r}, but {asked!r} was asked '
                                 f'for. A bank belongs to one data set and one generator (settings and weights): '
                                 f'use another folder, or delete this one to make the masks anew')
        return header

    def _other_folder(self, folder: str | None) -> str:
        path, before = self.root / HEADER, self.header.get('image_folder', 'no known place')
        if folder is None or before is None or normal(folder) == normal(before):
            return ''
        return (f'{path}: this bank was made for images in {before}, but the images are in {folder}. A bank belongs to '
                'one data set, and other images may have the same names: use another folder (mask_bank of the config, '
                '--out of tools/make_masks.py). If they are the same images, moved, write "image_folder": '
                f'{json.dumps(folder)} into {path}')

    def _create_header(self, path: Path, fingerprint: str | None, dataset: str | None, folder: str | None) -> None:
        if any(self.root.glob('shard-*.masks')):
            raise ValueError(f'{path} is missing, but {self.root} holds mask shards. The header says whose masks they '
                             f'are: restore it, or empty the folder')
        self.root.mkdir(parents=True, exist_ok=True)
        header = dict(format=FORMAT, version=VERSION, dataset=dataset, generator=fingerprint, image_folder=folder)
        text = json.dumps(header, indent=2)
        temporary = self.root / f'.{HEADER}.{uuid.uuid4().hex}.tmp'
        try:
            with open(temporary, 'w', encoding='utf-8') as file:
                file.write(text + '\n')
                file.flush()
                os.fsync(file.fileno())
            try:
                # A link never overwrites: of several processes that start together, one creates and all read.
                os.link(temporary, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                os.replace(temporary, path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error  # a failing write names no file
        finally:
            with suppress(OSError):  # the first error counts
                temporary.unlink()

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
                    self._learn(_parse(line)['id'], (path.name, begin, len(line)))
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

    def _learn(self, image_id: str, place: tuple[str, int, int]) -> None:
        """Records of the highest generation count; of those each may serve where another is damaged."""
        places = self._places.setdefault(normal(image_id), [])
        if places and (older := _generation(places[0][0]) - _generation(place[0])):
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

    def _read_head(self, place: tuple[str, int, int], image_id: str) -> MadeOf | None:
        """What a record says of itself, from its first bytes: its masks may be megabytes."""
        name, offset, length = place
        head = self._read((name, offset, min(length, _HEAD + 6 * len(image_id))))[9:]
        try:
            # The quotes of an id are escaped, so that this is found in no id.
            record = json.loads(head[:head.index(b',"level":')] + b'}')
            height, width = record['size']
            photo = FileIdentity.parse((record.get('photo') or [None])[:3])
            if normal(record['id']) != image_id or not isinstance(height, int) or not isinstance(width, int):
                return None
            return MadeOf((height, width), *(((photo,), (record['photo'][3],)) if photo is not None else ()))
        except (ValueError, KeyError, TypeError, IndexError):
            return None

    def _forget(self, image_id: str, place: tuple[str, int, int]) -> None:
        self._lost[image_id] = _generation(place[0])
        self._places[image_id].remove(place)
        if not self._places[image_id]:
            del self._places[image_id]

    def _read(self, place: tuple[str, int, int]) -> bytes:
        name, offset, length = place
        with open(self.root / name, 'rb') as file:
            file.seek(offset)
            return file.read(length)


class _ShardWriter:
    """The one process that appends to a new shard."""

    def __init__(self, root: Path, generation: int = 0) -> None:
        self.pid, self.generation = os.getpid(), generation
        host = ''.join(c if c.isalnum() else '-' for c in socket.gethostname())[:32]
        end = f'.g{generation}.masks' if generation else '.masks'
        self.path = root / f'shard-{host}-{self.pid}-{uuid.uuid4().hex[:12]}{end}'
        self._shard = open(self.path, 'xb', buffering=0)
        self._index = open(self.path.with_suffix('.index'), 'xb', buffering=0)
        self._end = 0

    def append(self, image_id: str, text: bytes) -> tuple[str, int, int]:
        line = b'%08x %s\n' % (zlib.crc32(text), text)
        try:
            written = 0
            while written < len(line):
                written += self._shard.write(line[written:])
            os.fsync(self._shard.fileno())
        except OSError as error:
            # Take the half line back, so that the next record does not start inside it.
            self._shard.truncate(self._end)
            self._shard.seek(self._end)
            raise OSError(error.errno, f'cannot add {image_id!r} to mask bank {self.path}: {error.strerror}. What was '
                                       f'stored before is intact', str(self.path)) from error
        place = (self.path.name, self._end, len(line))
        self._end += len(line)
        try:
            self._index.write(json.dumps([image_id, place[1], place[2]]).encode() + b'\n')
        except OSError:
            pass  # the record itself is safe, and readers find it without the index
        return place

    def close(self) -> None:
        self._shard.close()
        self._index.close()


def precision_of(header: dict[str, Any]) -> str | None:
    """``fp32``, or the word after the hash of a generator that computed in another one; None of imported masks."""
    words = str(header['generator']).split()
    return None if _is_imported(header) or not words else (*words[1:], 'fp32')[0]


def bank_precision(root: str | os.PathLike) -> str | None:
    """What the masks of a bank were computed in; None where there is no bank, or another program made its masks.

    Raises:
        ValueError: its header is damaged.
    """
    path = Path(root) / HEADER
    return precision_of(_read_header(path)) if path.is_file() else None


def holds_imported(root: str | os.PathLike) -> bool:
    """Whether there is a bank in ``root``, and another program made its masks.

    Raises:
        ValueError: its header is damaged.
    """
    path = Path(root) / HEADER
    return path.is_file() and _is_imported(_read_header(path))


def _is_imported(header: dict[str, Any]) -> bool:
    return str(header['generator']).startswith(IMPORTED)


def _read_header(path: Path) -> dict[str, Any]:
    header = read_json(path, fix='the header of the mask bank is damaged: restore it or empty the folder')
    if not isinstance(header, dict) or header.get('format') != FORMAT or not {'dataset', 'generator'} <= set(header):
        raise ValueError(f'{path}: not the header of a mask bank')
    if header.get('version') not in (VERSION, WITH_GENERATIONS):
        raise ValueError(f'{path}: mask bank version {header.get("version")!r}, this program reads versions {VERSION} '
                         f'and {WITH_GENERATIONS}; make the masks anew')
    return header


def _generation(shard: str) -> int:
    """Of a shard's records, by its name."""
    found = _GENERATION.search(shard)
    return int(found[1]) if found else 0


def _short(values: torch.Tensor) -> list[float]:
    """float32 values as the shortest decimals that read back to the same float32."""
    return [float(str(v)) for v in values.detach().cpu().numpy().astype(np.float32)]


def _to_record(image_id: str, masks: MaskSet, origin: str | None = None, photo: FileIdentity | None = None,
               max_side: int | None = None) -> bytes:
    if len(masks) and int(masks.sample_index.min()) != int(masks.sample_index.max()):
        raise ValueError(f'masks of {image_id!r} belong to several images; put them one image at a time')
    if masks.masks.numel() > MAX_PIXELS:
        raise ValueError(f'masks of {image_id!r} have {masks.masks.numel()} pixels together, at most {MAX_PIXELS}')
    record = dict(id=image_id, size=list(masks.size), **({} if origin is None else dict(origin=origin)),
                  **({} if photo is None else dict(photo=[*photo, max_side])),
                  level=masks.level.tolist(), predicted_iou=_short(masks.predicted_iou),
                  stability=_short(masks.stability), counts=encode_masks(masks.masks))
    return json.dumps(record, separators=(',', ':')).encode('ascii')


def _parse(line: bytes) -> dict[str, Any]:
    """The JSON of a complete line whose checksum is right."""
    if len(line) < 10 or line[8:9] != b' ' or not line.endswith(b'\n'):
        raise ValueError('not a record')
    text = line[9:-1]
    if line[:8] != b'%08x' % zlib.crc32(text):
        raise ValueError('the checksum is wrong')
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise ValueError('JSON nested too deeply') from error
    if not isinstance(record, dict) or not isinstance(record.get('id'), str):
        raise ValueError('no image id')
    return record


def _from_record(line: bytes, image_id: str) -> MaskSet:
    record = _parse(line)
    if normal(record['id']) != image_id:
        raise ValueError(f'it belongs to {record["id"]!r}')
    try:
        height, width = (int(n) for n in record['size'])
        level = torch.tensor(record['level'], dtype=torch.long)
        iou, stability = (torch.tensor(record[k], dtype=torch.float) for k in ('predicted_iou', 'stability'))
        masks = decode_masks(record['counts'], height, width)
    except (KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(f'its content is no mask record: {error!r}') from error
    if not len(masks) == level.numel() == iou.numel() == stability.numel() or level.ndim != 1:
        raise ValueError('its lists differ in length')
    if len(level) and not 0 <= int(level.min()) <= int(level.max()) <= 2:
        raise ValueError('a level is none of 0, 1, 2')
    return MaskSet(masks, level, iou, stability, torch.zeros_like(level))
