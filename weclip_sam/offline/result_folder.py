"""Writing a folder of results, image by image: what :mod:`weclip_sam.offline.results` reads.

What is known of an image is noted as soon as its files are whole, in a file of lines of each process; at the end, or
when the next run begins, the notes join ``predictions.json``. So a run that was killed goes on with what is missing.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, barrier, is_main_process
from PIL import Image

from weclip_sam.engine.start.predictions import HEADER, claim_predictions
from weclip_sam.evaluation import SamReport
from weclip_sam.io.files import atomic_open, inside, is_of_one_file, remove_stale_temporaries, write_json
from weclip_sam.io.identity import FileIdentity, IdentityNotes, identify, recognise
from weclip_sam.io.images import write_grey
from weclip_sam.io.text import read_json
from weclip_sam.models.labelling import DOUBTS
from weclip_sam.models.refine import SamUse
from weclip_sam.offline.results import CONFIDENCE, DOUBT_MAPS, LABELS, NOTES, OVERLAYS, PHOTOS
from weclip_sam.offline.work import WorkReport
from weclip_sam.result import SegmentationResult

PLACES = (LABELS, OVERLAYS, CONFIDENCE, DOUBT_MAPS)  # whose PNGs --overwrite removes; photos may be somebody's
_KEYS = {OVERLAYS: 'overlay', CONFIDENCE: 'confidence', DOUBT_MAPS: 'doubt_map'}  # in the record
PATIENCE = 10  # so many images that cannot be written, and none that can: it is not their names


@dataclass(frozen=True)
class Asked:
    """An image that results are wanted of.

    Attributes:
        name: of its files, without suffix, unique in the folder.
        image: its file; None for one made in memory, which is written, too: who comes later wants to see it.
        names: the classes given for it; None if nobody named any.
    """

    name: str
    image: Path | None
    names: tuple[str, ...] | None = None


class ResultFolder:
    """A folder of results while it is written; every process has one.

    Args:
        out: the folder, nobody else writing in it.
        card: what the results are made with, see :func:`prediction_card`.
        asked: all images.
        classes: C+1 names by label.
        overlays, confidence, doubts: which files are written besides the labels.
        overwrite: remove results that are there first.

    Raises:
        ValueError: as :func:`claim_predictions`. Nothing was changed.
    """

    def __init__(self, out: str | os.PathLike, card: Mapping[str, Any], asked: Sequence[Asked], classes: Sequence[str],
                 *, overlays: bool = True, confidence: bool = True, doubts: bool = False,
                 overwrite: bool = False) -> None:
        self.out, self.asked, self.classes = Path(out), list(asked), list(classes)
        self.card = dict(card, classes=self.classes)  # from the beginning: a run may be stopped, and looked at then
        self.kinds = [kind for kind, wanted in ((OVERLAYS, overlays), (CONFIDENCE, confidence), (DOUBT_MAPS, doubts))
                      if wanted]
        self._names = {one.name: one for one in self.asked}
        self._notes = IdentityNotes(self.out, NOTES)
        self._written = self._unwritten = 0
        self._used: list[SamUse] = []
        if is_main_process():
            self._claim(overwrite)
        barrier()
        self.entries = {str(entry['labels']): entry for entry in _header(self.out).get('images', ())}

    # ---- before the work -------------------------------------------------------------------------------------------

    def _claim(self, overwrite: bool) -> None:
        """Let the notes of earlier runs join the record, and claim the folder."""
        there = _header(self.out)
        self.entries = {str(entry['labels']): entry for entry in there.get('images', ())}
        noted = {str(entry['labels']): entry for entry in self._noted()}
        if there and noted:
            write_json(self.out / HEADER, {**there, 'images': [*{**self.entries, **noted}.values()]})
            self.entries.update(noted)
        inputs = {self._path(LABELS, one.name): self._photo(one) for one in self.asked}
        done = [] if overwrite else [self._path(LABELS, one.name) for one in self.asked if self._is_done(one)]
        claim_predictions(self.out, self.card, overwrite, PLACES, inputs, done)
        self._notes.clear()
        for kind in PLACES:
            for folder in {(self.out / self._path(kind, one.name)).parent for one in self.asked}:
                remove_stale_temporaries(folder, '*.png')

    def is_done(self, index: int) -> bool:
        """Whether everything of an image is there, made of the photo and the names that it has now."""
        return self._is_done(self.asked[index])

    def _is_done(self, one: Asked) -> bool:
        entry = self.entries.get(self._path(LABELS, one.name))
        if entry is None or (None if entry.get('names') is None else tuple(entry['names'])) != one.names:
            return False
        if one.image is not None and not _is_still(one.image, FileIdentity.parse(entry.get('photo'))):
            return False
        wanted = [LABELS, *self.kinds, *([PHOTOS] if one.image is None else [])]
        if any(key not in entry for kind, key in _KEYS.items() if kind in self.kinds):
            return False  # a file of that name is of an earlier label, or whole only since a run was killed
        return all((self.out / self._path(kind, one.name)).is_file() for kind in wanted)

    # ---- during the work -------------------------------------------------------------------------------------------

    def identify(self, index: int) -> FileIdentity | None:
        """Of the photo; call it before the photo is read.

        Raises:
            OSError: it cannot be read.
        """
        image = self.asked[index].image
        return None if image is None else identify(image)

    def write(self, name: str, result: SegmentationResult, photo: FileIdentity | None) -> None:
        """Write the files of one image, each whole or not at all, and note what is known of it.

        Raises:
            OSError: a file cannot be written.
            ValueError: none could be so far, of many.
        """
        try:
            entry = self._write(self._names[name], result)
        except OSError as error:
            self._unwritten += is_of_one_file(error)
            if self._unwritten >= PATIENCE and not self._written:
                raise ValueError(f'{error.filename or self.out}: cannot be written ({error.strerror}), like those of '
                                 f'the {self._unwritten} images so far') from error
            raise
        self._written += 1
        self._notes.add(entry if photo is None else {**entry, 'photo': list(photo)})
        if result.sam is not None:
            self._used.append(result.sam)

    def _write(self, one: Asked, result: SegmentationResult) -> dict[str, Any]:
        files = {kind: self.out / self._path(kind, one.name) for kind in (*PLACES, PHOTOS)}
        entry: dict[str, Any] = dict(image=self._photo(one), labels=self._path(LABELS, one.name))
        if one.image is None:
            with atomic_open(files[PHOTOS]) as file:
                Image.fromarray(result.image).save(file, format='PNG')
        for kind in _KEYS:
            if kind not in self.kinds and files[kind].is_file():
                files[kind].unlink()  # of the label that was there
        result.save(files[LABELS], files[OVERLAYS] if OVERLAYS in self.kinds else None)
        written = {OVERLAYS} & {*self.kinds}
        if CONFIDENCE in self.kinds and result.confidence is not None:
            write_grey(files[CONFIDENCE], result.confidence)
            written.add(CONFIDENCE)
        if DOUBT_MAPS in self.kinds and result.doubts:
            write_grey(files[DOUBT_MAPS], doubt_bits(result.doubts))
            written.add(DOUBT_MAPS)
        entry.update({key: self._path(kind, one.name) for kind, key in _KEYS.items() if kind in written})
        return {**entry, **_about(one, result)}

    def _path(self, kind: str, name: str) -> str:
        return f'{kind}/{name}.png'

    def _photo(self, one: Asked) -> str:
        return str(self.out.absolute() / self._path(PHOTOS, one.name)) if one.image is None else \
            os.path.abspath(one.image)

    # ---- after the work --------------------------------------------------------------------------------------------

    def finish(self, report: WorkReport, seconds: float, palette: Sequence[Sequence[int]] | None) -> SamReport | None:
        """Write ``predictions.json``; every process calls it.

        Args:
            report: of all processes together.
            seconds: that the run took.
            palette: RGB triples by label.

        Returns:
            What SAM did in this run; None where nobody asked it.
        """
        self._notes.close()
        used = [SamUse(*each) for part in all_gather_object([tuple(each) for each in self._used]) for each in part]
        if is_main_process():
            self.entries.update({str(entry['labels']): entry for entry in self._noted()})
            place = {self._path(LABELS, one.name): index for index, one in enumerate(self.asked)}
            entries = sorted((entry for label, entry in self.entries.items() if inside(self.out, label).is_file()),
                             key=lambda entry: place.get(entry['labels'], -1))
            write_json(self.out / HEADER, dict(
                self.card, palette=[list(colour) for colour in palette or ()][:len(self.classes)],
                seconds=round(seconds, 3), images=entries,
                failed={self.file(name): reason for name, reason in report.failed.items()},
                suspected_bits=self.suspected_bits()))
            self._notes.clear()
        barrier()
        return SamReport.of(used) if used else None

    def file(self, name: str) -> str:
        """What people call an image: its file, if it has one."""
        return str(self._names[name].image or name)

    def suspected_bits(self) -> dict[str, int]:
        """By file, of how many bits the images of 16 bits seem to be that do not use them."""
        return {str(entry['image']): entry['suspected_bits'] for entry in self.entries.values()
                if 'suspected_bits' in entry}

    def _noted(self) -> list[dict[str, Any]]:
        return [line[0] for line in self._notes.read() if line and isinstance(line[0], dict) and 'labels' in line[0]]


def doubt_bits(doubts: Mapping[str, np.ndarray]) -> np.ndarray:
    """H W uint8: a bit of ``DOUBTS`` for each who says something else (H W bool each)."""
    bits = np.zeros(next(iter(doubts.values())).shape, np.uint8)
    for name, other in doubts.items():
        bits[other] |= DOUBTS[name]
    return bits


def _is_still(image: Path, known: FileIdentity | None) -> bool:
    try:
        return known is not None and recognise(image, [known]) is not None
    except OSError:  # whoever opens it says what is wrong
        return False


def _about(one: Asked, result: SegmentationResult) -> dict[str, Any]:
    """What the record says of an image besides its files."""
    height, width = result.labels.shape
    known: dict[str, Any] = dict(height=height, width=width, areas=_rounded(result.areas()))
    if result.confidence is not None:
        known['scores'] = _rounded(result.scores())
    if one.names is not None:
        known['names'] = list(one.names)
    if result.named:
        known['named'] = _rounded(result.named)
    if result.doubts:
        known['doubts'] = _rounded({name: float(other.mean()) for name, other in result.doubts.items()})
    if result.sam is not None and result.sam.masks is not None:
        known['masks'] = result.sam.masks
    if result.suspected_bits is not None:
        known['suspected_bits'] = result.suspected_bits
    return known


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: round(number, 6) for name, number in numbers.items()}


def _header(out: Path) -> dict[str, Any]:
    """The record of a folder, or nothing where there is none that can be used: who claims the folder says so."""
    with suppress(OSError, ValueError, RecursionError):
        there = read_json(out / HEADER)
        if isinstance(there, dict) and all(isinstance(entry, dict) and 'labels' in entry
                                           for entry in there.get('images', ())):
            return there
    return {}
