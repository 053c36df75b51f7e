"""COCO's JSON of instances: one RLE for each connected piece of each class."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from weclip_sam.export.checks import check_known, check_meeting, check_photos
from weclip_sam.export.job import Item, Job

FILE = 'annotations/instances_default.json'  # COCO's own layout, and CVAT's name: datumaro finds no other
PHOTOS = 'images'


class Coco:
    """Categories are the labels 1..C with their colours; ids go on from image to image, sorted by name."""

    line = 'COCO instances: compressed RLE, area, box and score of every connected piece of a class'
    opens = 'pycocotools, supervision, FiftyOne, datumaro, CVAT (COCO 1.0), detectron2'

    def check(self, job: Job) -> None:
        if job.options.photos is None:
            check_known(job)
            check_meeting(job, map(_listed, job.items), False, 'put the photos beside the labels with --link-images or '
                          '--copy-images, where each gets a name of its own')
        else:
            check_photos(job)
            check_meeting(job, (item.file for item in job.items), True, 'rename one of them')

    def write(self, job: Job, out: Path) -> None:
        images = []
        categories = [dict(id=label, name=name, color=job.colours[label])
                      for label, name in enumerate(job.folder.classes) if label]
        info = dict(description=f'labels of {job.folder.root.resolve().name}', version='1.0',
                    contributor=f'weclip_sam {job.folder.made_by.get("checkpoint") or ""}'.rstrip())
        (out / FILE).parent.mkdir()
        with open(out / FILE, 'w', encoding='utf-8') as file:
            file.write(f'{{"info": {json.dumps(info)},\n"licenses": [],\n"categories": {json.dumps(categories)},\n')
            file.write('"annotations": [')
            first, count = True, 0
            for number, (item, labels) in enumerate(job.labels(), start=1):
                if job.options.photos is not None:
                    job.put_photo(item, out / PHOTOS)
                images.append(dict(id=number, file_name=_listed(item) if job.options.photos is None else item.file,
                                   height=labels.shape[0], width=labels.shape[1]))
                for annotation in _annotations(job, item, labels, number, count + 1):
                    file.write(('\n' if first else ',\n') + json.dumps(annotation, allow_nan=False))
                    first, count = False, count + 1
            file.write('],\n"images": [' + ',\n'.join(map(json.dumps, images)) + ']}\n')


def _listed(item: Item) -> str:
    assert item.own is not None
    return item.own


def _annotations(job: Job, item: Item, labels: Any, image: int, first: int) -> list[dict[str, Any]]:
    regions = job.regions_of(item, labels)
    found = []
    for place, counts in enumerate(regions.rle()):
        label = int(regions.labels[place])
        score = job.score(item, label, None if regions.scores is None else regions.scores[place])
        found.append(dict(
            id=first + place, image_id=image, category_id=label, iscrowd=0, area=int(regions.areas[place]),
            bbox=regions.boxes[place].tolist(), segmentation=dict(size=list(labels.shape), counts=counts),
            **({} if score is None else dict(score=score))))
    return found
