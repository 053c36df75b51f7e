"""Values of more than eight bits, brought to eight."""
from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from weclip_sam.io.metadata import open_file, stated_bits

BLOCK = 1 << 20  # pixels of 16 bits or floats that are converted at a time
DEEP = ('I', 'F')  # how the names of Pillow's modes of more than 8 bits begin: I, I;16, I;16B, F
_USUAL = (8, 10, 12, 14)  # bits that cameras and scanners deliver in 16
_OTHER_BYTE = {'L': 'B', 'B': 'L', 'N': 'B' if sys.byteorder == 'little' else 'L'}


class Depth(NamedTuple):
    """What a file of 16 bits says of its values before it is decoded; see :func:`look_at`.

    Attributes:
        colour: it has colours, and Pillow takes their high bytes alone.
        stated: the bits that are used of 16, as the file says; None: it does not say.
        low: the low bytes of the colours, where they matter and can be had.
    """

    colour: bool = False
    stated: int | None = None
    low: Image.Image | None = None


def look_at(image: Image.Image) -> Depth:
    """The depth of an open file. Nothing of it is known any more once it is decoded (asking a PNG for EXIF does it)."""
    tiles = getattr(image, 'tile', None) or ()
    colour = not image.mode.startswith(DEEP) and any(';16' in _raw_mode(tile) for tile in tiles)
    stated = stated_bits(image) if colour or image.mode.startswith(DEEP) else None
    return Depth(colour, stated, _low_bytes(image) if colour and stated is not None and stated < 16 else None)


def _raw_mode(tile: tuple) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _row_starts(width: int, height: int) -> range:
    return range(0, height, max(1, BLOCK // width))


def _usual_bits(top: int) -> int | None:
    """How many bits values up to ``top`` seem to have where 16 were possible; None where 16 is likely."""
    return next((bits for bits in _USUAL if 0 < top < 1 << bits), None)


def _scale(values: np.ndarray, bits: int) -> np.ndarray:
    """Values of 0..2**bits-1 as 0..255."""
    if bits == 16:
        return (np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257
    top = (1 << bits) - 1
    return (values.astype(np.uint32) * 255 + top // 2) // top


def _used_bits(blocks: Iterable[np.ndarray], stated: int | None) -> tuple[int, int | None]:
    """(bits to scale by, bits that are only suspected) of integers that are taken for 16 bits.

    What a file states is believed where its values are within: a PNG is expected to stretch values of 12 bits to 16 and
    to state 12, and then the lowest four bits are no detail of their own.
    """
    top = bits = 0
    for values in blocks:
        top, bits = max(top, int(values.max())), bits | int(np.bitwise_or.reduce(values, axis=None))
    if stated is not None:
        stretched = top >= 1 << stated or (stated < 16 and not bits & ((1 << 16 - stated) - 1))
        return (16 if stated >= 16 or stretched else stated), None
    return 16, _usual_bits(top)


def deep_to_grey(image: Image.Image, stated: int | None = None) -> tuple[Image.Image, int | None]:
    """Mode I, I;16 or F as mode L. Rows are converted in blocks: a whole image of doubles would take gigabytes.

    Args:
        image: decoded.
        stated: the bits that are used of 16, as the file says; None: it does not.

    Returns:
        The image, and the bits that are used as it seems, where they are fewer than 16 and not stated, or None.
    """
    step = max(1, BLOCK // image.width)
    starts = _row_starts(image.width, image.height)

    def block(start: int) -> np.ndarray:
        values = np.asarray(image.crop((0, start, image.width, min(start + step, image.height))))
        return values if image.mode != 'F' else np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(float)

    # Integers are taken for 16 bits; floats for 0..1, 0..255 or 0..65535, the first that holds them all.
    floats = image.mode == 'F'
    top = max(block(start).max() for start in starts) if floats else 0
    scale = 255 / 65535 if top > 255 else 255.0 if top <= 1 else 1.0
    bits, suspected = (16, None) if floats else _used_bits(map(block, starts), stated)
    grey = np.empty((image.height, image.width), np.uint8)
    for start in starts:
        values = block(start)
        grey[start:start + step] = np.clip(np.rint(values * scale), 0, 255) if floats else _scale(values, bits)
    return Image.fromarray(grey), suspected


def _low_bytes(image: Image.Image) -> Image.Image | None:
    """The lower bytes of a colour file of 16 bits that is not decoded yet; Pillow itself takes the higher ones alone.

    None where Pillow has no way to give them: then all that can be done is to say so.
    """
    file = open_file(image)
    if image.mode not in ('RGB', 'RGBA') or file is None or image.format is None:
        return None
    place = file.tell()
    file.seek(0)
    content = BytesIO(file.read())
    file.seek(place)
    other = Image.open(content, formats=[image.format])
    tiles = []
    for tile in other.tile:
        mode, *rest = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if mode[-4:-1] != ';16' or mode[-1] not in _OTHER_BYTE:
            return None
        swapped = mode[:-1] + _OTHER_BYTE[mode[-1]]  # the same samples in the other order of bytes
        tiles.append((*tile[:3], (swapped, *rest) if isinstance(tile[3], tuple) else swapped))
    other.tile = [type(tile)(*new) for tile, new in zip(other.tile, tiles, strict=True)]
    other.load()
    return other


def deep_to_colour(image: Image.Image, depth: Depth) -> tuple[Image.Image, int | None]:
    """A decoded colour file of 16 bits with the depth that it has.

    Args:
        image: its high bytes.
        depth: what :func:`look_at` found before.

    Returns:
        As :func:`deep_to_grey`, in the mode of ``image``.
    """
    stated, low = depth.stated, depth.low
    bands = image.getbands()
    colours = [band for band in bands if band not in ('A', 'a')]
    if low is None:
        top = max(int(np.asarray(image.getchannel(band)).max()) for band in colours) * 256 + 255
        return image, None if stated is not None and top >> min(stated, 16) else _usual_bits(top)

    def block(start: int, names: Sequence[str]) -> np.ndarray:
        rows = (0, start, image.width, min(start + step, image.height))
        high, rest = ([np.asarray(each.getchannel(band).crop(rows), np.uint16) for band in names]
                      for each in (image, low))
        return np.stack(high, -1) << 8 | np.stack(rest, -1)

    step, starts = max(1, BLOCK // image.width), _row_starts(image.width, image.height)
    result = np.empty((image.height, image.width, len(bands)), np.uint8)
    for names in (colours, [band for band in bands if band not in colours]):
        if names:
            places = [bands.index(band) for band in names]
            bits, _ = _used_bits((block(start, names) for start in starts), stated)
            for start in starts:
                result[start:start + step, :, places] = _scale(block(start, names), bits)
    return Image.fromarray(result), None
