"""A folder of pseudo labels: what it belongs to, what else lies in it, and how good it is."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weclip_sam.datasets.packing import SEEDS_HEADER
from weclip_sam.engine.hooks.predictions import label_path
from weclip_sam.engine.start.predictions import NOTED
from weclip_sam.evaluation import IoUReport, confusion_matrix
from weclip_sam.io.files import atomic_open, write_json
from weclip_sam.io.identity import FileIdentity
from weclip_sam.io.images import labels_changed, read_labels
from weclip_sam.io.names import normal, real_path
from weclip_sam.io.text import read_json
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL, SeedState, foreground_label

FORMAT = 'weclip_sam seeds 1'
# What the header keeps of every image, and what to call it.
_KEPT = dict(image_labels='classes', input_labels='labels to start from', photos='photos')


def claim_folder(out: str | os.PathLike, card: dict[str, Any], names: Mapping[str, str] | None = None,
                 inputs: Mapping[str, str] | None = None, photos: Mapping[str, FileIdentity] | None = None
                 ) -> dict[str, list[str]]:
    """Write ``seeds.json``, which says what the labels of a folder were made of, or compare with the one that is there.

    Args:
        out: the folder; made if missing.
        card: ``fingerprint`` and ``image_folder`` (None or absent: images made in memory) decide whether labels may be
            added; the rest tells people.
        names: by image id, the classes named for it, as one text. They are kept, and where they are not those that a
            label was made with, the label and its scores are removed.
        inputs: by image id, a digest of the label it starts from; treated likewise.
        photos: by image id, the file of the image; treated likewise, but a new time of the same content means nothing.

    Returns:
        By what has changed (``'classes'``, ``'labels to start from'``, ``'photos'``) the images concerned, sorted;
        empty if nothing.

    Raises:
        ValueError: the folder holds labels of other settings or other images, or label PNGs of unknown origin; a label
            that was corrected by hand would be removed.
    """
    path = Path(out) / SEEDS_HEADER
    files = None if photos is None else {image_id: list(photo) for image_id, photo in photos.items()}  # as in JSON
    now = {key: dict(given) for key, given in zip(_KEPT, (names, inputs, files), strict=True) if given is not None}
    if path.is_file():
        try:
            there = read_json(path)
            found = there['fingerprint'] if there['format'] == FORMAT else None
            known = {key: _normal(there[key]) for key in _KEPT if there.get(key) is not None}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f'{path}: not the header of a seed folder; choose another --out') from None
        if found != card['fingerprint']:
            made = f'config {there.get("config")!r}, split {there.get("split")!r}'
            raise ValueError(f'{path}: these labels were made by other settings ({made}); labels of two settings are '
                             'never mixed: choose another --out, or add --overwrite to make them all anew')
        folder = card.get('image_folder')
        if normal(there.get('image_folder') or '') != normal(folder or ''):
            raise ValueError(f'{path}: these labels were made of images in '
                             f'{there.get("image_folder") or "no known place"}, but the images are in {folder}; other '
                             'images may have the same names: choose another --out, or add --overwrite to make them '
                             'all anew. If they are the same images, moved, write '
                             f'"image_folder": {json.dumps(folder)} into {path}')
        return _forget_changed(path, there, known, now)
    if any(Path(out).glob('*.png')):
        raise ValueError(f'{out} holds label PNGs but no {SEEDS_HEADER}, so nobody knows what made them; choose '
                         'another --out, or add --overwrite to make them all anew')
    write_json(path, dict(format=FORMAT, **card, **now, **{NOTED: True}))
    return {}


def notes_pixels(out: str | os.PathLike) -> bool:
    """Whether every label PNG of a folder was written with a note of what it shows."""
    try:
        return bool(read_json(Path(out) / SEEDS_HEADER).get(NOTED))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def photos_of(out: str | os.PathLike) -> dict[str, FileIdentity]:
    """By image id, the photo that a label of a folder was made of; empty where the folder does not say."""
    try:
        kept = read_json(Path(out) / SEEDS_HEADER)['photos']
        found = {normal(image_id): FileIdentity.parse(photo) for image_id, photo in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {image_id: photo for image_id, photo in found.items() if photo is not None}


def _normal(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {normal(key): normal(value) if isinstance(value, str) else value for key, value in kept.items()}


def _forget_changed(path: Path, header: dict[str, Any], known: Mapping[str, dict[str, Any]],
                    now: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Remove labels that were made of something else than is there now, and only then say so in the header."""
    changed, kept, noted = {}, {}, bool(header.get(NOTED))
    stale_of = {}
    for key, values in now.items():
        before = known.get(key, values)  # a header of before they were kept: its labels are believed
        stale_of[key] = [image_id for image_id, value in values.items()
                         if _content(before.get(image_id)) != _content(value)]
    for key, stale in stale_of.items():
        for label in (label_path(path.parent, image_id) for image_id in stale):
            if labels_changed(label, unsaid=noted):
                raise ValueError(f'{label}: was changed since it was made, as by hand, and the {_KEPT[key]} of its '
                                 'image are others now, so it would be made anew. Nothing was removed: move it away, '
                                 'or add --overwrite to make all labels anew')
    for key, values in now.items():
        before, stale = known.get(key, values), stale_of[key]
        _remove_labels(path.parent, stale)
        if key not in known or any(before.get(image_id) != value for image_id, value in values.items()):
            kept[key] = {**before, **values}
        if others := sorted(image_id for image_id in stale if image_id in before):
            changed[_KEPT[key]] = others
    if kept:
        write_json(path, {**header, **kept})
    return changed


def _content(value: Any) -> Any:
    """What counts of a value that the header keeps: of a photo, not its time."""
    photo = FileIdentity.parse(value)
    return value if photo is None else photo.digest


def clear_folder(out: str | os.PathLike, image_ids: Sequence[str]) -> None:
    """Remove labels and scores of the images, and of those that the header lists; the header first: stopped halfway,
    the rest is of unknown origin.

    Raises:
        ValueError: labels of other images would be left behind; nothing is removed.
    """
    header = Path(out) / SEEDS_HEADER
    listed: list[str] = []
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        listed = list(json.loads(header.read_text(encoding='utf-8'))[next(iter(_KEPT))])
    replaced = {label_path(Path(out), image_id) for image_id in (*image_ids, *listed)}
    if others := sorted(set(Path(out).glob('*.png')) - replaced):
        raise ValueError(f'{out}: --overwrite would leave {len(others)} label PNGs of other images behind, for example '
                         f'{others[0].name}, beside the new ones. Nothing was removed: choose another --out')
    header.unlink(missing_ok=True)
    _remove_labels(out, [*image_ids, *listed])


def _remove_labels(out: str | os.PathLike, image_ids: Sequence[str]) -> None:
    for image_id in image_ids:
        for path in (label_path(out, image_id), score_path(out, image_id)):
            if os.path.isfile(path):  # not even looked for where no file can have that name
                path.unlink(missing_ok=True)


def score_path(out: str | os.PathLike, image_id: str) -> Path:
    """``out/scores/image_id.npz``."""
    folder = Path(out) / 'scores'
    path = label_path(folder, image_id).with_suffix('.npz')
    return real_path(folder, path.relative_to(folder).as_posix())


def write_scores(path: Path, state: SeedState) -> None:
    """Write the class maps of one image, atomically.

    The NPZ holds ``scores`` K h w float16 (the last maps of the pipeline, on the grid they have there) and ``labels`` K
    uint8, the pixel label (1..C) of each.
    """
    if state.maps is None:
        raise ValueError('--scores: this pipeline makes labels of labels; it has no class maps')
    maps = state.maps.scores.to(torch.float16).cpu().numpy()
    labels = foreground_label(state.maps.class_index).to(torch.uint8).cpu().numpy()
    with atomic_open(path) as file:
        np.savez_compressed(file, scores=maps, labels=labels)


def count_pixels(out: str | os.PathLike, dataset: Any, indices: Sequence[int]) -> tuple[Tensor, Tensor, int, int]:
    """Compare label PNGs with ground truth, image by image.

    Args:
        out: the folder.
        dataset: with ``with_masks=True``.
        indices: images of the data set; those without a PNG are left out.

    Returns:
        Two C+1 C+1 confusion matrices (rows ground truth): of all pixels, with ignored ones as background, and of the
        pixels that were not ignored; how many images were counted and how many had no PNG.
    """
    count = len(dataset.metainfo['classes']) + 1
    total, kept = (torch.zeros(count, count, dtype=torch.int64) for _ in range(2))
    images = missing = 0
    for index in indices:
        path = label_path(out, dataset.image_ids[index])
        if not os.path.isfile(path):  # or nothing can have that name
            missing += 1
            continue
        labels = torch.from_numpy(read_labels(path, count - 1).astype(np.int64))
        truth = torch.from_numpy(np.array(dataset.load_ground_truth(index), np.int64))
        ignored = labels == IGNORE_LABEL
        total += confusion_matrix(labels.masked_fill(ignored, BACKGROUND_LABEL), truth, count, name=str(path))
        kept += confusion_matrix(labels, truth.masked_fill(ignored, IGNORE_LABEL), count, name=str(path))
        images += 1
    return total, kept, images, missing


def score_report(total: Tensor, kept: Tensor, images: int, missing: int,
                 classes: Sequence[str]) -> tuple[IoUReport, dict[str, Any]]:
    """The sums of :func:`count_pixels` as a table, and as JSON with what ignoring unsure pixels changes."""
    names = ('background', *classes)
    report = IoUReport.from_confusion(total, names, images)
    share = 1 - int(kept.sum()) / max(int(total.sum()), 1)
    without = IoUReport.from_confusion(kept, names, images).miou
    return report, dict(report.to_json(), images_without_seed=missing, ignored_share=share,
                        mIoU_without_ignored=100 * without)
