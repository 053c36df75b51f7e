"""Write the embedded data set to disk in VOC's layout: ``python tools/prepare_shapes.py OUT``.

``JPEGImages/*.jpg``, ``SegmentationClass/*.png`` (palette; 0 background, 1..10), the lists of splits
``ImageSets/Segmentation/{train,val,tune}.txt``, ``image_labels.csv`` (what is in each image), ``classes.txt`` (in
label order) and ``background.txt`` (what else may be seen). The labels are the renderer's list of what can be seen, not
read off the masks. Running it again writes the same files, but for text files that are
other than it would write them (another data set's, or changed by hand): it refuses then (``--overwrite`` does not).

``dict(type='VocReader', data_root=OUT, split='train')`` reads the folder, and so does
``dict(type='FolderReader', data_root=OUT, labels='image_labels.csv', image_dir='JPEGImages',
mask_dir='SegmentationClass', split='ImageSets/Segmentation/train.txt')``. The tool ends by printing the command that
trains on the folder: a config of shapes with another reader.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from weclip_sam.commands import command_line
from weclip_sam.datasets.readers.labels import SEPARATOR
from weclip_sam.datasets.readers.names import CLASS_FILE, NOUN_FILE
from weclip_sam.datasets.readers.voc import LABEL_FILE, LIST_DIR
from weclip_sam.datasets.shapes.reader import SPLITS, ShapesReader
from weclip_sam.engine import ProgressReporter, friendly_errors
from weclip_sam.io.files import atomic_open
from weclip_sam.io.images import write_labels
from weclip_sam.io.text import read_lines

CONFIG = 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py'
# Where a config of shapes has a reader, and the split it reads there.
READERS = {'train_dataloader.dataset': 'train', 'val_dataloader.dataset': 'val', 'test_dataloader.dataset': 'val',
           'seed_dataset': 'train', 'tune_dataset': 'tune'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the data set shapes to disk in the layout of VOC.',
                                     epilog='To train on the folder, give any config of shapes the reader VocReader; '
                                            'the whole command is printed at the end.')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=400, help='training images')
    parser.add_argument('--val', type=int, default=300, help='validation images')
    parser.add_argument('--tune', type=int, default=200, help='images to choose thresholds on')
    parser.add_argument('--size', type=int, default=112, help='side in pixels')
    parser.add_argument('--seed', type=int, default=0, help='another seed is another data set')
    parser.add_argument('--overwrite', action='store_true', help='write over text files of others, too')
    return parser.parse_args(argv)


def write_split(reader: ShapesReader, out: Path, split: str) -> None:
    """Images and masks of one split."""
    progress = ProgressReporter()
    progress.start(split, len(reader.records))
    palette = reader.vocabulary.metainfo()['palette']
    for index, record in enumerate(reader.records):
        with atomic_open(out / 'JPEGImages' / f'{record.image_id}.jpg', 'wb') as file:
            reader.load_image(index).save(file, format='JPEG', quality=95)
        write_labels(out / 'SegmentationClass' / f'{record.image_id}.png', reader.load_ground_truth(index), palette)
        progress.update(index + 1)
    progress.stop()


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


def train_command(out: Path) -> str:
    """The main job on the images in ``out``, which need SAM masks and a work dir of their own."""
    options = [f'mask_bank={out / "masks_train"}']
    for place, split in READERS.items():
        reader = dict(_delete_=1, type='VocReader', data_root=str(out), split=split)
        options.append(f'{place}.reader={json.dumps(reader)}')  # double quotes inside, so that the shell's stay single
    work_dir = f'work_dirs/{out.resolve().name}_on_disk'
    return command_line('train', CONFIG, '--work-dir', work_dir, '--cfg-options', *options)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with friendly_errors():
        readers = {split: ShapesReader(split, getattr(args, split), args.size, args.seed) for split in SPLITS}
        texts = text_files(readers)
        if not args.overwrite:
            check_texts(args.out, texts)
        for folder in ('JPEGImages', 'SegmentationClass', LIST_DIR):
            (args.out / folder).mkdir(parents=True, exist_ok=True)
        for split, reader in readers.items():
            write_split(reader, args.out, split)
        for name, lines in texts.items():
            with atomic_open(args.out / name, 'w') as file:
                file.write(''.join(f'{line}\n' for line in lines))
        count = sum(len(reader.records) for reader in readers.values())
        print(f'{count} images in {args.out}; to train on them:\n{train_command(args.out)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
