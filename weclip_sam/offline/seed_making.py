"""Pseudo labels for a whole split: one PNG an image, made once, whatever happens in between."""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from weclip_sam.engine.hooks.predictions import label_path
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.offline.seed_folder import score_path, write_scores
from weclip_sam.structures import SeedState

# Faults of one image; anything else is a fault of the program and ends the run.
IMAGE_ERRORS = (ValueError, OSError, RuntimeError)
PATIENCE = 10  # so many images that fail one after another, and none that works: it is not the images' fault


@dataclass
class SeedReport:
    """What :func:`make_seeds` did.

    Attributes:
        made, found: image ids made now, and those that were there.
        failed: image id to reason.
        seconds: total by stage, over the images made now.
    """

    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def join(cls, reports: Sequence[SeedReport]) -> SeedReport:
        """The reports of all processes as one."""
        total = cls()
        for report in reports:
            total.made += report.made
            total.found += report.found
            total.failed.update(report.failed)
            for stage, seconds in report.seconds.items():
                total.seconds[stage] = total.seconds.get(stage, 0.0) + seconds
        return total


class StageClock:
    """Adds up seconds by stage; waits for the GPU at the end of each, so that every stage pays for its own work."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == 'cuda':
                torch.cuda.synchronize(self.device)
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Count time measured elsewhere."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class _Loader(Dataset):
    """Items with the time they took, or with the reason why there is none: no bad file ends the loop."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, dict[str, Any] | None, str, float]:
        start, index = time.perf_counter(), self.indices[place]
        try:
            return index, self.dataset[index], '', time.perf_counter() - start
        except IMAGE_ERRORS as error:
            return index, None, str(error), 0.0


def is_done(dataset: Any, index: int, out: Path, scores: bool) -> bool:
    """Whether the image's label PNG (and scores) are there, readable, of the image's size and with known labels."""
    image_id = dataset.image_ids[index]
    path = label_path(out, image_id)
    if not path.is_file() or (scores and not score_path(out, image_id).is_file()):
        return False
    try:
        read_labels(path, len(dataset.metainfo['classes']), dataset.image_size(index))
        if scores:
            with np.load(score_path(out, image_id), allow_pickle=False) as file:
                file['scores'], file['labels']
    except Exception:  # unreadable in whatever way: it is made anew
        return False
    return True


def make_seeds(model: Any, dataset: Any, out: str | os.PathLike, *, scores: bool = False, rank: int = 0,
               world_size: int = 1, workers: int = 0, device: torch.device | str = 'cpu',
               progress: Callable[[int, int, int], None] = lambda done, total, failed: None) -> SeedReport:
    """Make the labels that ``out`` lacks; reads images, image labels and SAM masks, never ground truth.

    Images go one by one, so that an image's labels do not depend on which others are still missing: killed and started
    again, the same bytes come out. Files appear whole or not at all.

    Args:
        model: a :class:`SeedMaker` on ``device``.
        dataset: an ``ImageLabelDataset`` whose pipeline ends in ``PackSample(original=True)``.
        out: folder of the PNGs ``<image id>.png``.
        scores: also write the last class maps as NPZ, see :func:`weclip_sam.offline.seed_folder.write_scores`.
        rank, world_size: this process takes every ``world_size``-th image.
        workers: processes that load images ahead.
        device: of the model.
        progress: called with (images behind, images in all, failures) of this process.

    Returns:
        The report of this process. An image that cannot be used is in ``failed``, and the rest goes on.

    Raises:
        ValueError: the first images all fail: then it is the config's fault.
    """
    out, clock, report = Path(out), StageClock(torch.device(device)), SeedReport()
    mine = range(rank, len(dataset), world_size)
    todo = [i for i in mine if not is_done(dataset, i, out, scores)]
    report.found = [dataset.image_ids[i] for i in sorted(set(mine) - set(todo))]
    loader = DataLoader(_Loader(dataset, todo), batch_size=None, num_workers=workers)
    palette = dataset.metainfo['palette']
    for done, (index, item, reason, loading) in enumerate(loader, start=1):
        image_id = dataset.image_ids[index]
        if item is not None:
            clock.add('load', loading)
            try:
                state = model.make(item['inputs'][None], [item['data_samples']], watch=clock)
            except IMAGE_ERRORS as error:
                reason = str(error)
            else:
                with clock('write'):
                    if scores:
                        write_scores(score_path(out, image_id), state)
                    write_labels(label_path(out, image_id), _as_bytes(state), palette)
                report.made.append(image_id)
        if reason:
            report.failed[image_id] = reason
            if len(report.failed) == PATIENCE and not report.made and not report.found:
                raise ValueError(f'the first {PATIENCE} images all failed, {image_id} for example: {reason}')
        progress(done, len(todo), len(report.failed))
    report.seconds = clock.seconds
    return report


def _as_bytes(state: SeedState) -> np.ndarray:
    labels: Tensor = state.pixel_labels[0]
    return labels.to(torch.uint8).cpu().numpy()
