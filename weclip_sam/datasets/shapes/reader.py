"""The ``shapes`` data set: scenes drawn on the fly, the same ones every time."""
from __future__ import annotations

import hashlib
import json
from functools import lru_cache

import numpy as np
from PIL import Image

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.readers.base import Reader, Record
from weclip_sam.datasets.shapes.scenes import (
    BACKGROUND_NOUNS,
    CLASSES,
    DATA_SET_SCENES,
    SCENES_VERSION,
    SYNONYMS,
    Scene,
    render_scene,
)
from weclip_sam.datasets.vocabulary import Vocabulary
from weclip_sam.registry import READERS

# Blocks of random seeds. ``tune`` is for choosing thresholds with ground truth: neither trained on nor reported on.
SPLITS = {'train': 0, 'val': 1, 'tune': 2}


@lru_cache(maxsize=4096)
def shapes_scene(split: str, index: int, size: int, seed: int) -> Scene:
    """Scene number ``index`` of a split; a pure function of its arguments.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"shapes has no split '{split}'; it has {', '.join(SPLITS)}.{suggest_name(split, SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS[split], size, index])
    return render_scene(rng, size, **DATA_SET_SCENES)


@READERS.register_module()
class ShapesReader(Reader):
    """Procedural scenes with ten classes. Image labels are the objects that can be seen and recognised.

    Args:
        split: ``'train'``, ``'val'`` or ``'tune'``.
        num_images: how many; image i is the same whatever this is.
        size: side of the square images in pixels.
        seed: another seed is another data set of the same kind.
    """

    def __init__(self, split: str = 'train', num_images: int = 400, size: int = 112, seed: int = 0) -> None:
        if num_images < 1 or size < 32:
            raise ValueError(f'ShapesReader: expected num_images >= 1 and size >= 32, got {num_images} and {size}')
        self.scene = (split, size, seed)
        records = []
        for index in range(num_images):
            names = {instance.name for instance in self._scene(index).instances}
            records.append(Record(f'{split}_{seed}_{index:05d}', tuple(sorted(CLASSES.index(name) for name in names))))
        super().__init__(shapes_vocabulary(), records)

    def _scene(self, index: int) -> Scene:
        split, size, seed = self.scene
        return shapes_scene(split, index, size, seed)

    @property
    def image_folder(self) -> str:
        """Tells these scenes from those drawn with other settings, as a folder tells files apart."""
        settings = json.dumps([SCENES_VERSION, DATA_SET_SCENES, *self.scene[1:]], sort_keys=True)
        return f'procedural scenes {hashlib.sha256(settings.encode()).hexdigest()[:12]}'

    def load_image(self, index: int) -> Image.Image:
        """The rendered image."""
        return Image.fromarray(self._scene(index).image)

    def load_ground_truth(self, index: int) -> np.ndarray:
        """Drawn when asked for; evaluation only."""
        return self._scene(index).label_map()

    def check_masks(self) -> None:
        """There always are masks."""


def shapes_vocabulary() -> Vocabulary:
    """The names of shapes; synonyms are known to the tiny CLIP but not needed to find a class."""
    return Vocabulary(CLASSES, tuple(SYNONYMS[name][0] for name in CLASSES), BACKGROUND_NOUNS)
