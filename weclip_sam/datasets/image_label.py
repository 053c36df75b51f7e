"""The one data set class: images with image-level labels; masks for evaluation only."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from weclip_sam.datasets.frame import Frame
from weclip_sam.datasets.packing import LoadPixelLabels
from weclip_sam.datasets.readers.base import Reader, Record
from weclip_sam.datasets.samplers import sample_generator
from weclip_sam.io.images import check_labels
from weclip_sam.registry import DATASETS, READERS, TRANSFORMS

Transform = Callable[[dict[str, Any]], dict[str, Any]]


@DATASETS.register_module()
class ImageLabelDataset(Dataset):
    """Images and the names of what is in them.

    Pixel masks are opened only with ``with_masks=True``, which is for evaluation; a training data set leaves it
    False and never touches a mask, even if there are some. An image with no label stays in by default and teaches
    background only; ``unlabelled='skip'`` leaves such images out.

    An item is what the pipeline makes of a dict with

    - ``image``: H W 3 uint8, and ``original``, the same, which no transform changes; ``image_labels``: C bool tensor;
      ``masks``: None (see :class:`LoadMasks`);
    - ``frame``: :class:`Frame`, where the pixels of the current image come from;
    - ``ground_truth``: H W uint8 at the original size with ``with_masks``, else None;
    - ``image_id``, ``image_path``, ``ori_shape`` (H, W);
    - ``rng``: numpy generator of this very sample, which depends on nothing but the sampler's seed and the sample's
      position in the run (or, for plain integer indices, on the index), so that any number of workers, processes
      and interruptions gives the same sample.

    Usually it ends in :class:`PackSample`: ``dict(inputs=3 H W uint8, data_samples=SegSample)``.

    Args:
        reader: a config of a registered reader, or a :class:`Reader`.
        pipeline: transforms or their configs, applied in order.
        with_masks: load ground truth (evaluation).
        mask_bank: where the SAM masks are: a folder, or the arguments of :class:`LoadMasks`; the masks are loaded
            before the pipeline starts. None loads none. In a config, True stands for the config's own ``mask_bank``.
        feature_bank: where SAM's tokens of the images are: a folder, or the arguments of :class:`LoadFeatures`; None
            loads none. In a config, True stands for the one beside the config's own ``mask_bank``.
        pixel_labels: where labels made offline are (second-stage training): a folder, or the config of a transform that
            loads them, such as ``dict(type='UseGroundTruth')``. None loads none.
        unlabelled: ``'keep'`` or ``'skip'`` images without a label.
        limit: use the first images only, by sorted id (for trying things out).

    Attributes:
        metainfo: ``classes``, ``prompt_names``, ``background_nouns``, ``palette``.
        image_folder: where the image files lie, links resolved, or None for images made in memory.
        image_ids: the ids, sorted.
        image_labels: N C bool.

    Raises:
        ValueError: when the reader finds fault with its files, no image is left, or ``pixel_labels`` were made for
            other classes or images.
    """

    def __init__(self, reader: dict[str, Any] | Reader, pipeline: Sequence[dict[str, Any] | Transform] = (),
                 with_masks: bool = False, mask_bank: str | bool | dict[str, Any] | None = None,
                 pixel_labels: str | dict[str, Any] | None = None, unlabelled: str = 'keep',
                 limit: int | None = None, feature_bank: str | bool | dict[str, Any] | None = None) -> None:
        if unlabelled not in ('keep', 'skip'):
            raise ValueError(f"unlabelled: expected 'keep' or 'skip', got {unlabelled!r}")
        if limit is not None and limit < 0:
            raise ValueError(f'limit: expected how many images to use, or None for all, got {limit}')
        self.reader: Reader = reader if isinstance(reader, Reader) else READERS.build(reader)
        records = self.reader.records
        self._positions = [i for i, record in enumerate(records) if record.classes or unlabelled == 'keep'][:limit]
        if not self._positions:
            raise ValueError(f'no image is left of {len(records)}: none has a label (unlabelled={unlabelled!r}), '
                             f'or limit={limit}')
        self.with_masks = with_masks
        if with_masks:
            self.reader.check_masks()
        self.metainfo = self.reader.vocabulary.metainfo()
        self.image_folder = self.reader.image_folder
        self.image_ids = [records[i].image_id for i in self._positions]
        self.image_labels = torch.zeros(len(self), self.reader.vocabulary.num_classes, dtype=torch.bool)
        for row, position in enumerate(self._positions):
            self.image_labels[row, list(records[position].classes)] = True
        steps = list(pipeline)
        if pixel_labels is not None:
            folder = dict(type='LoadPixelLabels', folder=pixel_labels)
            steps.insert(0, pixel_labels if isinstance(pixel_labels, dict) else folder)
        known = dict(classes=self.metainfo['classes'], image_folder=self.image_folder)
        loads = ('LoadPixelLabels', LoadPixelLabels)
        steps = [{**known, **step} if isinstance(step, dict) and step.get('type') in loads else step for step in steps]
        for name, bank, kind in (('feature_bank', feature_bank, 'LoadFeatures'), ('mask_bank', mask_bank, 'LoadMasks')):
            if bank is True or isinstance(bank, dict) and bank.get('bank') is True:
                raise ValueError(f"{name}=True means the config's own bank, which is filled in when a run starts; a "
                                 'data set built alone needs the folder')
            if bank is not None:
                given = bank if isinstance(bank, dict) else dict(bank=bank)
                steps.insert(0, {'image_folder': self.image_folder, **given, 'type': kind})
        self.pipeline: list[Transform] = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample; ``index`` may be a :class:`SampleIndex`, which also seeds the sample's randomness."""
        results = self.load(index)
        for transform in self.pipeline:
            results = transform(results)
        return results

    @property
    def records(self) -> list[Record]:
        """The images of this data set, in the order of ``image_ids``."""
        return [self.reader.records[position] for position in self._positions]

    def load(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from; the keys are listed at the class. -1 is the last image, as in a list."""
        if -len(self) <= index < 0:
            index += len(self)
        record = self.reader.records[self._positions[index]]
        image = np.asarray(self.load_image(index))
        height, width = image.shape[:2]
        ground_truth = None
        if self.with_masks:
            ground_truth = self.load_ground_truth(index)
            check_labels(ground_truth, str(record.mask_path or record.image_id), None, (height, width))
        return dict(image=image, original=image, image_labels=self.image_labels[index].clone(), masks=None,
                    ground_truth=ground_truth, frame=Frame.whole(height, width), image_id=record.image_id,
                    image_path=None if record.image_path is None else str(record.image_path),
                    ori_shape=(height, width), rng=sample_generator(index))

    def load_image(self, index: int) -> Image.Image:
        """The original image, PIL RGB."""
        return self.reader.load_image(self._positions[index])

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of the original image, from the header of its file where it has one."""
        return self.reader.image_size(self._positions[index])

    def load_ground_truth(self, index: int) -> np.ndarray:
        """The ground truth, H W uint8: 0 background, 1..C, 255 ignore.

        Raises:
            ValueError: unless the data set was made with ``with_masks=True``.
        """
        if not self.with_masks:
            raise ValueError('this data set was made without masks; pass with_masks=True, for evaluation only')
        return self.reader.load_ground_truth(self._positions[index])
