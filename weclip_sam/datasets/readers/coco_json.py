"""COCO's instances JSON, read through pycocotools after the checks that its C code does not make."""
from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.readers.labels import check_text
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.io.images import MAX_PIXELS
from weclip_sam.io.names import listed_name, merge_forms, normal
from weclip_sam.io.rle import decode_masks
from weclip_sam.io.text import read_json

BACKGROUND_NAMES = ('_background_', 'background', '__background__')  # some converters write these as a category


def load_instances(path: str | os.PathLike[str]) -> COCO:
    """Load an instances JSON; 20 s and 3 GB of memory for train2014.

    Raises:
        ValueError: naming the file, when it is not JSON of that form: ids all whole numbers or all texts, names of
            files and categories texts, heights and widths whole numbers.
    """
    path = Path(path)
    data = read_json(path)
    needed = dict(images={'id', 'file_name', 'height', 'width'}, categories={'id', 'name'},
                  annotations={'image_id', 'category_id', 'segmentation'})
    for part, keys in needed.items():
        items = data.get(part) if isinstance(data, dict) else None
        if not isinstance(items, list) or any(not isinstance(item, dict) or not keys <= set(item) for item in items):
            raise ValueError(f'{path}: no COCO instances file: expected a list {part!r} of objects with {sorted(keys)}')
    _check_types(data, path)
    coco = COCO()
    coco.dataset = data
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            # pycocotools wants an id for every annotation; only the images' matter here.
            for number, annotation in enumerate(data['annotations']):
                annotation.setdefault('id', number)
            coco.createIndex()
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path}: no COCO instances file ({type(error).__name__}: {error})') from None
    images = {image['id'] for image in data['images']}
    names = [image['file_name'] for image in data['images']]
    if len(images) != len(names) or len(set(names)) != len(names):
        raise ValueError(f'{path}: image ids or file names are listed twice')
    return coco


def _check_types(data: Mapping[str, Any], path: Path) -> None:
    images, categories, annotations = (data[part] for part in ('images', 'categories', 'annotations'))
    for what, key, items in (('image', 'image_id', images), ('category', 'category_id', categories)):
        kinds = {type(item['id']) for item in items} | {type(item[key]) for item in annotations}
        if not (kinds <= {int} or kinds <= {str}):
            raise ValueError(f'{path}: {what} ids must be all whole numbers or all texts, here and in the annotations, '
                             f'got {" and ".join(sorted(kind.__name__ for kind in kinds))}')
    for what, key, items in (('image', 'file_name', images), ('category', 'name', categories)):
        for item in items:
            where, name = f'{path}: {what} {item["id"]!r:.40}', item[key]
            if not isinstance(name, str):
                raise ValueError(f'{where}: {key} must be a text, got {name!r:.100}')
            check_text(name, where)
            item[key] = listed_name(name) if what == 'image' else normal(name.strip())
    for image in images:
        if type(image['height']) is not int or type(image['width']) is not int:
            raise ValueError(f'{path}: image {image["id"]!r:.40}: height and width must be whole numbers, got '
                             f'{image["height"]!r:.40} and {image["width"]!r:.40}')


def vocabulary_from_json(coco: COCO) -> Vocabulary:
    """The categories of the file, by id, as classes; a category for the background is left out."""
    categories = sorted(coco.dataset['categories'], key=lambda category: category['id'])
    return Vocabulary.build(merge_forms(c['name'] for c in categories if c['name'] not in BACKGROUND_NAMES))


def class_of_category(coco: COCO, vocabulary: Vocabulary, source: str) -> dict[Any, int]:
    """Position of the class of every category id.

    Raises:
        ValueError: when a category that has annotations is no class.
    """
    used = {annotation['category_id'] for annotation in coco.dataset['annotations']}
    result = {}
    for category in coco.dataset['categories']:
        if category['id'] in used and category['name'] not in BACKGROUND_NAMES:
            if category['name'] not in vocabulary.classes:
                raise ValueError(f'{source}: category {category["name"]!r} is no class of this data set.'
                                 f'{suggest_name(category["name"], vocabulary.classes)} A set with categories of its '
                                 "own needs the reader's classes='json' (prepare_coco.py: --classes json)")
            result[category['id']] = vocabulary.classes.index(category['name'])
    unknown = used - {category['id'] for category in coco.dataset['categories']}
    if unknown:
        raise ValueError(f'{source}: annotations name unlisted category ids {sorted(unknown, key=str)[:5]}')
    return result


def image_table(coco: COCO, classes: Mapping[Any, int]) -> dict[str, tuple[int, ...]]:
    """Classes of every image by file name, sorted; images without annotations have none."""
    found: dict[Any, set[int]] = {image['id']: set() for image in coco.dataset['images']}
    for annotation in coco.dataset['annotations']:
        if annotation['category_id'] in classes and annotation['image_id'] in found:
            found[annotation['image_id']].add(classes[annotation['category_id']])
    return {image['file_name']: tuple(sorted(found[image['id']]))
            for image in sorted(coco.dataset['images'], key=lambda image: image['file_name'])}


def rasterise(annotations: Sequence[Mapping[str, Any]], classes: Mapping[Any, int], height: int, width: int,
              source: str) -> np.ndarray:
    """Paint the instances of one image into a semantic mask.

    Crowds are painted first, then instances from large to small, so that what lies in front of something bigger stays
    visible; ties keep the order of the file.

    Args:
        annotations: of one image.
        classes: position of the class by category id; annotations of other categories are left out.
        height, width: of the image.
        source: named in errors.

    Returns:
        H W uint8: 0 background, class position + 1.

    Raises:
        ValueError: when a segmentation is malformed or of another size.
    """
    if type(height) is not int or type(width) is not int or not 0 < height * width <= MAX_PIXELS or height < 1:
        raise ValueError(f'{source}: {height} x {width} is no acceptable image size')
    labels = np.zeros((height, width), np.uint8)
    masks = []
    for annotation in annotations:
        if annotation['category_id'] in classes:
            mask = _instance(annotation['segmentation'], height, width, source)
            crowd = bool(annotation.get('iscrowd', 0))
            masks.append((not crowd, -int(mask.sum()), classes[annotation['category_id']] + 1, mask))
    for _, _, label, mask in sorted(masks, key=lambda item: item[:2]):
        labels[mask] = label
    return labels


def _instance(segmentation: Any, height: int, width: int, source: str) -> np.ndarray:
    if isinstance(segmentation, list):
        polygons = [_polygon(polygon, height, width, source) for polygon in segmentation]
        if not polygons:
            return np.zeros((height, width), bool)
        union = mask_tools.merge(mask_tools.frPyObjects(polygons, height, width))
        return _decode(union['counts'].decode(), height, width, source)
    if isinstance(segmentation, dict) and segmentation.get('size') == [height, width]:
        return _decode(segmentation.get('counts'), height, width, source)
    raise ValueError(f'{source}: a segmentation must be a list of polygons, or run lengths of size [{height}, {width}]')


def _polygon(points: Any, height: int, width: int, source: str) -> list[float]:
    numbers = isinstance(points, list) and all(type(v) in (int, float) and math.isfinite(v) for v in points)
    if not numbers or len(points) < 6 or len(points) % 2:
        raise ValueError(f'{source}: a polygon needs at least three points of finite numbers')
    # The C code allocates by length of the outline: points far outside would make it ask for all memory.
    reach = max(height, width)
    array = np.array(points, float).clip(-reach, 2 * reach)
    return array.tolist()


def _decode(counts: Any, height: int, width: int, source: str) -> np.ndarray:
    try:
        return decode_masks([counts], height, width)[0].numpy()
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None
