"""Making a downloaded data set ready: checking its layout, and writing down once what would be looked up every time.

Everything written is derived, small and safe to delete. What it was made of is noted (:mod:`..prepared`): when that has
changed it is made anew; what people changed by hand is kept and told, unless asked otherwise.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from weclip_sam.commands import command_line
from weclip_sam.datasets.prepared import Prepared, lines_digest, table_digest
from weclip_sam.datasets.readers.labels import read_label_table, write_label_table
from weclip_sam.datasets.readers.lists import read_list
from weclip_sam.datasets.readers.voc import (
    LABEL_FILE,
    LIST_DIR,
    classes_from_xml,
    indices_from_table,
    mask_paths,
    voc_vocabulary,
)
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.io.files import atomic_open
from weclip_sam.io.folders import is_clutter
from weclip_sam.io.images import is_image_name, strip_suffix
from weclip_sam.io.names import is_utf8, normal, real_path
from weclip_sam.io.parallel import Progress, no_progress, parallel_map
from weclip_sam.words import counted

VOC_URL = 'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar'
SBD_URL = 'https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz'
TRAIN_AUG_SIZE = 10_582
TOOL = 'tools/prepare_voc.py'
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
        next_command: what to run once all is ready, a line for each command.
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


def next_commands(config: str, root: Path, *options: str) -> str:
    """Which weights a training needs and lacks, and the training; lines under one another for :class:`Preparation`."""
    path = f'configs/weclip_sam/{config}'
    return '\n        '.join((command_line('weights', path), command_line(
        'train', path, '--cfg-options', f'data_root={root}', *options)))


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
    report.next_command = next_commands('weclip-sam_vit-b16_30k_voc.py', root, *(
        [] if has_aug else ['train_dataloader.dataset.reader.split=train']))
    return report


def _voc_train_aug(root: Path, sbd: Path | None, overwrite: bool, report: Preparation) -> None:
    path, name = root / LIST_DIR / 'train_aug.txt', f'{LIST_DIR}/train_aug.txt'
    record = Prepared(root)
    made = record.get(name)
    # A list that is there is made anew only where this tool made it, and from the same kind of source.
    kind = 'sbd' if sbd is not None else 'masks'
    if path.is_file() and not overwrite and (made is None or made.get('kind') != kind):
        return
    lists = {name: root / LIST_DIR / f'{name}.txt' for name in ('train', 'val')}
    missing = [str(p) for p in lists.values() if not p.is_file()]
    if missing:
        report.missing.append(f'{", ".join(missing)}: the lists of VOC 2012 itself, at {VOC_URL}')
        return
    train, val = (read_list(lists[name], root / 'JPEGImages') for name in ('train', 'val'))
    sources = list(lists.values())
    if sbd is not None:
        folder = next((f for f in (sbd, sbd / 'dataset', sbd / 'benchmark_RELEASE' / 'dataset')
                       if (f / 'train.txt').is_file() and (f / 'val.txt').is_file()), None)
        if folder is None:
            report.missing.append(f'{sbd}: expected the lists train.txt and val.txt of SBD in it or in its folder '
                                  f'dataset. Get SBD (1.4 GB): curl -LO {SBD_URL}')
            return
        sources += [folder / 'train.txt', folder / 'val.txt']
        extra = [*read_list(folder / 'train.txt'), *read_list(folder / 'val.txt')]
    elif (root / 'SegmentationClassAug').is_dir():
        extra = [normal(p.stem) for p in (root / 'SegmentationClassAug').iterdir()
                 if p.suffix.lower() == '.png' and not is_clutter(p.name)]  # names only
        if odd := [name for name in extra if not is_utf8(name)]:
            extra = [name for name in extra if is_utf8(name)]
            report.hints.append(f'{len(odd)} files of {root / "SegmentationClassAug"} have names that are no UTF-8, '
                                f'which no list can hold, for example {odd[0]!r}; they are left out: rename them')
    elif path.is_file() and not overwrite:
        return
    else:
        report.hints.append(f'no train_aug.txt: training can use split train ({counted(len(train), "image")}) now. '
                            f'For the usual {TRAIN_AUG_SIZE}, get SBD (1.4 GB): curl -LO {SBD_URL}, unpack it, and '
                            f'run this again with --sbd benchmark_RELEASE. {SBD_MASKS.format(root=root)}')
        return
    names = sorted((set(extra) | set(train)) - set(val))
    if not names:
        report.missing.append(f'{path}: no image would be left of {len(train)} of train and {len(extra)} more, '
                              'because val lists them all; the lists of train and val must differ')
        return
    if path.is_file() and not overwrite:
        there = read_list(path, root / 'JPEGImages')
        if there == names:
            return
        if made is None or lines_digest(there) != made['lines']:
            report.hints.append(f'{path}: was changed by hand since it was made, and is kept; --overwrite writes it '
                                'anew')
            return
    anew = ', made anew since its sources changed' if path.is_file() else ''
    _write_lines(path, names)
    record.put(name, TOOL, sources, kind=kind, lines=lines_digest(names))
    report.done.append(f'{path}: {counted(len(names), "image")}{anew}')
    if len(names) != TRAIN_AUG_SIZE:
        report.hints.append(f'{path} has {counted(len(names), "image")}; the usual train_aug has {TRAIN_AUG_SIZE}')


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with atomic_open(path, 'w') as file:
        file.write(''.join(f'{line}\n' for line in lines))


def _voc_labels(root: Path, overwrite: bool, workers: int | None, progress: Progress, report: Preparation) -> None:
    path = root / LABEL_FILE
    listed = sorted({name for names in _voc_lists(root).values() for name in names})
    record, vocabulary = Prepared(root), voc_vocabulary(root)
    sources = {name: real_path(root / 'Annotations', f'{name}.xml') for name in listed}
    written: dict[str, tuple[str, ...]] = {}
    if path.is_file() and not overwrite:
        try:
            written = {strip_suffix(name): found for name, found in read_label_table(path).items()}
            indices_from_table(path, [name for name in listed if name in written], vocabulary)
        except ValueError as error:
            said = _without(path, error)
            report.failed[str(path)] = (f'{said}{"" if said.endswith((".", "?")) else "."} Mend it, or write it anew '
                                        'with --overwrite')
            return
        made = record.get(LABEL_FILE)
        same = made is not None and not record.changed(LABEL_FILE) and table_digest(made['labels']) == table_digest(
            {name: found for name, found in written.items() if name in made['labels']})
        if set(listed) <= set(written) and (same or not (root / 'Annotations').is_dir()):
            report.done.append(f'{path}: there already, has all {counted(len(listed), "image")}')
            return
    if not (root / 'Annotations').is_dir():
        report.missing.append(f'{root / "Annotations"}: image labels are read from these XML files, never from masks. '
                              f'They are part of {VOC_URL}')
        return
    table, read = {}, partial(_xml_classes, vocabulary=vocabulary)
    for name, result in zip(listed, parallel_map(read, sources.values(), len(sources), workers, 'annotations',
                                                 progress), strict=True):
        if isinstance(result, str):
            report.failed[name] = result
        else:
            table[name] = [vocabulary.classes[index] for index in result]
    if not report.failed:
        _write_voc_labels(path, table, written, sources, record, report)


def _write_voc_labels(path: Path, table: dict[str, list[str]], written: Mapping[str, Sequence[str]],
                      sources: Mapping[str, Path], record: Prepared, report: Preparation) -> None:
    """Write what the annotations say, but for lines that people changed."""
    made = (record.get(LABEL_FILE) or {}).get('labels', {})  # what the annotations said when the lines were made
    differing = [name for name in table if name in written and set(written[name]) != set(table[name])]
    by_hand = [name for name in differing if name not in made or set(made[name]) != set(written[name])]
    kept = [name for name in by_hand if name in made and set(made[name]) == set(table[name])]
    unclear = sorted(set(by_hand) - set(kept))
    if unclear:
        first = unclear[0]
        report.failed[str(path)] = (
            f'says something else than the annotations of {len(unclear)} images, for example '
            f'{";".join(written[first]) or "nothing"} of {first}, where {sources[first]} has '
            f'{";".join(table[first]) or "nothing"}; mend what is wrong, or write it anew with --overwrite')
        return
    anew, said = [name for name in differing if name not in set(by_hand)], dict(table)
    table |= {name: list(found) for name, found in written.items() if name in kept or name not in table}
    if {name: set(found) for name, found in written.items()} != {name: set(found) for name, found in table.items()}:
        write_label_table(path, table)
        report.done.append(f'{path}: labels of {counted(len(table), "image")}' + (
            f', {len(anew)} of them made anew, since annotations changed, for example {anew[0]}' if anew else ''))
    else:
        report.done.append(f'{path}: there already, has all {counted(len(table), "image")}')
    if kept:
        report.hints.append(f'{path}: the lines of {len(kept)} images were changed by hand, for example {kept[0]}, and '
                            'are kept; --overwrite writes them anew')
    record.put(LABEL_FILE, TOOL, sources.values(), labels=said)


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
    images = {normal(strip_suffix(p.name)) for p in (root / 'JPEGImages').iterdir() if is_image_name(p)}
    for name, listed in _voc_lists(root).items():
        lacking = sorted(set(listed) - images)
        report.done.append(f'split {name}: {counted(len(listed), "image")}')
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
