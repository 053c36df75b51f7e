"""Reading all data that a config will touch before a long run does."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weclip_sam.checking.built_datasets import (
    Explain,
    build_dataset,
    find_datasets,
    is_for_scoring_seeds,
    tell_missing,
    walk_config,
    with_input_labels,
)
from weclip_sam.checking.class_names import check_class_names, check_image_labels, check_same_classes
from weclip_sam.checking.findings import Report
from weclip_sam.checking.image_files import (
    ImageFile,
    check_depth,
    check_duplicates,
    check_memory,
    inspect,
    label_steps,
    list_files,
    tell_errors,
)
from weclip_sam.checking.photos import check_photos, photo_reader
from weclip_sam.checking.prompts import check_prompt_lengths
from weclip_sam.commands import tool
from weclip_sam.datasets.features import LoadFeatures
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.packing import LoadMasks
from weclip_sam.datasets.readers.folder import FolderReader
from weclip_sam.evaluation.palettes import PaletteCheck
from weclip_sam.evaluation.truth import TruthRecord, compare_truth
from weclip_sam.io.names import is_utf8
from weclip_sam.io.parallel import Progress, no_progress, parallel_map
from weclip_sam.mask_bank import FeatureBank, MaskBank
from weclip_sam.offline.photos import require_own_photos


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
        if not full and is_for_scoring_seeds(name, node, config):
            continue
        if name == 'train_dataloader' and config.get('input_labels'):
            node = with_input_labels(node, config['input_labels'], report)
        dataset = build_dataset(name, node, report, explain, missing)
        if dataset is not None:
            datasets[name] = dataset
            check_image_labels(name, dataset, report)
            check_class_names(name, node, dataset, report)
            _check_bank(name, dataset, report, full)
            _check_label_folders(name, dataset, report)
            _check_links(name, node, dataset, report)
            for note in dataset.reader.notes:
                report.add('note', 'passed over', name, note)
            _check_unlisted(name, dataset, report)
    tell_missing(missing, report)
    check_same_classes(datasets, report)
    renewed = {str(node.get('bank')) for _, node in walk_config(config) if node.get('type') == 'MaskBankHook'}
    check_photos(datasets, renewed, report, full)
    if datasets and isinstance(config.get('model'), Mapping):
        names = config['model'].get('vocabulary') or next(iter(datasets.values())).metainfo
        check_prompt_lengths(config['model'], names, report)
    jobs = list_files(datasets, full)
    truths: dict[str, dict[str, dict[int, int]]] = defaultdict(dict)  # pixels by label of data set and image
    palettes = {name: PaletteCheck(dataset.metainfo['classes']) for name, dataset in datasets.items()}
    results = parallel_map(inspect, jobs, len(jobs), workers if full else 0, 'files', progress)
    for job, result in zip(jobs, results, strict=True):
        tell_errors(job, result, report)
        if result.truth is not None and job.truth is not None:
            truths[job.labels[job.truth][0]][job.images[job.labels[job.truth][0]]] = result.truth
            palettes[job.labels[job.truth][0]].add(str(job.truth), result.colours)
        job.size, job.digest, job.suspected_bits = result.size, result.digest, result.suspected_bits
    for name in datasets:
        check_depth(name, [job for job in jobs if name in job.images and job.suspected_bits], report)
    for name, dataset in datasets.items():
        check_memory(name, dataset, full, report, explain, truths[name])
        _check_truth(name, dataset, truths[name], report)
        if recoloured := palettes[name].message():
            report.add('warning', 'truth', name, recoloured)
        _summarise(name, dataset, [job for job in jobs if name in job.images], report)
    if full:
        check_duplicates(jobs, report)


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
    for step in label_steps(dataset):
        if not step.folder.is_dir():
            report.add('error', 'mask', name, f'{step.folder} does not exist; make the labels first '
                       f'({tool("make_seeds")})')
        elif missing := step.missing(dataset.image_ids):
            report.add('error', 'mask', name, f'{step.folder}: {len(missing)} of {len(dataset)} images have no label '
                       f'PNG, for example {", ".join(missing[:5])}; every image needs one. Run {tool("make_seeds")} '
                       'again (summary.json in its folder says which images failed and why), or take them off the list')


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


def _check_truth(name: str, dataset: ImageLabelDataset, truths: Mapping[str, dict[int, int]], report: Report) -> None:
    """Whether masks hold what their images are named for: classes that are shifted, however it came, show here."""
    labels = dict(zip(dataset.image_ids, dataset.image_labels, strict=True))
    found = compare_truth((TruthRecord(image_id, frozenset((labels[image_id].nonzero().flatten() + 1).tolist()), pixels)
                           for image_id, pixels in truths.items()), dataset.metainfo['classes'])
    if found.disagreeing:
        report.add('warning', 'truth', name, found.message())


def _summarise(name: str, dataset: ImageLabelDataset, jobs: list[ImageFile], report: Report) -> None:
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
