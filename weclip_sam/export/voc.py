"""Pascal VOC's folders, plain and as the archive that CVAT calls "Segmentation mask 1.1"."""
from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from weclip_sam.export.checks import check_class_names, check_listed, check_meeting, check_photos, has_controls
from weclip_sam.export.job import VOID_COLOUR, Item, Job
from weclip_sam.export.pngs import write_colours, write_palette
from weclip_sam.export.splits import split_names
from weclip_sam.io.files import write_json
from weclip_sam.io.images import voc_palette
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL
from weclip_sam.visualization.regions import Regions

PHOTOS, CLASSES, OBJECTS, LISTS = 'JPEGImages', 'SegmentationClass', 'SegmentationObject', 'ImageSets/Segmentation'
LABEL_MAP = 'labelmap.txt'
ARCHIVE = 'annotations.zip'
VOID = 'ignored'
MOST_OBJECTS = IGNORE_LABEL - 1  # numbers in an object mask of one byte, beside 0 and VOC's void
_LONGEST = 64  # characters of a label's name in CVAT's tables; longer ones are cut there


class Voc:
    """Palette PNGs as VOC's own, the photos linked where they are known.

    What is ignored is void, 255, in the masks of classes. In those of objects it is no object: readers that take every
    number there for one, as datumaro does, would make one of it.
    """

    line = 'SegmentationClass, SegmentationObject (palette PNGs, 255 void), ImageSets, labelmap.txt, JPEGImages'
    opens = 'mmsegmentation, datumaro, whatever reads VOC'

    def check(self, job: Job) -> None:
        if _has_photos(job):
            check_photos(job)
        check_class_names(job, lambda name: _unfit(name) or "is void's, 255" * (name == VOID))
        check_listed(job, (item.name for item in job.items))
        check_meeting(job, (f'{item.name}.png' for item in job.items), True, 'rename one of them')

    def write(self, job: Job, out: Path) -> None:
        palette = [*job.colours, *voc_palette()[len(job.colours):IGNORE_LABEL], VOID_COLOUR]
        photos = _has_photos(job)
        if not photos:
            job.notes.append(f'nobody knows all photos: there is no {PHOTOS}')
        for item, labels in job.labels():
            if photos:
                job.put_photo(item, out / PHOTOS)
            write_palette(out / CLASSES / f'{item.name}.png', labels, palette)
            objects = object_map(job, item, job.regions_of(item, labels))
            write_palette(out / OBJECTS / f'{item.name}.png', objects, voc_palette())
        lists = out / LISTS
        lists.mkdir(parents=True)
        for split, names in zip(('train', 'val'), split_names([item.name for item in job.items],
                                                              job.options.val_share), strict=True):
            (lists / f'{split}.txt').write_text(_list(names), encoding='utf-8')
        (out / LABEL_MAP).write_text(label_map(job, void=True), encoding='utf-8')


class Cvat:
    """A zip of RGB masks, without photos: CVAT finds its images by their names without suffix."""

    line = f'{ARCHIVE}: CVAT\'s "Segmentation mask 1.1", and labels.json for its label constructor'
    opens = 'CVAT (Upload annotations, Segmentation mask 1.1), datumaro'

    def check(self, job: Job) -> None:
        if job.options.photos is not None:
            job.notes.append('CVAT has its images already: none are put beside the labels')
        check_class_names(job, lambda name: _unfit(name) or (
            f'has more than {_LONGEST} characters, and CVAT cuts names there' if len(name) > _LONGEST else ''))
        names = list(map(_frame, job.items))
        check_listed(job, names)
        check_meeting(job, names, False, 'CVAT tells images apart by their names without suffix: rename one of them')

    def write(self, job: Job, out: Path) -> None:
        with zipfile.ZipFile(out / ARCHIVE, 'w') as archive:
            _add(archive, LABEL_MAP, label_map(job, void=False).encode())
            _add(archive, f'{LISTS}/default.txt', _list(map(_frame, job.items)).encode())
            for item, labels in job.labels():
                shown = np.where(labels == IGNORE_LABEL, BACKGROUND_LABEL, labels)
                objects = object_map(job, item, job.regions_of(item, labels))
                for kind, numbers, colours in ((CLASSES, shown, job.colours), (OBJECTS, objects, voc_palette())):
                    png = io.BytesIO()
                    write_colours(png, numbers, colours)
                    _add(archive, f'{kind}/{_frame(item)}.png', png.getvalue())
        write_json(out / 'labels.json', [
            dict(name=name, color='#{:02x}{:02x}{:02x}'.format(*job.colours[label]), attributes=[])
            for label, name in enumerate(job.folder.classes) if label])


def label_map(job: Job, void: bool) -> str:
    """``labelmap.txt``: a line of name and RGB for each label, in order; void at the end where there may be any."""
    named = list(zip(job.folder.classes, job.colours, strict=True)) + [(VOID, VOID_COLOUR)] * void
    return '# label:color_rgb:parts:actions\n' + ''.join(
        f'{name}:{red},{green},{blue}::\n' for name, (red, green, blue) in named)


def object_map(job: Job, item: Item, regions: Regions) -> np.ndarray:
    """H W uint8: regions numbered from 1; of more than one byte can number, the largest."""
    if len(regions) <= MOST_OBJECTS:
        return regions.ids.astype(np.uint8)
    numbers = np.zeros(len(regions) + 1, np.uint8)
    largest = np.sort(np.argsort(-regions.areas, kind='stable')[:MOST_OBJECTS])
    numbers[largest + 1] = 1 + np.arange(MOST_OBJECTS)
    job.notes.append(f'{item.name} has {len(regions)} regions: the {MOST_OBJECTS} largest are in {OBJECTS}; '
                     '--min-area leaves specks out')
    return numbers[regions.ids]


def _has_photos(job: Job) -> bool:
    return job.options.photos is not None or all(item.own is not None for item in job.items)


def _frame(item: Item) -> str:
    """What CVAT calls an image: the photo's own name below the folder that was uploaded, without suffix."""
    return item.name if item.own is None else PurePosixPath(item.own).with_suffix('').as_posix()


def _unfit(name: str) -> str:
    if ':' in name:
        return f"cannot stand in {LABEL_MAP}, where ':' separates"
    if name != name.strip() or has_controls(name) or name.startswith('#'):
        return f'cannot stand in {LABEL_MAP}, a line each (line breaks, blanks at an end, # at the beginning)'
    return ''


def _list(names: Iterable[str]) -> str:
    return ''.join(f'{name}\n' for name in names)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a member that is the same whenever it is written."""
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    archive.writestr(member, content)
