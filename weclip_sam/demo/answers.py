"""What the page shows of a photo: the class maps, the label made of them, the prediction."""
from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image

from weclip_sam.api import Segmenter
from weclip_sam.checks import suggest_name
from weclip_sam.io.images import fit_within
from weclip_sam.result import SegmentationResult
from weclip_sam.visualization import class_colors, enlarge, overlay_class_maps, overlay_labels

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
        options: further arguments of :class:`Segmenter`.

    Attributes:
        classes: names without the background.

    Raises:
        ValueError, FileNotFoundError: as :class:`Segmenter`.
    """

    def __init__(self, checkpoint: str, sam: bool | str = True, **options: Any) -> None:
        self._lock = threading.Lock()
        self.plain = Segmenter(checkpoint, **options)
        self.classes = self.plain.classes[1:]
        self.without_sam = ''
        self._sharp: Segmenter | None = None
        try:
            self._sharp = Segmenter(checkpoint, sam=sam, **options)
        except (ValueError, FileNotFoundError) as error:
            if sam is not True:  # somebody asked for this one
                raise
            self.without_sam = str(error)

    @property
    def has_sam(self) -> bool:
        """Whether predictions can be refined with SAM."""
        return self._sharp is not None

    def __call__(self, photo: Image.Image, names: Sequence[str] = (), sam: bool = False) -> Answer:
        """Look at a photo.

        Args:
            photo: of any mode and size.
            names: what is in it, if that is known: then the maps and the label are shown, too.
            sam: whether SAM refines the prediction.

        Raises:
            ValueError: a name that no class has, or a photo that cannot be used.
        """
        for name in names:
            if name not in self.classes:
                raise ValueError(f'the model knows no class {name!r}.{suggest_name(name, self.classes)} It knows '
                                 f'{", ".join(self.classes)}')
        segmenter = self._sharp if sam and self._sharp is not None else self.plain
        with self._lock:  # one model; torch takes all cores anyway
            result = segmenter(photo)
            notes = []
            if not result.labels.any():
                notes.append('The model found none of its classes in this photo: everything is background.')
            if not names:
                return Answer(result, notes=tuple(notes))
            shown = self._explain(photo, names)
        cam, seed = self._pictures(result, shown)
        if seed is None:
            notes.append('The label needs masks of SAM, and there is no SAM: ' + self.without_sam)
        return Answer(result, cam, seed, tuple(notes))

    def _explain(self, photo: Image.Image, names: Sequence[str]) -> Mapping[str, Any]:
        """What the model's ``explain`` gives for a photo of these names; nothing where its steps need a SAM that is not
        there."""
        holder = self._sharp or self.plain
        model = holder.model
        if not hasattr(model, 'explain'):
            return {}
        masks = None
        if 'masks' in getattr(model, 'seeds_need', ()):
            pixels = torch.from_numpy(np.array(photo.convert('RGB'))).permute(2, 0, 1).to(holder.device)
            masks = model.sam_at_test().masks(pixels)
            if masks is None:
                return {}
        item = holder.prepare(photo, names, None if masks is None else masks.to('cpu'))
        return model.explain(pseudo_collate([item]))

    def _pictures(self, result: SegmentationResult, shown: Mapping[str, Any]
                  ) -> tuple[np.ndarray | None, np.ndarray | None]:
        if 'cam' not in shown:
            return None, None
        size = shown_size(result.labels.shape)
        maps = np.stack([enlarge(each, size) for each in shown['cam'].float().cpu().numpy()]) \
            if len(shown['cam']) else np.zeros((0, *size), np.float32)
        picture = overlay_class_maps(enlarge(result.image, size), maps, shown['cam_classes'].tolist(),
                                     class_colors(len(result.classes)))
        return picture, shown['seed'].to(torch.uint8).cpu().numpy()


def shown_size(size: Sequence[int]) -> tuple[int, int]:
    """Height and width of a picture on the page: large photos are shrunk, tiny ones enlarged by a whole number."""
    times = max(1, LEAST_SIDE // max(size))
    return fit_within((size[0] * times, size[1] * times), SHOWN_SIDE)


def shrunk_overlay(image: np.ndarray, labels: np.ndarray, count: int, opacity: float) -> np.ndarray:
    """Labels over a photo at the size of the page.

    Args:
        image: H W 3 uint8.
        labels: H W uint8.
        count: classes, background included.
        opacity: in [0, 1].
    """
    size = shown_size(labels.shape)
    return overlay_labels(enlarge(image, size), enlarge(labels, size, smooth=False), class_colors(count), opacity)
