"""One image of the review: what is known of it, what may be wrong, and its pictures."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from weclip_sam.io.files import atomic_open
from weclip_sam.io.images import fit_within, image_size, pixels_digest
from weclip_sam.io.parallel import Progress, no_progress, parallel_map
from weclip_sam.offline.results import LabelFolder, LabelledImage
from weclip_sam.review.layers import SIDE, confidence_layer, doubt_layers, label_layer, photo_layer
from weclip_sam.review.problems import Facts, badness, find_problems
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL

THUMBS = 'thumbs'  # below the folder of a review


@dataclass(frozen=True)
class Entry:
    """One image of a review.

    Attributes:
        name: as in the folder of labels.
        photo: where its file should be, or None.
        lost: whether it is not there.
        size: (height, width) of its labels; (0, 0) where they cannot be read.
        facts: what is known of it.
        digest: of its labels' pixels: another one where the label is another now.
        layers: by what they show (``photo``, ``labels``, ``confidence``, and those that disagree), pictures: files
            below the folder of the review, or their content.
        problems: by kind, a sentence.
        badness: by order, see :func:`badness`.
        corrected: whether the label was changed since it was made.
        failed: whether there is no label, since making it failed.
    """

    name: str
    photo: Path | None
    size: tuple[int, int]
    facts: Facts
    digest: str
    layers: Mapping[str, str | bytes]
    lost: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    badness: Mapping[str, float] = field(default_factory=dict)
    corrected: bool = False
    failed: bool = False


def look_at_all(folder: LabelFolder, out: Path | None = None, workers: int | None = 1, side: int = SIDE,
                progress: Progress = no_progress, clip_counts: bool = True) -> Iterator[Entry]:
    """The entries of a folder's images, in its order, and of those that failed; nothing else of an image is kept.

    Args:
        folder: of labels.
        out: where pictures are written, below ``thumbs``; None keeps them in the entries.
        workers: processes, see :func:`parallel_map`.
        side: long side of the pictures in pixels.
        progress: told of each.
        clip_counts: see :class:`Facts`.

    Raises:
        OSError: a picture cannot be written.
        WorkerError: a process died.
    """
    bare, images = replace(folder, images=(), made_by={}, failed=()), (*folder.images, *folder.failed)
    look = partial(look_at, bare, out=out, side=side, clip_counts=clip_counts)
    return parallel_map(look, images, len(images), workers, 'look at labels', progress, option='--jobs')


def look_at(folder: LabelFolder, image: LabelledImage, out: Path | None = None, side: int = SIDE,
            clip_counts: bool = True) -> Entry:
    """The entry of one image; see :func:`look_at_all`. What cannot be read becomes its fault."""
    faults, layers = list[str](), dict[str, bytes]()
    labels = None
    if image.failed:
        faults.append(f'has no label: {image.failed}')
    else:
        image = folder.as_it_is(image)
        labels = _try(faults, lambda: folder.read(image))
    facts, digest, size = Facts(names=image.names), '', (0, 0)
    if labels is not None:
        size, digest = (labels.shape[0], labels.shape[1]), pixels_digest(labels)
        layers['labels'] = label_layer(labels, folder.palette, side)
        sure = _try(faults, lambda: folder.read_confidence(image))
        doubts = _try(faults, lambda: folder.read_doubts(image))
        facts = _facts(folder, image, labels, sure, doubts)
        if sure is not None:
            layers['confidence'] = confidence_layer(sure, side)
        if doubts is not None:
            layers.update(doubt_layers(doubts, side))
    photo = image.image
    lost = photo is not None and not photo.is_file()
    if photo is not None and not lost:
        # Of one that failed the reason is told already, and often it is the same.
        shown = _try([] if image.failed else faults, partial(_photo, photo, size, side))
        layers.update({} if shown is None else dict(photo=shown))
    facts = replace(facts, fault='; '.join(faults), clip_counts=clip_counts)
    kept: dict[str, str | bytes] = dict(layers)
    if out is not None:
        kept = {what: _write(out, image.name, what, content) for what, content in layers.items()}
    return Entry(image.name, photo, size, facts, digest[:12], kept, lost, find_problems(facts), badness(facts),
                 image.corrected, bool(image.failed))


def _try(faults: list[str], read: Any) -> Any:
    """What ``read`` gives, or None and a fault more."""
    try:
        return read()
    except (ValueError, FileNotFoundError) as error:
        faults.append(str(error))
        return None


def _photo(path: Path, size: tuple[int, int], side: int) -> bytes:
    content = photo_layer(path, side)
    whole = image_size(path)
    # Photos may have been shrunk before they were labelled, see FolderReader's max_side.
    if size != (0, 0) and size != whole and size != fit_within(whole, max(size)):
        raise ValueError(f'{path}: {whole[1]} x {whole[0]} pixels, but its labels have {size[1]} x {size[0]}')
    return content


def _facts(folder: LabelFolder, image: LabelledImage, labels: np.ndarray, sure: np.ndarray | None,
           doubts: Mapping[str, np.ndarray] | None) -> Facts:
    counts = np.bincount(labels.reshape(-1), minlength=256)
    held = [int(label) for label in np.flatnonzero(counts) if label not in (BACKGROUND_LABEL, IGNORE_LABEL)]
    held.sort(key=lambda label: -counts[label])
    scores = dict(image.scores)
    if sure is not None and not scores:
        scores = {folder.classes[label]: float(sure[labels == label].mean()) for label in held}
    shares = dict(image.doubts) or {who: float(where.mean()) for who, where in (doubts or {}).items()}
    return Facts({folder.classes[label]: float(counts[label] / labels.size) for label in held},
                 float(counts[IGNORE_LABEL] / labels.size), scores, image.names, dict(image.named), shares)


def _write(out: Path, name: str, what: str, content: bytes) -> str:
    """Write a picture; returns its path below ``out``. Its name is a digest: names of images hold anything."""
    stem = hashlib.blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()
    path = f'{THUMBS}/{stem}_{what}.{"jpg" if what == "photo" else "webp"}'
    with atomic_open(out / path, sync=False) as file:
        file.write(content)
    return path
