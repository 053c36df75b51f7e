"""Folders of labels to review."""
import json

import numpy as np
import pytest
from blocks import CLASSES, PALETTE
from PIL import Image

from weclip_sam.io.images import write_labels


@pytest.fixture
def label_folder(tmp_path):
    """A function: makes a folder as ``predict.py`` leaves it, of entries with ``labels`` (an array), and perhaps
    ``confidence``, ``doubt_map`` (arrays), ``names``, ``scores``, ``named``, ``doubts`` and ``photo``."""
    def make(root='labels', classes=CLASSES, palette=PALETTE, **images):
        out, photos, entries = tmp_path / root, tmp_path / 'photos', []
        for name, entry in images.items():
            entry = dict(entry)
            labels = entry.pop('labels')
            write_labels(out / 'labels' / f'{name}.png', labels, palette)
            size = dict(height=labels.shape[0], width=labels.shape[1])
            for part in ('confidence', 'doubt_map'):
                if part in entry:
                    path = out / ('doubts' if part == 'doubt_map' else part) / f'{name}.png'
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(np.asarray(entry[part], np.uint8)).save(path)
                    entry[part] = str(path.relative_to(out))
            if entry.pop('photo', True):
                photos.mkdir(exist_ok=True)
                photo = photos / f'{name}.jpg'
                noise = np.random.default_rng(len(name)).integers(0, 256, (*labels.shape, 3), np.uint8)
                Image.fromarray(noise).save(photo)
                entry['image'] = str(photo)
            entries.append(dict(entry, labels=f'labels/{name}.png', **size))
        header = dict(classes=list(classes), palette=palette, images=entries)
        (out / 'predictions.json').write_text(json.dumps(header))
        return out
    return make
