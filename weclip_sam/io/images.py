"""Images and label PNGs, read with suspicion and written whole."""
from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from typing import IO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import TiffImageFile

from weclip_sam.colors import Palette, label_colors
from weclip_sam.colors import voc_palette as voc_palette  # part of what label PNGs are
from weclip_sam.io.depth import DEEP, Depth, deep_to_colour, deep_to_grey, look_at
from weclip_sam.io.files import atomic_open
from weclip_sam.io.metadata import orientation, pixels_only
from weclip_sam.structures import IGNORE_LABEL

Result = TypeVar('Result')

MAX_PIXELS = 100_000_000  # 10,000 x 10,000: larger files are taken for decompression bombs
# What is decoded at all, whatever a file is called: Pillow also knows EPS, which it hands to Ghostscript, a program.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'DIB', 'GIF', 'PPM', 'JPEG2000')  # MPO is opened as JPEG
# How the names of such files end, in lower case: what is taken for an image where a folder is searched.
SUFFIXES = tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in (*FORMATS, 'MPO')))
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}

_MADE_OF, _PIXELS = 'made_of', 'pixels'  # keys of a label PNG's text


class ImageReadError(ValueError):
    """An image file that cannot be used; the message names the file and the reason."""


def is_image_name(name: str | os.PathLike[str]) -> bool:
    """Whether a file is called like an image, in capitals or not."""
    return os.fspath(name).lower().endswith(SUFFIXES)


def strip_suffix(name: str) -> str:
    """A name without the suffix of an image; what else is behind a dot belongs to the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def _with_image(path: str | os.PathLike[str], max_pixels: int, use: Callable[[Image.Image], Result],
                formats: Sequence[str] = FORMATS, content: IO[bytes] | None = None) -> Result:
    """What ``use`` makes of an image that is opened by its header only; any failure becomes an ImageReadError.

    Where there is ``content``, it is read instead of the file; ``path`` only tells where it came from. An image that
    fails is tried again without its metadata: what is wrong with them never makes a picture unreadable.
    """
    try:
        try:
            return _open(path if content is None else content, path, max_pixels, use, formats)
        except (ImageReadError, Image.DecompressionBombError, MemoryError):
            raise
        except Exception as error:  # Pillow's decoders raise nearly any type on broken bytes
            bare = None if isinstance(error, OSError) and error.errno is not None else _bare(path, content)
            if bare is None:
                raise
            try:
                return _open(bare, path, max_pixels, use, formats)
            except ImageReadError:
                raise
            except Exception:
                raise error from None
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
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the path's or the disk's fault, not the content's
            raise ImageReadError(f'{path}: cannot be read ({error.strerror})') from error
        raise ImageReadError(f'{path}: not a readable image ({type(error).__name__}: {error}); '
                             'it may be truncated or no image at all: replace it') from error


def _open(file: str | os.PathLike[str] | IO[bytes], path: str | os.PathLike[str], max_pixels: int,
          use: Callable[[Image.Image], Result], formats: Sequence[str]) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow warns about sizes and broken metadata; the size is checked below
        with Image.open(file, formats=tuple(formats)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageReadError(f'{path}: {width} x {height} pixels are more than max_pixels={max_pixels}; '
                                     'shrink the image, or raise the limit if you trust the file')
            return use(image)


def _bare(path: str | os.PathLike[str], content: IO[bytes] | None) -> IO[bytes] | None:
    if content is not None:
        return pixels_only(content)
    with open(path, 'rb') as file:
        return pixels_only(file)


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

    return _with_image(path, max_pixels, use)


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
    return _with_image(path, max_pixels, lambda image: _read(image, max_side))


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
                             f'{shape}' + ('; a tensor 3 H W needs .permute(1, 2, 0)' if shape[:1] == (3,) else ''))
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
    def values(image: Image.Image) -> np.ndarray:
        if image.mode not in (('P', 'L', '1', 'I;16', 'I') if deep else ('P', 'L', '1')):
            bits = 'one channel' if deep else '8 bits'
            raise ImageReadError(f'{path}: labels must be a palette or grey image of {bits}, got mode {image.mode!r} '
                                 '(colours cannot be mapped back to classes)')
        return np.array(image)

    return _with_image(path, max_pixels, values, ('PNG',), content)


def decode_colours(path: str | os.PathLike[str], content: IO[bytes] | None = None, max_pixels: int = MAX_PIXELS
                   ) -> np.ndarray:
    """The colours of a PNG whose colours, not its numbers, name classes, H W 3 uint8. Arguments and errors as above.
    """
    return _with_image(path, max_pixels, lambda image: np.array(image.convert('RGB')), ('PNG',), content)


def is_grey(path: str | os.PathLike[str], content: IO[bytes] | None = None) -> bool:
    """Whether a PNG has numbers alone, and no colours; its pixels are not read. Arguments and errors as above."""
    return _with_image(path, MAX_PIXELS, lambda image: image.mode in ('1', 'L', 'I', 'I;16'), ('PNG',), content)


def label_palette(path: str | os.PathLike[str], content: IO[bytes] | None = None) -> dict[int, tuple[int, int, int]]:
    """The colours of a palette PNG by number, without decoding it; none of a grey one. Arguments and errors as above.
    """
    def colours(image: Image.Image) -> dict[int, tuple[int, int, int]]:
        flat = (image.getpalette('RGB') or []) if image.mode == 'P' else []
        return dict(enumerate(zip(flat[::3], flat[1::3], flat[2::3], strict=True)))

    return _with_image(path, MAX_PIXELS, colours, ('PNG',), content)


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
                 palette: Palette | None = None, made_of: str | None = None) -> None:
    """Write labels as a palette PNG, atomically. It says what its pixels are: see :func:`labels_changed`.

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
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(label_colors(palette, 256).reshape(-1).tolist())
    text = PngInfo()
    text.add_text(_PIXELS, pixels_digest(labels))
    if made_of is not None:
        text.add_text(_MADE_OF, made_of)
    with atomic_open(path) as file:
        image.save(file, format='PNG', pnginfo=text)


def write_grey(path: str | os.PathLike[str], values: np.ndarray) -> None:
    """Write H W uint8 as a grey PNG of 8 bits, atomically; its folder is made if missing."""
    with atomic_open(path) as file:
        Image.fromarray(values).save(file, format='PNG')


def pixels_digest(labels: np.ndarray) -> str:
    """32 hexadecimal digits of labels, whatever file they are in (of those of another shape mostly others)."""
    return hashlib.blake2b(np.ascontiguousarray(labels, np.uint8).tobytes(), digest_size=16).hexdigest()


def labels_changed(path: str | os.PathLike[str], unsaid: bool = True) -> bool:
    """Whether a label PNG shows something else than when :func:`write_labels` wrote it: someone corrected it.

    Args:
        path: the file.
        unsaid: the answer for one that does not say what it showed, as most editors leave it.

    Returns:
        False, too, where there is no file, or one that cannot be read: nothing is lost with it.
    """
    def changed(image: Image.Image) -> bool:
        shown, known = pixels_digest(np.array(image)), image.info.get(_PIXELS)
        return unsaid if known is None else known != shown

    try:
        return _with_image(path, MAX_PIXELS, changed, ('PNG',))
    except ImageReadError:
        return False


def labels_made_of(path: str | os.PathLike[str]) -> str | None:
    """What :func:`write_labels` was told about a label PNG, or None; the pixels are not read.

    Raises:
        ImageReadError: when it is no readable PNG.
    """
    return _with_image(path, MAX_PIXELS, lambda image: image.info.get(_MADE_OF), ('PNG',))
