"""Image files opened with suspicion: which formats, how large, and one error that says what is wrong."""
from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import IO, TypeVar

from PIL import Image, UnidentifiedImageError

from weclip_sam.io.metadata import pixels_only

Result = TypeVar('Result')

MAX_PIXELS = 100_000_000  # 10,000 x 10,000: larger files are taken for decompression bombs
# What is decoded at all, whatever a file is called: Pillow also knows EPS, which it hands to Ghostscript, a program.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'DIB', 'GIF', 'PPM', 'JPEG2000')  # MPO is opened as JPEG
# How the names of such files end, in lower case: what is taken for an image where a folder is searched.
SUFFIXES = tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in (*FORMATS, 'MPO')))


class ImageReadError(ValueError):
    """An image file that cannot be used; the message names the file and the reason."""


def is_image_name(name: str | os.PathLike[str]) -> bool:
    """Whether a file is called like an image, in capitals or not."""
    return os.fspath(name).lower().endswith(SUFFIXES)


def strip_suffix(name: str) -> str:
    """A name without the suffix of an image; what else is behind a dot belongs to the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def with_image(path: str | os.PathLike[str], max_pixels: int, use: Callable[[Image.Image], Result],
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
