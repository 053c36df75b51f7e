"""What an image file says besides its pixels: which way is up, how deep its values are. None of it has to be sound."""
from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO
from typing import IO, Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _MAX_SAMPLE, _STATED_MAX_SAMPLE = 258, 281, 341  # TIFF tags
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_LOOKED_AT = 1 << 20  # bytes of one block of metadata that are searched for an orientation
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_PIXELS = (b'IHDR', b'PLTE', b'IDAT', b'IEND', b'tRNS', b'sBIT')
_JPEG_START = b'\xff\xd8'
# Without these the colours would change: JFIF, and Adobe's kind of CMYK.
_JPEG_METADATA = {*range(0xE1, 0xF0), 0xFE} - {0xEE}
# TIFF tags that say what the pixels are, and the way up.
_TIFF_PIXELS = {254, *range(256, 260), 262, 266, 273, 274, 277, 278, 279, 281, 284, 292, 293, 317, *range(320, 326),
                332, *range(338, 342), 347, *range(512, 522), *range(529, 533)}


def orientation(image: Image.Image) -> int:
    """The EXIF (or XMP) orientation of an image, 1..8; 1, upright, where none can be understood."""
    value: Any = None
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises nearly any type on broken metadata; the pixels are another matter
        value = _find_orientation(image.info.get('exif') or b'')
    try:
        number = int(value[0] if isinstance(value, (bytes, tuple, list)) else value)
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return 1
    return number if 1 <= number <= 8 else 1


def _find_orientation(block: Any) -> int | None:
    """The orientation in a block of EXIF or XMP, reading that one tag and nothing else."""
    block = bytes(block[:_LOOKED_AT]) if isinstance(block, (bytes, bytearray)) else b''
    if found := _XMP.search(block):
        return int(found[1])
    while block.startswith(b'Exif\0\0'):
        block = block[6:]
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(block[:4])
    if order is None or len(block) < 8:
        return None
    start, = struct.unpack_from(f'{order}I', block, 4)
    for place in range(start + 2, min(start + 2 + 12 * 1000, len(block) - 11), 12):
        tag, kind = struct.unpack_from(f'{order}HH', block, place)
        if tag == _ORIENTATION:
            return struct.unpack_from(order + {3: 'H', 4: 'I'}.get(kind, 'B'), block, place + 8)[0]
    return None


def stated_bits(image: Image.Image) -> int | None:
    """How many bits of an open file's 16 are used, if the file says it; 16 where Pillow has scaled them already.

    PNG says it in sBIT, TIFF in BitsPerSample, SMaxSampleValue or MaxSampleValue. The last is meant for statistics, so
    it counts only where it is all ones, 4095 for instance.
    """
    if image.format in ('PPM', 'JPEG2000'):
        return 16
    if image.format == 'PNG':
        file = open_file(image)
        return None if file is None else _png_bits(file)
    if not isinstance(image, TiffImageFile):
        return None
    try:
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
        if bits < 16:
            return int(bits)
        stated, top = (_largest(image.tag_v2.get(tag)) for tag in (_STATED_MAX_SAMPLE, _MAX_SAMPLE))
    except Exception:  # of whatever type the tags are: what cannot be understood is left out
        return None
    top = stated or (top if top & (top + 1) == 0 else 0)
    return min(16, top.bit_length()) or None


def open_file(image: Image.Image) -> IO[bytes] | None:
    """The file that an image is read from, if it is still open."""
    file = getattr(image, 'fp', None)
    return None if file is None or file.closed else file


def _largest(value: Any) -> int:
    return int(max(value) if isinstance(value, (tuple, list)) else value or 0)


def _png_bits(file: IO[bytes]) -> int | None:
    place = file.tell()
    try:
        for name, length in _png_chunks(file):
            if name == b'sBIT' and 0 < length <= 4:
                return max(file.read(length)) or None
            if name == b'IDAT':
                break
    finally:
        file.seek(place)
    return None


def _png_chunks(file: IO[bytes]) -> Any:
    """(name, length) of every chunk; the file then stands at its content."""
    place = len(_PNG_START)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack('>I4s', head)
        yield name, length
        place += length + 12


def pixels_only(file: IO[bytes]) -> BytesIO | None:
    """The same picture without its metadata but for the orientation, or None where nothing can be left out.

    What is left out is not looked at, however large or broken it is. Known are PNG, JPEG and TIFF.
    """
    file.seek(0)
    start = file.read(8)
    try:
        if start == _PNG_START:
            return _png_pixels(file)
        if start.startswith(_JPEG_START):
            return _jpeg_pixels(file)
        if start[:4] in (b'II*\0', b'MM\0*'):
            return _tiff_pixels(file)
    except (struct.error, LookupError, ValueError, EOFError):
        pass
    return None


def _exif(value: int) -> bytes:
    """EXIF with an orientation and nothing else."""
    return struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, _ORIENTATION, 3, 1, value, 0, 0)


def _png_pixels(file: IO[bytes]) -> BytesIO:
    kept, turned = BytesIO(), None
    kept.write(_PNG_START)
    for name, length in _png_chunks(file):
        if name in _PNG_PIXELS:
            if name == b'IDAT' and turned:
                block = b'eXIf' + _exif(turned)
                kept.write(struct.pack('>I', len(block) - 4) + block + struct.pack('>I', zlib.crc32(block)))
                turned = None
            kept.write(struct.pack('>I4s', length, name) + file.read(length + 4))
        elif name in (b'eXIf', b'iTXt'):
            turned = _find_orientation(file.read(min(length, _LOOKED_AT))) or turned
    return kept


def _jpeg_pixels(file: IO[bytes]) -> BytesIO:
    kept, turned = BytesIO(), None
    file.seek(2)
    while True:
        head = file.read(2)
        while head[1:] == b'\xff':  # fill bytes
            head = head[1:] + file.read(1)
        if len(head) < 2 or head[0] != 0xFF:
            raise ValueError('not where a segment begins')
        if head[1] == 0xDA:  # the scan: from here on pixels
            kept.write(head + file.read())
            break
        if head[1] == 0x01 or 0xD0 <= head[1] <= 0xD7:  # markers without content
            continue
        size = file.read(2)
        content = file.read(struct.unpack('>H', size)[0] - 2)
        if head[1] not in _JPEG_METADATA:
            kept.write(head + size + content)
        elif head[1] == 0xE1:
            turned = turned or _find_orientation(content)
    exif = b'Exif\0\0' + _exif(turned or 1)
    return BytesIO(_JPEG_START + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + kept.getvalue())


def _tiff_pixels(file: IO[bytes]) -> BytesIO:
    file.seek(0)
    content = bytearray(file.read())
    order = '<' if content[:2] == b'II' else '>'
    start, = struct.unpack_from(f'{order}I', content, 4)
    count, = struct.unpack_from(f'{order}H', content, start)
    entries = [content[place:place + 12] for place in range(start + 2, start + 2 + 12 * count, 12)]
    kept = [entry for entry in entries if struct.unpack_from(f'{order}H', entry)[0] in _TIFF_PIXELS]
    if len(kept) == count:
        raise ValueError('nothing to leave out')
    table = struct.pack(f'{order}H', len(kept)) + b''.join(kept) + bytes(4)
    content[start:start + len(table)] = table  # shorter than what it replaces
    return BytesIO(bytes(content))
