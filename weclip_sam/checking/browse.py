"""What a training sees, as sheets: each photo with its names and SAM masks, and what the transforms make of it."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.packing import LoadMasks
from weclip_sam.datasets.samplers import SampleIndex
from weclip_sam.io.files import atomic_open
from weclip_sam.mask_bank import HEADER
from weclip_sam.structures import MaskSet
from weclip_sam.visualization import Panel, Row, class_colors, draw_sheet, enlarge, overlay_labels

ROWS = 8  # of a sheet
_COLOURS = 254  # of masks: labels of one byte without background and 255


def browsable(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Config of a data set that can be looked at before its bank is full: an image may lack its masks.

    Args:
        dataset: filled in (:func:`fill_shared_settings`), with or without a pipeline.
    """
    changed = {key: value for key, value in dataset.items() if key != 'feature_bank'}  # nothing of it is to be seen
    if (bank := changed.get('mask_bank')) is not None:
        changed['mask_bank'] = {**(bank if isinstance(bank, Mapping) else {'bank': bank}), 'missing': 'none'}
    return {**changed, 'pipeline': changed.get('pipeline') or [dict(type='PackSample')]}


def lacks_bank(dataset: Mapping[str, Any]) -> str | None:
    """The folder of a :func:`browsable` config's mask bank, if there is none yet."""
    bank = (dataset.get('mask_bank') or {}).get('bank')
    return str(bank) if isinstance(bank, (str, Path)) and not (Path(bank) / HEADER).is_file() else None


def browse_row(dataset: ImageLabelDataset, index: int, draws: int, seed: int, height: int) -> Row:
    """One image: the photo, its SAM masks, its ground truth (of a data set with masks), and draws of the pipeline.

    Args:
        dataset: its transforms end in ``PackSample``.
        index: of the image.
        draws: how often the pipeline runs on it, each time with other random numbers: those of passes 0, 1, ... over
            the data. Those that are alike, as without random transforms, are shown once.
        seed: of them, as the sampler's.
        height: of the pictures.

    Raises:
        ValueError, OSError: the image or what belongs to it cannot be read.
    """
    start = dataset.load(index)
    for step in dataset.pipeline:
        if isinstance(step, LoadMasks):
            start = step(start)
    names, present = dataset.metainfo['classes'], set()
    colors = class_colors(len(names) + 1)
    rows, columns = start['ori_shape']
    panels = [Panel('photo', _shown(start['image'], height), f'{columns} x {rows}')]
    if start['masks'] is not None:
        panels.append(_masks_panel('SAM masks', start['image'], start['masks'], height))
    if start['ground_truth'] is not None:
        panels.append(_labels_panel('ground truth', start['image'], start['ground_truth'], colors, height))
        present |= set(np.unique(start['ground_truth']).tolist())
    first = None
    for draw in range(draws):
        item = dataset[SampleIndex(index, seed, draw * len(dataset) + index)]
        image, sample = item['inputs'].permute(1, 2, 0).numpy(), item['data_samples']
        if first is not None and np.array_equal(first, image):
            continue
        first = image if first is None else first
        size = f'{image.shape[1]} x {image.shape[0]}'
        if (labels := sample.get('pixel_labels')) is not None:
            panels.append(_labels_panel(f'draw {draw + 1}, labels', image, labels.numpy(), colors, height, size))
            present |= set(np.unique(labels.numpy()).tolist())
        else:
            panels.append(Panel(f'draw {draw + 1}', _shown(image, height), size))
        if draw == 0 and (masks := sample.get('mask_set')) is not None:
            panels.append(_masks_panel('its masks', image, masks, height))
    given = [names[place] for place in start['image_labels'].nonzero()[:, 0].tolist()]
    return Row(tuple(panels), f'{start["image_id"]}: {", ".join(given) or "no names, background only"}',
               tuple(sorted(present - {0})))


def _size(image: np.ndarray, height: int) -> tuple[int, int]:
    return height, max(1, round(image.shape[1] * height / image.shape[0]))


def _shown(image: np.ndarray, height: int) -> np.ndarray:
    return enlarge(np.ascontiguousarray(image), _size(image, height))


def _labels_panel(title: str, image: np.ndarray, labels: np.ndarray, colors: np.ndarray, height: int,
                  note: str = '') -> Panel:
    labels = enlarge(labels.astype(np.int64), _size(image, height), smooth=False)
    return Panel(title, overlay_labels(_shown(image, height), labels, colors), note)


def _masks_panel(title: str, image: np.ndarray, masks: MaskSet, height: int) -> Panel:
    """Masks in as many colours, small ones on large ones."""
    painted = np.zeros(masks.size, np.int64)
    order = masks.area.argsort(descending=True, stable=True)
    colour = 0
    for part in masks.select(order).parts():
        for mask in part.numpy():
            colour = colour % _COLOURS + 1
            painted[mask] = colour
    return _labels_panel(title, image, painted, class_colors(_COLOURS + 1), height, str(len(masks)))


def write_sheets(rows: Sequence[Row], names: Sequence[str], folder: str | Path, title: str) -> list[Path]:
    """Draw rows on as few sheets as hold ``ROWS`` each: ``browse_<title>_01.png``, ...; older ones of that title go.

    Args:
        rows: at least one.
        names: of the classes.
        folder: must exist.
        title: of the sheets, and in their files' names.
    """
    paths = []
    for number, sheet in enumerate(_sheets(rows, names, title), start=1):
        paths.append(Path(folder) / f'browse_{title}_{number:02}.png')
        with atomic_open(paths[-1]) as file:
            Image.fromarray(sheet).save(file, format='PNG')
    for path in Path(folder).glob(f'browse_{title}_[0-9]*.png'):
        if path not in paths:
            path.unlink(missing_ok=True)
    return paths


def _sheets(rows: Sequence[Row], names: Sequence[str], title: str) -> Iterator[np.ndarray]:
    count, colors = -(-len(rows) // ROWS), class_colors(len(names) + 1)
    for page in range(count):
        head = title if count == 1 else f'{title}, sheet {page + 1} of {count}'
        yield draw_sheet(rows[page * ROWS:(page + 1) * ROWS], colors, ('background', *names), head)
