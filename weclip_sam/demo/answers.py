"""What the page shows of a photo: the class maps, the label made of them, the prediction."""
from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate

from weclip_sam.api import Segmenter
from weclip_sam.io.images import fit_within
from weclip_sam.io.names import normal
from weclip_sam.offline.label_making import LabelMaker
from weclip_sam.offline.work import StageClock
from weclip_sam.result import SegmentationResult
from weclip_sam.visualization import enlarge, explained_overlay, label_colors, overlay_class_maps

# Long sides of pictures on the page; the label that is downloaded has every pixel.
SHOWN_SIDE, LEAST_SIDE = 1024, 480


@dataclass(frozen=True)
class Answer:
    """What there is to see of one photo.

    Attributes:
        result: the prediction, at the photo's size.
        cam: class maps over the photo (H W 3 uint8, at the size of the page); None without given names.
        seed: labels H W uint8 that a training would have learnt from; None without given names.
        notes: sentences for the user.
    """

    result: SegmentationResult
    cam: np.ndarray | None = None
    seed: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())


class Answerer:
    """A trained model behind a page: one photo at a time.

    Args:
        checkpoint: of a training.
        sam: which SAM, see :class:`Segmenter`; True takes that of the config.
        device: see :class:`Segmenter`.
        config, options: see :class:`Segmenter`.

    Attributes:
        classes: names without the background.
        without_sam: why predictions cannot be refined with SAM; empty if they can.
        without_labels: why no labels are made from names; empty if they are.

    Raises:
        ValueError, FileNotFoundError: as :class:`Segmenter`.
    """

    def __init__(self, checkpoint: str, sam: bool | str = True, device: str | None = None, config: str | None = None,
                 options: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self.plain = Segmenter(checkpoint, device, config=config, options=options)
        self.classes = self.plain.classes[1:]
        self.sharp: Segmenter | None = None
        self.maker: LabelMaker | None = None
        self.without_sam = self.without_labels = ''
        try:
            self.sharp = Segmenter(checkpoint, device, config=config, options=options, sam=sam)
        except (ValueError, FileNotFoundError) as error:
            if sam is not True:  # somebody asked for this one
                raise
            self.without_sam = str(error)
        try:
            self.maker = LabelMaker(checkpoint, self.plain.device, config=config, options=options)
            if sam is not True:
                self.maker.sam = self.sharp.model.sam_at_test() if self.sharp is not None else self.maker.sam
        except (ValueError, FileNotFoundError) as error:
            self.without_labels = str(error)

    @property
    def has_sam(self) -> bool:
        """Whether predictions can be refined with SAM."""
        return self.sharp is not None

    def __call__(self, file: str, names: Sequence[str] = (), sam: bool = False) -> Answer:
        """Look at a photo.

        Args:
            file: the photo.
            names: what is in it, if that is known: then the maps and the label are shown, too. The prediction does not
                listen to them. As people type them: see :func:`as_classes`.
            sam: whether SAM refines the prediction.

        Raises:
            ValueError: a name that no class has, or a photo that cannot be used.
        """
        given = self.plain.possible(as_classes(names, self.classes), 'What is in it') or ()
        segmenter = self.sharp if sam and self.sharp is not None else self.plain
        notes = []
        with self._lock:  # one model; torch takes all cores anyway
            result = segmenter(file)
            if not result.labels.any():
                notes.append('The model found none of its classes in this photo: everything is background.')
            if not given:
                notes.append('Without names there is no label and no CAM.')
                return Answer(result, notes=tuple(notes))
            if self.maker is None:
                return Answer(result, notes=(*notes, f'No label from names: {self.without_labels}'))
            self.maker.take_photos([(Path(file), Path(file).stem, given)])
            loaded = self.maker.load(0)
            made, = self.maker.make([loaded], StageClock(self.plain.device))
            shown = self.maker.model.class_maps(pseudo_collate([loaded.item]))
        return Answer(result, self._maps(result, shown), made.labels, tuple(notes))

    @staticmethod
    def _maps(result: SegmentationResult, shown: Mapping[str, Any]) -> np.ndarray:
        """The class maps over the photo, at the size of the page."""
        size = shown_size(result.labels.shape)
        maps = [enlarge(each, size) for each in shown['cam'].float().cpu().numpy()]
        return overlay_class_maps(enlarge(result.image, size), np.stack(maps), shown['cam_classes'].tolist(),
                                  label_colors(result.palette, len(result.classes)))


def as_classes(names: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Names as people type them by the names of the classes: capitals and spaces do not count, a comma parts names.

    What is none of the classes is left as it is, for an error to tell.
    """
    meant: dict[str, list[str]] = {}
    for each in classes:
        meant.setdefault(_plain(each), []).append(each)
    found = []
    for text in names:
        for name in [text] if _plain(text) in meant else text.split(','):
            alike = meant.get(_plain(name), [])
            found.append(alike[0] if len(alike) == 1 else name.strip())
    return tuple(dict.fromkeys(name for name in found if name))


def _plain(name: str) -> str:
    return ' '.join(normal(name).casefold().split())


def shown_size(size: Sequence[int]) -> tuple[int, int]:
    """Height and width of a picture on the page: large photos are shrunk, tiny ones enlarged by a whole number."""
    times = max(1, LEAST_SIDE // max(size))
    return fit_within((size[0] * times, size[1] * times), SHOWN_SIDE)


def page_overlay(result: SegmentationResult, labels: np.ndarray, opacity: float) -> np.ndarray:
    """Labels over a photo at the size of the page, in the colours of label files, with names on the regions.

    Args:
        result: of the photo.
        labels: H W uint8, its own or others.
        opacity: in [0, 1].
    """
    size = shown_size(labels.shape)
    return explained_overlay(enlarge(result.image, size), enlarge(labels, size, smooth=False),
                             label_colors(result.palette, len(result.classes)), result.classes, opacity, legend=False)
