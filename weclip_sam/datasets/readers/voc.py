"""PASCAL VOC 2012, with the SBD images (``train_aug``) if their list is there."""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from weclip_sam.commands import command_line, tool
from weclip_sam.datasets.prepared import Prepared
from weclip_sam.datasets.readers.base import Reader, Record
from weclip_sam.datasets.readers.faults import Faults, find_file, nearest
from weclip_sam.datasets.readers.files import image_paths, locate_files, png_paths
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.datasets.readers.lists import class_positions, read_list
from weclip_sam.datasets.readers.names import read_classes, read_nouns, read_prompts
from weclip_sam.datasets.readers.one_hot import OneHotLabels, find_one_hot, is_one_hot
from weclip_sam.datasets.vocabulary import VOC_CLASSES, VOC_VOCABULARY, Vocabulary
from weclip_sam.io.images import MAX_PIXELS, strip_suffix
from weclip_sam.io.names import real_path
from weclip_sam.io.text import decode_text
from weclip_sam.registry import READERS

LABEL_FILE = 'image_labels.csv'
LIST_DIR = 'ImageSets/Segmentation'
WHERE = ('VOC 2012 is at http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (VOCtrainval_11-May-2012.tar, 2 GB); '
         f'{tool("prepare_voc")} says what else is needed')


@READERS.register_module()
class VocReader(Reader):
    """The layout of the VOC 2012 devkit, with VOC's classes or your own, and images of any suffix.

    Labels come from a label file (``tools/prepare_voc.py`` makes ``image_labels.csv`` once) or, without one, from the
    XML annotations; never from masks.

    Args:
        data_root: the folder with ``JPEGImages``, ``ImageSets/Segmentation`` and, for evaluation, masks.
        split: name of a list in ``ImageSets/Segmentation``: ``'train'``, ``'train_aug'`` (10,582 with SBD), ``'val'``.
        labels: ``'auto'`` (the label file if it exists, else XML), ``'xml'``, ``'none'`` (the test server's
            images have none), or the path of a label file, absolute or relative to ``data_root``: a table, or
            ``cls_labels.npy`` (see :class:`OneHotLabels`), which ``'auto'`` takes where there is no ``Annotations``.
        mask_dir: folder of ground-truth PNGs; None takes each image's from ``SegmentationClassAug`` if it is there,
            else from ``SegmentationClass``.
        max_pixels: larger images are refused.
        classes: see :func:`voc_vocabulary`; None takes VOC's classes unless ``data_root`` has a ``classes.txt``.

    Raises:
        FileNotFoundError: saying what is missing and where to get it or what to run.
        ValueError: on a label that names no class, or an image without an entry in the label file; when
            annotations changed since the tool made that file.
    """

    def __init__(self, data_root: str, split: str = 'train_aug', labels: str = 'auto', mask_dir: str | None = None,
                 max_pixels: int = MAX_PIXELS, classes: str | Sequence[str] | None = None) -> None:
        root = Path(data_root)
        find_file(root, 'the VOC folder', f'{WHERE}. Give the folder with --cfg-options data_root=...')
        names = read_list(find_file(root / LIST_DIR / f'{split}.txt', f'the list of split {split!r}',
                                    f'Run: {command_line("prepare_voc", root)}{_other_splits(root, split)}'),
                          root / 'JPEGImages')
        vocabulary = voc_vocabulary(root, classes)
        indices = self._labels(root, names, labels, vocabulary)
        masks = mask_paths(root, names) if mask_dir is None else png_paths(root / mask_dir, names)
        records = [Record(name, indices[name], image, mask)
                   for name, image, mask in zip(names, image_paths(root / 'JPEGImages', names), masks, strict=True)]
        super().__init__(vocabulary, locate_files(records, WHERE), max_pixels)

    @staticmethod
    def _labels(root: Path, names: list[str], labels: str, vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
        if labels == 'none':
            return dict.fromkeys(names, ())
        if labels == 'auto':
            one_hot = None if (root / 'Annotations').is_dir() else find_one_hot(root)
            labels = LABEL_FILE if (root / LABEL_FILE).is_file() else one_hot or 'xml'
            if labels == LABEL_FILE:
                Prepared(root).check(LABEL_FILE, [real_path(root / 'Annotations', f'{name}.xml') for name in names],
                                     f"; the reader's labels={LABEL_FILE!r} takes it as it is")
        if is_one_hot(labels):
            path = find_file(root / labels, 'the label file', "It is a dict of rows of 0 and 1, or give labels='xml'")
            return OneHotLabels(path, vocabulary.classes).of(names)
        if labels != 'xml':
            return indices_from_table(root / labels, names, vocabulary)
        if not (root / 'Annotations').is_dir():
            raise FileNotFoundError(
                f'no image labels in {root}: there is neither {LABEL_FILE} nor the folder Annotations. Get the '
                f'annotations of VOC 2012 and run: {command_line("prepare_voc", root)} (labels are never taken '
                f'from masks)')
        faults, found = Faults(), {}
        for name in names:
            with faults:
                found[name] = classes_from_xml(real_path(root / 'Annotations', f'{name}.xml'), vocabulary)
        faults.check()
        return found


def mask_paths(root: Path, names: Sequence[str]) -> list[Path]:
    """Where each image's ground truth is, or would be: in ``SegmentationClassAug`` if it is there, else in
    ``SegmentationClass``; some copies of the former have the SBD images alone.
    """
    augmented, own = root / 'SegmentationClassAug', root / 'SegmentationClass'
    there = set(os.listdir(augmented)) if augmented.is_dir() else set()
    other = own if own.is_dir() or not augmented.is_dir() else augmented
    return [first if first.name in there else second
            for first, second in zip(png_paths(augmented, names), png_paths(other, names), strict=True)]


def _other_splits(root: Path, split: str) -> str:
    """What to do where a list is missing and others are there."""
    there = sorted(path.stem for path in (root / LIST_DIR).glob('*.txt'))
    if not there:
        below = sorted(path.parents[1] for path in root.glob(f'*/{LIST_DIR}'))
        return f'. Or give the folder below it: data_root={below[0]}' if below else ''
    usual = next((name for name in ('train', 'trainval') if name in there), there[0])
    override = f'--cfg-options train_dataloader.dataset.reader.split={usual}' if split == 'train_aug' else \
        f'the reader\'s split, e.g. --cfg-options train_dataloader.dataset.reader.split={usual}'
    return f'. Or use a list that is there ({", ".join(there)}): {override}'


def voc_vocabulary(root: Path, classes: str | Sequence[str] | None = None) -> Vocabulary:
    """The names of a folder in VOC's layout.

    Args:
        root: the folder.
        classes: class names in label order, or the path of a file with one a line; None takes ``classes.txt`` in
            ``root``, or VOC's 20 classes where there is none.

    Returns:
        For VOC's classes, :data:`VOC_VOCABULARY`; for others, prompt names and background nouns come from
        ``prompts.json`` and ``background.txt``, as in :class:`FolderReader`.
    """
    listed = read_classes(root, classes)
    if listed is None or tuple(listed) == VOC_CLASSES:
        return VOC_VOCABULARY
    return Vocabulary.build(listed, read_prompts(root, None), read_nouns(root, None))


def indices_from_table(path: str | os.PathLike[str], names: Iterable[str],
                       vocabulary: Vocabulary = VOC_VOCABULARY) -> dict[str, tuple[int, ...]]:
    """Classes of the named images from a label file, as positions in the vocabulary.

    Raises:
        ListError: on unknown classes, and images the file does not have.
    """
    table = read_label_table(path)
    faults, names, whole = Faults(), list(names), dict[str, str]()
    for name in table:
        with faults:
            if other := whole.get(strip_suffix(name)):
                raise ValueError(f'{path}: both {other!r} and {name!r} are there and mean one image; remove one')
        whole.setdefault(strip_suffix(name), name)
    table = {bare: table[name] for bare, name in whole.items()}
    for name in names:
        with faults:
            if name not in table:
                raise ValueError(f'{path}: no line for image {name!r}.{nearest(name, table)}'
                                 f' Make the file anew with {tool("prepare_voc")}')
    found = class_positions(table, [name for name in names if name in table], vocabulary, str(path), faults)
    faults.check()
    return found


def classes_from_xml(path: Path, vocabulary: Vocabulary = VOC_VOCABULARY) -> tuple[int, ...]:
    """The classes of the objects in one annotation file, difficult ones included, as ascending positions.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no annotation, declares entities, or names an unknown class.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f'annotation is missing: {path}. {WHERE}') from None
    # Eight-bit encodings that a file declares are the parser's to read; it gets the others as text.
    text: str | bytes = data if b'encoding=' in data[:100] and b'\0' not in data else decode_text(data, str(path))
    if any((word if isinstance(text, str) else word.encode()) in text for word in ('<!DOCTYPE', '<!ENTITY')):  # type: ignore[operator]
        raise ValueError(f'{path}: declares a document type, which no VOC annotation does; refused')
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'{path}: not a readable XML file ({error})') from None
    if root.tag != 'annotation':
        raise ValueError(f'{path}: expected a VOC annotation, got <{root.tag}>')
    names = [(item.findtext('name') or '').strip() for item in root.findall('object')]
    return tuple(sorted({vocabulary.index(name, str(path)) for name in names}))
