"""Images and label PNGs, read with suspicion and written whole.

The way in to both: images are read here, what opens any file is ``image_files``, what labels are is ``label_pngs``.
"""
from __future__ import annotations

import os

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from weclip_sam.colors import voc_palette  # part of what label PNGs are
from weclip_sam.io.depth import DEEP, Depth, deep_to_colour, deep_to_grey, look_at
from weclip_sam.io.image_files import (
    FORMATS,
    MAX_PIXELS,
    SUFFIXES,
    ImageReadError,
    is_image_name,
    strip_suffix,
    with_image,
)
from weclip_sam.io.label_pngs import (
    check_labels,
    decode_colours,
    decode_labels,
    is_grey,
    label_palette,
    labels_changed,
    labels_made_of,
    pixels_digest,
    read_labels,
    write_grey,
    write_labels,
)
from weclip_sam.io.metadata import orientation

__all__ = [
    'FORMATS', 'MAX_PIXELS', 'SUFFIXES', 'ImageReadError', 'as_rgb', 'check_labels', 'decode_colours', 'decode_labels',
    'fit_within', 'image_header', 'image_size', 'is_grey', 'is_image_name', 'label_palette', 'labels_changed',
    'labels_made_of', 'pixels_digest', 'read_image', 'read_labels', 'strip_suffix', 'voc_palette', 'write_grey',
    'write_labels']

_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}


def _seen_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an open image with its orientation applied, before it is decoded."""
    # Pillow gives some TIFFs' sizes as seen, others' as stored, depending on its version: their tags are as stored.
    width, height = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
    return (height, width) if orientation(image) in (5, 6, 7, 8) else (width, height)


def image_size(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) as :func:`read_image` would return it, from the header alone.

    Raises:
        ImageReadError: when the header is unreadable or the image too large.
    """
    return image_header(path, max_pixels)[0]


def image_header(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[tuple[int, int], bool]:
    """:func:`image_size`, and whether values have more than 8 bits."""
    def use(image: Image.Image) -> tuple[tuple[int, int], bool]:
        deep = image.mode.startswith(DEEP) or look_at(image).colour
        return _seen_size(image)[::-1], deep

    return with_image(path, max_pixels, use)


def fit_within(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """(height, width) shrunk so that the long side is at most ``max_side``; None leaves it."""
    if max_side is None or max(size) <= max_side:
        return size
    return max(1, round(size[0] * max_side / max(size))), max(1, round(size[1] * max_side / max(size)))


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, max_side: int | None = None) -> Image.Image:
    """Read any image as people see it: RGB, 8 bits, EXIF orientation applied, transparency shown on white.

    Grey, palette, CMYK, 16-bit and floating-point images are converted; the first frame of an animation is taken.
    Values of 10 or 12 bits in 16 are scaled by their real depth where the file says it (``stated_bits``).

    Args:
        path: the file.
        max_pixels: the largest width times height that is decoded at all.
        max_side: shrink larger images to this long side, see :func:`fit_within`.

    Returns:
        A PIL image of mode RGB. Where values of 16 bits are so small that the file seems to hold fewer bits, and does
        not say so, its ``info['suspected_bits']`` is their number.

    Raises:
        ImageReadError: naming the file, when it is missing, truncated, too large or not of :data:`FORMATS`.
    """
    return with_image(path, max_pixels, lambda image: _read(image, max_side))


def _read(image: Image.Image, max_side: int | None) -> Image.Image:
    """An open file as people see it, see :func:`read_image`."""
    depth, seen = look_at(image), _seen_size(image)
    height, width = fit_within(seen[::-1], max_side)
    if (width, height) != seen:  # a JPEG decodes at a fraction of its size, and much faster
        image.draft(None, (2 * width, 2 * height) if image.size == seen else (2 * height, 2 * width))
    upright = _upright(image, depth)
    return upright if upright.size == (width, height) else upright.resize((width, height), Image.Resampling.BICUBIC)


def _upright(image: Image.Image, depth: Depth) -> Image.Image:
    """A new RGB image, turned; of what the old one said about itself only ``info['suspected_bits']`` is left."""
    image.load()
    turn = _TURNS.get(orientation(image))  # of a TIFF Pillow may have turned the pixels, and then forgets this
    decoded, suspected = deep_to_colour(image, depth) if depth.colour else (image, None)
    turned = decoded if turn is None else decoded.transpose(turn)
    if turned.mode.startswith(DEEP):
        turned, suspected = deep_to_grey(turned, depth.stated)
    result = _to_rgb(turned)
    result = result.copy() if result is image else result  # not the open file
    result.info = {} if suspected is None else dict(suspected_bits=suspected)
    return result


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
        return _upright(image, look_at(image))
    except Exception as error:  # a lazy PIL image decodes only now
        raise ImageReadError(f'{name}: not a readable image ({type(error).__name__}: {error})') from error


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    shape, channels = array.shape, array.shape[2] if array.ndim == 3 else 0
    if array.ndim not in (2, 3) or (array.ndim == 3 and channels not in (1, 3, 4)) or 0 in shape:
        raise ImageReadError(f'{name}: expected an array H W, H W 1, H W 3 or H W 4 with at least one pixel, got shape '
                             f'{shape}' + ('; several images are given as a list of arrays' if array.ndim == 4 else
                                           '; a tensor 3 H W needs .permute(1, 2, 0)' if shape[:1] == (3,) else ''))
    grey = channels in (0, 1)
    allowed = ('bool', 'uint8', 'uint16') if grey else ('uint8',)
    if array.dtype.name not in allowed:
        raise ImageReadError(f'{name}: expected {" or ".join(allowed)}, got {array.dtype.name}; scale the values to '
                             '0..255 and use .astype(numpy.uint8)')
    array = array[..., 0] if channels == 1 else array
    return Image.fromarray(np.ascontiguousarray(array * np.uint8(255) if array.dtype == bool else array))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, (255, 255, 255, 255)), image)
    return image if image.mode == 'RGB' else image.convert('RGB')
