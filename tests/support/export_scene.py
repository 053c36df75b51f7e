"""A folder of labels with everything that is hard to export, and what an export of it must give back.

It is made by hand, without the package but for its label PNGs: nested names that look like flat ones, names in other
letters and with blanks, a hole in a hole, pieces that touch at a corner, single pixels, lines, ignored pixels, an image
of nothing.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ('background', 'cat', "dog, 'big' one", 'yes', 'Füße & "Hände" 毛')
PALETTE = [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 180, 40]]
PHOTOS = {'a b': 'a b.jpg', 'empty': 'empty.JPG', 'in/b': 'in/b.png', 'in_b': 'in_b.jpeg', 'Übung/東': 'Übung/東.jpg'}


def scenes() -> dict[str, np.ndarray]:
    """By name, H W uint8; every image of another size, none square."""
    ring = np.zeros((40, 60), np.uint8)
    ring[4:34, 6:50] = 1
    ring[10:28, 12:44] = 0
    ring[14:24, 20:36] = 1  # an island in the hole,
    ring[17:20, 24:30] = 2  # another class in a hole of the island
    ring[0:2, :] = 255
    ring[36, 2] = ring[37, 3] = 3  # one piece: they touch at a corner
    ring[38, 20:45] = 4  # a line
    small = np.zeros((17, 23), np.uint8)
    small[0, 0] = small[16, 22] = 1  # two single pixels, in the corners
    small[5:9, 0:23] = 2
    small[5:9, 11] = 255  # cut in two
    round_ = np.zeros((64, 48), np.uint8)
    y, x = np.mgrid[:64, :48]
    round_[(y - 30) ** 2 + (x - 22) ** 2 < 400] = 4
    round_[(y - 26) ** 2 + (x - 18) ** 2 < 30] = 0
    round_[(y - 36) ** 2 + (x - 28) ** 2 < 20] = 3
    full = np.full((12, 31), 2, np.uint8)
    full[:, :9] = 255
    return {'a b': ring, 'empty': np.zeros((20, 33), np.uint8), 'in/b': small, 'in_b': full, 'Übung/東': round_}


def make_folder(root: Path, sure: bool = True, labelled: dict[str, np.ndarray] | None = None,
                classes: tuple[str, ...] = CLASSES) -> Path:
    """Write photos to ``root/photos`` and what ``predict.py`` would write to ``root/out``; returns the latter."""
    from weclip_sam.io.images import write_labels
    out, images = root / 'out', []
    for name, labels in (scenes() if labelled is None else labelled).items():
        photo = root / 'photos' / PHOTOS.get(name, f'{name}.jpg')
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([labels * 40, 255 - labels, labels], -1)).save(photo)
        write_labels(out / 'labels' / f'{name}.png', labels, PALETTE)
        entry = dict(image=str(photo), labels=f'labels/{name}.png', height=labels.shape[0], width=labels.shape[1])
        if sure:
            path = out / 'confidence' / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(confidence(labels)).save(path)
            entry['confidence'] = f'confidence/{name}.png'
        images.append(entry)
    (out / 'predictions.json').write_text(json.dumps(dict(
        checkpoint='work_dirs/run/iter_400.pth', classes=classes, palette=PALETTE[:len(classes)], images=images)))
    return out


def confidence(labels: np.ndarray) -> np.ndarray:
    """H W uint8, by place: no two columns are equally sure."""
    return np.broadcast_to(np.arange(labels.shape[1], dtype=np.uint8) + 100, labels.shape).copy()


def pieces(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Label and mask of every 8-connected piece, found by flooding from pixel to pixel."""
    left, found = (labels > 0) & (labels < 255), []
    while left.any():
        start = tuple(np.argwhere(left)[0])
        mask, waiting = np.zeros_like(left), [start]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1] and left[y, x] and labels[y, x] == labels[start]:
                left[y, x], mask[y, x] = False, True
                waiting += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        found.append((int(labels[start]), mask))
    return found
