"""Label Studio's JSON: brush strokes and polygons of its annotations; predictions are nobody's corrections."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from weclip_sam.datasets.readers.coco_json import instance_mask
from weclip_sam.io.images import MAX_PIXELS, is_image_name, strip_suffix
from weclip_sam.io.names import listed_name
from weclip_sam.review.corrections.brush import decode_brush
from weclip_sam.review.corrections.found import ClassLabels, Correction, Corrections

_NAMES = ('brushlabels', 'polygonlabels', 'labels')
_UPLOADED = re.compile(r'[0-9a-f]{8}-')  # put before the name of a file that was uploaded


def read_label_studio(tasks: Any, source: str, labels: ClassLabels) -> Corrections:
    """The annotated tasks of an export ("JSON", not "JSON-MIN").

    Of several annotations of a task the one changed last counts; cancelled ones never do. What lies later in an
    annotation is painted over what lies before.

    Args:
        tasks: what was read of the file.
        source: the file, for messages.
        labels: of the classes.

    Raises:
        ValueError: no such file.
    """
    if not isinstance(tasks, list) or not tasks or not all(
            isinstance(task, dict) and isinstance(task.get('data'), dict) and 'annotations' in task for task in tasks):
        raise ValueError(f'{source}: no export of Label Studio: expected a list of tasks, each with data and '
                         'annotations; export as "JSON" (JSON-MIN leaves out what is needed)')
    found, bare = Corrections(), Counter[str]()
    several = open_ = 0
    for number, task in enumerate(tasks):
        where = f'{source}, task {task.get("id", number)}'
        done = [each for each in task['annotations'] or () if isinstance(each, dict) and not each.get('was_cancelled')]
        if not done:
            open_ += 1
            continue
        several += len(done) > 1
        last = max(enumerate(done), key=lambda item: (str(item[1].get('updated_at') or item[1].get('created_at') or ''),
                                                      item[0]))[1]
        name = f'task {task.get("id", number)}'
        try:
            file = _image_file(task, where)
            name = strip_suffix(file)
            regions = _regions(last.get('result'), labels, where, bare)
            size = _size(last.get('result'), where)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            found.failed[name] = str(error) if isinstance(error, ValueError) else f'{where}: not as Label Studio writes'
            continue
        found.images.append(Correction(name, where, partial(_paint, regions, size, where), not regions, file))
    if open_:
        found.notes.append(f'{source}: {open_} tasks have no annotation and are left out')
    if several:
        found.notes.append(f'{source}: {several} tasks have several annotations; the one changed last counts')
    if bare:
        kinds = ', '.join(f'{kind} {count}' for kind, count in sorted(bare.items()))
        found.notes.append(f'{source}: what has no outline is left out ({kinds})')
    return found


def _image_file(task: Mapping[str, Any], where: str) -> str:
    """The path of a task's image as far as it is known."""
    texts = {key: value for key, value in task['data'].items() if isinstance(value, str)}
    address = texts.get('image') or next((text for text in texts.values() if is_image_name(_path(text))), None)
    if address is None:
        raise ValueError(f'{where}: its data names no image ({", ".join(map(str, task["data"]))})')
    path = PurePosixPath(listed_name(_path(address)).lstrip('/'))
    name = path.name
    if path.parts[:2] == ('data', 'upload'):
        return _UPLOADED.sub('', name, count=1)
    return str(path)


def _path(address: str) -> str:
    """Of an address of the web, of a bucket, or of Label Studio's local files."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get('d')
    return local[0] if local else unquote(parts.path)


def _size(result: Any, where: str) -> tuple[int, int]:
    """(height, width) of the image, (0, 0) where nothing is marked."""
    sizes = {(each['original_height'], each['original_width']) for each in result or () if 'original_width' in each}
    if not sizes:
        return 0, 0
    size = sizes.pop()
    if sizes or not all(type(side) is int and side > 0 for side in size) or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f'{where}: original_height and original_width must be those of one image')
    return size


def _regions(result: Any, labels: ClassLabels, where: str, bare: Counter[str]) -> list[tuple[int, Mapping[str, Any]]]:
    """(label, value) of what can be painted. A region and its name may be two entries with one id."""
    named: dict[Any, list[str]] = {}
    for each in result or ():
        for key in _NAMES:
            if names := each.get('value', {}).get(key):
                named.setdefault(each.get('id', id(each)), names)
    regions: list[tuple[int, Mapping[str, Any]]] = []
    for each in result or ():
        value = each.get('value', {})
        if each.get('type') == 'labels' or not isinstance(value, dict):
            continue
        if 'rle' not in value and 'points' not in value:
            bare[str(each.get('type'))] += 1
            continue
        names = named.get(each.get('id', id(each)), [])
        if len(names) != 1:
            raise ValueError(f'{where}: a region has {len(names)} names, expected one')
        if each.get('image_rotation'):
            raise ValueError(f'{where}: the image was turned by {each["image_rotation"]} degrees in the editor; '
                             'turn it back there')
        label = labels.get(str(names[0]), where)
        regions += [] if label is None else [(label, value)]
    return regions


def _paint(regions: Sequence[tuple[int, Mapping[str, Any]]], size: tuple[int, int], where: str) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    for label, value in regions:
        try:
            if 'rle' in value:
                mask = decode_brush(value['rle'], *size)
            else:  # percent of width and height
                points = [[x * size[1] / 100, y * size[0] / 100] for x, y in value['points']]
                mask = instance_mask([np.ravel(points).tolist()], *size)
        except (ValueError, TypeError) as error:
            raise ValueError(f'{where}: a region cannot be painted: {error}') from None
        labels[mask] = label
    return labels
