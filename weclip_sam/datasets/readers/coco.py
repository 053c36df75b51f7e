"""COCO, or any set with an instances JSON of its form."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from weclip_sam.datasets.readers.base import Reader, Record, check_files, find_file
from weclip_sam.datasets.readers.coco_json import (
    class_of_category,
    image_table,
    load_instances,
    rasterise,
    vocabulary_from_json,
)
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.datasets.vocabulary import COCO_BACKGROUND_NOUNS, COCO_VOCABULARY, Vocabulary
from weclip_sam.io.files import inside
from weclip_sam.io.images import MAX_PIXELS, read_labels
from weclip_sam.registry import READERS

WHERE = ('COCO 2014 is at https://cocodataset.org/#download (train2014.zip 13 GB, val2014.zip 6 GB, '
         'annotations_trainval2014.zip 241 MB); tools/prepare_coco.py says what else is needed')


@READERS.register_module()
class CocoReader(Reader):
    """The layout of COCO 2014: ``train2014``, ``val2014`` and ``annotations``.

    Labels come from ``labels_<split>.csv``, which ``tools/prepare_coco.py`` makes once, or, without it, from the
    instances JSON (slower at every start). Ground truth for evaluation comes from the PNGs of the same tool, or is
    painted from the JSON on the fly.

    Args:
        data_root: the folder that everything else is relative to.
        split: ``'train2014'`` or ``'val2014'``; only fills in the names below.
        image_dir: None takes ``<split>``.
        annotation_file: None takes ``annotations/instances_<split>.json``.
        labels: ``'auto'``, ``'json'``, or the path of a label file.
        mask_dir: None takes ``semantic_masks/<split>``.
        classes: ``'coco'`` (the 80), ``'json'`` (the categories of the JSON, by id), or a list of names.
        max_pixels: larger images are refused.

    Raises:
        FileNotFoundError: saying what is missing and where to get it or what to run.
        ValueError: on a label that names no class.
    """

    def __init__(self, data_root: str, split: str = 'train2014', image_dir: str | None = None,
                 annotation_file: str | None = None, labels: str = 'auto', mask_dir: str | None = None,
                 classes: str | Sequence[str] = 'coco', max_pixels: int = MAX_PIXELS) -> None:
        root = find_file(Path(data_root), 'the COCO folder', f'{WHERE}. Give it with --cfg-options data_root=...')
        folder = self._folder = root / (image_dir or split)
        self._annotations = root / (annotation_file or f'annotations/instances_{split}.json')
        self._masks = root / (mask_dir or f'semantic_masks/{split}')
        self._coco: Any = None
        self._categories: dict[Any, int] = {}
        self._by_name: dict[str, Any] = {}
        if labels == 'auto':
            made = root / f'labels_{split}.csv'
            labels = made.name if made.is_file() and classes != 'json' else 'json'
        if isinstance(classes, str) and classes not in ('coco', 'json'):
            raise ValueError(f"CocoReader.classes: expected 'coco', 'json' or a list of names, got {classes!r}")
        vocabulary = COCO_VOCABULARY if classes == 'coco' else None if classes == 'json' else \
            Vocabulary.build(classes, background_nouns=COCO_BACKGROUND_NOUNS)
        if labels == 'json' or vocabulary is None:
            remedy = f'{WHERE}. Then: python tools/prepare_coco.py {root} (labels are never taken from masks)'
            vocabulary = self._load_json(vocabulary, remedy)
        if labels == 'json':
            table, source = image_table(self._coco, self._categories), str(self._annotations)
            self._coco = None  # gigabytes that training has no use for; check_masks loads it again if need be
        else:
            source = str(root / labels)
            table = {name: tuple(sorted(vocabulary.index(c, f'{source}, image {name!r}') for c in names))
                     for name, names in read_label_table(source).items()}
        records = []
        for name, indices in table.items():
            path, image_id = inside(folder, name, source), PurePosixPath(name).with_suffix('').as_posix()
            records.append(Record(image_id, indices, path, self._masks / f'{image_id}.png'))
        check_files(records, WHERE)
        super().__init__(vocabulary, records, max_pixels)

    def _load_json(self, vocabulary: Vocabulary | None, remedy: str) -> Vocabulary:
        path = find_file(self._annotations, 'the instances file', remedy)
        self._coco = load_instances(path)
        try:
            vocabulary = vocabulary or vocabulary_from_json(self._coco)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        self._categories = class_of_category(self._coco, vocabulary, str(path))
        self._by_name = {PurePosixPath(image['file_name']).as_posix(): image['id']
                         for image in self._coco.dataset['images']}
        return vocabulary

    def check_masks(self) -> None:
        """Use the PNGs if all are there; else have the JSON ready."""
        if all(record.mask_path is not None and record.mask_path.is_file() for record in self.records):
            return
        if self._coco is None:
            self._load_json(self.vocabulary, f'Masks for evaluation come from {self._masks} or this file. {WHERE}')

    def load_ground_truth(self, index: int) -> np.ndarray:
        """H W uint8 from the PNG, or painted from the JSON."""
        record = self.records[index]
        if self._coco is None:
            return super().load_ground_truth(index)
        if record.mask_path is not None and record.mask_path.is_file():
            return read_labels(record.mask_path, self.vocabulary.num_classes, max_pixels=self.max_pixels)
        # By the whole name: a.jpg may lie beside a.png.
        number = self._by_name.get(record.image_path.relative_to(self._folder).as_posix())
        if number is None:
            raise ValueError(f'{self._annotations}: no image {record.image_id!r}; labels and annotations do not match')
        image = self._coco.imgs[number]
        return rasterise(self._coco.imgToAnns[number], self._categories, image['height'], image['width'],
                         f'{self._annotations}, image {record.image_id!r}')
