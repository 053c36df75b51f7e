"""Making a downloaded data set ready: checking its layout, and writing down once what would be looked up every time.

Everything written is derived, small and safe to delete; an existing file is left alone unless asked otherwise.
"""
from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from weclip_sam.datasets.readers.base import read_list
from weclip_sam.datasets.readers.coco_json import (
    class_of_category,
    image_table,
    load_instances,
    rasterise,
    vocabulary_from_json,
)
from weclip_sam.datasets.readers.labels import read_label_table, write_label_table
from weclip_sam.datasets.readers.voc import (
    LABEL_FILE,
    LIST_DIR,
    classes_from_xml,
    indices_from_table,
    mask_paths,
    voc_vocabulary,
)
from weclip_sam.datasets.vocabulary import COCO_VOCABULARY, Vocabulary
from weclip_sam.io.files import atomic_open, inside
from weclip_sam.io.images import write_labels
from weclip_sam.io.names import folds_names, meeting
from weclip_sam.io.parallel import Progress, no_progress, parallel_map

VOC_URL = 'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar'
SBD_URL = 'https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz'
COCO_URL = 'http://images.cocodataset.org'
TRAIN_AUG_SIZE = 10_582
SBD_MASKS = ('Masks of the SBD images are wanted only to score seeds on train_aug, never for training. SBD ships them '
             'as .mat files; the usual conversion is the folder SegmentationClassAug (12,031 PNGs), which many '
             'projects provide: put it into {root}')


@dataclass
class Preparation:
    """What was found and done.

    Attributes:
        done: sentences about what is ready.
        missing: sentences about what is missing and where to get it; training or evaluation lacks something.
        hints: what would be nice to have.
        failed: reason by file, for single files that could not be used.
        next_command: what to run once all is ready.
    """

    done: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    next_command: str = ''

    @property
    def ok(self) -> bool:
        """Whether nothing is missing and nothing failed."""
        return not self.missing and not self.failed

    def text(self) -> str:
        """A line for everything: what is ready first, what is missing or to be done next last."""
        lines = [f'{mark:8}{line}' for mark, group in (('ok', self.done), ('hint', self.hints),
                                                       ('missing', self.missing)) for line in group]
        lines += [f'failed  {name}: {reason}' for name, reason in list(self.failed.items())[:20]]
        if len(self.failed) > 20:
            lines.append(f'failed  ... and {len(self.failed) - 20} more')
        if self.ok and self.next_command:
            lines.append(f'next    {self.next_command}')
        return '\n'.join(lines)


def _train_command(config: str, root: Path, *options: str) -> str:
    return shlex.join(['python', 'tools/train.py', f'configs/weclip_sam/{config}', '--cfg-options',
                       f'data_root={root}', *options])


def prepare_voc(root: Path, sbd: Path | None = None, overwrite: bool = False, workers: int | None = None,
                progress: Progress = no_progress) -> Preparation:
    """Check a VOC 2012 folder and write ``ImageSets/Segmentation/train_aug.txt`` and ``image_labels.csv``.

    Args:
        root: the folder with ``JPEGImages``.
        sbd: the unpacked SBD benchmark, for its lists; not needed if ``SegmentationClassAug`` or the list is there.
        overwrite: write existing files anew.
        workers: processes.
        progress: see :mod:`weclip_sam.io.parallel`.
    """
    report = Preparation()
    if not root.is_dir():
        report.missing.append(f'{root}: no such folder. Give the folder VOC2012 that has JPEGImages in it; VOC 2012 '
                              f'(2 GB) comes with: curl -LO {VOC_URL}')
        return report
    for nested in (root / 'VOC2012', root / 'VOCdevkit' / 'VOC2012'):
        if not (root / 'JPEGImages').is_dir() and nested.is_dir():
            report.missing.append(f'{root / "JPEGImages"}: the images; did you mean {nested}?')
            return report
    for folder, what in (('JPEGImages', 'the images'), (LIST_DIR, 'the split lists')):
        if not (root / folder).is_dir():
            report.missing.append(f'{root / folder}: {what}. Get VOC 2012 (2 GB): curl -LO {VOC_URL}, unpack it, and '
                                  'give the folder VOCdevkit/VOC2012')
    if report.missing:
        return report
    _voc_train_aug(root, sbd, overwrite, report)
    _voc_labels(root, overwrite, workers, progress, report)
    _voc_counts(root, report)
    has_aug = (root / LIST_DIR / 'train_aug.txt').is_file()
    report.next_command = _train_command('weclip-sam_vit-b16_30k_voc.py', root, *(
        [] if has_aug else ['train_dataloader.dataset.reader.split=train']))
    return report


def _voc_train_aug(root: Path, sbd: Path | None, overwrite: bool, report: Preparation) -> None:
    path = root / LIST_DIR / 'train_aug.txt'
    if path.is_file() and not overwrite:
        return
    lists = {name: root / LIST_DIR / f'{name}.txt' for name in ('train', 'val')}
    missing = [str(p) for p in lists.values() if not p.is_file()]
    if missing:
        report.missing.append(f'{", ".join(missing)}: the lists of VOC 2012 itself, at {VOC_URL}')
        return
    train, val = (read_list(lists[name], root / 'JPEGImages') for name in ('train', 'val'))
    if sbd is not None:
        folder = next((f for f in (sbd, sbd / 'dataset', sbd / 'benchmark_RELEASE' / 'dataset')
                       if (f / 'train.txt').is_file() and (f / 'val.txt').is_file()), None)
        if folder is None:
            report.missing.append(f'{sbd}: expected the lists train.txt and val.txt of SBD in it or in its folder '
                                  f'dataset. Get SBD (1.4 GB): curl -LO {SBD_URL}')
            return
        extra = [*read_list(folder / 'train.txt'), *read_list(folder / 'val.txt')]
    elif (root / 'SegmentationClassAug').is_dir():
        extra = [p.stem for p in (root / 'SegmentationClassAug').iterdir() if p.suffix == '.png']  # names only
    else:
        report.hints.append(f'no train_aug.txt: training can use split train ({len(train)} images) now. For the usual '
                            f'{TRAIN_AUG_SIZE}, get SBD (1.4 GB): curl -LO {SBD_URL}, unpack it, and run this again '
                            f'with --sbd benchmark_RELEASE. {SBD_MASKS.format(root=root)}')
        return
    names = sorted((set(extra) | set(train)) - set(val))
    if not names:
        report.missing.append(f'{path}: no image would be left of {len(train)} of train and {len(extra)} more, '
                              'because val lists them all; the lists of train and val must differ')
        return
    _write_lines(path, names)
    report.done.append(f'{path}: {len(names)} images')
    if len(names) != TRAIN_AUG_SIZE:
        report.hints.append(f'{path} has {len(names)} images; the usual train_aug has {TRAIN_AUG_SIZE}')


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with atomic_open(path, 'w') as file:
        file.write(''.join(f'{line}\n' for line in lines))


def _voc_labels(root: Path, overwrite: bool, workers: int | None, progress: Progress, report: Preparation) -> None:
    path = root / LABEL_FILE
    listed = sorted({name for names in _voc_lists(root).values() for name in names})
    if path.is_file() and not overwrite:
        try:
            lacking = set(listed) - {name.removesuffix('.jpg') for name in read_label_table(path)}
        except ValueError as error:
            report.failed[str(path)] = f'{_without(path, error)}. Mend it, or write it anew with --overwrite'
            return
        if not lacking:
            vocabulary = voc_vocabulary(root)
            try:
                indices_from_table(path, listed, vocabulary)
            except ValueError as error:
                report.failed[str(path)] = f'{_without(path, error)} Mend it, or write it anew with --overwrite'
                return
            report.done.append(f'{path}: there already, has all {len(listed)} images')
            return
    if not (root / 'Annotations').is_dir():
        report.missing.append(f'{root / "Annotations"}: image labels are read from these XML files, never from masks. '
                              f'They are part of {VOC_URL}')
        return
    paths = [root / 'Annotations' / f'{name}.xml' for name in listed]
    table = {}
    vocabulary = voc_vocabulary(root)
    read = partial(_xml_classes, vocabulary=vocabulary)
    for name, result in zip(listed, parallel_map(read, paths, len(paths), workers, 'annotations', progress),
                            strict=True):
        if isinstance(result, str):
            report.failed[name] = result
        else:
            table[name] = [vocabulary.classes[index] for index in result]
    if not report.failed:
        write_label_table(path, table)
        report.done.append(f'{path}: labels of {len(table)} images')


def _xml_classes(path: Path, vocabulary: Vocabulary) -> tuple[int, ...] | str:
    try:
        return classes_from_xml(path, vocabulary)
    except (ValueError, OSError) as error:
        return str(error)


def _voc_lists(root: Path) -> dict[str, list[str]]:
    names = ('train', 'val', 'trainval', 'train_aug')
    return {name: read_list(root / LIST_DIR / f'{name}.txt', root / 'JPEGImages') for name in names
            if (root / LIST_DIR / f'{name}.txt').is_file()}


def _voc_counts(root: Path, report: Preparation) -> None:
    images = {p.stem for p in (root / 'JPEGImages').iterdir() if p.suffix == '.jpg'}
    for name, listed in _voc_lists(root).items():
        lacking = sorted(set(listed) - images)
        report.done.append(f'split {name}: {len(listed)} images')
        if lacking:
            report.missing.append(f'{len(lacking)} images of split {name}, for example '
                                  f'{root / "JPEGImages" / (lacking[0] + ".jpg")}; unpack {VOC_URL} again')
    _voc_masks(root, report)


def _voc_masks(root: Path, report: Preparation) -> None:
    if not any((root / folder).is_dir() for folder in ('SegmentationClassAug', 'SegmentationClass')):
        report.missing.append(f'{root / "SegmentationClass"}: ground truth for evaluation, part of {VOC_URL}')
        return
    uses = dict(train='pseudo labels are scored with them', val='predictions are scored with them', train_aug='')
    for name, listed in _voc_lists(root).items():
        lacking = [path for path in mask_paths(root, listed) if not path.is_file()] if name in uses else []
        count = f'{len(lacking)} of {len(listed)} ground-truth masks of split {name}'
        if lacking and uses[name]:
            report.missing.append(f'{count}, for example {lacking[0]}; {uses[name]}, and they are part of {VOC_URL}')
        elif lacking:
            report.hints.append(f'{count} are not there. {SBD_MASKS.format(root=root)}')


def _without(path: Path, error: ValueError) -> str:
    return str(error).removeprefix(str(path)).removeprefix(':').removeprefix(',').strip()


def prepare_coco(root: Path, splits: Sequence[str] = ('train2014', 'val2014'), masks: bool = True,
                 classes: str = 'coco', overwrite: bool = False, workers: int | None = None,
                 progress: Progress = no_progress) -> Preparation:
    """Check a COCO folder; write ``labels_<split>.csv`` and, on request, ``semantic_masks/<split>/*.png``.

    Masks that exist are kept, so an interrupted run goes on where it stopped.

    Args:
        root: the folder with the image folders and ``annotations``.
        splits: which to prepare.
        masks: paint semantic masks too (for evaluation only).
        classes: ``'coco'``, or ``'json'`` for the categories of the file.
        overwrite: write existing files anew.
        workers: processes.
        progress: see :mod:`weclip_sam.io.parallel`.
    """
    report = Preparation()
    if not root.is_dir():
        report.missing.append(f'{root}: no such folder. Give the folder that has {", ".join(splits)} and annotations '
                              'in it, or make it: then this command says what to download')
        return report
    for split in splits:
        path = root / 'annotations' / f'instances_{split}.json'
        if not path.is_file():
            report.missing.append(f'{path}: get annotations_trainval2014.zip (241 MB): curl -LO '
                                  f'{COCO_URL}/annotations/annotations_trainval2014.zip, and unpack it in {root}')
        if not (root / split).is_dir():
            report.missing.append(f'{root / split}: the images. curl -LO {COCO_URL}/zips/{split}.zip (train2014 13 GB, '
                                  f'val2014 6 GB), and unpack it in {root}')
        if path.is_file() and (root / split).is_dir():
            _coco_split(root, split, path, masks, classes, overwrite, workers, progress, report)
    if len(splits) == 2:
        report.next_command = _train_command('weclip-sam_vit-b16_80k_coco.py', root, *_coco_options(splits, classes))
    return report


def _coco_options(splits: Sequence[str], classes: str) -> list[str]:
    """What differs from the config: the first split is trained on, the second evaluated on."""
    options = []
    for place, split, usual in (('train_dataloader.dataset', splits[0], 'train2014'),
                                ('val_dataloader.dataset', splits[1], 'val2014'),
                                ('test_dataloader.dataset', splits[1], 'val2014'),
                                ('seed_dataset', splits[0], 'train2014')):
        options += [f'{place}.reader.split={split}'] if split != usual else []
        options += [f'{place}.reader.classes={classes}'] if classes != 'coco' else []
    return options


def _coco_split(root: Path, split: str, path: Path, masks: bool, classes: str, overwrite: bool, workers: int | None,
                progress: Progress, report: Preparation) -> None:
    progress(f'reading {path.name}', 0, 1)
    try:
        coco = load_instances(path)
        vocabulary = COCO_VOCABULARY if classes == 'coco' else vocabulary_from_json(coco)
        categories = class_of_category(coco, vocabulary, str(path))
        table = image_table(coco, categories)
        for name in table:
            inside(root / split, name, str(path))
    except ValueError as error:
        report.failed[str(path)] = str(error).removeprefix(f'{path}: ')
        return
    if masks and (pair := meeting((PurePosixPath(name).with_suffix('').as_posix() + '.png' for name in sorted(table)),
                                  folds_names(root))):
        alike = [name for name in sorted(table) if PurePosixPath(name).with_suffix('').as_posix() + '.png' in pair]
        report.failed[str(path)] = (f'the masks of {" and ".join(map(repr, alike))} would meet (one {pair[0]}); rename '
                                    'one of the images in the file and on the disk, or give --no-masks')
        return
    there = {entry.name for entry in (root / split).iterdir()}
    lacking = sorted(name for name in table if name not in there and not (root / split / name).is_file())
    if lacking:
        report.missing.append(f'{len(lacking)} of {len(table)} images, for example {root / split / lacking[0]}; unpack '
                              f'{COCO_URL}/zips/{split}.zip again')
    labels = root / f'labels_{split}.csv'
    named = {name: [vocabulary.classes[i] for i in found] for name, found in table.items()}
    if overwrite or not labels.is_file():
        write_label_table(labels, named)
    elif not _holds(labels, named):
        report.failed[str(labels)] = f'says something else than {path}; --overwrite writes it anew'
        return
    empty = sum(not found for found in table.values())
    report.done.append(f'{labels}: labels of {len(table)} images, {empty} of them without any object')
    if masks:
        _coco_masks(coco, categories, root / 'semantic_masks' / split, overwrite, workers, progress, report)


def _holds(path: Path, named: Mapping[str, Sequence[str]]) -> bool:
    """Whether a label file says just this."""
    try:
        written = read_label_table(path)
    except ValueError:
        return False
    return {name: set(found) for name, found in written.items()} == {name: set(f) for name, f in named.items()}


def _coco_masks(coco: Any, categories: Mapping[Any, int], folder: Path, overwrite: bool, workers: int | None,
                progress: Progress, report: Preparation) -> None:
    images = sorted(coco.dataset['images'], key=lambda image: image['file_name'])
    targets = [folder / PurePosixPath(image['file_name']).with_suffix('.png') for image in images]
    todo = [(image, target) for image, target in zip(images, targets, strict=True)
            if overwrite or not target.is_file()]
    tasks = ((target, coco.imgToAnns[image['id']], categories, image['height'], image['width'])
             for image, target in todo)
    results = parallel_map(_paint, tasks, len(todo), workers, f'masks of {folder.name}', progress)
    for (_, target), error in zip(todo, results, strict=True):
        if error:
            report.failed[str(target)] = error
    made = len(todo) - sum(str(target) in report.failed for _, target in todo)
    report.done.append(f'{folder}: {made} masks made, {len(images) - len(todo)} were there already')


def _paint(task: tuple[Path, Sequence[Mapping[str, Any]], Mapping[Any, int], int, int]) -> str:
    """Returns what went wrong, or nothing."""
    target, annotations, categories, height, width = task
    try:
        write_labels(target, rasterise(annotations, categories, height, width, target.stem))
    except ValueError as error:
        return str(error)
    return ''
