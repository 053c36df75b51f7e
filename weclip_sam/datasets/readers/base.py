"""What differs between data sets: which images there are, what is in them, and where to find a mask."""
from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from weclip_sam.datasets.readers.faults import nearest
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.io.images import MAX_PIXELS, fit_within, image_size, read_image, read_labels


@dataclass(frozen=True)
class Record:
    """One image of a data set.

    Attributes:
        image_id: its name, unique in the data set; seeds, masks and reports are filed under it.
        classes: positions of the classes named for it, ascending; empty means background only.
        image_path: its file, or None for images made in memory.
        mask_path: its ground-truth PNG, which only evaluation opens, or None.
    """

    image_id: str
    classes: tuple[int, ...]
    image_path: Path | None = None
    mask_path: Path | None = None


class Reader:
    """Lists the images of one kind of data set; :class:`ImageLabelDataset` does the rest.

    A subclass fills ``records`` and ``vocabulary``. One whose images are no files overrides :meth:`load_image` and
    :meth:`load_ground_truth`, which get a position in ``records`` and may make their result on the spot; nothing
    is kept between calls.

    Args:
        vocabulary: the names.
        records: the images; they are sorted by ``image_id``.
        max_pixels: larger images are refused.
        max_side: images with a longer side are shrunk to it when they are read, and their ground truth with them:
            what everything else then takes for the original. None keeps all pixels.

    Raises:
        ValueError: when two images share an id, or there are none.
    """

    notes: Sequence[str] = ()  # what of its files it passed over; tools/check_data.py tells

    def __init__(self, vocabulary: Vocabulary, records: Sequence[Record], max_pixels: int = MAX_PIXELS,
                 max_side: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.records = sorted(records, key=lambda record: record.image_id)
        self.max_pixels = max_pixels
        self.max_side = max_side
        if max_side is not None and max_side < 1:
            raise ValueError(f'max_side: expected a positive number of pixels or None, got {max_side}')
        for first, second in itertools.pairwise(self.records):
            if first.image_id == second.image_id:
                raise ValueError(f'two images share the id {first.image_id!r}: {first.image_path} and '
                                 f'{second.image_path}; rename one')
        if not self.records:
            raise ValueError(f'{type(self).__name__}: no image is listed')

    @property
    def image_folder(self) -> str | None:
        """Where the image files lie, links resolved: what tells two sets with the same names apart.

        None for images made in memory. The parts of an image's id are taken off its path, so that it does not matter
        which images are listed.
        """
        record = self.records[0]
        if record.image_path is None:
            return None
        folders = record.image_path.parents
        return str(folders[min(len(PurePosixPath(record.image_id).parts), len(folders)) - 1].resolve())

    def load_image(self, index: int) -> Image.Image:
        """The image as PIL RGB.

        Raises:
            ImageReadError: naming the file, when it cannot be used.
        """
        path = self.records[index].image_path
        if path is None:
            raise NotImplementedError(f'{type(self).__name__} has no image files and must override load_image')
        return read_image(path, self.max_pixels, self.max_side)

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of :meth:`load_image`'s result, from the header of the file alone where there is one."""
        path = self.records[index].image_path
        if path is None:
            return self.load_image(index).size[::-1]
        return fit_within(image_size(path, self.max_pixels), self.max_side)

    def load_ground_truth(self, index: int) -> np.ndarray:
        """The ground truth, H W uint8 at the size of the image; called for evaluation only.

        Raises:
            ValueError: naming the file, when there is none or it has values outside the classes.
        """
        record = self.records[index]
        if record.mask_path is None:
            raise ValueError(f'{record.image_id}: there is no ground-truth mask; set with_masks=False')
        labels = read_labels(record.mask_path, self.vocabulary.num_classes, max_pixels=self.max_pixels)
        height, width = fit_within(labels.shape, self.max_side)
        if (height, width) != labels.shape:
            labels = np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
        return labels

    def check_masks(self) -> None:
        """Called once before masks are wanted: find out early, and without opening any, whether all are there.

        Raises:
            FileNotFoundError: naming the first missing masks.
        """
        missing = [record for record in self.records
                   if record.mask_path is None or not os.path.isfile(record.mask_path)]  # or no file can be called so
        if missing:
            shown = ', '.join(str(record.mask_path or record.image_id) for record in missing[:3])
            first = missing[0].mask_path
            near = '' if first is None or not first.parent.is_dir() else nearest(first.name, os.listdir(first.parent))
            raise FileNotFoundError(f'{len(missing)} of {len(self.records)} ground-truth masks are missing, for '
                                    f'example {shown}.{near} Evaluation needs them all (or set with_masks=False)')
