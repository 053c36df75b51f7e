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
from pathlib import Path

from weclip_sam.cli.starting import starting
from weclip_sam.commands import command_line
from weclip_sam.words import counted

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
    with starting():
        from weclip_sam.datasets.shapes.on_disk import write_shapes
        from weclip_sam.datasets.shapes.reader import SPLITS, ShapesReader
        from weclip_sam.engine import friendly_errors
        from weclip_sam.engine.progress import phase_progress
    with friendly_errors():
        readers = {split: ShapesReader(split, getattr(args, split), args.size, args.seed) for split in SPLITS}
        with phase_progress() as progress:
            write_shapes(readers, args.out, args.overwrite, progress)
        count = sum(len(reader.records) for reader in readers.values())
        print(f'{counted(count, "image")} in {args.out}; to train on them:\n{train_command(args.out)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
