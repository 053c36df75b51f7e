"""Work with files, which the host does: loading training samples, and scoring label maps."""
from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.made_up import Bench, boxes, pictures
from benchmarks.measure import Case, Way
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.shapes.reader import shapes_scene
from weclip_sam.evaluation.label_files import LabelStore, score_label_files
from weclip_sam.io.images import write_labels
from weclip_sam.mask_bank import MaskBank

PHOTOS, PHOTO = 16, (375, 500)
WORKERS = min(4, os.cpu_count() or 1)
MAPS = dict(quick=60, usual=300, full=1464)
CLASSES, DIFFERENT = 21, 30


def loading(bench: Bench) -> Iterator[Case]:
    """Training samples of JPEG photographs: decoded, augmented, with the masks of a bank; here and in workers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_photos(root, bench.setting.masks)
        plain, full = _dataset(bench, root, None), _dataset(bench, root, str(root / 'bank'))
        batch = min(PHOTOS, 4 * bench.setting.batch)
        loader = DataLoader(full, batch_size=batch, num_workers=WORKERS, persistent_workers=True,
                            collate_fn=pseudo_collate)
        reads = float(sum(path.stat().st_size for path in (root / 'images').iterdir()))
        yield Case(f'loading crops of photos of {PHOTO[0]} x {PHOTO[1]}, {bench.setting.masks} masks each', (
            Way('decode', lambda: [np.asarray(plain.load_image(index)) for index in range(PHOTOS)], PHOTOS, reads),
            Way('decode, augment', lambda: [plain[index] for index in range(PHOTOS)], PHOTOS, reads),
            Way('decode, augment, masks', lambda: [full[index] for index in range(PHOTOS)], PHOTOS, reads),
            Way(f'the same, {WORKERS} worker(s), batch {batch}', lambda: list(loader), PHOTOS, reads)),
            compares=False, on_host=True)


def _write_photos(root: Path, masks: int) -> None:
    (root / 'images').mkdir()
    lines = ['image,classes']
    with MaskBank(root / 'bank', mode='a') as bank:
        for index, picture in enumerate(pictures(PHOTOS, PHOTO)):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(root / 'images' / f'{index}.jpg', quality=90)
            lines.append(f'{index}.jpg,cat;dog')
            bank.put(str(index), boxes(masks, PHOTO, seed=index))
    (root / 'labels.csv').write_text('\n'.join(lines) + '\n')


def _dataset(bench: Bench, root: Path, bank: str | None) -> ImageLabelDataset:
    """With the transforms of the first system's own training."""
    config = bench.config(next(iter(bench.setting.systems.values())))
    return ImageLabelDataset(dict(type='FolderReader', data_root=str(root), classes=['cat', 'dog']),
                             config.train_dataloader.dataset.pipeline, mask_bank=bank)


def scoring(bench: Bench) -> Iterator[Case]:
    """mIoU of as many label maps as VOC's train has (``--full``), or a part of them."""
    count = MAPS['quick' if bench.quick else 'full' if bench.full else 'usual']
    with tempfile.TemporaryDirectory() as folder:
        predicted, truth = Path(folder, 'predicted'), Path(folder, 'truth')
        _write_maps(predicted, count, 'tune')
        _write_maps(truth, count, 'val')
        reads = 2.0 * count * PHOTO[0] * PHOTO[1]  # every pixel of both, unpacked
        stores = LabelStore(predicted), LabelStore(truth)

        def ours(workers: int) -> Any:
            return score_label_files(*stores, CLASSES, workers=workers)
        yield Case(f'mIoU of {count} label maps', (
            Way('plain NumPy loop', lambda: _numpy_loop(predicted, truth), count, reads),
            Way('one process', lambda: ours(1), count, reads),
            Way(f'{WORKERS} processes', lambda: ours(WORKERS), count, reads)),
            lambda first, other: float((first != other).sum()), on_host=True, most=5)


def _write_maps(folder: Path, count: int, split: str) -> None:
    folder.mkdir()
    for index in range(count):
        path = folder / f'{index}.png'
        if index >= DIFFERENT:
            shutil.copy(folder / f'{index % DIFFERENT}.png', path)
            continue
        labels = torch.from_numpy(shapes_scene(split, index, 112, 0).label_map())
        large = torch.nn.functional.interpolate(labels[None, None].float(), PHOTO, mode='nearest')[0, 0].numpy()
        large[:, :5] = 255 if split == 'val' else large[:, :5]
        write_labels(path, large.astype(np.uint8))


def _numpy_loop(predicted: Path, truth: Path) -> torch.Tensor:
    """What the authors' scripts do: open, mask, count, one image after the other."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for path in sorted(truth.iterdir()):
        wanted, got = (np.asarray(Image.open(folder / path.name)).astype(np.int64) for folder in (truth, predicted))
        counted = wanted < CLASSES
        total += np.bincount(CLASSES * wanted[counted] + got[counted], minlength=CLASSES ** 2).reshape(CLASSES, -1)
    return torch.from_numpy(total)


PARTS = dict(loading=loading, miou=scoring)
