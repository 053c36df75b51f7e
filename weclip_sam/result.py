"""What a model says about one image, and the forms that this takes."""
from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from weclip_sam.checks import suggest_name
from weclip_sam.io.files import atomic_open
from weclip_sam.io.images import write_labels
from weclip_sam.models.refine import SamUse
from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization import enlarge, enlarge_labels, explained_overlay, label_colors
from weclip_sam.visualization.detections import to_supervision

_TOLD = 5  # classes that a result's repr names
_SHOWN = 512  # long side of what a notebook shows, in pixels


@dataclass(frozen=True, eq=False)  # arrays have no truth value: results are compared by identity
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
        confidence: H W uint8, 255 times how sure the label of each pixel is, if it was asked for.
        names: the classes that were given for the image; None if nobody named any.
        named: by given class, how well the name fits in [0, 1], as CLIP sees the whole image.
        doubts: by who says something else than the label (``cam``, ``sam``, ``decoder``), H W bool; of final labels
            only.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(default=None, repr=False)
    palette: Sequence[Sequence[int]] | None = field(default=None, repr=False)
    name: str = 'image'
    suspected_bits: int | None = None
    sam: SamUse | None = None
    confidence: np.ndarray | None = field(default=None, repr=False)
    names: tuple[str, ...] | None = None
    named: Mapping[str, float] = field(default_factory=dict)
    doubts: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def areas(self) -> dict[str, float]:
        """The share of the image's pixels in [0, 1] of every class that occurs, largest first; ignored ones (255) are
        of none."""
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.classes))[:len(self.classes)]
        order = sorted(np.flatnonzero(counts), key=lambda label: (-counts[label], label))
        return {self.classes[label]: float(counts[label] / self.labels.size) for label in order}

    def scores(self) -> dict[str, float]:
        """Mean confidence in [0, 1] of the pixels of every class that occurs, in label order.

        Raises:
            ValueError: there is no confidence.
        """
        if self.confidence is None:
            raise ValueError(f'{self.name}: its confidence was not asked for (confidence=True)')
        count = len(self.classes)
        pixels = np.bincount(self.labels.reshape(-1), minlength=count)[:count]
        total = np.bincount(self.labels.reshape(-1), self.confidence.reshape(-1), minlength=count)[:count]
        return {self.classes[label]: float(total[label] / pixels[label] / 255) for label in np.flatnonzero(pixels)}

    def mask(self, name: str) -> np.ndarray:
        """H W bool, where a class is.

        Raises:
            ValueError: the model knows no such class.
        """
        if name not in self.classes:
            raise ValueError(f"no class is called '{name}'.{suggest_name(name, self.classes)}")
        return self.labels == self.classes.index(name)

    def to_supervision(self) -> Any:
        """``supervision.Detections``, one for each class that occurs: see
        :func:`weclip_sam.visualization.detections.to_supervision`."""
        sure = None if self.confidence is None else self.confidence / np.float32(255)
        if sure is None and self.probabilities is not None:
            known = np.minimum(self.labels, len(self.classes) - 1)[None]  # ignored ones are no detection
            sure = np.take_along_axis(self.probabilities, known, 0)[0]
        return to_supervision(self.labels, self.classes, sure)

    def overlay(self, alpha: float = 0.55, *, legend: bool = True, names: bool = True) -> Image.Image:
        """The labels as outlined colours over the image, in the colours of the label file.

        Args:
            alpha: strength of the colours in [0, 1].
            legend: what colour is what, in a strip below the picture.
            names: each class's name on its largest region, if it has room there.

        Returns:
            RGB. Without legend and names it has the image's size; else small images are enlarged, so that words can be
            read, and the legend adds its height (:func:`weclip_sam.visualization.explained_overlay`).
        """
        return Image.fromarray(explained_overlay(
            self.image, self.labels, label_colors(self.palette, len(self.classes)), self.classes, alpha, legend, names))

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


def as_planes(labels: torch.Tensor, confidence: torch.Tensor | None, size: Sequence[int]
              ) -> tuple[np.ndarray, np.ndarray | None]:
    """What files of labels and of confidences hold, at that size: H W labels, and of H W numbers in [0, 1] 255 times
    them, rounded; both uint8, enlarged with smooth outlines, the confidence 0 where the label is 255."""
    whole = enlarge_labels(labels.to(torch.uint8).cpu().numpy(), size)
    if confidence is None:
        return whole, None
    sure = enlarge((255 * confidence).round().to(torch.uint8).cpu().numpy(), size)
    return whole, np.where(whole == IGNORE_LABEL, np.uint8(0), sure)


def as_half(probabilities: torch.Tensor, size: Sequence[int]) -> np.ndarray:
    """C+1 H W float16 at that size; class by class, so that they are never held twice as floats."""
    scores = np.empty((len(probabilities), *size), np.float16)
    for place, one in zip(scores, probabilities, strict=True):
        plane = one.cpu().numpy()
        place[:] = plane if plane.shape == tuple(size) else enlarge(plane, size)
    return scores
