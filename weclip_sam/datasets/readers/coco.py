"""COCO, or any set with an instances JSON of its form."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from weclip_sam.commands import command_line, tool
from weclip_sam.datasets.prepared import Prepared
from weclip_sam.datasets.readers.base import Reader, Record
from weclip_sam.datasets.readers.coco_json import (
    class_of_category,
    has_outline,
    image_table,
    load_instances,
    passed_over,
    rasterise,
    vocabulary_from_json,
)
from weclip_sam.datasets.readers.faults import find_file
from weclip_sam.datasets.readers.files import locate_files
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.datasets.readers.one_hot import OneHotLabels, find_one_hot, is_one_hot
from weclip_sam.datasets.vocabulary import COCO_BACKGROUND_NOUNS, COCO_VOCABULARY, Vocabulary
from weclip_sam.io.files import inside
from weclip_sam.io.images import MAX_PIXELS, read_labels
from weclip_sam.io.names import RealNames
from weclip_sam.registry import READERS

WHERE = ('COCO 2014 is at https://cocodataset.org/#download (train2014.zip 13 GB, val2014.zip 6 GB, '
         f'annotations_trainval2014.zip 241 MB); {tool("prepare_coco")} says what else is needed')


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
        labels: ``'auto'``, ``'json'``, or the path of a label file: a table, or ``cls_labels.npy`` (see
            :class:`OneHotLabels`): then the images are those of the folder that have a row.
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
        folder = root / (image_dir or split)
        self._annotations = root / (annotation_file or f'annotations/instances_{split}.json')
        self._masks = root / (mask_dir or f'semantic_masks/{split}')
        self._prepared, self._own_masks = Prepared(root), None if mask_dir else f'semantic_masks/{split}'
        self._coco: Any = None
        self._categories: dict[Any, int] = {}
        self._by_name: dict[str, Any] = {}
        self._files: dict[str, str] = {}  # below the image folder, by image id
        if labels == 'auto':
            made = root / f'labels_{split}.csv'
            one_hot = None if self._annotations.is_file() or classes == 'json' else find_one_hot(root)
            labels = made.name if made.is_file() and classes != 'json' else one_hot or 'json'
            if labels == made.name:
                self._prepared.check(made.name, instead=f"; the reader's labels={made.name!r} takes it as it is")
        if isinstance(classes, str) and classes not in ('coco', 'json'):
            raise ValueError(f"CocoReader.classes: expected 'coco', 'json' or a list of names, got {classes!r}")
        vocabulary = COCO_VOCABULARY if classes == 'coco' else None if classes == 'json' else \
            Vocabulary.build(classes, background_nouns=COCO_BACKGROUND_NOUNS)
        if labels == 'json' or vocabulary is None:
            remedy = f'{WHERE}. Then: {command_line("prepare_coco", root)} (labels are never taken from masks)'
            vocabulary = self._load_json(vocabulary, remedy)
        if labels == 'json':
            table, source = image_table(self._coco, self._categories), str(self._annotations)
            self._coco = None  # gigabytes that training has no use for; check_masks loads it again if need be
        elif is_one_hot(labels):
            source = str(find_file(root / labels, 'the label file', 'It is a dict of rows of 0 and 1'))
            table = OneHotLabels(Path(source), vocabulary.classes).pictures(RealNames().listed(folder))
            if not table:
                raise ValueError(f'{source}: none of its rows is of an image in {folder}')
        else:
            source = str(root / labels)
            table = {name: tuple(sorted(vocabulary.index(c, f'{source}, image {name!r}') for c in names))
                     for name, names in read_label_table(source).items()}
        records = []
        for name, indices in table.items():
            path, image_id = inside(folder, name, source), PurePosixPath(name).with_suffix('').as_posix()
            self._files[image_id] = PurePosixPath(name).as_posix()
            records.append(Record(image_id, indices, path, self._masks / f'{image_id}.png'))
        super().__init__(vocabulary, locate_files(records, WHERE), max_pixels)

    def _load_json(self, vocabulary: Vocabulary | None, remedy: str) -> Vocabulary:
        path = find_file(self._annotations, 'the instances file', remedy)
        self._coco = load_instances(path)
        try:
            vocabulary = vocabulary or vocabulary_from_json(self._coco)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        self._categories = class_of_category(self._coco, vocabulary, str(path))
        self.notes = passed_over(self._coco, self._categories)
        # By the whole name: a.jpg may lie beside a.png.
        self._by_name = {PurePosixPath(image['file_name']).as_posix(): image['id']
                         for image in self._coco.dataset['images']}
        return vocabulary

    def check_masks(self) -> None:
        """Use the PNGs if all are there; else have the JSON ready.

        Raises:
            ValueError: when the PNGs were made for other classes, or the JSON changed since (PNGs in a ``mask_dir`` of
                one's own are taken as they are); when images whose masks are to be painted have boxes alone.
        """
        if self._own_masks:
            self._prepared.check_classes(self._own_masks, self.vocabulary.classes)
            self._prepared.check(self._own_masks, instead="; the reader's mask_dir takes its masks as they are")
        if all(record.mask_path is not None and record.mask_path.is_file() for record in self.records):
            return
        if self._coco is None:
            self._load_json(self.vocabulary, f'Masks for evaluation come from {self._masks} or this file. {WHERE}')
        self._check_outlines()

    def _check_outlines(self) -> None:
        bare = []
        for record in self.records:
            if record.mask_path is None or not record.mask_path.is_file():
                instances = [each for each in self._coco.imgToAnns[self._by_name.get(self._files[record.image_id])]
                             if each['category_id'] in self._categories]
                bare += [record.image_id] if instances and not any(map(has_outline, instances)) else []
        if bare:
            raise ValueError(f'{self._annotations}: {len(bare)} of {len(self.records)} images have objects, but no '
                             f'outline of any (boxes alone), for example {bare[0]}: there is no ground truth to paint. '
                             'Set with_masks=False, or evaluate on images with outlines')

    def load_ground_truth(self, index: int) -> np.ndarray:
        """H W uint8 from the PNG, or painted from the JSON."""
        record = self.records[index]
        if self._coco is None:
            return super().load_ground_truth(index)
        if record.mask_path is not None and record.mask_path.is_file():
            return read_labels(record.mask_path, self.vocabulary.num_classes, max_pixels=self.max_pixels)
        number = self._by_name.get(self._files[record.image_id])
        if number is None:
            raise ValueError(f'{self._annotations}: no image {record.image_id!r}; labels and annotations do not match')
        image = self._coco.imgs[number]
        return rasterise(self._coco.imgToAnns[number], self._categories, image['height'], image['width'],
                         f'{self._annotations}, image {record.image_id!r}')
