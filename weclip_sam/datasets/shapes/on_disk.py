"""The embedded data set as files, in the layout of VOC (``tools/prepare_shapes.py``)."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from weclip_sam.datasets.readers.labels import SEPARATOR
from weclip_sam.datasets.readers.names import CLASS_FILE, NOUN_FILE
from weclip_sam.datasets.readers.voc import LABEL_FILE, LIST_DIR
from weclip_sam.datasets.shapes.reader import ShapesReader
from weclip_sam.io.files import atomic_open
from weclip_sam.io.images import write_labels
from weclip_sam.io.new_folders import make_folder
from weclip_sam.io.parallel import Progress, no_progress
from weclip_sam.io.text import read_lines


def write_shapes(readers: Mapping[str, ShapesReader], out: Path, overwrite: bool = False,
                 progress: Progress = no_progress) -> None:
    """Write images, masks and text files of all splits.

    Args:
        readers: by split.
        out: the folder.
        overwrite: write over text files of others, too.
        progress: told after every image.

    Raises:
        ValueError: a text file is another than would be written; nothing was written then.
    """
    texts = text_files(readers)
    if not overwrite:
        check_texts(out, texts)
    for folder in ('JPEGImages', 'SegmentationClass', LIST_DIR):
        make_folder(out / folder)
    for split, reader in readers.items():
        write_split(reader, out, split, progress)
    for name, lines in texts.items():
        with atomic_open(out / name, 'w') as file:
            file.write(''.join(f'{line}\n' for line in lines))


def write_split(reader: ShapesReader, out: Path, split: str, progress: Progress = no_progress) -> None:
    """Images and masks of one split."""
    palette = reader.vocabulary.metainfo()['palette']
    progress(split, 0, len(reader.records))
    for index, record in enumerate(reader.records):
        with atomic_open(out / 'JPEGImages' / f'{record.image_id}.jpg', 'wb') as file:
            reader.load_image(index).save(file, format='JPEG', quality=95)
        write_labels(out / 'SegmentationClass' / f'{record.image_id}.png', reader.load_ground_truth(index), palette)
        progress(split, index + 1, len(reader.records))


def text_files(readers: Mapping[str, ShapesReader]) -> dict[str, list[str]]:
    """The lines of every text file, by its path below the folder."""
    texts = {f'{LIST_DIR}/{split}.txt': [record.image_id for record in reader.records]
             for split, reader in readers.items()}
    names = next(iter(readers.values())).vocabulary
    table = [f'{record.image_id}.jpg,' + SEPARATOR.join(names.classes[c] for c in record.classes)
             for reader in readers.values() for record in reader.records]
    return texts | {LABEL_FILE: ['image,classes', *table], CLASS_FILE: list(names.classes),
                    NOUN_FILE: list(names.background_nouns)}


def check_texts(out: Path, texts: Mapping[str, list[str]]) -> None:
    """Refuse to write over a text file that is another than would be written.

    Raises:
        ValueError: naming the file.
    """
    for name, lines in texts.items():
        if (out / name).is_file() and read_lines(out / name) != lines:
            raise ValueError(f'{out / name}: is not what would be written (another data set, other options, or changed '
                             'by hand); give another folder, or --overwrite to write it anew')
