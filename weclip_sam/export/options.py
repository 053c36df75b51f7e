"""What may be asked of an export of labels."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What may be asked of an export.

    Attributes:
        photos: ``'link'`` or ``'copy'`` puts the photos beside the labels; None does what the format needs: a link, or
            nothing.
        min_area: regions of fewer pixels are left out, by formats that know regions.
        simplify: how many pixels the border of a polygon may move, see :mod:`weclip_sam.export.polygons`.
        val_share: the share of the images in [0, 1) that goes to the list ``val``, in formats that have two lists.
        url_prefix: what comes before a photo's name in Label Studio.
        model_version: what Label Studio calls the predictions; the checkpoint's name where it is None.
    """

    photos: str | None = None
    min_area: int = 0
    simplify: float = 1.0
    val_share: float = 0.1
    url_prefix: str = '/data/local-files/?d='
    model_version: str | None = None

    def __post_init__(self) -> None:
        if self.photos not in (None, 'link', 'copy'):
            raise ValueError(f"photos: expected 'link', 'copy' or None, got {self.photos!r}")
        for name, least, most in (('min_area', 0, float('inf')), ('simplify', 0, 1000), ('val_share', 0, 1)):
            if not least <= getattr(self, name) <= most or name == 'val_share' and self.val_share == most:
                raise ValueError(f'{name}: expected a number from {least} up to {most}, got {getattr(self, name)}')
