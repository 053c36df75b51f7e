"""Pseudo labels for a whole split: one PNG an image, made once, whatever happens in between."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weclip_sam.engine.hooks.predictions import label_path
from weclip_sam.io.images import labels_changed, read_labels, write_labels
from weclip_sam.offline.seed_folder import notes_pixels, score_path, write_scores
from weclip_sam.offline.work import StageClock, WorkReport, work_through
from weclip_sam.structures import SeedState

PATIENCE = 10  # so many images that fail one after another, and none that works: it is not the images' fault


def is_done(dataset: Any, index: int, out: Path, scores: bool, noted: bool = False) -> bool:
    """Whether the image's label PNG (and scores) are there, readable, of the image's size and with known labels.

    Args:
        dataset, index: the image.
        out: the folder.
        scores: whether scores are wanted.
        noted: see :func:`labels_changed`; a label that says nothing was changed.

    Raises:
        ValueError: it is not done, but its label was corrected by hand and would be written over.
    """
    image_id = dataset.image_ids[index]
    path = label_path(out, image_id)
    if not path.is_file():
        return False
    try:
        read_labels(path, len(dataset.metainfo['classes']), dataset.image_size(index))
        if scores:
            with np.load(score_path(out, image_id), allow_pickle=False) as file:
                file['scores'], file['labels']
    except Exception as error:  # unreadable in whatever way: it is made anew
        if labels_changed(path, unsaid=noted):
            why = 'has no scores' if isinstance(error, FileNotFoundError) else str(error)
            raise ValueError(f'{path}: was changed since it was made, as by hand, and would be made anew ({why}); mend '
                             'it or move it away') from None
        return False
    return True


def make_seeds(model: Any, dataset: Any, out: str | os.PathLike, *, scores: bool = False, workers: int = 0,
               device: torch.device | str = 'cpu', tick: Callable[[], None] = lambda: None) -> WorkReport:
    """Make the labels that ``out`` lacks; reads images, image labels and SAM masks, never ground truth.

    Images go one by one, so that an image's labels do not depend on which others are still missing: killed and started
    again, the same bytes come out. Files appear whole or not at all.

    Args:
        model: a :class:`SeedMaker` on ``device``.
        dataset: an ``ImageLabelDataset`` whose pipeline ends in ``PackSample(original=True)``.
        out: folder of the PNGs ``<image id>.png``.
        scores: also write the last class maps as NPZ, see :func:`weclip_sam.offline.seed_folder.write_scores`.
        workers: processes that load images ahead.
        device: of the model.
        tick: called after every image.

    Returns:
        The report of this process, see :func:`weclip_sam.offline.work.work_through`.

    Raises:
        ValueError: the first images all fail: then it is the config's fault; or a label that was corrected by hand
            would be written over.
    """
    folder, palette, noted = Path(out), dataset.metainfo['palette'], notes_pixels(out)

    def make(items: list[dict[str, Any]], clock: StageClock) -> list[SeedState]:
        return [model.make(item['inputs'][None], [item['data_samples']], watch=clock) for item in items]

    def write(image_id: str, state: SeedState) -> None:
        if scores:
            write_scores(score_path(folder, image_id), state)
        labels = state.pixel_labels[0].to(torch.uint8).cpu().numpy()
        write_labels(label_path(folder, image_id), labels, palette)

    def done(index: int) -> bool:
        return is_done(dataset, index, folder, scores, noted)

    return work_through('seeds', dataset.image_ids, is_done=done, load=dataset.__getitem__, make=make, write=write,
                        workers=workers, device=device, patience=PATIENCE, tick=tick)
