#!/usr/bin/env python
"""Read exports back with the libraries that they are for: ``python tests/interop/read_back.py DIR``.

DIR is what ``write.py`` wrote. This file needs nothing of weclip_sam, so that it runs in an environment whose OpenCV
and numpy are those that these libraries ask for. It ends with an error at the first thing that is not as it was
labelled.
"""
from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

COCO_FILE = 'coco/annotations/instances_default.json'


class Expected:
    """What was labelled: C+1 classes; by name, H W uint8 with 255 for what is ignored, and the number of pieces."""

    def __init__(self, root: Path) -> None:
        said, labels = json.loads((root / 'expected.json').read_text()), np.load(root / 'labels.npz')
        self.classes, self.palette = said['classes'], said['palette']
        self.labels = {name: labels[str(number)] for number, name in enumerate(said['images'])}
        self.pieces = dict(zip(said['images'], said['pieces'], strict=True))
        self.photos = dict(zip(said['images'], said['photos'], strict=True))

    def classes_of(self, name: str) -> np.ndarray:
        """Its labels where what is ignored is background."""
        return np.where(self.labels[name] == 255, 0, self.labels[name])


def with_pycocotools(export: Path, expected: Expected) -> None:
    """COCO: categories, files, masks, areas."""
    from pycocotools.coco import COCO
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(export / COCO_FILE))
    assert [coco.cats[number]['name'] for number in sorted(coco.cats)] == expected.classes[1:]
    for number, image in coco.imgs.items():
        name = image['file_name'].rsplit('.', 1)[0]
        found = coco.loadAnns(coco.getAnnIds([number]))
        check(name, expected, [(each['category_id'], coco.annToMask(each).astype(bool)) for each in found])
        assert all(each['area'] == coco.annToMask(each).sum() and 0 <= each['score'] <= 1 for each in found)


def with_supervision(export: Path, expected: Expected) -> None:
    """COCO and YOLO's polygons."""
    from supervision import DetectionDataset
    coco, yolo = export / 'coco', export / 'yolo-seg'
    read = [(coco / 'images', DetectionDataset.from_coco(str(coco / 'images'), str(export / COCO_FILE),
                                                         force_masks=True))]
    for below in ('.', 'in', 'Übung'):  # it looks into one folder only
        read.append((yolo / 'images', DetectionDataset.from_yolo(
            str(yolo / 'images' / below), str(yolo / 'labels' / below), str(yolo / 'dataset.yaml'), force_masks=True)))
    seen = 0
    for folder, data in read:
        assert data.classes == expected.classes[1:]
        for path, image, found in data:
            name = Path(path).resolve().relative_to(folder.resolve()).with_suffix('').as_posix()
            assert image.shape[:2] == expected.labels[name].shape
            check(name, expected, list(zip(found.class_id + 1, found.mask, strict=True)) if len(found) else [])
            seen += 1
    assert seen == 2 * len(expected.labels)


def with_datumaro(export: Path, expected: Expected) -> None:
    """VOC's folder, CVAT's archive (which CVAT hands to its datumaro) and COCO."""
    from datumaro import AnnotationType, Dataset
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(export / 'cvat' / 'annotations.zip') as archive:
            archive.extractall(place)
        for folder, known in ((export / 'voc', [*expected.classes, 'ignored']), (Path(place), expected.classes)):
            data, seen = Dataset.import_from(str(folder), 'voc_segmentation'), set()
            assert [label.name for label in data.categories()[AnnotationType.label]] == known
            for item in data:
                masks = [each for each in item.annotations if each.type == AnnotationType.mask]
                check(item.id, expected, [(mask.label, np.asarray(mask.image).astype(bool)) for mask in masks])
                seen.add(item.id)
            assert seen == set(expected.labels)
    coco = export / 'coco'
    data = Dataset.import_from(str(coco), 'coco_instances')
    assert [label.name for label in data.categories()[AnnotationType.label]] == expected.classes[1:]
    for item in data:
        masks = [each for each in item.annotations if each.type == AnnotationType.mask]
        check(item.id, expected, [(mask.label + 1, np.asarray(mask.image).astype(bool)) for mask in masks])


def with_label_studio(export: Path, expected: Expected) -> None:
    """The config, every prediction against it, and the brush masks."""
    from label_studio_sdk.converter import brush
    from label_studio_sdk.label_interface import LabelInterface
    interface = LabelInterface((export / 'label-studio' / 'config.xml').read_text(encoding='utf-8'))
    interface.validate()
    control = interface.get_control()
    assert list(control.labels) == expected.classes[1:]
    tasks = json.loads((export / 'label-studio' / 'tasks.json').read_text())
    for name, task in zip(sorted(expected.labels), tasks, strict=True):
        (prediction,) = task['predictions']
        assert not interface.validate_prediction(prediction, return_errors=True)
        found = []
        for each in prediction['result']:
            shape = each['original_height'], each['original_width']
            channels = brush.decode_rle(each['value']['rle']).reshape(*shape, 4)
            found.append((expected.classes.index(each['value']['brushlabels'][0]), channels[:, :, 3] > 0))
            layers = brush.decode_from_annotation(control.name, [dict(each, **each['value'])])
            assert np.array_equal(next(iter(layers.values())) > 0, found[-1][1])
        check(name, expected, found, each=False)


def check(name: str, expected: Expected, found: list[tuple[int, np.ndarray]], each: bool = True) -> None:
    """Labels and masks that were read are those that were labelled, every pixel once."""
    labels = np.zeros_like(expected.labels[name])
    for label, mask in found:
        assert mask.shape == labels.shape and not labels[mask].any(), name
        labels[mask] = label
    assert np.array_equal(labels, expected.classes_of(name)), name
    if each:
        assert len(found) == expected.pieces[name], name


READERS: dict[str, Callable[[Path, Expected], None]] = {
    'pycocotools': with_pycocotools, 'supervision': with_supervision, 'datumaro': with_datumaro,
    'label_studio_sdk': with_label_studio}


def main(root: Path) -> None:
    expected = Expected(root)
    for name, read in READERS.items():
        began = time.monotonic()
        read(root / 'export', expected)
        print(f'{name}: reads back what was written ({time.monotonic() - began:.1f} s)', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
