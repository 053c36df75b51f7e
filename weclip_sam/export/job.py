"""One export: what it is made of, what was asked for, and what is to be told about it."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from weclip_sam.export.options import Options
from weclip_sam.io.files import write_json
from weclip_sam.io.images import voc_palette
from weclip_sam.io.names import printable
from weclip_sam.offline.results import EXPORT_RECORD, LabelFolder, LabelledImage, told_of_corrected
from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization.regions import Regions, find_regions
from weclip_sam.words import counted

VOID_COLOUR = voc_palette()[IGNORE_LABEL]
RECORD_FORMAT = 'weclip_sam export 1'


@dataclass(frozen=True)
class Item:
    """One image of an export.

    Attributes:
        source: where it is from.
        name: ``in/b``: what its files are called, without suffix.
        own: ``in/b.JPG``: what the photo is called where it lies, below the folder that was labelled; None where nobody
            knows the photo.
    """

    source: LabelledImage
    name: str
    own: str | None

    @classmethod
    def of(cls, source: LabelledImage) -> Item:
        """Of an image of a folder of labels, whose name has as many parts as the photo's path below its folder."""
        parts = () if source.image is None else source.image.parts[-len(source.name.split('/')):]
        return cls(source, source.name, '/'.join(parts) or None)

    @property
    def file(self) -> str:
        """``in/b.jpg``: what the photo is called where it is put beside the labels."""
        return self.name if self.source.image is None else self.name + self.source.image.suffix


class Exporter(Protocol):
    """A format.

    Attributes:
        line: what it writes, for ``--list``.
        opens: who opens that.
    """

    line: str
    opens: str

    def check(self, job: Job) -> None:
        """Find what cannot be written, before the first byte.

        Raises:
            ValueError: a name that does not fit, or two that meet.
            FileNotFoundError: a photo that is needed, and that nobody knows or that is gone.
        """

    def write(self, job: Job, out: Path) -> None:
        """Fill an empty folder."""


@dataclass
class Job:
    """A folder of labels, its options, and the notes on what became of it.

    Attributes:
        name: of the format.
        folder: the labels.
        options: what was asked for.
        progress: called with the format, images behind and images in all.
        notes: what people should know, a line each.
        counted: numbers for the record: ``regions``, ``empty`` (images without any class), ``ignored`` (images with
            ignored pixels), ``corrected`` (images whose label was changed since it was made), ``small`` (regions left
            out).
    """

    name: str
    folder: LabelFolder
    options: Options
    progress: Callable[[str, int, int], None] = lambda name, done, total: None
    notes: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.items = tuple(map(Item.of, self.folder))
        self.colours, distinct = _colours(self.folder)
        if self.folder.told:
            self.notes.append(self.folder.told)
        if self.folder.palette and not distinct:
            self.notes.append("the palette of the labels does not tell all classes apart: VOC's colours were taken")

    def labels(self) -> Iterator[tuple[Item, np.ndarray]]:
        """The images one after another with their labels, H W uint8."""
        for done, item in enumerate(self.items, start=1):
            item = replace(item, source=self.folder.as_it_is(item.source))
            labels = self.folder.read(item.source)
            counts = np.bincount(labels.reshape(-1), minlength=IGNORE_LABEL + 1)
            self.count(empty=int(not counts[1:IGNORE_LABEL].any()), ignored=int(counts[IGNORE_LABEL] > 0),
                       corrected=int(item.source.corrected))
            yield item, labels
            self.progress(self.name, done, len(self.items))

    def regions_of(self, item: Item, labels: np.ndarray) -> Regions:
        """The regions of an image that are large enough, with scores where anybody knows them."""
        regions = find_regions(labels, self.options.min_area, self.folder.read_confidence(item.source))
        self.count(regions=len(regions), small=regions.left_out)
        return regions

    def score(self, item: Item, label: int, measured: float | None) -> float | None:
        """How sure a label is: as measured, else what the folder says of the whole class in this image."""
        known = item.source.scores.get(self.folder.classes[label]) if measured is None else measured
        return None if known is None else round(float(known), 4)

    def count(self, **numbers: int) -> None:
        """Add to :attr:`counted`."""
        for key, value in numbers.items():
            self.counted[key] = self.counted.get(key, 0) + value

    def put_photo(self, item: Item, folder: Path) -> None:
        """Link or copy an image's photo to ``folder / item.file``."""
        photo, place = item.source.image, folder / item.file
        assert photo is not None
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.options.photos == 'copy':
            shutil.copyfile(photo, place)
            return
        try:
            place.symlink_to(os.path.abspath(photo))
        except OSError as error:
            raise ValueError(f'{folder.name}: no link to {photo} can be made there ({error.strerror}); copy the photos '
                             'with --copy-images') from error

    def record(self, out: Path) -> None:
        """Write what the export is of into it."""
        made_by = {key: self.folder.made_by[key] for key in ('checkpoint', 'weights', 'config')
                   if key in self.folder.made_by}
        write_json(out / EXPORT_RECORD, dict(
            format=RECORD_FORMAT, kind=self.name, labels=os.path.abspath(self.folder.root), **made_by,
            classes=self.folder.classes, images=len(self.items), **self.counted, options=asdict(self.options),
            notes=self.notes))

    def told(self, place: Path) -> list[str]:
        """Lines for people: what there is, where, and the notes."""
        regions = f', {counted(self.counted["regions"], "region")}' if 'regions' in self.counted else ''
        line = f'{self.name}: {counted(len(self.items), "image")}{regions} in {place}'
        empty = self.counted.get('empty', 0)
        if empty == len(self.items):
            line += '; no class in any of them, all is background: a valid export of nothing'
        elif empty:
            line += f'; {empty} of the images are background alone'
        if small := self.counted.get('small'):
            line += f'; {counted(small, "region")} below {self.options.min_area} pixels left out'
        notes = [*self.notes, told_of_corrected(self.counted.get('corrected', 0))]
        return [printable(each) for each in (line, *(f'{self.name}: {note}' for note in notes if note))]


def _colours(folder: LabelFolder) -> tuple[list[tuple[int, int, int]], bool]:
    """RGB by label, black for the background, no two alike; whether they are the folder's own."""
    count = len(folder.classes)
    own = [(0, 0, 0), *folder.palette[1:count]]
    if len(own) == count and len({*own, VOID_COLOUR}) == count + 1:
        return own, True
    return voc_palette(min(count, IGNORE_LABEL)), False
