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
from weclip_sam.commands import tool
from weclip_sam.datasets.readers.labels import check_text
from weclip_sam.datasets.vocabulary import Vocabulary, is_background, is_ignored
from weclip_sam.io.images import MAX_PIXELS
from weclip_sam.io.names import listed_name, merge_forms, normal
from weclip_sam.io.rle import decode_masks
from weclip_sam.io.text import read_json
from weclip_sam.structures import IGNORE_LABEL

_IGNORED = IGNORE_LABEL - 1  # "position" of categories such as 'void': what they cover does not count


def load_instances(path: str | os.PathLike[str]) -> COCO:
    """Load an instances JSON; 20 s and 3 GB of memory for train2014.

    Raises:
        ValueError: naming the file, when it is not JSON of that form: ids all whole numbers or all texts, names of
            files and categories texts, heights and widths whole numbers.
    """
    return as_instances(read_json(path), Path(path))


def as_instances(data: Any, path: Path) -> COCO:
    """What was read of an instances JSON; see :func:`load_instances`. ``path`` is for errors."""
    needed = dict(images={'id', 'file_name', 'height', 'width'}, categories={'id', 'name'},
                  annotations={'image_id', 'category_id'})  # 'segmentation' is wanted by masks alone
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
    """The categories of the file, by id, as classes; those that are no class (:func:`no_classes`) are left out."""
    left_out = {category['id'] for category in no_classes(coco)}
    categories = sorted(coco.dataset['categories'], key=lambda category: category['id'])
    return Vocabulary.build(merge_forms(each['name'] for each in categories if each['id'] not in left_out))


def no_classes(coco: COCO) -> list[Mapping[str, Any]]:
    """Categories that are no class: the background, what does not count, and a root that others belong to.

    Roboflow writes such a root: its supercategory is ``none``, nothing is annotated with it, and it is the
    supercategory of others or the only one without a supercategory.
    """
    categories = coco.dataset['categories']
    used = {annotation['category_id'] for annotation in coco.dataset['annotations']}
    above = [normal(str(category.get('supercategory')).strip()) for category in categories]
    result = []
    for category, parent in zip(categories, above, strict=True):
        root = parent == 'none' and category['id'] not in used and len(categories) > 1 and (
            category['name'] in above or above.count('none') == 1)
        if root or is_background(category['name']) or is_ignored(category['name']):
            result.append(category)
    return result


def passed_over(coco: COCO, classes: Mapping[Any, int]) -> list[str]:
    """What of the file is no class, and how many instances of classes have no outline: a sentence for each."""
    told = [f'category {category["name"]!r} is no class (a background, or the root of the others) and is left out'
            for category in no_classes(coco)]
    instances = [annotation for annotation in coco.dataset['annotations'] if annotation['category_id'] in classes]
    bare = sum(not has_outline(annotation) for annotation in instances)
    if bare:
        told.append(f'{bare} of {len(instances)} annotations have no outline (boxes alone): they name what is in an '
                    'image, but masks for evaluation cannot be painted from them')
    return told


def class_of_category(coco: COCO, vocabulary: Vocabulary, source: str) -> dict[Any, int]:
    """Position of the class of every category id; of what does not count, that of label 255.

    Raises:
        ValueError: when a category that has annotations is no class.
    """
    used = {annotation['category_id'] for annotation in coco.dataset['annotations']}
    result = {}
    for category in coco.dataset['categories']:
        if category['id'] not in used or is_background(category['name']):
            continue
        if is_ignored(category['name']):
            result[category['id']] = _IGNORED
            continue
        if category['name'] not in vocabulary.classes:
            raise ValueError(f'{source}: category {category["name"]!r} is no class of this data set.'
                             f'{suggest_name(category["name"], vocabulary.classes)} A set with categories of its '
                             f"own needs the reader's classes='json' ({tool('prepare_coco')}: --classes json)")
        result[category['id']] = vocabulary.classes.index(category['name'])
    unknown = used - {category['id'] for category in coco.dataset['categories']}
    if unknown:
        raise ValueError(f'{source}: annotations name unlisted category ids {sorted(unknown, key=str)[:5]}')
    return result


def image_table(coco: COCO, classes: Mapping[Any, int]) -> dict[str, tuple[int, ...]]:
    """Classes of every image by file name, sorted; images without annotations have none."""
    found: dict[Any, set[int]] = {image['id']: set() for image in coco.dataset['images']}
    for annotation in coco.dataset['annotations']:
        position = classes.get(annotation['category_id'], _IGNORED)
        if position != _IGNORED and annotation['image_id'] in found:
            found[annotation['image_id']].add(position)
    return {image['file_name']: tuple(sorted(found[image['id']]))
            for image in sorted(coco.dataset['images'], key=lambda image: image['file_name'])}


def rasterise(annotations: Sequence[Mapping[str, Any]], classes: Mapping[Any, int], height: int, width: int,
              source: str, left_out: list[str] | None = None) -> np.ndarray:
    """Paint the instances of one image into a semantic mask.

    Crowds are painted first, then instances from large to small, so that what lies in front of something bigger stays
    visible; ties keep the order of the file. An instance without a usable outline is left out.

    Args:
        annotations: of one image.
        classes: position of the class by category id; annotations of other categories are left out.
        height, width: of the image.
        source: named in errors.
        left_out: gets a sentence for each instance that was left out.

    Returns:
        H W uint8: 0 background, class position + 1.

    Raises:
        ValueError: on an impossible size, or when no instance is left: a mask of background alone would be wrong.
    """
    if type(height) is not int or type(width) is not int or not 0 < height * width <= MAX_PIXELS or height < 1:
        raise ValueError(f'{source}: {height} x {width} is no acceptable image size')
    labels = np.zeros((height, width), np.uint8)
    masks, faults = [], []
    wanted = [annotation for annotation in annotations if annotation['category_id'] in classes]
    for annotation in wanted:
        try:
            mask = instance_mask(annotation.get('segmentation'), height, width)
        except ValueError as error:
            faults.append(f'annotation {annotation.get("id")!r:.40}: {error}')
            continue
        crowd = bool(annotation.get('iscrowd', 0))
        box, inside = _cut_out(mask)  # of a large image with many regions whole masks would fill the memory
        masks.append((not crowd, -int(inside.sum()), classes[annotation['category_id']] + 1, box, inside))
    if wanted and not masks:
        raise ValueError(f'{source}: none of its {len(wanted)} objects has an outline that can be painted '
                         f'({faults[0]}), and a mask of background alone would be wrong')
    for _, _, label, box, inside in sorted(masks, key=lambda item: item[:2]):
        labels[box][inside] = label
    if left_out is not None:
        left_out.extend(f'{source}, {fault}' for fault in faults)
    return labels


def _cut_out(mask: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """The box around what is True in a mask, and a copy of what is in it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))
    return box, mask[box].copy()


def has_outline(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation has any outline, usable or not, or is a box alone."""
    segmentation = annotation.get('segmentation')
    return any(segmentation) if isinstance(segmentation, list) else bool(segmentation)


def outline_fault(segmentation: Any, height: int, width: int) -> str:
    """Why a segmentation cannot be painted, as far as that shows without decoding it; nothing if it can.

    Parts of one or two points cover nothing: an instance that has others is as good without them.
    """
    if segmentation is None or segmentation in ([], {}, ''):
        return 'it has no outline, a box at most'
    if isinstance(segmentation, dict):
        size = segmentation.get('size')
        return '' if size == [height, width] else f'run lengths of size {size!r:.40} instead of [{height}, {width}]'
    if not isinstance(segmentation, list):
        return f'its outline must be a list of polygons, or run lengths, got {segmentation!r:.40}'
    if not all(isinstance(polygon, list) for polygon in segmentation):
        return 'its outline must be a list of lists of numbers, not of numbers'
    if not all(type(v) in (int, float) and math.isfinite(v) for polygon in segmentation for v in polygon):
        return 'its outline has points that are no finite numbers'
    odd = next((len(polygon) for polygon in segmentation if len(polygon) % 2), 0)
    if odd:
        return f'its outline has {odd} numbers, which are no points'
    return '' if _areas(segmentation) else 'its outline has fewer than three points'


def _areas(polygons: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    return [polygon for polygon in polygons if len(polygon) >= 6]


def instance_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """H W bool: what run lengths, or polygons (x and y in turn, in pixels), cover.

    Raises:
        ValueError: saying why it cannot be painted.
    """
    fault = outline_fault(segmentation, height, width)
    if fault:
        raise ValueError(fault)
    if isinstance(segmentation, dict):
        return decode_masks([segmentation['counts']], height, width)[0].numpy()
    # The C code allocates by length of the outline: points far outside would make it ask for all memory.
    reach = max(height, width)
    polygons = [np.array(points, float).clip(-reach, 2 * reach).tolist() for points in _areas(segmentation)]
    union = mask_tools.merge(mask_tools.frPyObjects(polygons, height, width))
    return decode_masks([union['counts'].decode()], height, width)[0].numpy()
