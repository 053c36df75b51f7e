"""Label PNGs: a number for each pixel, read with suspicion and written whole."""
from __future__ import annotations

import hashlib
import os
from typing import IO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from weclip_sam.colors import Palette, label_colors
from weclip_sam.io.files import atomic_open
from weclip_sam.io.image_files import MAX_PIXELS, ImageReadError, with_image
from weclip_sam.structures import IGNORE_LABEL

_MADE_OF, _PIXELS = 'made_of', 'pixels'  # keys of a label PNG's text


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
        max_pixels: as in :func:`weclip_sam.io.images.read_image`.
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

    return with_image(path, max_pixels, values, ('PNG',), content)


def decode_colours(path: str | os.PathLike[str], content: IO[bytes] | None = None, max_pixels: int = MAX_PIXELS
                   ) -> np.ndarray:
    """The colours of a PNG whose colours, not its numbers, name classes, H W 3 uint8. Arguments and errors as above.
    """
    return with_image(path, max_pixels, lambda image: np.array(image.convert('RGB')), ('PNG',), content)


def is_grey(path: str | os.PathLike[str], content: IO[bytes] | None = None) -> bool:
    """Whether a PNG has numbers alone, and no colours; its pixels are not read. Arguments and errors as above."""
    return with_image(path, MAX_PIXELS, lambda image: image.mode in ('1', 'L', 'I', 'I;16'), ('PNG',), content)


def label_palette(path: str | os.PathLike[str], content: IO[bytes] | None = None) -> dict[int, tuple[int, int, int]]:
    """The colours of a palette PNG by number, without decoding it; none of a grey one. Arguments and errors as above.
    """
    def colours(image: Image.Image) -> dict[int, tuple[int, int, int]]:
        flat = (image.getpalette('RGB') or []) if image.mode == 'P' else []
        return dict(enumerate(zip(flat[::3], flat[1::3], flat[2::3], strict=True)))

    return with_image(path, MAX_PIXELS, colours, ('PNG',), content)


def read_labels(path: str | os.PathLike[str], num_classes: int | None = None, size: tuple[int, int] | None = None,
                max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label PNG: one byte per pixel, palette or grey.

    Args:
        path: the file.
        num_classes: C; values other than 0..C and 255 are refused. None accepts all.
        size: expected (height, width), or None.
        max_pixels: as in :func:`weclip_sam.io.images.read_image`.

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
        return with_image(path, MAX_PIXELS, changed, ('PNG',))
    except ImageReadError:
        return False


def labels_made_of(path: str | os.PathLike[str]) -> str | None:
    """What :func:`write_labels` was told about a label PNG, or None; the pixels are not read.

    Raises:
        ImageReadError: when it is no readable PNG.
    """
    return with_image(path, MAX_PIXELS, lambda image: image.info.get(_MADE_OF), ('PNG',))
