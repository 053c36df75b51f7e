#!/usr/bin/env python
"""Write the embedded data set to disk in VOC's layout: ``python tools/prepare_shapes.py OUT``.

``JPEGImages/*.jpg``, ``SegmentationClass/*.png`` (palette; 0 background, 1..10), the lists of splits
``ImageSets/Segmentation/{train,val,tune}.txt``, ``image_labels.csv`` (what is in each image) and ``classes.txt`` (in
label order). The labels are the renderer's list of what can be seen, not read off the masks. Running it again writes
the same files.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.datasets.image_io import write_labels
from weclip_sam.datasets.labels import write_label_table
from weclip_sam.datasets.shapes_reader import SPLITS, ShapesReader
from weclip_sam.engine import ProgressReporter, friendly_errors
from weclip_sam.files import atomic_open


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the data set shapes to disk in the layout of VOC.')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=400, help='training images')
    parser.add_argument('--val', type=int, default=300, help='validation images')
    parser.add_argument('--tune', type=int, default=100, help='images to choose thresholds on')
    parser.add_argument('--size', type=int, default=112, help='side in pixels')
    parser.add_argument('--seed', type=int, default=0, help='another seed is another data set')
    return parser.parse_args(argv)


def write_split(reader: ShapesReader, out: Path, split: str) -> None:
    """Images, masks and the list of one split."""
    progress = ProgressReporter()
    progress.start(split, len(reader.records))
    for index, record in enumerate(reader.records):
        with atomic_open(out / 'JPEGImages' / f'{record.image_id}.jpg', 'wb') as file:
            reader.load_image(index).save(file, format='JPEG', quality=95)
        write_labels(out / 'SegmentationClass' / f'{record.image_id}.png', reader.load_ground_truth(index))
        progress.update(index + 1)
    progress.stop()
    with atomic_open(out / 'ImageSets' / 'Segmentation' / f'{split}.txt', 'w') as file:
        file.write(''.join(f'{record.image_id}\n' for record in reader.records))


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with friendly_errors():
        table: dict[str, list[str]] = {}
        for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
            (args.out / folder).mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            reader = ShapesReader(split, getattr(args, split), args.size, args.seed)
            write_split(reader, args.out, split)
            classes = reader.vocabulary.classes
            table |= {record.image_id: [classes[c] for c in record.classes] for record in reader.records}
        write_label_table(args.out / 'image_labels.csv', table)
        with atomic_open(args.out / 'classes.txt', 'w') as file:
            file.write(''.join(f'{name}\n' for name in classes))
        print(f'{len(table)} images in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
