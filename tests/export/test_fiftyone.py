"""FiftyOne's layout: photos and masks of one name, grey, as its importer pairs and reads them."""
import json
import os

import cv2
import numpy as np
from export_scene import CLASSES, scenes

from weclip_sam.export import export_folder


def by_stem(folder):
    """What the importer does with a folder: all files below it, by path without suffix."""
    return {os.path.splitext(os.path.relpath(os.path.join(place, name), folder))[0]: os.path.join(place, name)
            for place, _, names in os.walk(folder) for name in names}


def test_the_layout(hard):
    place = export_folder(hard, ['fiftyone'])['fiftyone']
    photos, masks = by_stem(place / 'data'), by_stem(place / 'labels')
    assert set(photos) == set(masks) == set(scenes())
    for name, labels in scenes().items():
        mask = cv2.imdecode(np.fromfile(masks[name], np.uint8), cv2.IMREAD_UNCHANGED)
        assert mask.ndim == 2 and np.array_equal(mask, labels)
        photo = cv2.imdecode(np.fromfile(photos[name], np.uint8), cv2.IMREAD_COLOR)
        assert photo.shape[:2] == mask.shape
    targets = json.loads((place / 'mask_targets.json').read_text())
    assert targets == {str(label): name for label, name in enumerate(CLASSES)}  # 255 has no name, and is none
