"""Images and label PNGs, read with suspicion and written whole."""
from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import TiffImageFile

from weclip_sam.io.files import atomic_open
from weclip_sam.structures import IGNORE_LABEL

BLOCK = 1 << 20  # pixels of 16 bits or floats that are converted at a time
MAX_PIXELS = 100_000_000  # 10,000 x 10,000: larger files are taken for decompression bombs
# What is decoded at all, whatever a file is called: Pillow also knows EPS, which it hands to Ghostscript, a program.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'PPM', 'JPEG2000')  # MPO is opened as JPEG

_MADE_OF = 'made_of'  # the key of a label PNG's text


class ImageReadError(ValueError):
    """An image file that cannot be used; the message names the file and the reason."""


def voc_palette(size: int = 256) -> list[tuple[int, int, int]]:
    """The VOC colours: the bits of a label, three at a time, become the high bits of red, green and blue.

    Returns:
        ``size`` RGB triples in 0..255; label 0 is black and 255 a light cream.
    """
    colours = []
    for label in range(size):
        rgb = [0, 0, 0]
        for step in range(8):
            for channel in range(3):
                rgb[channel] |= (label >> (3 * step + channel) & 1) << (7 - step)
        colours.append((rgb[0], rgb[1], rgb[2]))
    return colours


@contextmanager
def _opened(path: str | os.PathLike[str], max_pixels: int, formats: tuple[str, ...] = FORMATS,
            content: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """Open an image by its header only; any failure, here or in the block, becomes an ImageReadError.

    Where there is ``content``, it is read instead of the file; ``path`` only tells where it came from.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow warns about sizes and broken metadata; the size is checked below
            with Image.open(path if content is None else content, formats=formats) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ImageReadError(f'{path}: {width} x {height} pixels are more than max_pixels={max_pixels}; '
                                         'shrink the image, or raise the limit if you trust the file')
                yield image
    except ImageReadError:
        raise
    except FileNotFoundError:
        raise ImageReadError(f'{path}: no such file') from None
    except UnidentifiedImageError:
        raise ImageReadError(f'{path}: not a readable image; expected {", ".join(formats)} (by content, not by name), '
                             'undamaged and with pixels that Pillow decodes: convert or replace it') from None
    except Image.DecompressionBombError:
        raise ImageReadError(f'{path}: far more than max_pixels={max_pixels} pixels; refused as a decompression '
                             'bomb') from None
    except Exception as error:  # Pillow's decoders raise nearly any type on broken bytes
        if isinstance(error, OSError) and error.errno is not None:  # the path's or the disk's fault, not the content's
            raise ImageReadError(f'{path}: cannot be read ({error.strerror})') from error
        raise ImageReadError(f'{path}: not a readable image ({type(error).__name__}: {error}); '
                             'it may be truncated or no image at all: replace it') from error


def _seen_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an open image with its orientation applied, before it is decoded."""
    # Pillow gives some TIFFs' sizes as seen, others' as stored, depending on its version: their tags are as stored.
    width, height = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
    return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def image_size(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) as :func:`read_image` would return it, from the header alone.

    Raises:
        ImageReadError: when the header is unreadable or the image too large.
    """
    with _opened(path, max_pixels) as image:
        return _seen_size(image)[::-1]


def fit_within(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """(height, width) shrunk so that the long side is at most ``max_side``; None leaves it."""
    if max_side is None or max(size) <= max_side:
        return size
    return max(1, round(size[0] * max_side / max(size))), max(1, round(size[1] * max_side / max(size)))


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, max_side: int | None = None) -> Image.Image:
    """Read any image as people see it: RGB, 8 bits, EXIF orientation applied, transparency shown on white.

    Grey, palette, CMYK, 16-bit and floating-point images are converted; the first frame of an animation is taken.

    Args:
        path: the file.
        max_pixels: the largest width times height that is decoded at all.
        max_side: shrink larger images to this long side, see :func:`fit_within`.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ImageReadError: naming the file, when it is missing, truncated, too large or not of :data:`FORMATS`.
    """
    with _opened(path, max_pixels) as image:
        seen = _seen_size(image)
        height, width = fit_within(seen[::-1], max_side)
        if (width, height) != seen:  # a JPEG decodes at a fraction of its size, and much faster
            image.draft(None, (2 * width, 2 * height) if image.size == seen else (2 * height, 2 * width))
        ImageOps.exif_transpose(image, in_place=True)
        upright = _to_rgb(image)
        if upright.size != (width, height):
            return upright.resize((width, height), Image.Resampling.BICUBIC)
        return upright.copy() if upright is image else upright  # not the open file


def as_rgb(image: Image.Image | np.ndarray, name: str = 'image', max_pixels: int = MAX_PIXELS) -> Image.Image:
    """What :func:`read_image` does, for an image that is in memory already.

    Args:
        image: a PIL image of any mode, or an array: H W (grey; bool, uint8 or uint16), H W 1, H W 3 (RGB) or H W 4
            (RGBA) of uint8. Other ranges are not guessed.
        name: what to call it in errors.
        max_pixels: as in :func:`read_image`.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ImageReadError: an array of another shape or type, an image without pixels, or one too large.
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image, name)
    if not isinstance(image, Image.Image):
        raise ImageReadError(f'{name}: expected a path, a PIL image or a numpy array, got {type(image).__name__}')
    if image.width * image.height > max_pixels:
        raise ImageReadError(f'{name}: {image.width} x {image.height} pixels are more than max_pixels={max_pixels}; '
                             'shrink the image, or raise the limit')
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # a lazy PIL image decodes only now
        raise ImageReadError(f'{name}: not a readable image ({type(error).__name__}: {error})') from error


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    shape, channels = array.shape, array.shape[2] if array.ndim == 3 else 0
    if array.ndim not in (2, 3) or (array.ndim == 3 and channels not in (1, 3, 4)) or 0 in shape:
        raise ImageReadError(f'{name}: expected an array H W, H W 1, H W 3 or H W 4 with at least one pixel, got shape '
                             f'{shape}' + ('; a tensor 3 H W needs .permute(1, 2, 0)' if shape[:1] == (3,) else ''))
    grey = channels in (0, 1)
    allowed = ('bool', 'uint8', 'uint16') if grey else ('uint8',)
    if array.dtype.name not in allowed:
        raise ImageReadError(f'{name}: expected {" or ".join(allowed)}, got {array.dtype.name}; scale the values to '
                             '0..255 and use .astype(numpy.uint8)')
    array = array[..., 0] if channels == 1 else array
    return Image.fromarray(np.ascontiguousarray(array * np.uint8(255) if array.dtype == bool else array))


def _deep_to_grey(image: Image.Image) -> Image.Image:
    """Mode I, I;16 or F as mode L. Rows are converted in blocks: a whole image of doubles would take gigabytes."""
    step = max(1, BLOCK // image.width)
    starts = range(0, image.height, step)

    def block(start: int) -> np.ndarray:
        values = np.asarray(image.crop((0, start, image.width, min(start + step, image.height))))
        return values if image.mode != 'F' else np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(float)

    # Integers are taken for 16 bits; floats for 0..1, 0..255 or 0..65535, the first that holds them all.
    top = max(block(start).max() for start in starts) if image.mode == 'F' else 0
    scale = 255 / 65535 if top > 255 else 255.0 if top <= 1 else 1.0
    grey = np.empty((image.height, image.width), np.uint8)
    for start in starts:
        values = block(start)
        if image.mode == 'F':
            rows = np.clip(np.rint(values * scale), 0, 255)
        else:
            rows = (np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257
        grey[start:start + step] = rows
    return Image.fromarray(grey)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ('F', 'I') or image.mode.startswith('I;16'):
        image = _deep_to_grey(image)
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, (255, 255, 255, 255)), image)
    return image if image.mode == 'RGB' else image.convert('RGB')


def check_labels(labels: np.ndarray, source: str, num_classes: int | None,
                 size: tuple[int, int] | None = None) -> None:
    """Check label values and size.

    Args:
        labels: H W integers.
        source: the file they came from, for the error.
        num_classes: C; allowed are 0..C and 255. None allows everything.
        size: the (height, width) the labels must have.

    Raises:
        ValueError: naming the file and what is wrong.
    """
    if size is not None and labels.shape != tuple(size):
        raise ValueError(f'{source}: labels are {labels.shape[0]} x {labels.shape[1]} (height x width), but the image '
                         f'is {size[0]} x {size[1]}')
    if num_classes is not None:
        present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
        wrong = [int(v) for v in present if v > num_classes and v != IGNORE_LABEL]
        if wrong:
            raise ValueError(f'{source}: label values {wrong[:10]} name no class; allowed are 0 (background) to '
                             f'{num_classes} and {IGNORE_LABEL} (ignore)')


def decode_labels(path: str | os.PathLike[str], content: IO[bytes] | None = None, max_pixels: int = MAX_PIXELS,
                  deep: bool = False) -> np.ndarray:
    """A label PNG as it is: one channel, palette or grey; the values are not checked.

    Args:
        path: the file.
        content: what to read instead (a member of an archive, say); ``path`` then names it in errors.
        max_pixels: as in :func:`read_image`.
        deep: whether grey of 16 bits is a label map, too.

    Returns:
        H W of whatever type the PNG has.

    Raises:
        ImageReadError: when it is missing, truncated, too large, no PNG, or not a palette or grey image.
    """
    with _opened(path, max_pixels, ('PNG',), content) as image:
        if image.mode not in (('P', 'L', '1', 'I;16', 'I') if deep else ('P', 'L', '1')):
            bits = 'one channel' if deep else '8 bits'
            raise ImageReadError(f'{path}: labels must be a palette or grey image of {bits}, got mode {image.mode!r} '
                                 '(colours cannot be mapped back to classes)')
        return np.array(image)


def read_labels(path: str | os.PathLike[str], num_classes: int | None = None, size: tuple[int, int] | None = None,
                max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label PNG: one byte per pixel, palette or grey.

    Args:
        path: the file.
        num_classes: C; values other than 0..C and 255 are refused. None accepts all.
        size: expected (height, width), or None.
        max_pixels: as in :func:`read_image`.

    Returns:
        H W uint8.

    Raises:
        ImageReadError: when the file is missing, truncated, too large, no PNG, or not a palette or grey image of 8
            bits.
        ValueError: when values or size are not as expected.
    """
    labels = decode_labels(path, max_pixels=max_pixels).astype(np.uint8, copy=False)
    check_labels(labels, str(path), num_classes, size)
    return labels


def write_labels(path: str | os.PathLike[str], labels: np.ndarray,
                 palette: Iterable[Sequence[int]] | None = None, made_of: str | None = None) -> None:
    """Write labels as a palette PNG, atomically.

    Args:
        path: the file; its folder is made if missing.
        labels: H W integers in 0..255.
        palette: RGB triples by label; labels beyond it keep the VOC colour.
        made_of: what they were made of (a digest, say); :func:`labels_made_of` gives it back.

    Raises:
        ValueError: when ``labels`` is not H W integer within 0..255.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in 'bui' or labels.size == 0:
        raise ValueError(f'labels for {path}: expected a non-empty H W integer array, got {labels.dtype} '
                         f'{labels.shape}')
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f'labels for {path}: values must be within 0..255, got {labels.min()}..{labels.max()}')
    colours = voc_palette()
    for label, colour in enumerate(palette or ()):
        colours[label] = (int(colour[0]), int(colour[1]), int(colour[2]))
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([value for colour in colours for value in colour])
    options = {}
    if made_of is not None:
        options['pnginfo'] = PngInfo()
        options['pnginfo'].add_text(_MADE_OF, made_of)
    with atomic_open(path) as file:
        image.save(file, format='PNG', **options)


def labels_made_of(path: str | os.PathLike[str]) -> str | None:
    """What :func:`write_labels` was told about a label PNG, or None; the pixels are not read.

    Raises:
        ImageReadError: when it is no readable PNG.
    """
    with _opened(path, MAX_PIXELS, ('PNG',)) as image:
        return image.info.get(_MADE_OF)
