"""Corrections written as a folder of labels: ground truth for validation, or labels of a second stage."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from weclip_sam.datasets.packing import SEEDS_HEADER
from weclip_sam.datasets.readers.labels import join_names
from weclip_sam.engine.start.predictions import HEADER, NOTED
from weclip_sam.io.files import atomic_open, inside, write_json
from weclip_sam.io.images import ImageReadError, fit_within, labels_changed, labels_made_of, read_labels, write_labels
from weclip_sam.io.names import check_apart, normal
from weclip_sam.io.parallel import Progress, no_progress
from weclip_sam.io.text import read_json
from weclip_sam.review.corrections.found import Correction, Corrections
from weclip_sam.review.corrections.masks import IMPORTED
from weclip_sam.review.corrections.target import Target
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL
from weclip_sam.words import counted

CORRECTED, OTHERS = 'corrected.txt', 'others.txt'
_MADE = 'import_labels '  # what label PNGs say that they were made of begins so


@dataclass
class Imported:
    """What an import did.

    Attributes:
        out: the folder.
        written, same, filled: how many labels are new or others than before, as before, and those of ``like``.
        alike: how many corrections say the same as the earlier label.
        lost: in how many of them pixels that were ignored are background now.
        failed: by name of the image, why there is no label of it.
        notes: a sentence for each other thing that people should know.
        corrected: all corrected images of the folder, those of earlier imports, too.
    """

    out: Path
    written: int = 0
    same: int = 0
    filled: int = 0
    alike: int = 0
    lost: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)

    def text(self) -> str:
        """What to tell."""
        told = [f'{counted(self.written, "label")} written to {self.out}']
        told += [f'{self.same} were there already'] * bool(self.same)
        told += [f'{self.alike} of them as the earlier labels are'] * bool(self.alike)
        told += [f'{self.filled} more are those that nobody corrected'] * bool(self.filled)
        told += [f'{len(self.failed)} failed'] * bool(self.failed)
        return ', '.join(told)


def import_corrections(sources: Mapping[str, Corrections], out: Path, target: Target, empty: bool = False,
                       complete: bool = False, keep_ignored: bool = False, max_side: int | None = None,
                       overwrite: bool = False, progress: Progress = no_progress) -> Imported:
    """Write ``<image>.png`` for every correction, and ``seeds.json``, which says what the numbers mean.

    Nothing is written before all names are known and no file would meet another. Of two corrections of one image the
    later counts, and that is told. A label that an earlier import wrote is replaced; any other only with
    ``overwrite``.

    Args:
        sources: what was read, by source, later ones after earlier ones.
        out: an existing folder.
        target: images and classes.
        empty: take images in which nothing is marked for background; else they are left out, and told.
        complete: write the earlier labels of all other images, too.
        keep_ignored: what was ignored in the earlier label and is background in the correction stays ignored: COCO,
            CVAT and Label Studio have no such pixels. Without, images where they are lost are told.
        max_side: shrink larger labels to this long side, as a reader shrinks photos.
        overwrite: write over label PNGs of other origin.
        progress: told of each.

    Raises:
        ValueError: the folder holds labels of other classes, or of other origin; names that no file can have.
        OSError: a file cannot be written.
    """
    done = Imported(out)
    header = _claim(out, target, overwrite)
    chosen = _choose(sources, target, empty, done)
    names = list(chosen)
    names += sorted(set(target.like) - set(chosen) - set(header)) if complete else []
    for name in names:
        inside(out, f'{name}.png', 'names of images')
    check_apart(out, names)
    if not overwrite:
        _refuse_others(out, names)
    _write_header(out, target, header)
    left_out: list[str] = []
    for count, (name, correction) in enumerate(chosen.items(), start=1):
        progress('write labels', count - 1, len(names))
        try:
            labels = correction.paint()
            target.check_size(name, (labels.shape[0], labels.shape[1]), correction.where)
        except (ValueError, FileNotFoundError) as error:
            done.failed[name] = str(error)
            continue
        if name in target.like:
            labels = _compared(labels, target.like[name].labels, keep_ignored, done, correction.where)
        _write(out / f'{name}.png', _shrunk(labels, max_side), target, correction.where, done)
        header[name] = correction.where
        left_out += correction.left_out
    if complete:
        _fill(out, target, sorted(set(target.like) - set(header)), max_side, done)
    progress('write labels', len(names), len(names))
    if left_out:
        done.notes.append(f'{len(left_out)} regions have an outline that cannot be painted, and are left out: '
                          f'{left_out[0]}')
    if done.lost:
        done.notes.append(f'pixels that were ignored are background now in {counted(done.lost, "image")}: forms '
                          'such as COCO know none; --keep-ignored leaves them ignored')
    done.corrected = sorted(header)
    _write_header(out, target, header)
    return done


def _compared(labels: np.ndarray, earlier: Path, keep_ignored: bool, done: Imported, where: str) -> np.ndarray:
    """A correction beside the earlier label: counted, and with what was ignored there. One that was made in its place
    is beside nothing."""
    if os.path.abspath(where) == os.path.abspath(earlier):
        return labels
    try:
        before = read_labels(earlier)
    except ValueError:
        return labels
    if before.shape != labels.shape:
        return labels
    lost = (before == IGNORE_LABEL) & (labels == BACKGROUND_LABEL)
    if keep_ignored:
        labels = np.where(lost, before, labels)
    else:
        done.lost += bool(lost.any())
    done.alike += np.array_equal(before, labels)
    return labels


def _fill(out: Path, target: Target, names: Sequence[str], max_side: int | None, done: Imported) -> None:
    """Write the earlier labels of images that have no correction, or one that failed."""
    for name in names:
        earlier = target.like[name].labels
        try:
            labels = read_labels(earlier, len(target.classes) - 1)
        except ValueError as error:
            done.failed.setdefault(name, str(error))
            continue
        _write(out / f'{name}.png', _shrunk(labels, max_side), target, str(earlier))
        done.filled += 1


def _choose(sources: Mapping[str, Corrections], target: Target, empty: bool, done: Imported) -> dict[str, Correction]:
    """By image, the correction that counts."""
    chosen: dict[str, Correction] = {}
    twice: list[str] = []
    nothing: list[str] = []
    for corrections in sources.values():
        done.failed.update(corrections.failed)
        done.notes += corrections.notes
        for correction in corrections.images:
            if correction.empty and not empty:
                nothing.append(correction.name)
                continue
            try:
                name = target.find(correction.name, correction.where, len(done.failed) < 3, correction.file)
            except ValueError as error:
                done.failed[correction.name] = str(error)
                continue
            if name in chosen:
                twice.append(f'{name}: {correction.where} was taken, not {chosen[name].where}')
            chosen[name] = correction
            done.failed.pop(name, None)
    if twice:
        more = f' ({len(twice)} such images)' if len(twice) > 1 else ''
        done.notes.append(f'corrected twice, the later counts: {twice[0]}{more}')
    if nothing:
        done.notes.append(f'nothing is marked in {counted(len(nothing), "image")}, for example {nothing[0]}: left out; '
                          '--empty takes it for background')
    return chosen


def _shrunk(labels: np.ndarray, max_side: int | None) -> np.ndarray:
    height, width = fit_within((labels.shape[0], labels.shape[1]), max_side)
    if (height, width) == labels.shape:
        return labels
    return np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def _write(path: Path, labels: np.ndarray, target: Target, made_of: str, done: Imported | None = None) -> None:
    if done is not None:
        if path.is_file() and _same(path, labels):
            done.same += 1
            return
        done.written += 1
    write_labels(path, labels, target.palette, _MADE + made_of.encode('ascii', 'backslashreplace').decode())


def _same(path: Path, labels: np.ndarray) -> bool:
    try:
        return np.array_equal(read_labels(path), labels)
    except ValueError:
        return False


def _claim(out: Path, target: Target, overwrite: bool) -> dict[str, str]:
    """The sources of earlier corrections by image.

    Raises:
        ValueError: the folder is of something else, or of other classes.
    """
    path = out / SEEDS_HEADER
    if (out / HEADER).exists():
        raise ValueError(f'{out}: holds predictions ({HEADER}); choose another --out')
    if not path.is_file():
        return {}
    header = read_json(path)
    if not isinstance(header, dict) or header.get('format') != IMPORTED or not isinstance(
            header.get('corrected'), dict):
        raise ValueError(f'{path}: these labels were not imported, but made; choose another --out')
    if list(map(normal, header.get('classes') or ())) != list(map(normal, target.classes[1:])):
        if overwrite:
            for name in header['corrected']:
                inside(out, f'{name}.png', str(path)).unlink(missing_ok=True)
            return {}
        raise ValueError(f'{path}: the labels there are of other classes, or of another order of them; choose another '
                         '--out, or add --overwrite to import all anew')
    return {str(name): str(where) for name, where in header['corrected'].items()}


def _refuse_others(out: Path, names: Sequence[str]) -> None:
    """Labels that no import wrote, or that were changed since, are not written over."""
    strange = []
    for name in names:
        path = out / f'{name}.png'
        if not os.path.lexists(path):
            continue
        try:
            ours = (labels_made_of(path) or '').startswith(_MADE) and not labels_changed(path)
        except ImageReadError:
            ours = False
        strange += [] if ours else [path]
    if strange:
        raise ValueError(f'{strange[0]}: is there, and was not imported (or was changed since), as {len(strange)} such '
                         'files in all. Nothing was changed: choose another --out, or add --overwrite')


def _write_header(out: Path, target: Target, corrected: Mapping[str, str]) -> None:
    """What the labels mean, for whoever reads them, and two lists of images for ``val_split`` and ``train_split``."""
    named = {name: join_names(one.names) for name, one in target.like.items() if one.names is not None}
    photos = target.photo_folder()
    folder = {} if photos is None else dict(image_folder=str(photos))
    write_json(out / SEEDS_HEADER, {'format': IMPORTED, 'classes': list(target.classes[1:]), **folder, NOTED: True,
                                    'corrected': dict(sorted(corrected.items())), 'image_labels': named,
                                    'palette': [list(map(int, colour)) for colour in target.palette]})
    others = sorted(set(target.photos or ()) - set(corrected))
    for name, listed in ((CORRECTED, sorted(corrected)), (OTHERS, others)):
        with atomic_open(out / name, 'w') as file:
            file.writelines(f'{each}\n' for each in listed)
