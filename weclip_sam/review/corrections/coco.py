"""COCO's instances JSON, alone or in the zip that CVAT exports."""
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from weclip_sam.datasets.readers.coco_json import as_instances, has_outline, rasterise
from weclip_sam.io.images import strip_suffix
from weclip_sam.review.corrections.found import ClassLabels, Correction, Corrections
from weclip_sam.structures import BACKGROUND_LABEL


def read_coco(data: Any, source: str, labels: ClassLabels) -> Corrections:
    """The images of an instances JSON with run lengths or polygons.

    Where instances overlap, smaller ones lie in front. Images without annotations are ``empty``; an instance without
    an outline (a box) is left out and told.

    Args:
        data: what was read of the file.
        source: the file, for messages.
        labels: of the classes.

    Raises:
        ValueError: no such file.
    """
    coco = as_instances(data, Path(source))
    names = {category['id']: category['name'] for category in coco.dataset['categories']}
    found, position = Corrections(), dict[Any, int]()
    for annotation in coco.dataset['annotations']:
        category = annotation['category_id']
        if category in position:
            continue
        if category not in names:
            raise ValueError(f'{source}: annotations name the unlisted category id {category!r}')
        label = labels.get(names[category], source)
        if label is not None and label != BACKGROUND_LABEL:
            position[category] = label - 1  # rasterise counts classes from 0
    bare = sum(not has_outline(annotation) for annotation in coco.dataset['annotations'])
    if bare:
        found.notes.append(f'{source}: {bare} annotations have no outline (boxes alone) and are left out')
    for image in coco.dataset['images']:
        annotations = coco.imgToAnns.get(image['id'], [])
        where = f'{source}, {image["file_name"]}'
        # Boxes alone were told above; where there is nothing else, the image is.
        outlined = [each for each in annotations if each['category_id'] in position and has_outline(each)]
        left_out: list[str] = []
        paint = partial(rasterise, outlined or annotations, position, image['height'], image['width'], where, left_out)
        found.images.append(Correction(strip_suffix(image['file_name']), where, paint, not annotations,
                                       image['file_name'], left_out))
    return found
