"""What a model says about one image, and the forms that this takes."""
from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from weclip_sam.checks import suggest_name
from weclip_sam.io.files import atomic_open
from weclip_sam.io.images import write_labels
from weclip_sam.models.refine import SamUse
from weclip_sam.visualization import class_colors, overlay_labels

_TOLD = 5  # classes that a result's repr names
_SHOWN = 512  # long side of what a notebook shows, in pixels


@dataclass(frozen=True)
class SegmentationResult:
    """What the model says about one image.

    Attributes:
        labels: H W uint8 at the image's own size (EXIF orientation applied): 0 background, 1..C.
        classes: C+1 names by label, ``background`` first.
        image: H W 3 uint8, RGB, what was looked at.
        probabilities: C+1 H W float16 in [0, 1] if they were asked for.
        palette: RGB triples of the data set, for label files.
        name: the file's path, or ``image 3`` of a batch.
        suspected_bits: of an image of 16 bits, how many it seems to use, where it does not say and they are fewer: it
            was looked at as dark as it is.
        sam: what SAM had to do with it (``masks``, ``live``, ``seconds``; see
            :class:`weclip_sam.models.refine.SamUse`); None where it was not asked for.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(default=None, repr=False)
    palette: Sequence[Sequence[int]] | None = field(default=None, repr=False)
    name: str = 'image'
    suspected_bits: int | None = None
    sam: SamUse | None = None

    def areas(self) -> dict[str, float]:
        """The share of the image's pixels in [0, 1] of every class that occurs, largest first."""
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.classes))
        order = sorted(np.flatnonzero(counts), key=lambda label: (-counts[label], label))
        return {self.classes[label]: float(counts[label] / self.labels.size) for label in order}

    def mask(self, name: str) -> np.ndarray:
        """H W bool, where a class is.

        Raises:
            ValueError: the model knows no such class.
        """
        if name not in self.classes:
            raise ValueError(f"no class is called '{name}'.{suggest_name(name, self.classes)}")
        return self.labels == self.classes.index(name)

    def overlay(self, alpha: float = 0.55) -> Image.Image:
        """The labels as colours over the image, outlined, at the image's size."""
        return Image.fromarray(overlay_labels(self.image, self.labels, class_colors(len(self.classes)), alpha))

    def save(self, path: str | os.PathLike, overlay: str | os.PathLike | None = None) -> None:
        """Write the labels as a palette PNG and, if a second path is given, the overlay as a picture, atomically.

        Raises:
            ValueError: a path that does not end in ``.png`` (labels must not be compressed with loss).
        """
        if Path(path).suffix.lower() != '.png':
            raise ValueError(f'{path}: labels are written as .png, which keeps every value')
        write_labels(path, self.labels, self.palette)
        if overlay is not None:
            suffix = Path(overlay).suffix.lower()
            kind = {'.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG', '.webp': 'WEBP'}.get(suffix)
            if kind is None:
                raise ValueError(f'{overlay}: an overlay is written as .png, .jpg or .webp')
            with atomic_open(overlay) as file:
                self.overlay().save(file, format=kind)

    def segments(self, background: bool = True) -> list[dict[str, Any]]:
        """The classes that occur, in label order, as Hugging Face's ``pipeline('image-segmentation')`` gives them.

        Args:
            background: whether it is one of them.

        Returns:
            For each ``label`` (its name), ``mask`` (a PIL image of mode L, 255 where it is, of the image's size) and
            ``score``: the mean probability in [0, 1] of its pixels, or None without ``probabilities``.
        """
        found: list[dict[str, Any]] = []
        for label, name in enumerate(self.classes):
            mask = self.labels == label
            if mask.any() and (label or background):
                score = None if self.probabilities is None else float(self.probabilities[label][mask].mean(dtype=float))
                found.append(dict(score=score, label=name, mask=Image.fromarray(mask.astype(np.uint8) * 255)))
        return found

    def __repr__(self) -> str:
        shares = ', '.join(f'{name} {share:.1%}' for name, share in list(self.areas().items())[:_TOLD])
        height, width = self.labels.shape
        return f'SegmentationResult({self.name!r}, {width} x {height}: {shares})'

    def _repr_png_(self) -> bytes:
        """The overlay, as notebooks show it."""
        picture = self.overlay()
        picture.thumbnail((_SHOWN, _SHOWN))
        file = io.BytesIO()
        picture.save(file, format='PNG')
        return file.getvalue()
