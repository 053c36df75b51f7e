"""Making a set in COCO's form ready: image labels and semantic masks from its instances JSON, each made once."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from weclip_sam.commands import command_line
from weclip_sam.datasets.coco_masks import TOOL, Instances, paint_masks
from weclip_sam.datasets.prepare import Preparation, next_commands
from weclip_sam.datasets.prepared import Prepared, lines_digest, table_digest
from weclip_sam.datasets.readers.labels import read_label_table, write_label_table
from weclip_sam.datasets.readers.names import CLASS_FILE
from weclip_sam.io.files import atomic_open, inside
from weclip_sam.io.names import folds_names, meeting, normal, real_path, stem
from weclip_sam.io.new_folders import make_folder
from weclip_sam.io.parallel import Progress, no_progress
from weclip_sam.io.text import read_lines
from weclip_sam.words import counted

COCO_URL = 'http://images.cocodataset.org'
FOLDER_CONFIG = 'configs/weclip_sam/weclip-sam_vit-b16_5k_folder.py'


def prepare_coco(root: Path, splits: Sequence[str] = ('train2014', 'val2014'), masks: bool = True,
                 classes: str = 'coco', overwrite: bool = False, workers: int | None = None,
                 progress: Progress = no_progress) -> Preparation:
    """Check a COCO folder; write ``labels_<split>.csv`` and, on request, ``semantic_masks/<split>/*.png``.

    Masks that were made of the same outlines and classes are kept, so an interrupted run goes on where it stopped.

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
        report.next_command = next_commands('weclip-sam_vit-b16_80k_coco.py', root, *_coco_options(splits, classes))
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
        source = Instances.load(path, classes)
        for name in source.named:
            inside(root / split, name, str(path))
    except ValueError as error:
        report.failed[str(path)] = str(error).removeprefix(f'{path}: ')
        return
    mask_of = {name: f'{stem(name)}.png' for name in sorted(source.named)}
    if masks and (pair := meeting(mask_of.values(), folds_names(root))):
        alike = [name for name, mask in mask_of.items() if mask in pair]
        report.failed[str(path)] = (f'the masks of {" and ".join(map(repr, alike))} would meet (one {pair[0]}); rename '
                                    'one of the images in the file and on the disk, or give --no-masks')
        return
    there = {normal(entry.name) for entry in (root / split).iterdir()}
    lacking = sorted(name for name in source.named if name not in there and not real_path(root / split, name).is_file())
    if lacking:
        report.missing.append(f'{len(lacking)} of {len(source.named)} images, for example {root / split / lacking[0]}; '
                              f'unpack {COCO_URL}/zips/{split}.zip again')
    record = Prepared(root)
    masks = source.tell(masks, report)
    if _coco_labels(f'labels_{split}.csv', source.named, path, overwrite, record, report) and masks:
        images = [(image, f'{stem(image["file_name"])}.png') for image in source.coco.dataset['images']]
        paint_masks(source, images, f'semantic_masks/{split}', overwrite, workers, progress, record, report)


def _coco_labels(name: str, named: Mapping[str, Sequence[str]], path: Path, overwrite: bool, record: Prepared,
                 report: Preparation) -> bool:
    """Write the label file, unless one is there that the JSON does not explain."""
    target, anew = record.root / name, ''
    if target.is_file() and not overwrite:
        written = _written(target)
        made = record.get(name)
        if written != table_digest(named):
            if made is None or written != made['table']:
                report.failed[str(target)] = f'says something else than {path}; --overwrite writes it anew'
                return False
            anew = f', made anew since {path.name} changed'
    if anew or overwrite or not target.is_file():
        try:
            write_label_table(target, named)
        except ValueError as error:  # a name with a line break, say
            report.failed[str(target)] = f'{str(error).removeprefix(f"{target}: ")}: rename the category in {path}'
            return False
    record.put(name, TOOL, [path], table=table_digest(named))
    empty = sum(not found for found in named.values())
    report.done.append(f'{target}: labels of {counted(len(named), "image")}, {empty} of them without any object{anew}')
    return True


def _written(path: Path) -> str | None:
    """The digest of a label file; None if it cannot be read."""
    try:
        return table_digest(read_label_table(path))
    except ValueError:
        return None


def prepare_json(path: Path, image_dir: Path, root: Path | None = None, masks: bool = True, classes: str = 'json',
                 overwrite: bool = False, workers: int | None = None, progress: Progress = no_progress) -> Preparation:
    """Take an instances JSON of an annotation tool where it lies: ``labels.csv``, ``classes.txt`` and ``masks/*.png``,
    as :class:`FolderReader` reads them, go into a folder beside it; the images stay where they are.

    Args:
        path: the JSON, whatever it is called.
        image_dir: where its images are. One whose path the tool wrote differently is found by its name.
        root: where to write; None: a folder beside the JSON, called ``<its name>_prepared``.
        masks, classes, overwrite, workers, progress: see :func:`prepare_coco`.
    """
    report = Preparation()
    root = path.parent / f'{path.stem}_prepared' if root is None else root
    for where, what, there in ((path, 'the instances JSON', path.is_file()),
                               (image_dir, 'the folder of images', image_dir.is_dir())):
        if not there:
            report.missing.append(f'{where}: no such file or folder; {what} is looked for there')
    if report.missing:
        return report
    progress(f'reading {path.name}', 0, 1)
    try:
        source = Instances.load(path, classes)
        found = {name: _find_image(image_dir, name, str(path)) for name in source.named}
        twice = [file for file, count in Counter(found.values()).items() if count > 1]
        if twice:
            raise ValueError(f'{path}: several images are {image_dir / twice[0]}; file names must differ')
        stems = Counter(map(stem, found.values()))
        twice = [name for name, count in stems.items() if count > 1]
        if twice:
            raise ValueError(f'{path}: several images are called {twice[0]} but for their suffix, and would share a '
                             'mask; rename one')
    except ValueError as error:
        report.failed[str(path)] = str(error).removeprefix(f'{path}: ')
        return report
    lacking = sorted(file for file in found.values() if not real_path(image_dir, file).is_file())
    if lacking:
        report.missing.append(f'{len(lacking)} of {len(found)} images, for example {image_dir / lacking[0]}; give the '
                              'folder that they are in with --images')
    make_folder(root)
    record = Prepared(root)
    masks = source.tell(masks, report)
    named = {found[name]: names for name, names in source.named.items()}
    ready = _coco_classes(source, overwrite, record, report) and _coco_labels('labels.csv', named, path, overwrite,
                                                                               record, report)
    if ready and masks:
        images = [(image, f'{stem(found[image["file_name"]])}.png') for image in source.coco.dataset['images']]
        paint_masks(source, images, 'masks', overwrite, workers, progress, record, report)
    folder = image_dir.resolve()
    options = [f'data_root={root}', *(f'{place}.reader.image_dir={folder}' for place in (
        'train_dataloader.dataset', 'seed_dataset')), f'mask_bank={root / "sam_masks"}']
    report.next_command = '\n        '.join(
        command_line(command, FOLDER_CONFIG, '--cfg-options', *options) for command in ('check_data', 'train'))
    return report


def _find_image(folder: Path, name: str, source: str) -> str:
    """Path below ``folder`` of an image that a tool may have written with folders of its own."""
    bare = PureWindowsPath(name).name  # knows both kinds of slash
    try:
        inside(folder, name, source)
        if real_path(folder, name).is_file() or not bare:
            return name
    except ValueError:  # an absolute path, say: the name alone may do
        pass
    inside(folder, bare, source)
    return bare if real_path(folder, bare).is_file() else name if inside(folder, name, source) else bare


def _coco_classes(source: Instances, overwrite: bool, record: Prepared, report: Preparation) -> bool:
    """Write the class list that label numbers follow."""
    target, lines = record.root / CLASS_FILE, list(source.vocabulary.classes)
    if target.is_file() and not overwrite:
        there = read_lines(target)
        made = record.get(CLASS_FILE)
        if there != lines and (made is None or made['lines'] != lines_digest(there)):
            report.failed[str(target)] = f'lists other classes than {source.path}; --overwrite writes it anew'
            return False
    with atomic_open(target, 'w') as file:
        file.write(''.join(f'{line}\n' for line in lines))
    record.put(CLASS_FILE, TOOL, [source.path], lines=lines_digest(lines))
    report.done.append(f'{target}: {counted(len(lines), "class", "classes")}')
    return True
