"""SAM masks that another program made, into a mask bank: the files of segment_anything's ``scripts/amg.py``.

For the image ``IMAGE.jpg`` the folder holds either of

``IMAGE.json`` (``amg.py --convert-to-rle``)
    a list of masks, each ``{"segmentation": {"size": [H, W], "counts": COCO RLE}, "predicted_iou": ...,
    "stability_score": ...}``; other keys are ignored. The files of SA-1B, which have the list at ``annotations``, and
    uncompressed RLE are read, too.
``IMAGE/`` (``amg.py``)
    ``0.png``, ``1.png``, ... with 0 and one other value, and ``metadata.csv``, which lists them and is written last.

Where a score is not given it is 1. The files do not say which of SAM's three outputs a mask came from: all count as
wholes (level 2).
"""
from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from torch import Tensor

from weclip_sam.io.files import inside
from weclip_sam.io.identity import FileIdentity, identify
from weclip_sam.io.images import read_labels
from weclip_sam.io.names import real_path
from weclip_sam.io.rle import MAX_PIXELS, decode_masks
from weclip_sam.io.text import read_json, read_text
from weclip_sam.mask_bank import HEADER, IMPORTED, MaskBank
from weclip_sam.offline.photos import require_own_photos
from weclip_sam.offline.shards import digest_files
from weclip_sam.offline.work import WorkReport, work_through
from weclip_sam.structures import MaskSet

METADATA = 'metadata.csv'
WHOLE = 2  # SAM's level


class MaskFolder:
    """A folder of masks by image, see above. All processes share the work.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f'--from {root}: no such folder')
        self._digests: dict[str, str] = {}

    def find(self, image_id: str) -> Path:
        """The JSON file or the ``metadata.csv`` of an image.

        Raises:
            ValueError: there is neither, or both.
        """
        inside(self.root, image_id, 'image ids')
        places = [real_path(self.root, f'{image_id}{end}') for end in ('.json', f'/{METADATA}')]
        found = [path for path in places if path.is_file()]
        if not found:
            half = ' (the folder is there, but not finished)' if places[1].parent.is_dir() else ''
            raise ValueError(f'neither {places[0]} nor {places[1]}{half}; make the masks of this image and run the '
                             'same command again')
        if len(found) > 1:
            raise ValueError(f'both {found[0]} and {found[1]}; remove one of them')
        return found[0]

    def read(self, image_id: str, size: tuple[int, int]) -> MaskSet:
        """The masks of an image, by descending predicted IoU.

        Args:
            image_id: of the data set.
            size: (H, W) of the image.

        Raises:
            ValueError: naming the file and what is wrong with it.
        """
        path = self.find(image_id)
        entries = _read_json(path) if path.suffix == '.json' else _read_table(path)
        if len(entries) * size[0] * size[1] > MAX_PIXELS:
            raise ValueError(f'{path}: {len(entries)} masks of {size[0]} x {size[1]} pixels, at most {MAX_PIXELS} '
                             'pixels together')
        masks = torch.zeros(len(entries), *size, dtype=torch.bool)
        for place, entry in enumerate(entries):
            masks[place] = _from_code(path, place, entry, size) if path.suffix == '.json' else \
                _from_png(path, entry, size)
        iou, stability = (torch.tensor([_score(path, place, entry, key) for place, entry in enumerate(entries)],
                                       dtype=torch.float) for key in ('predicted_iou', 'stability_score'))
        order = torch.argsort(iou, descending=True, stable=True)
        level = torch.full((len(entries),), WHOLE)
        return MaskSet(masks[order], level, iou[order], stability[order], torch.zeros_like(level))

    def open_bank(self, out: str | os.PathLike, name: str | None, dataset: Any) -> MaskBank:
        """The bank to fill; it is made if missing, and then belongs to these masks.

        Args:
            out: folder of the bank.
            name: of the data set, or None.
            dataset: has ``image_ids`` and ``image_folder``.

        Raises:
            FileNotFoundError: there are masks of no image at all.
            ValueError: the bank is of other images or of a mask generator, or holds other masks of some image.
        """
        # Of metadata.csv, which has area, box and scores of every PNG, where there are PNGs.
        self._digests = digest_files(dataset.image_ids, self.find, 'look at masks')
        if not self._digests:
            first = dataset.image_ids[0]
            raise FileNotFoundError(
                f'--from {self.root}: no masks of any of the {len(dataset.image_ids)} images; expected {first}.json '
                f'(COCO RLE) or {first}/{METADATA} with 0.png, 1.png, ..., as segment_anything\'s '
                'scripts/amg.py writes them')
        text = ''.join(f'{image_id} {digest}\n' for image_id, digest in sorted(self._digests.items()))
        generator = IMPORTED + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        # Masks that were missing may have come since: an old bank is compared image by image.
        fingerprint = None if (Path(out) / HEADER).is_file() else generator
        bank = MaskBank(out, fingerprint=fingerprint, dataset=name, mode='a', image_folder=dataset.image_folder,
                        moved=True)
        require_own_photos(bank, dataset)
        if not bank.imported:
            raise ValueError(f'{bank.root / HEADER}: this bank is filled by a mask generator '
                             f'({bank.header["generator"]!r}); others\' masks are never mixed with its own: choose '
                             'another --out')
        mine = dataset.image_ids[get_rank()::get_world_size()]
        changed = [each for each in mine if each in bank and each in self._digests
                   and bank.origin(each) not in (None, self._digests[each])]
        changed = sorted(sum(all_gather_object(changed), []))
        if changed:
            raise ValueError(f'{self.root}: the masks of {len(changed)} images, for example {changed[0]}, are others '
                             f'than those that {bank.root} was filled with; masks of two origins are never mixed: '
                             'choose another --out, or delete that folder')
        return bank

    def fill(self, bank: MaskBank, dataset: Any, tick: Callable[[], None] = lambda: None) -> WorkReport:
        """Put the masks that ``bank``, opened by :meth:`open_bank`, lacks; returns the report of this process.

        Images without masks, or with masks that cannot be used, are recorded and the rest goes on.
        """
        ids, records, photos, max_side = dataset.image_ids, dataset.records, dict[str, FileIdentity](), \
            dataset.reader.max_side

        def load(index: int) -> MaskSet:
            if (path := records[index].image_path) is not None:
                photos[ids[index]] = identify(path)
            return self.read(ids[index], dataset.image_size(index))

        def write(image_id: str, masks: MaskSet) -> None:
            bank.put(image_id, masks, self._digests.get(image_id), photos.pop(image_id, None), max_side)

        return work_through(
            'import masks', ids, is_done=lambda index: ids[index] in bank, load=load, write=write, tick=tick)


def _read_json(path: Path) -> list[Any]:
    content = read_json(path, fix='it may be half written: make it anew')
    entries = content.get('annotations') if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise ValueError(f'{path}: expected a list of masks, as amg.py --convert-to-rle writes it')
    return entries


def _from_code(path: Path, place: int, entry: Any, size: tuple[int, int]) -> Tensor:
    """H W bool of one mask in a JSON file."""
    try:
        code = entry['segmentation']
        counts, given = code['counts'], tuple(int(side) for side in code['size'])
    except (TypeError, KeyError, ValueError, IndexError):
        given = ()
    if len(given) != 2 or not isinstance(counts, (str, list)):
        raise ValueError(f'{path}: mask {place} is no COCO RLE; expected "segmentation": {{"size": [H, W], "counts": '
                         '...}')
    _check_size(f'{path}: mask {place}', given, size)
    try:
        return decode_masks([counts], *size)[0]
    except ValueError as error:
        raise ValueError(f'{path}: mask {place}: {error}; make the file anew') from None


def _read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of ``metadata.csv``; its PNGs must be those of the folder."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline='')))
        names = [f'{int(row["id"])}.png' for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ValueError(f'{path}: not the table that amg.py writes: its first line must name the column id, and every '
                         'line the number of a PNG') from None
    there = {each.name for each in path.parent.iterdir() if each.suffix == '.png' and each.stem.isdecimal()}
    for name in sorted(there.symmetric_difference(names)):
        what = 'is missing, but' if name in names else 'is there, but not'
        raise ValueError(f'{path.parent / name}: {what} listed in {METADATA}; make the folder anew')
    return rows


def _from_png(path: Path, row: dict[str, Any], size: tuple[int, int]) -> Tensor:
    """H W bool of one line of ``metadata.csv``."""
    png = path.with_name(f'{int(row["id"])}.png')
    values = read_labels(png)
    _check_size(str(png), values.shape, size)
    if ((values != 0) & (values != values.max())).any():
        raise ValueError(f'{png}: no mask: expected 0 and one other value, got {len(np.unique(values))} values')
    mask = torch.from_numpy(values != 0)
    if row.get('area') and row['area'] != str(int(mask.sum())):
        raise ValueError(f'{png}: covers {int(mask.sum())} pixels, but {METADATA} says {row["area"]}; the two are not '
                         'of the same run: make the folder anew')
    return mask


def _check_size(what: str, given: tuple[int, ...], size: tuple[int, int]) -> None:
    if tuple(given) != tuple(size):
        raise ValueError(f'{what} is {given[0]} x {given[1]} (height x width), but the image, as the config reads it, '
                         f'is {size[0]} x {size[1]}; make the masks of images of this size')


def _score(path: Path, place: int, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key, 1.0)
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f'{path}: mask {place}: {key} must be a number, got {value!r}')
    return score
