"""Whether an exported file says what its checkpoint says, and how fast."""
from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from weclip_sam.datasets.shapes.scenes import render_scene
from weclip_sam.export.deploy.deployed import Deployed
from weclip_sam.export.deploy.network import InferenceNetwork

ENOUGH = 0.999  # share of equal labels below which a file is not what it should be: rounding moves fewer
_SIZES = ((112, 160), (160, 112), (240, 240), (333, 250))  # height, width
_TIMES = 5


def same_checkpoint(deployed: Deployed, path: str | os.PathLike, card: Mapping[str, Any]) -> None:
    """Raise ValueError where a file was exported from another checkpoint than the one whose card is given."""
    made_of, asked = deployed.card['checkpoint'], card['checkpoint']
    if made_of.get('digest') != asked['digest']:
        own = 'the same' if list(deployed.classes) == card['classes'] else ', '.join(deployed.classes[1:5])
        raise ValueError(f'{path}: was exported from another checkpoint than {asked["name"]}: from '
                         f'{Path(str(made_of.get("name"))).name} (classes: {own}); give that one, or export anew')


def drawn_pictures() -> list[Image.Image]:
    """Scenes of several sizes, for those who have no photo at hand."""
    pictures = []
    for index, (height, width) in enumerate(_SIZES):
        scene = render_scene(np.random.default_rng(index), max(height, width))
        pictures.append(Image.fromarray(np.ascontiguousarray(scene.image[:height, :width])))
    return pictures


def agreement(deployed: Deployed, segment: Callable[[Image.Image], np.ndarray],
              pictures: Sequence[Image.Image]) -> list[float]:
    """For each picture the share of pixels with the same label in [0, 1].

    Args:
        deployed: the file.
        segment: what it is compared with, picture to H W labels.
        pictures: RGB.
    """
    return [float((deployed(picture) == segment(picture)).mean()) for picture in pictures]


def time_ratio(deployed: Deployed, network: InferenceNetwork, picture: Image.Image) -> float:
    """ONNX Runtime's time over torch's for one picture, prepared already, in turn in this process; medians.

    Give both the same number of threads.
    """
    image, _ = deployed.prepare(picture)
    given = torch.from_numpy(image)
    seconds: list[list[float]] = [[], []]
    with torch.inference_mode():
        for turn in range(_TIMES + 1):
            for place, run in enumerate((lambda: deployed.run(image), lambda: network(given))):
                begun = time.perf_counter()
                run()
                if turn:  # the first one warms up
                    seconds[place].append(time.perf_counter() - begun)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])
