"""Masks of a photo that lies anywhere, under whatever name: by what is in its file."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from weclip_sam.io.identity import recognise
from weclip_sam.io.names import normal
from weclip_sam.mask_bank.bank import MaskBank
from weclip_sam.structures import MaskSet


def masks_of_photo(bank: MaskBank, path: str | os.PathLike, size: tuple[int, int]) -> MaskSet | None:
    """The masks that a bank has of a photo, or None.

    Looked for are images whose id is an end of the photo's path, with or without suffix (``a``, ``day1/a``, ``a.jpg``);
    they count if the bank knows that they were made of a file with this content.

    Args:
        bank: of any images.
        path: of the photo.
        size: (H, W) at which it is looked at.
    """
    for image_id in _possible_ids(Path(path)):
        known = bank.made_of(image_id)
        if known is not None and known.size == tuple(size) and recognise(path, known.photos) is not None:
            return bank.get(image_id)
    return None


def _possible_ids(path: Path) -> Iterator[str]:
    absolute = path.absolute()
    for parts in (absolute.with_suffix('').parts, absolute.parts):
        for first in range(len(parts) - 1, 0, -1):
            yield normal('/'.join(parts[first:]))
