"""Label PNGs as other programs want them: grey, or with a palette, or in colours."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

Colours = Sequence[Sequence[int]]


def write_grey(path: Path, labels: np.ndarray) -> None:
    """H W uint8 as a grey PNG; OpenCV turns a palette into colours, and reads other numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path, format='PNG')


def write_palette(path: Path, labels: np.ndarray, colours: Colours) -> None:
    """H W uint8 as a palette PNG, up to 256 colours by label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette([value for colour in colours for value in colour])
    image.save(path, format='PNG')


def write_colours(file: IO[bytes], labels: np.ndarray, colours: Colours) -> None:
    """H W uint8 as an RGB PNG."""
    Image.fromarray(np.asarray(colours, np.uint8)[labels]).save(file, format='PNG')
