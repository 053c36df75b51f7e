"""Ultralytics' two forms: polygons for YOLO segmentation, masks for its semantic segmentation.

Both lie as ``images/NAME.jpg`` beside ``labels/NAME.txt`` or ``masks/NAME.png``, with ``train.txt``, ``val.txt`` and
``dataset.yaml``, which names no absolute path: the folder may be moved.
"""
from __future__ import annotations

from pathlib import Path, PurePosixPath

import yaml

from weclip_sam.export.checks import check_listed, check_meeting, check_photos
from weclip_sam.export.job import Job
from weclip_sam.export.pngs import write_grey
from weclip_sam.export.polygons import region_polygon
from weclip_sam.export.splits import split_names
from weclip_sam.visualization.regions import Regions

PHOTOS, LABELS, MASKS, YAML = 'images', 'labels', 'masks', 'dataset.yaml'


class YoloSegmentation:
    """One line a region: the class, from 0 without the background, and the polygon in shares of width and height."""

    line = 'labels/*.txt: YOLO segmentation, a polygon for each connected piece of a class, with dataset.yaml'
    opens = 'Ultralytics (yolo segment train), supervision'

    def check(self, job: Job) -> None:
        _check(job)

    def write(self, job: Job, out: Path) -> None:
        (out / LABELS).mkdir()
        for item, labels in job.labels():
            job.put_photo(item, out / PHOTOS)
            path = out / LABELS / f'{item.name}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_lines(job.regions_of(item, labels), job.options.simplify), encoding='utf-8')
        _write_lists(job, out, job.folder.classes[1:])


class YoloSemantic:
    """Grey masks: the label itself, background 0, 255 for what is ignored."""

    line = 'masks/*.png: semantic masks, one byte a pixel, background 0 and ignored 255, with dataset.yaml'
    opens = 'Ultralytics (yolo semantic train), whatever reads grey label PNGs'

    def check(self, job: Job) -> None:
        _check(job)

    def write(self, job: Job, out: Path) -> None:
        for item, labels in job.labels():
            job.put_photo(item, out / PHOTOS)
            write_grey(out / MASKS / f'{item.name}.png', labels)
        _write_lists(job, out, job.folder.classes, masks_dir=MASKS)


def _check(job: Job) -> None:
    check_photos(job)
    check_listed(job, (item.name for item in job.items))
    check_meeting(job, (item.file for item in job.items), True, 'rename one of them')
    for item in job.items:
        if PHOTOS in PurePosixPath(item.name).parts[:-1]:
            raise ValueError(f'{job.name}: {item.name} lies in a folder called {PHOTOS!r}, and Ultralytics looks for '
                             'its labels where the last folder of that name is replaced; rename that folder, or label '
                             'the folder itself (PHOTOS/images) instead of the one that it is in')


def _lines(regions: Regions, simplify: float) -> str:
    height, width = regions.ids.shape
    lines = []
    for number, label in enumerate(regions.labels):
        shares = region_polygon(regions, number, simplify) / (width, height)
        lines.append(f'{label - 1} ' + ' '.join(f'{value:.6f}' for value in shares.reshape(-1)) + '\n')
    return ''.join(lines)


def _write_lists(job: Job, out: Path, names: tuple[str, ...], **more: str) -> None:
    for split, chosen in zip(('train', 'val'), split_names([item.file for item in job.items], job.options.val_share),
                             strict=True):
        (out / f'{split}.txt').write_text(''.join(f'./{PHOTOS}/{name}\n' for name in chosen), encoding='utf-8')
    with open(out / YAML, 'w', encoding='utf-8') as file:
        yaml.safe_dump(dict(train='train.txt', val='val.txt', **more, names=dict(enumerate(names))), file,
                       sort_keys=False, allow_unicode=True)
