"""Your own images: a folder, and a table of what is in them."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from weclip_sam.datasets.prepared import Prepared
from weclip_sam.datasets.readers.base import Reader, Record
from weclip_sam.datasets.readers.faults import Faults, find_file, nearest
from weclip_sam.datasets.readers.files import locate_files, png_paths
from weclip_sam.datasets.readers.labels import read_label_table
from weclip_sam.datasets.readers.lists import class_positions
from weclip_sam.datasets.readers.names import CLASS_FILE, NOUN_FILE, PROMPT_FILE, read_classes, read_nouns, read_prompts
from weclip_sam.datasets.readers.one_hot import OneHotLabels, find_one_hot, is_one_hot
from weclip_sam.datasets.vocabulary import Vocabulary, is_background, is_ignored, is_number
from weclip_sam.io.files import inside
from weclip_sam.io.folders import Found, find_files, is_clutter
from weclip_sam.io.images import MAX_PIXELS, is_image_name
from weclip_sam.io.names import RealNames, listed_name, normal, stem
from weclip_sam.io.text import read_lines
from weclip_sam.registry import READERS

LABEL_FILE, IMAGE_DIR = 'labels.csv', 'images'
_NOTHING = {'nan', 'none', 'null', 'n/a'}  # how programs write an empty field


@READERS.register_module()
class FolderReader(Reader):
    """A folder of images and ``labels.csv`` (see :mod:`weclip_sam.datasets.readers.labels`).

    The classes are, in this order of preference: ``classes``; the lines of ``classes.txt`` in ``data_root``; all names
    in the label file, sorted. The last changes when a new name appears, and with it the numbers of the classes after
    it: write a ``classes.txt`` once the set is settled.

    An image's id is its path in the table without the extension.

    Args:
        data_root: the folder that everything else is relative to.
        labels: the label file: a table, or ``cls_labels.npy`` (see :class:`OneHotLabels`), which is taken where there
            is no ``labels.csv``, too, and needs ``classes``.
        image_dir: where the images of the table are; None: in ``images`` if there is such a folder, else beside the
            table.
        mask_dir: ground-truth PNGs ``<id>.png`` (0 background, 1..C, 255 ignore), for evaluation only.
        split: ``'all'``; ``'train'`` or ``'val'`` of a division that depends on nothing but each image's id, so that
            new images never move old ones; or the path of a text file with one image a line.
        val_fraction: expected share of ``'val'``.
        classes: class names in label order, or the path of a file with one a line.
        prompt_names: for some classes another text, or several synonyms, for prompts; or a JSON file of such. None
            takes ``prompts.json`` in ``data_root`` if it exists.
        background_nouns: what else may be seen in the images, or the path of a file with one noun a line. None takes
            ``background.txt`` in ``data_root`` if it exists, else the nouns for COCO.
        missing: ``'error'`` or ``'skip'`` for images that are in the table but not on disk.
        max_pixels: larger images are refused.
        max_side: larger photographs are shrunk to this long side when they are read, and stay so: predictions have that
            size, too. Masks of many megapixels would fill the memory. None keeps all pixels.

    Raises:
        FileNotFoundError: when the folder, the table or images are missing (:class:`MissingImages`).
        ValueError: naming file and line: unknown classes, images listed twice, paths that leave the folder; of most
            kinds all at once (:class:`ListError`).
    """

    def __init__(self, data_root: str, labels: str = 'labels.csv', image_dir: str | None = None,
                 mask_dir: str = 'masks', split: str = 'all', val_fraction: float = 0.2,
                 classes: str | Sequence[str] | None = None,
                 prompt_names: str | Mapping[str, str | Sequence[str]] | None = None,
                 background_nouns: str | Sequence[str] | None = None, missing: str = 'error',
                 max_pixels: int = MAX_PIXELS, max_side: int | None = 1024) -> None:
        if missing not in ('error', 'skip'):
            raise ValueError(f"FolderReader.missing: expected 'error' or 'skip', got {missing!r}")
        root = find_file(Path(data_root), 'the data folder', 'Give it with --cfg-options data_root=...')
        if root.is_file():
            raise ValueError(f'{root}: is a file; data_root is the folder that it lies in: data_root={root.parent}')
        if labels == LABEL_FILE and not (root / labels).exists():
            labels = find_one_hot(root) or labels
        above = f'One is in {root.parent}, perhaps the data folder. ' if (root.parent / labels).is_file() else ''
        table_path = find_file(root / labels, 'the label file', f'{above}It has the header image,classes and one '
                               'image a line, with ; between class names, for example: beach.jpg,person;boat')
        prepared = Prepared(root)
        prepared.check(labels)
        if image_dir is None:
            image_dir = IMAGE_DIR if (root / IMAGE_DIR).is_dir() else '.'
        folder = find_file(root / image_dir, 'the image folder', 'Set the reader\'s image_dir to where the images are')
        table = _one_hot_table(table_path, read_classes(root, classes), folder) if is_one_hot(labels) else \
            read_label_table(table_path)
        vocabulary = Vocabulary.build(_classes(root, classes, table, table_path, prompt_names),
                                      read_prompts(root, prompt_names), read_nouns(root, background_nouns))
        faults, paths, real = Faults(), {}, RealNames()
        for name in table:
            with faults:
                path = inside(folder, name, str(table_path))
                paths[name] = real.find(path) or path
        chosen = _choose(root, split, val_fraction, table, faults)
        indices = class_positions(table, chosen, vocabulary, str(table_path), faults)
        faults.check()
        if missing == 'skip':
            chosen = [name for name in chosen if paths[name].is_file()]
        masks = png_paths(root / mask_dir, list(map(stem, chosen)))
        records = [Record(stem(name), indices[name], paths[name], mask)
                   for name, mask in zip(chosen, masks, strict=True)]
        self._prepared, self._mask_dir = prepared, mask_dir
        self._root, self._table, self._folder, self._masks = root, table_path, folder, root / mask_dir
        self._listed = paths
        records = locate_files(records, f"The label file {table_path} names them; missing='skip' leaves them out: "
                               '--cfg-options train_dataloader.dataset.reader.missing=skip')
        if not records:
            raise ValueError(f'{table_path}: no image is in split {split!r} of {len(table)} images'
                             + (f' (val_fraction={val_fraction}); with few images a list file is better than a fraction'
                                if split in ('train', 'val') else ''))
        super().__init__(vocabulary, records, max_pixels, max_side)

    def check_masks(self) -> None:
        """As of every reader; masks that a prepare tool made must be of the JSON and the classes of today."""
        self._prepared.check_classes(self._mask_dir, self.vocabulary.classes)
        self._prepared.check(self._mask_dir)
        super().check_masks()

    def unlisted(self) -> list[Path]:
        """Image files that no row of the table names, whatever its split; sorted. See :meth:`search`."""
        return self.search().files

    def search(self) -> Found:
        """The image files that no row of the table names, and what else is passed over.

        Looked through is the image folder with all folders in it, linked ones, too, or, where images lie beside the
        table among other things, each folder that has an image of the table.
        """
        listed = {normal(str(path)) for path in self._listed.values()}
        masks = {normal(str(self._masks / f'{stem(name)}.png')) for name in self._listed}
        own = {normal(str(path)) for path in (self._table, *(self._root / name for name in (
            CLASS_FILE, NOUN_FILE, PROMPT_FILE)))}
        if self._masks not in (self._folder, *self._folder.parents):
            own.add(normal(str(self._masks)))  # with all that is in it

        def is_ours(path: str) -> bool:
            path = normal(path)
            bare, suffix = os.path.splitext(path)
            return path in listed or path in own or (suffix.lower() == '.png' and f'{bare}.png' in masks)

        if self._folder != self._root:
            return find_files(self._folder, is_image_name, leave=is_ours)
        found = Found()
        for place in sorted({os.path.dirname(path) for path in self._listed.values()}):
            if os.path.isdir(place):
                found.add(find_files(place, is_image_name, deep=False, leave=is_ours))
        return found


def in_val(image_id: str, fraction: float) -> bool:
    """Whether an image belongs to the validation share, by the hash of its id alone."""
    number = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], 'big')
    return number < fraction * 2 ** 64


def _one_hot_table(path: Path, classes: Sequence[str] | None, folder: Path) -> dict[str, tuple[str, ...]]:
    """Class names by image file, from ``cls_labels.npy``: the files are looked for by the names in it.

    Raises:
        ValueError: there are no class names, or a name could mean two files.
    """
    if classes is None:
        raise ValueError(f"{path}: has no class names; write {CLASS_FILE} beside it, one name a line in the order of "
                         "its columns (or set the reader's classes)")
    labels, real, table = OneHotLabels(path, classes), RealNames(), {}
    for place in sorted({folder, *((folder / name).parent for name in labels.names)}):
        inner = place.relative_to(folder)
        ids: dict[str, str] = {}
        for file in sorted(real.listed(place)):
            name = (inner / file).as_posix()
            if not is_image_name(file) or is_clutter(file) or (positions := labels.find(stem(name))) is None:
                continue
            if stem(name) in ids:
                raise ValueError(f'{path}: {stem(name)!r} could be {ids[stem(name)]} or {name} in {folder}; rename or '
                                 'remove one')
            ids[stem(name)] = name
            table[name] = tuple(classes[index] for index in positions)
    there = set(map(stem, table))
    for name in labels.names:
        if name not in there and name.rsplit('/', 1)[-1] not in there:
            table[f'{name}.jpg'] = tuple(classes[index] for index in labels.find(name) or ())  # told as a missing image
    return table


def _choose(root: Path, split: str, fraction: float, table: Mapping[str, object], faults: Faults) -> list[str]:
    if split == 'all':
        return list(table)
    if split in ('train', 'val'):
        if not 0 < fraction < 1:
            raise ValueError(f'val_fraction: expected between 0 and 1, got {fraction}')
        return [name for name in table if in_val(stem(name), fraction) == (split == 'val')]
    path = find_file(root / split, 'the split file', "Or use split='train' and 'val' with val_fraction")
    by_id: dict[str, list[str]] = {}
    for name in table:
        by_id.setdefault(stem(name), []).append(name)
    chosen: dict[str, None] = {}
    for name in map(listed_name, read_lines(path)):
        named = [name] if name in table else by_id.get(name, [])
        known = named[0] if named else None
        with faults:
            if len(named) > 1:
                raise ValueError(f'{path}: image {name!r} could be {" or ".join(map(repr, named))}; write its suffix, '
                                 'too')
            if known is None:
                raise ValueError(f'{path}: image {name!r} is not in the label file.{nearest(name, table)}')
            if known in chosen:
                raise ValueError(f'{path}: image {known!r} is listed twice')
            chosen[known] = None
    return list(chosen)


def _classes(root: Path, classes: str | Sequence[str] | None, table: Mapping[str, Iterable[str]], table_path: Path,
             prompt_names: str | Mapping[str, str | Sequence[str]] | None) -> list[str]:
    listed = read_classes(root, classes)
    if listed is not None:
        return listed
    found = sorted({name for names in table.values() for name in names})
    if not found:
        raise ValueError(f'{table_path}: names no class at all')
    if all(map(is_number, found)) and not set(found) <= set(read_prompts(root, prompt_names)):
        raise ValueError(f"{table_path}: the classes are numbers ({', '.join(found[:5])}), but CLIP is asked for "
                         'classes by their names, and it is not said which label a number means: write the names, or '
                         f'list the numbers in {root / CLASS_FILE} (label 1 first), with texts for them in '
                         f'{PROMPT_FILE}')
    if nothing := [name for name in found if name.casefold() in _NOTHING]:
        raise ValueError(f'{table_path}: {", ".join(map(repr, nothing))} read{"s" * (len(nothing) == 1)} like an empty '
                         'cell, as programs write it, and not like a class: leave the cell empty where an image shows '
                         f'none of the classes; a class of that name is renamed, or listed in {root / CLASS_FILE} with '
                         'all others')
    spellings: dict[str, str] = {}
    for name in found:
        if is_background(name) or is_ignored(name):
            raise ValueError(f"{table_path}: '{name}' is no class of its own, every image has background; leave it out "
                             '(an image of nothing else has an empty classes field)')
        if name.startswith('[') and name.endswith(']'):
            raise ValueError(f"{table_path}: the class {name!r:.60} is a list; write the names alone, with ';' between "
                             'them')
        if spellings.setdefault(name.casefold(), name) != name:
            raise ValueError(f"{table_path}: '{spellings[name.casefold()]}' and '{name}' differ in capitals alone; "
                             'write the class one way')
    return found
