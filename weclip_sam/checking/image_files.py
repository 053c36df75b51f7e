"""Every image file of the data sets looked at once, with the label files that must fit it."""
from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from weclip_sam.checking.built_datasets import DATA_ERRORS, Explain, in_words
from weclip_sam.checking.findings import Report
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.packing import LoadPixelLabels
from weclip_sam.datasets.readers.base import Record
from weclip_sam.evaluation.palettes import colours_of
from weclip_sam.io.images import fit_within, image_header, label_palette, read_image, read_labels
from weclip_sam.structures import IGNORE_LABEL

QUICK_SAMPLES = 16  # images of a data set that the quick check looks at
SMALL = 32  # pixels: two patches of ViT-B/16


@dataclass
class ImageFile:
    """One image file, with the label files that must fit it."""

    path: Path
    max_pixels: int
    full: bool
    images: dict[str, str] = field(default_factory=dict)  # data set -> image id
    # label file -> (data set, number of classes, long side the image was shrunk to before they were made, or None)
    labels: dict[Path, tuple[str, int, int | None]] = field(default_factory=dict)
    truth: Path | None = None  # the one of them that is ground truth
    size: tuple[int, int] | None = None
    digest: str = ''
    suspected_bits: int | None = None


@dataclass(frozen=True)
class Seen:
    """What reading an image file and its label files found.

    Attributes:
        size: (height, width), or None where the image cannot be read.
        digest: of the file's bytes; empty in the quick check.
        error: what is wrong with the image, or empty.
        label_errors: what is wrong with its label files.
        truth: pixels by label of the ground truth, if it was read.
        colours: of its labels, if it has any.
        suspected_bits: see :func:`weclip_sam.io.images.read_image`.
    """

    size: tuple[int, int] | None
    digest: str
    error: str
    label_errors: dict[Path, str]
    truth: dict[int, int] | None = None
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    suspected_bits: int | None = None


def list_files(datasets: Mapping[str, ImageLabelDataset], full: bool) -> list[ImageFile]:
    """The image files of all data sets by path, each once; ``full``: all of them, else a few of each data set."""
    jobs: dict[Path, ImageFile] = {}
    for name, dataset in datasets.items():
        records = dataset.records
        num_classes, max_side = len(dataset.metainfo['classes']), dataset.reader.max_side
        for index in _looked_at(len(records), full):
            record = records[index]
            if record.image_path is not None:
                job = jobs.setdefault(record.image_path, ImageFile(record.image_path, dataset.reader.max_pixels, full))
                job.images[name] = record.image_id
                for path in _label_files(dataset, record):
                    job.labels[path] = name, num_classes, max_side
                if full and dataset.with_masks and record.mask_path is not None and _is_there(record.mask_path):
                    job.labels[record.mask_path] = name, num_classes, None
                    job.truth = record.mask_path
    return sorted(jobs.values(), key=lambda job: job.path)


def _is_there(path: Path | None) -> bool:
    return path is not None and os.path.isfile(path)  # False where no file can have that name


def _looked_at(count: int, full: bool) -> list[int]:
    """Positions of all images, or of a few."""
    return list(range(count)) if full else np.unique(np.linspace(0, count - 1, QUICK_SAMPLES).astype(int)).tolist()


def _label_files(dataset: ImageLabelDataset, record: Record) -> list[Path]:
    """Labels made offline that are there; those that are not are counted once."""
    return [path for path in (step.path(record.image_id) for step in label_steps(dataset)) if _is_there(path)]


def label_steps(dataset: ImageLabelDataset) -> list[LoadPixelLabels]:
    """The steps of its pipeline that read labels made offline."""
    return [step for step in dataset.pipeline if isinstance(step, LoadPixelLabels)]


def inspect(job: ImageFile) -> Seen:
    """Read an image file and its label files; what is wrong with them is told, not raised."""
    try:
        if not job.full:
            (size, deep), digest = image_header(job.path, job.max_pixels), ''
            bits = read_image(job.path, job.max_pixels).info.get('suspected_bits') if deep else None
        else:
            image = read_image(job.path, job.max_pixels)
            size, bits = image.size[::-1], image.info.get('suspected_bits')
            digest = hashlib.blake2b(job.path.read_bytes(), digest_size=16).hexdigest()
    except (ValueError, OSError) as error:
        return Seen(None, '', str(error), {})
    wrong, truth, colours = {}, None, {}
    for path, (_, num_classes, max_side) in job.labels.items():
        try:
            labels = read_labels(path, num_classes, fit_within(size, max_side), job.max_pixels)
            if path == job.truth:
                truth, colours = _pixels(labels), colours_of(labels, label_palette(path))
        except (ValueError, OSError) as error:
            wrong[path] = str(error)
    return Seen(size, digest, '', wrong, truth, colours, bits)


def _pixels(labels: np.ndarray) -> dict[int, int]:
    counts = np.bincount(labels.reshape(-1), minlength=256)[:IGNORE_LABEL]
    return {label: int(counts[label]) for label in np.flatnonzero(counts).tolist()}


def tell_errors(job: ImageFile, result: Seen, report: Report) -> None:
    """What is wrong with one image file and its label files."""
    names = ' and '.join(sorted(job.images))
    if result.error:
        report.add('error', 'image', names, result.error)
    elif result.size is not None and min(result.size) < SMALL:
        report.add('warning', 'size', names, f'{job.path}: {result.size[0]} x {result.size[1]} pixels are hardly worth '
                   'segmenting')
    for path, error in result.label_errors.items():
        report.add('error', 'mask', job.labels[path][0], error)


def check_depth(name: str, shallow: list[ImageFile], report: Report) -> None:
    """``shallow`` are images of 16 bits whose values seem to have fewer."""
    if shallow:
        report.add('warning', 'depth', name, f'{len(shallow)} of the images looked at are files of 16 bits whose '
                   f'values seem to have fewer, for example {shallow[0].path} ({shallow[0].suspected_bits}): they are '
                   'seen as nearly black. Scale the values to 16 bits, or state their depth (PNG sBIT, TIFF '
                   'SMaxSampleValue)')


def check_memory(name: str, dataset: ImageLabelDataset, full: bool, report: Report, explain: Explain,
                  truths: dict[str, dict[int, int]]) -> None:
    """Images that are no files, their labels made offline, and (``full``) ground truth that is painted when asked for.
    """
    records = dataset.records
    painted = [i for i, record in enumerate(records) if record.image_path is None or (
        full and dataset.with_masks and not _is_there(record.mask_path))]
    for index in painted if full and records[0].image_path is not None else painted[:1]:
        try:
            if not full:
                dataset.load_image(index)
            elif (truth := dataset.load(index)['ground_truth']) is not None:
                truths[records[index].image_id] = _pixels(truth)
        except DATA_ERRORS as error:
            check = 'mask' if records[index].image_path else 'image'
            report.add('error', check, name, explain(error) or in_words(error))
    for index in _looked_at(len(records), full):
        if records[index].image_path is None:
            for path in _label_files(dataset, records[index]):
                try:
                    read_labels(path, len(dataset.metainfo['classes']), dataset.image_size(index))
                except DATA_ERRORS as error:
                    report.add('error', 'mask', name, str(error))


def check_duplicates(jobs: list[ImageFile], report: Report) -> None:
    """The same picture, byte for byte, in training and evaluation, or twice in one set."""
    groups: dict[str, list[ImageFile]] = defaultdict(list)
    for job in jobs:
        if job.digest:
            groups[job.digest].append(job)
    for group in groups.values():
        by_set: dict[str, list[str]] = defaultdict(list)
        for job in group:
            for name in job.images:
                by_set[name].append(str(job.path))
        trained = sorted(path for name in by_set if name.startswith('train_dataloader') for path in by_set[name])
        for name in sorted(by_set):
            if trained and name.startswith(('val_dataloader', 'test_dataloader')):
                report.add('error', 'duplicate', name, f'{by_set[name][0]} is evaluated on, but the same picture is '
                           f'trained on as {trained[0]}')
            if len(by_set[name]) > 1:
                report.add('warning', 'duplicate', name, f'the same picture {len(by_set[name])} times: '
                           f'{", ".join(sorted(by_set[name])[:5])}')
