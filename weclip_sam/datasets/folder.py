"""Your own images: a folder, and a table of what is in them."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from weclip_sam.datasets.image_io import MAX_PIXELS
from weclip_sam.datasets.labels import read_label_table
from weclip_sam.datasets.names import read_classes, read_nouns, read_prompts
from weclip_sam.datasets.reader import Reader, Record, check_files, find_file, nearest, read_lines
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.files import inside
from weclip_sam.registry import READERS


@READERS.register_module()
class FolderReader(Reader):
    """A folder of images and ``labels.csv`` (see :mod:`weclip_sam.datasets.labels`).

    The classes are, in this order of preference: ``classes``; the lines of ``classes.txt`` in ``data_root``; all names
    in the label file, sorted. The last changes when a new name appears, and with it the numbers of the classes after
    it: write a ``classes.txt`` once the set is settled.

    An image's id is its path in the table without the extension.

    Args:
        data_root: the folder that everything else is relative to.
        labels: the label file.
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
        FileNotFoundError: when the folder, the table or an image is missing.
        ValueError: naming file and line: an unknown class, an image listed twice, a path that leaves the folder.
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
        table_path = find_file(root / labels, 'the label file', 'It has the header image,classes and one image a line, '
                               'with ; between class names, for example: beach.jpg,person;boat')
        table = read_label_table(table_path)
        vocabulary = Vocabulary.build(_classes(root, classes, table, table_path), read_prompts(root, prompt_names),
                                      read_nouns(root, background_nouns))
        if image_dir is None:
            image_dir = 'images' if (root / 'images').is_dir() else '.'
        folder = find_file(root / image_dir, 'the image folder', 'Set the reader\'s image_dir to where the images are')
        paths = {name: inside(folder, name, str(table_path)) for name in table}
        chosen = _choose(root, split, val_fraction, table)
        if missing == 'skip':
            chosen = [name for name in chosen if paths[name].is_file()]
        records = []
        for name in chosen:
            image_id = _stem(name)
            indices = sorted(vocabulary.index(c, f'{table_path}, image {name!r}') for c in table[name])
            records.append(Record(image_id, tuple(indices), paths[name], root / mask_dir / f'{image_id}.png'))
        check_files(records, f"The label file {table_path} names them; missing='skip' leaves them out")
        if not records:
            raise ValueError(f'{table_path}: no image is in split {split!r} of {len(table)} images'
                             + (f' (val_fraction={val_fraction}); with few images a list file is better than a fraction'
                                if split in ('train', 'val') else ''))
        super().__init__(vocabulary, records, max_pixels, max_side)


def in_val(image_id: str, fraction: float) -> bool:
    """Whether an image belongs to the validation share, by the hash of its id alone."""
    number = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], 'big')
    return number < fraction * 2 ** 64


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix('').as_posix()


def _choose(root: Path, split: str, fraction: float, table: Mapping[str, object]) -> list[str]:
    if split == 'all':
        return list(table)
    if split in ('train', 'val'):
        if not 0 < fraction < 1:
            raise ValueError(f'val_fraction: expected between 0 and 1, got {fraction}')
        return [name for name in table if in_val(_stem(name), fraction) == (split == 'val')]
    path = find_file(root / split, 'the split file', "Or use split='train' and 'val' with val_fraction")
    names = read_lines(path)
    by_id = {_stem(name): name for name in table}
    chosen = []
    for name in names:
        known = name if name in table else by_id.get(name)
        if known is None:
            raise ValueError(f'{path}: image {name!r} is not in the label file.{nearest(name, table)}')
        chosen.append(known)
    if len(set(chosen)) != len(chosen):
        twice = next(name for name in chosen if chosen.count(name) > 1)
        raise ValueError(f'{path}: image {twice!r} is listed twice')
    return chosen


def _classes(root: Path, classes: str | Sequence[str] | None, table: Mapping[str, Iterable[str]],
             table_path: Path) -> list[str]:
    listed = read_classes(root, classes)
    if listed is not None:
        return listed
    found = sorted({name for names in table.values() for name in names})
    if not found:
        raise ValueError(f'{table_path}: names no class at all')
    spellings: dict[str, str] = {}
    for name in found:
        if name.casefold() == 'background':
            raise ValueError(f"{table_path}: '{name}' is no class of its own, every image has background; leave it out "
                             '(an image of nothing else has an empty classes field)')
        if spellings.setdefault(name.casefold(), name) != name:
            raise ValueError(f"{table_path}: '{spellings[name.casefold()]}' and '{name}' differ in capitals alone; "
                             'write the class one way')
    return found
