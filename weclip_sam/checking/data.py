"""Reading all data that a config will touch before a long run does."""
from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from weclip_sam.checking.findings import Report
from weclip_sam.checking.photos import check_photos, photo_reader
from weclip_sam.checking.prompts import check_prompt_lengths
from weclip_sam.commands import tool
from weclip_sam.datasets.features import LoadFeatures
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.packing import LoadMasks, LoadPixelLabels
from weclip_sam.datasets.readers.base import ListError, MissingImages, Record
from weclip_sam.datasets.readers.folder import FolderReader
from weclip_sam.datasets.readers.names import CLASS_FILE, PROMPT_FILE
from weclip_sam.datasets.vocabulary import is_number
from weclip_sam.evaluation.palettes import PaletteCheck, colours_of
from weclip_sam.evaluation.truth import TruthRecord, compare_truth
from weclip_sam.io.images import fit_within, image_header, label_palette, read_image, read_labels
from weclip_sam.io.names import is_utf8
from weclip_sam.io.parallel import Progress, no_progress, parallel_map
from weclip_sam.mask_bank import FeatureBank, MaskBank
from weclip_sam.offline.photos import require_own_photos
from weclip_sam.registry import DATASETS
from weclip_sam.structures import IGNORE_LABEL

MAX_MISSING = 1000  # image files that are named one by one
QUICK_SAMPLES = 16  # images of a data set that the quick check looks at
SIMILAR = 0.8  # class names whose difflib ratio reaches it may be one class, written in two ways
SMALL = 32  # pixels: two patches of ViT-B/16
# What building a data set raises on data or configs that are wrong.
DATA_ERRORS = (ValueError, OSError, KeyError, TypeError)
Explain = Callable[[BaseException], str | None]


def find_datasets(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every :class:`ImageLabelDataset` in a config by its place, such as ``'train_dataloader'``; equal ones once."""
    found: dict[str, dict[str, Any]] = {}
    for place, node in walk_config(config):
        if node.get('type') in ('ImageLabelDataset', ImageLabelDataset) and node not in found.values():
            found[place.removesuffix('.dataset')] = dict(node)
    return found


def walk_config(node: Any, place: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted place, dict) of every dict in a config, outer ones first."""
    node = dict(node.items()) if isinstance(node, Config) else node
    if isinstance(node, Mapping):
        yield place, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from walk_config(value, f'{place}.{key}' if place else str(key))


def check_datasets(config: Mapping[str, Any], report: Report, full: bool = True, workers: int | None = None,
                   progress: Progress = no_progress, explain: Explain = lambda error: None) -> None:
    """Check the data sets of a config.

    Found are: lists, labels and paths that a reader refuses; image files that are missing, or that no row of a table
    names; unreadable, truncated, oversized and tiny images; masks and offline labels (``input_labels``, too) that are
    missing, unreadable, of another size or with values that name no class, and offline labels of other classes or
    images; ground truth that holds other classes than its image is named
    for; images without a label, classes with no image or one, names of classes that look like slips; the same
    picture in training and evaluation, or twice in one set; data sets with different classes; SAM masks still to be
    made, masks and offline labels of photos that were replaced since; links that lead out of the data folder.

    Args:
        config: a whole config.
        report: gets the findings.
        full: read every file. Otherwise only lists, image labels and which files are there, and a few images of each
            data set; no ground truth is opened, and that of a ``seed_dataset`` which no hook of a training reads need
            not be there.
        workers: processes.
        progress: see :mod:`weclip_sam.io.parallel`.
        explain: words an error for people, or returns None; registries and Python have messages of their own.
    """
    datasets: dict[str, ImageLabelDataset] = {}
    missing: dict[Path, list[str]] = defaultdict(list)
    for name, node in find_datasets(config).items():
        if not full and _is_for_scoring_seeds(name, node, config):
            continue
        if name == 'train_dataloader' and config.get('input_labels'):
            node = _with_input_labels(node, config['input_labels'], report)
        dataset = _build(name, node, report, explain, missing)
        if dataset is not None:
            datasets[name] = dataset
            _check_labels(name, dataset, report)
            _check_class_names(name, node, dataset, report)
            _check_bank(name, dataset, report, full)
            _check_label_folders(name, dataset, report)
            _check_links(name, node, dataset, report)
            for note in dataset.reader.notes:
                report.add('note', 'passed over', name, note)
            _check_unlisted(name, dataset, report)
    _tell_missing(missing, report)
    _check_same_classes(datasets, report)
    renewed = {str(node.get('bank')) for _, node in walk_config(config) if node.get('type') == 'MaskBankHook'}
    check_photos(datasets, renewed, report, full)
    if datasets and isinstance(config.get('model'), Mapping):
        names = config['model'].get('vocabulary') or next(iter(datasets.values())).metainfo
        check_prompt_lengths(config['model'], names, report)
    jobs = _jobs(datasets, full)
    truths: dict[str, dict[str, dict[int, int]]] = defaultdict(dict)  # pixels by label of data set and image
    palettes = {name: PaletteCheck(dataset.metainfo['classes']) for name, dataset in datasets.items()}
    results = parallel_map(_inspect, jobs, len(jobs), workers if full else 0, 'files', progress)
    for job, result in zip(jobs, results, strict=True):
        _take(job, result, report)
        if result.truth is not None and job.truth is not None:
            truths[job.labels[job.truth][0]][job.images[job.labels[job.truth][0]]] = result.truth
            palettes[job.labels[job.truth][0]].add(str(job.truth), result.colours)
        job.size, job.digest, job.suspected_bits = result.size, result.digest, result.suspected_bits
    for name in datasets:
        _check_depth(name, [job for job in jobs if name in job.images and job.suspected_bits], report)
    for name, dataset in datasets.items():
        _check_memory(name, dataset, full, report, explain, truths[name])
        _check_truth(name, dataset, truths[name], report)
        if recoloured := palettes[name].message():
            report.add('warning', 'truth', name, recoloured)
        _summarise(name, dataset, [job for job in jobs if name in job.images], report)
    if full:
        _check_duplicates(jobs, report)


def _is_for_scoring_seeds(name: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a data set is one of training images and masks that only ``tools/make_seeds.py --evaluate`` opens."""
    hooks = [config.get('custom_hooks'), config.get('default_hooks')]
    return bool(name == 'seed_dataset' and node.get('with_masks') and config.get('train_cfg')
                and all(dict(used) != node for _, used in walk_config(hooks)))


def _with_input_labels(node: dict[str, Any], labels: str, report: Report) -> dict[str, Any]:
    """The training set with the labels that its seeds start from, as ``tools/make_seeds.py`` reads it."""
    try:
        return {**node, 'pixel_labels': labels.format(split='train')}
    except (ValueError, LookupError, AttributeError):
        report.add('error', 'config', 'input_labels', f'{labels!r}: expected a folder; {{split}} is all that may stand '
                   'in braces (a brace of the name is doubled)')
        return node


def _build(name: str, node: dict[str, Any], report: Report, explain: Explain,
           missing: dict[Path, list[str]]) -> ImageLabelDataset | None:
    """The data set as far as it can be built; ``missing`` gets the data sets by image file that is not there."""
    try:
        return DATASETS.build(node)
    except DATA_ERRORS as error:
        for message in error.faults if isinstance(error, ListError) else [explain(error) or _message(error)]:
            report.add('error', 'data set', name, message)
        if isinstance(error, MissingImages):
            for path in error.paths:
                missing[path].append(name)
            if not _is_folder(node) or len(error.paths) == error.total or node['reader'].get('missing') == 'skip':
                return None
            there = {**node, 'reader': {**node['reader'], 'missing': 'skip'}}  # those can be checked
            return _build(name, there, report, explain, missing)
    # Perhaps only masks or labels are at fault: then the images can be checked.
    for without in ({'with_masks': False}, {'pixel_labels': None}, {'with_masks': False, 'pixel_labels': None}):
        if all(node.get(key) for key in without):
            try:
                return DATASETS.build({**node, **without})
            except DATA_ERRORS:
                pass
    return None


def _is_folder(node: Mapping[str, Any]) -> bool:
    reader = node.get('reader')
    return isinstance(reader, Mapping) and reader.get('type') in ('FolderReader', FolderReader)


def _tell_missing(missing: Mapping[Path, list[str]], report: Report) -> None:
    for path, names in list(missing.items())[:MAX_MISSING]:
        report.add('error', 'image', ' and '.join(sorted(names)), f'{path}: no such file')
    if len(missing) > MAX_MISSING:
        names = sorted({name for each in missing.values() for name in each})
        report.add('error', 'image', ' and '.join(names), f'... and {len(missing) - MAX_MISSING} more missing files')


def _check_unlisted(name: str, dataset: ImageLabelDataset, report: Report) -> None:
    if not name.startswith('train_dataloader') or not isinstance(dataset.reader, FolderReader):
        return
    found = dataset.reader.search()
    files = found.files
    if found.told():
        report.add('note', 'passed over', name, f'not looked at in the folders of the images: {found.told()}')
    if files:
        report.add('warning', 'unlisted', name, f'{len(files)} image files are in no line of the label file, so '
                   f'nothing is learnt from them, for example {", ".join(map(str, files[:5]))}')
        if odd := [file for file in files if not is_utf8(str(file))]:
            report.add('warning', 'unlisted', name, f'{len(odd)} image files have names that are no UTF-8, which no '
                       f'table can hold, for example {odd[0]}; rename them')


def _message(error: BaseException) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _check_labels(name: str, dataset: ImageLabelDataset, report: Report) -> None:
    if not name.startswith('train_dataloader'):
        return
    without = [image_id for image_id, labels in zip(dataset.image_ids, dataset.image_labels, strict=True)
               if not labels.any()]
    if without:
        report.add('warning', 'no label', name, f'{len(without)} of {len(dataset)} images have no label and teach '
                   f"background only (unlabelled='skip' leaves them out), for example {', '.join(without[:5])}")
    counts = dataset.image_labels.sum(0).tolist()
    unseen = [c for c, count in zip(dataset.metainfo['classes'], counts, strict=True) if count == 0]
    if unseen:
        report.add('warning', 'classes', name, f'{len(unseen)} classes are in no training image: '
                   f'{", ".join(unseen[:20])}')
    single = [c for c, count in zip(dataset.metainfo['classes'], counts, strict=True) if count == 1]
    if single:
        report.add('warning', 'classes', name, f'{len(single)} classes are in one training image only, too few to '
                   f'learn from (or misspelt?): {", ".join(single[:20])}')


def _check_class_names(name: str, node: Mapping[str, Any], dataset: ImageLabelDataset, report: Report) -> None:
    """Names that look like slips of the label file; one that was written down as a class on purpose is no slip."""
    if not name.startswith('train_dataloader'):
        return
    counts = dict(zip(dataset.metainfo['classes'], dataset.image_labels.sum(0).tolist(), strict=True))
    if left_out := dataset.reader.vocabulary.left_out:
        report.add('note', 'class names', name, f'background nouns that name a class are left out: '
                   f'{", ".join(left_out[:20])}')
    for each in (c for c in counts if '|' in c):
        report.add('warning', 'class names', name, f"class {each!r} has a | in its name; if these are several classes, "
                   "separate them by ';' in the label file")
    for each in (c for c in counts if ',' in c):
        report.add('warning', 'class names', name, f'class {each!r} has a comma in its name, which CLIP reads as '
                   "synonyms; if these are several classes, separate them by ';' in the label file")
    for each in counts:
        parts = re.split(r'[\s,/&+]+', each)
        if len(parts) > 1 and counts.keys() >= set(parts):
            report.add('warning', 'class names', name, f'class {each!r} is made of the names of other classes; if '
                       "these are several classes, separate them by ';' in the label file")
    vocabulary = dataset.reader.vocabulary
    if numbers := [c for c, text in zip(vocabulary.classes, vocabulary.prompt_names, strict=True) if is_number(text)]:
        report.add('warning', 'class names', name, f'CLIP is asked for numbers ({", ".join(numbers[:5])}), which name '
                   f'nothing to be seen: write the names of the classes, or a text for each in {PROMPT_FILE}. (The '
                   'label of a class is its place in the list, whatever number it is called)')
    reader = node['reader']
    if not _is_folder(node) or reader.get('classes') is not None or \
            (Path(reader['data_root']) / CLASS_FILE).is_file():
        return
    for first, other in combinations(counts, 2):
        match = difflib.SequenceMatcher(None, first.casefold(), other.casefold())
        if match.quick_ratio() >= SIMILAR and match.ratio() >= SIMILAR:
            report.add('warning', 'class names', name, f'classes {first!r} (images: {counts[first]}) and {other!r} '
                       f'(images: {counts[other]}) are written almost alike: if they are one class, mend the label '
                       f'file; if not, list all classes in {Path(reader["data_root"]) / CLASS_FILE}, one a line')


def _check_bank(name: str, dataset: ImageLabelDataset, report: Report, full: bool) -> None:
    for step in dataset.pipeline:
        if not isinstance(step, (LoadMasks, LoadFeatures)) or not isinstance(step.bank, (str, Path)):
            continue
        place, what = ('mask bank', 'SAM masks') if isinstance(step, LoadMasks) else ('feature bank', "SAM's features")
        try:
            settings: dict[str, Any] = dict(mode='r', image_folder=step.image_folder, moved=True)
            bank = MaskBank(step.bank, step.fingerprint, **settings) if isinstance(step, LoadMasks) else \
                FeatureBank(step.bank, **settings)
            require_own_photos(bank, dataset, photo_reader(full))
            missing = sum(image_id not in bank for image_id in dataset.image_ids)
        except FileNotFoundError:
            missing = len(dataset)
        except ValueError as error:
            report.add('error', place, name, str(error))
            continue
        if missing:
            report.add('note', place, name, f'{step.bank}: {what} of {missing} of {len(dataset)} images are still to '
                       f'be made ({tool("make_masks")}, or the hook that makes them before training)')


def _check_label_folders(name: str, dataset: ImageLabelDataset, report: Report) -> None:
    for step in _label_steps(dataset):
        if not step.folder.is_dir():
            report.add('error', 'mask', name, f'{step.folder} does not exist; make the labels first '
                       f'({tool("make_seeds")})')
        elif missing := step.missing(dataset.image_ids):
            report.add('error', 'mask', name, f'{step.folder}: {len(missing)} of {len(dataset)} images have no label '
                       f'PNG, for example {", ".join(missing[:5])}; every image needs one. Run {tool("make_seeds")} '
                       'again (summary.json in its folder says which images failed and why), or take them off the list')


def _label_steps(dataset: ImageLabelDataset) -> list[LoadPixelLabels]:
    return [step for step in dataset.pipeline if isinstance(step, LoadPixelLabels)]


def _check_links(name: str, node: Mapping[str, Any], dataset: ImageLabelDataset, report: Report) -> None:
    reader = node.get('reader')
    if not isinstance(reader, Mapping) or not reader.get('data_root'):
        return
    root = Path(reader['data_root']).resolve()
    folders = {record.image_path.parent for record in dataset.records if record.image_path is not None}
    outside = sorted(str(folder) for folder in folders if not folder.resolve().is_relative_to(root))
    links = [record.image_path for record in dataset.records if record.image_path is not None
             and record.image_path.is_symlink() and not record.image_path.resolve().is_relative_to(root)]
    if outside or links:
        report.add('note', 'links', name, f'{len(outside)} folders and {len(links)} images are links that lead out of '
                   f'{root}, for example {(outside + [str(p) for p in links])[0]}')


def _check_same_classes(datasets: Mapping[str, ImageLabelDataset], report: Report) -> None:
    names = list(datasets)
    for name in names[1:]:
        first, other = datasets[names[0]].metainfo['classes'], datasets[name].metainfo['classes']
        if first != other:
            report.add('error', 'classes', name, f'has {len(other)} classes, {names[0]} has {len(first)}; only in one '
                       f'of them: {sorted(set(first) ^ set(other))[:10]} (a shared classes.txt keeps them alike)')


@dataclass
class _Job:
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
class _Result:
    size: tuple[int, int] | None
    digest: str
    error: str
    label_errors: dict[Path, str]
    truth: dict[int, int] | None = None  # pixels by label of the ground truth, if it was read
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # of its labels, if it has any
    suspected_bits: int | None = None


def _jobs(datasets: Mapping[str, ImageLabelDataset], full: bool) -> list[_Job]:
    jobs: dict[Path, _Job] = {}
    for name, dataset in datasets.items():
        records = dataset.records
        num_classes, max_side = len(dataset.metainfo['classes']), dataset.reader.max_side
        for index in _looked_at(len(records), full):
            record = records[index]
            if record.image_path is not None:
                job = jobs.setdefault(record.image_path, _Job(record.image_path, dataset.reader.max_pixels, full))
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
    return [path for path in (step.path(record.image_id) for step in _label_steps(dataset)) if _is_there(path)]


def _inspect(job: _Job) -> _Result:
    try:
        if not job.full:
            (size, deep), digest = image_header(job.path, job.max_pixels), ''
            bits = read_image(job.path, job.max_pixels).info.get('suspected_bits') if deep else None
        else:
            image = read_image(job.path, job.max_pixels)
            size, bits = image.size[::-1], image.info.get('suspected_bits')
            digest = hashlib.blake2b(job.path.read_bytes(), digest_size=16).hexdigest()
    except (ValueError, OSError) as error:
        return _Result(None, '', str(error), {})
    wrong, truth, colours = {}, None, {}
    for path, (_, num_classes, max_side) in job.labels.items():
        try:
            labels = read_labels(path, num_classes, fit_within(size, max_side), job.max_pixels)
            if path == job.truth:
                truth, colours = _pixels(labels), colours_of(labels, label_palette(path))
        except (ValueError, OSError) as error:
            wrong[path] = str(error)
    return _Result(size, digest, '', wrong, truth, colours, bits)


def _pixels(labels: np.ndarray) -> dict[int, int]:
    counts = np.bincount(labels.reshape(-1), minlength=256)[:IGNORE_LABEL]
    return {label: int(counts[label]) for label in np.flatnonzero(counts).tolist()}


def _take(job: _Job, result: _Result, report: Report) -> None:
    names = ' and '.join(sorted(job.images))
    if result.error:
        report.add('error', 'image', names, result.error)
    elif result.size is not None and min(result.size) < SMALL:
        report.add('warning', 'size', names, f'{job.path}: {result.size[0]} x {result.size[1]} pixels are hardly worth '
                   'segmenting')
    for path, error in result.label_errors.items():
        report.add('error', 'mask', job.labels[path][0], error)


def _check_depth(name: str, shallow: list[_Job], report: Report) -> None:
    if shallow:
        report.add('warning', 'depth', name, f'{len(shallow)} of the images looked at are files of 16 bits whose '
                   f'values seem to have fewer, for example {shallow[0].path} ({shallow[0].suspected_bits}): they are '
                   'seen as nearly black. Scale the values to 16 bits, or state their depth (PNG sBIT, TIFF '
                   'SMaxSampleValue)')


def _check_truth(name: str, dataset: ImageLabelDataset, truths: Mapping[str, dict[int, int]], report: Report) -> None:
    """Whether masks hold what their images are named for: classes that are shifted, however it came, show here."""
    labels = dict(zip(dataset.image_ids, dataset.image_labels, strict=True))
    found = compare_truth((TruthRecord(image_id, frozenset((labels[image_id].nonzero().flatten() + 1).tolist()), pixels)
                           for image_id, pixels in truths.items()), dataset.metainfo['classes'])
    if found.disagreeing:
        report.add('warning', 'truth', name, found.message())


def _check_memory(name: str, dataset: ImageLabelDataset, full: bool, report: Report, explain: Explain,
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
            report.add('error', check, name, explain(error) or _message(error))
    for index in _looked_at(len(records), full):
        if records[index].image_path is None:
            for path in _label_files(dataset, records[index]):
                try:
                    read_labels(path, len(dataset.metainfo['classes']), dataset.image_size(index))
                except DATA_ERRORS as error:
                    report.add('error', 'mask', name, str(error))


def _summarise(name: str, dataset: ImageLabelDataset, jobs: list[_Job], report: Report) -> None:
    labels = dataset.image_labels
    summary: dict[str, Any] = dict(
        images=len(dataset), classes=labels.shape[1], without_label=int((~labels.any(1)).sum()),
        labels_per_image=round(float(labels.sum(1).float().mean()), 2), masks=dataset.with_masks)
    sizes = sorted(job.size for job in jobs if job.size is not None)
    if sizes:
        longest = max(sizes, key=lambda size: size[0] * size[1])
        smallest = min(sizes, key=lambda size: size[0] * size[1])
        summary.update(files_read=len(sizes), smallest=f'{smallest[0]}x{smallest[1]}',
                       largest=f'{longest[0]}x{longest[1]}')
    else:
        summary.update(files_read='none (made in memory)')
    if name.startswith('train_dataloader'):
        summary['images_of_class'] = dict(zip(dataset.metainfo['classes'], labels.sum(0).tolist(), strict=True))
    report.datasets[name] = summary


def _check_duplicates(jobs: list[_Job], report: Report) -> None:
    groups: dict[str, list[_Job]] = defaultdict(list)
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
