"""One record: a checksum, and as JSON the masks of one image."""
from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import torch

from weclip_sam.io.identity import FileIdentity
from weclip_sam.io.names import normal
from weclip_sam.io.rle import MAX_BITS, decode_bits, encode_masks
from weclip_sam.structures import MaskSet

LEVELS = 3  # of SAM's masks: sub-part, part, whole


def _short(values: torch.Tensor) -> list[float]:
    """float32 values as the shortest decimals that read back to the same float32."""
    return [float(str(v)) for v in values.detach().cpu().numpy().astype(np.float32)]


def to_record(image_id: str, masks: MaskSet, origin: str | None = None, photo: FileIdentity | None = None,
               max_side: int | None = None) -> bytes:
    """The text of a record; the arguments are those of :meth:`MaskBank.put`."""
    if len(masks) and int(masks.sample_index.min()) != int(masks.sample_index.max()):
        raise ValueError(f'masks of {image_id!r} belong to several images; put them one image at a time')
    if len(masks) and not 0 <= int(masks.level.min()) <= int(masks.level.max()) < LEVELS:
        raise ValueError(f'masks of {image_id!r}: expected levels 0 (sub-part), 1 (part) and 2 (whole), got '
                         f'{sorted(set(masks.level.tolist()))}')
    pixels = len(masks) * masks.size[0] * masks.size[1]
    if pixels > MAX_BITS:
        raise ValueError(f'masks of {image_id!r} have {pixels} pixels together, at most {MAX_BITS}')
    record = dict(id=image_id, size=list(masks.size), **({} if origin is None else dict(origin=origin)),
                  **({} if photo is None else dict(photo=[*photo, max_side])),
                  level=masks.level.tolist(), predicted_iou=_short(masks.predicted_iou),
                  stability=_short(masks.stability),
                  counts=[code for few in masks.parts() for code in encode_masks(few)])
    return json.dumps(record, separators=(',', ':')).encode('ascii')


def parse(line: bytes) -> dict[str, Any]:
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


def from_record(line: bytes, image_id: str) -> MaskSet:
    """The masks of a record, packed.

    Raises:
        ValueError: it is damaged, or of another image.
    """
    record = parse(line)
    if normal(record['id']) != image_id:
        raise ValueError(f'it belongs to {record["id"]!r}')
    try:
        height, width = (int(n) for n in record['size'])
        level = torch.tensor(record['level'], dtype=torch.long)
        iou, stability = (torch.tensor(record[k], dtype=torch.float) for k in ('predicted_iou', 'stability'))
        bits = decode_bits(record['counts'], height, width)
    except (KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(f'its content is no mask record: {error!r}') from error
    if not len(bits) == level.numel() == iou.numel() == stability.numel() or level.ndim != 1:
        raise ValueError('its lists differ in length')
    if len(level) and not 0 <= int(level.min()) <= int(level.max()) < LEVELS:
        raise ValueError('a level is none of 0, 1, 2')
    return MaskSet(bits, level, iou, stability, torch.zeros_like(level), width)
