"""A folder of labels as those find it who come after: exports, the review page, corrections.

Three kinds are read alike: what ``predict.py`` and ``make_labels.py`` wrote (``predictions.json``), what
``make_seeds.py`` wrote (``seeds.json``), and label PNGs of anybody.

``predictions.json`` has, besides what made the labels, ``classes`` (background first), ``palette`` (RGB triples by
label), and ``images``, a list with, for each image: ``image`` (the photo's path), ``labels``, perhaps ``confidence``,
``doubt_map`` and ``overlay`` (paths below the folder), ``height``, ``width``, ``areas`` (share of the pixels in [0, 1]
by class), perhaps ``scores`` (mean confidence in [0, 1] by class that occurs), ``names`` (classes that were given for
the photo), ``named`` (by given class, how well the name fits in [0, 1], as CLIP sees the whole photo) and ``doubts``
(by who says something else than the label, the share of the pixels in [0, 1]). A map of doubts is a grey PNG of 8 bits
whose bits are those of :data:`weclip_sam.models.labelling.DOUBTS`. ``failed`` says, by photo, why it has no label.
"""
from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from weclip_sam.datasets.packing import SEEDS_HEADER
from weclip_sam.datasets.readers.labels import split_names
from weclip_sam.datasets.readers.names import read_classes
from weclip_sam.engine.start.predictions import HEADER, NOTED
from weclip_sam.io.files import inside
from weclip_sam.io.folders import Found, find_files
from weclip_sam.io.given import find_folder
from weclip_sam.io.identity import FileIdentity, IdentityNotes
from weclip_sam.io.images import (
    ImageReadError,
    decode_labels,
    is_image_name,
    label_palette,
    labels_changed,
    labels_made_of,
    read_labels,
    strip_suffix,
)
from weclip_sam.io.names import normal
from weclip_sam.io.text import read_json
from weclip_sam.models.labelling import DOUBTS

# Below a folder of results.
LABELS, CONFIDENCE, OVERLAYS, DOUBT_MAPS, PHOTOS = 'labels', 'confidence', 'overlays', 'doubts', 'photos'
# In a folder that labels were exported to; what is in it is none of the labels.
EXPORT_RECORD = 'export.json'
NOTES = 'entries'  # what the notes of a run that has not ended are called
BACKGROUND = 'background'
_SHOWN = 3  # failed images that a sentence names


@dataclass(frozen=True)
class LabelledImage:
    """One image of a :class:`LabelFolder`.

    Attributes:
        name: unique in the folder: the path of its label PNG below the folder of labels, without suffix, ``/`` between
            the parts.
        labels: the label PNG.
        image: the photo; None where nobody knows where it is.
        confidence: grey PNG of 8 bits, 255 times how sure the label of each pixel is; None if there is none.
        scores: mean confidence in [0, 1] of the pixels of every class that occurs; empty if unknown.
        names: the classes that were given for the photo; None if nobody named any.
        doubts: by what disagrees with the label (``'cam'``, ``'sam'``, ``'decoder'``), the share of the pixels in
            [0, 1].
        doubt_map: grey PNG of 8 bits: which of them disagree at each pixel; None if there is none.
        named: by given class, how well the name fits the photo in [0, 1], as CLIP sees it; empty if unknown.
        corrected: whether somebody changed the label since it was made, as far as that was looked at, see
            :meth:`LabelFolder.as_it_is`.
        failed: why there is no label of it, though one was asked for; empty where there is one.
    """

    name: str
    labels: Path
    image: Path | None = None
    confidence: Path | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    doubts: Mapping[str, float] = field(default_factory=dict)
    doubt_map: Path | None = None
    named: Mapping[str, float] = field(default_factory=dict)
    corrected: bool = False
    failed: str = ''


@dataclass(frozen=True)
class LabelFolder:
    """Label PNGs with what is known about them.

    Attributes:
        root: the folder.
        classes: C+1 names by label, ``background`` first.
        images: sorted by name.
        palette: RGB triples by label; empty if unknown.
        made_by: what the header of the folder says, or nothing.
        lacking: how many images have no labels yet, since the run that makes them was stopped, or still goes on.
        noted: whether each label PNG said what it showed when it was written: one that does not was corrected.
        predicted: whether they are results with a record of each image; a PNG that says what it was made of was put
            among them later.
        failed: images that have no label since making it failed, with the reason; none of :attr:`images`.
    """

    root: Path
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    palette: tuple[tuple[int, int, int], ...] = ()
    made_by: Mapping[str, Any] = field(default_factory=dict)
    lacking: int = 0
    noted: bool = False
    predicted: bool = False
    failed: tuple[LabelledImage, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[LabelledImage]:
        return iter(self.images)

    @property
    def told(self) -> str:
        """What people should know who take the folder for whole; empty where it is."""
        return f'{self.lacking} images have no labels yet: the run that makes them has not ended' * bool(self.lacking)

    @property
    def told_of_failed(self) -> str:
        """The same of images that failed: how many, and the first few with the reason."""
        if not self.failed:
            return ''
        first = [one.failed if (called := str(one.image or one.name)) in one.failed else f'{called}: {one.failed}'
                 for one in self.failed[:_SHOWN]]
        more = f'; and {len(self.failed) - _SHOWN} more' if len(self.failed) > _SHOWN else ''
        what = 'image has' if len(self.failed) == 1 else 'images have'
        return f'{len(self.failed)} {what} no label, as making it failed: {"; ".join(first)}{more}'

    def as_it_is(self, image: LabelledImage) -> LabelledImage:
        """What is known of the label that lies there now; its PNG is decoded.

        Of one that somebody corrected since it was made (by hand, or by an import into its place) the record tells
        nothing any more: how sure it was, and who said something else, are left out. What CLIP sees in the photo stays.
        """
        put_there = self.predicted and _was_put_there(image.labels)
        if not put_there and not labels_changed(image.labels, unsaid=self.noted):
            return image
        return replace(image, confidence=None, scores={}, doubts={}, doubt_map=None, corrected=True)

    def read(self, image: LabelledImage) -> np.ndarray:
        """H W uint8: 0 background, 1..C, 255 ignored.

        Raises:
            ValueError: unreadable, or a value that no class has.
        """
        return read_labels(image.labels, len(self.classes) - 1)

    def read_confidence(self, image: LabelledImage) -> np.ndarray | None:
        """H W float32 in [0, 1], or None.

        Raises:
            ValueError: unreadable, or of another size than the labels.
        """
        return None if image.confidence is None else \
            _beside_labels(image, image.confidence).astype(np.float32) / 255

    def read_doubts(self, image: LabelledImage) -> dict[str, np.ndarray] | None:
        """By who says something else than the label, H W bool, or None. Of those who were not asked all is False.

        Raises:
            ValueError: unreadable, or of another size than the labels.
        """
        if image.doubt_map is None:
            return None
        bits = _beside_labels(image, image.doubt_map)
        return {name: bits & bit > 0 for name, bit in DOUBTS.items()}


def _was_put_there(labels: Path) -> bool:
    try:
        return labels_made_of(labels) is not None
    except ImageReadError:  # whoever reads it says so
        return False


def told_of_corrected(count: int) -> str:
    """What people should know of labels that were corrected; empty where there are none."""
    what = 'label was' if count == 1 else 'labels were'
    return (f'{count} {what} corrected since made: taken as corrected, without the confidence and doubts of before'
            * bool(count))


def _beside_labels(image: LabelledImage, path: Path) -> np.ndarray:
    values = decode_labels(path)
    if values.shape != (size := decode_labels(image.labels).shape):
        raise ValueError(f'{path}: {values.shape[1]} x {values.shape[0]} pixels, but its labels have {size[1]} x '
                         f'{size[0]}')
    return values


def open_labels(folder: str | os.PathLike, images: str | os.PathLike | None = None,
                classes: str | os.PathLike | Sequence[str] | None = None) -> LabelFolder:
    """Look at a folder of labels; no PNG is decoded.

    Args:
        folder: what ``predict.py``, ``make_labels.py`` or ``make_seeds.py`` wrote, or label PNGs of anybody.
        images: where the photos are (found by their names without suffix), if the folder does not say or they moved.
        classes: names of the classes 1..C without the background, or a file with one a line; needed where the folder
            does not say. Where it does, they are other names for its classes, in all that it says.

    Raises:
        FileNotFoundError: no such folder, file or photos.
        ValueError: no label PNG in it, a header that is none, or nothing that names the classes.
    """
    root = find_folder(folder, 'labels')
    header: Any = {}
    for name in (HEADER, SEEDS_HEADER):
        if (root / name).is_file():
            header = read_json(root / name)
            break
    if not isinstance(header, dict):
        raise ValueError(f'{root / name}: not the record of labels that it should be; without it '
                         '--classes FILE says what the labels are')
    photos = None if images is None else _photos(Path(images))
    try:
        predicted = 'images' in header and isinstance(header['images'], list)
        if predicted:
            header = _with_notes(root, header)
        found = _predicted(root, header) if predicted else _lying_about(root, header)
        lacking = _lacking(header) if predicted else 0
        failed = _failed(header, {one.name for one in found}) if predicted else ()
        if not found:
            raise ValueError(f'{root}: holds no label PNG' + '; the run that makes them has not ended' * bool(lacking)
                             + (f'; all {len(failed)} images failed, for example {failed[0].name}: {failed[0].failed}'
                                if failed else ''))
        named = _class_names(header, classes, root)
        if classes is not None and header.get('classes'):
            found = [_renamed(one, dict(zip(_class_names(header, None, root), named, strict=False))) for one in found]
        palette = tuple((int(r), int(g), int(b)) for r, g, b in header.get('palette') or ())
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f'{root / name}: not the record of labels that it should be') from None
    if photos is not None:
        found = [_with_photo(one, photos, images) for one in found]
    found.sort(key=lambda one: one.name)
    return LabelFolder(root, named, tuple(found), palette or _palette(found[0].labels, len(named)), header, lacking,
                       bool(header.get(NOTED)), predicted, failed)


def _with_notes(root: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """A record with what a run noted that has not ended; such notes join it when the same command runs again."""
    noted = [line[0] for line in IdentityNotes(root, NOTES).read() if line and 'labels' in line[0]]
    entries = {str(entry['labels']): entry for entry in (*header['images'], *noted)}
    return {**header, 'images': list(entries.values())}


def _lacking(header: Mapping[str, Any]) -> int:
    return len(set(header.get('inputs') or ()) - {str(entry['labels']) for entry in header['images']})


def _failed(header: Mapping[str, Any], taken: Collection[str]) -> tuple[LabelledImage, ...]:
    """The images that the record calls failed. They have no label that would name them: each is called by its path
    below the folder that all photos lie in, with its suffix, unless that is ``taken``."""
    labelled = {str(entry['image']) for entry in header['images'] if entry.get('image')}
    reasons = {str(called): ' '.join(str(why).split()) or 'nobody knows why'
               for called, why in (header.get('failed') or {}).items() if str(called) not in labelled}
    folders = [os.path.dirname(path) for path in (*reasons, *labelled) if os.path.isabs(path)]
    try:
        folder = os.path.commonpath(folders)
    except ValueError:  # no folder at all, or several drives
        folder = ''
    found: dict[str, LabelledImage] = {}
    for called, why in reasons.items():
        photo = Path(called) if os.path.isabs(called) else None
        name = normal(called if photo is None or not folder else photo.relative_to(folder).as_posix())
        name = called if name in found or name in taken else name
        found[name] = LabelledImage(name, Path(), photo, failed=why)
    return tuple(found.values())


def _renamed(image: LabelledImage, names: Mapping[str, str]) -> LabelledImage:
    """What is known of an image by the names that its classes are given now."""
    scores, named = ({names.get(name, name): value for name, value in values.items()}
                     for values in (image.scores, image.named))
    given = None if image.names is None else tuple(names.get(name, name) for name in image.names)
    return replace(image, scores=scores, named=named, names=given)


def _predicted(root: Path, header: Mapping[str, Any]) -> list[LabelledImage]:
    found = []
    for entry in header['images']:
        labels = inside(root, str(entry['labels']), str(root / HEADER))
        if not labels.is_file():
            continue
        confidence, doubt_map = (None if not entry.get(key) else inside(root, str(entry[key]), str(root / HEADER))
                                 for key in ('confidence', 'doubt_map'))
        names, photo = entry.get('names'), entry.get('image')
        parts = Path(str(entry['labels'])).with_suffix('').parts
        scores, doubts, named = ({str(name): float(value) for name, value in (entry.get(key) or {}).items()}
                                 for key in ('scores', 'doubts', 'named'))
        name = normal('/'.join(parts[1:] if parts[0] == LABELS and len(parts) > 1 else parts))
        found.append(LabelledImage(
            name, labels, _moved_along(root, name, Path(photo)) if photo else None, confidence, scores,
            None if names is None else tuple(map(str, names)), doubts, doubt_map, named))
    return found


def _moved_along(root: Path, name: str, photo: Path) -> Path:
    """A photo that was written into the folder itself, wherever that lies by now."""
    own = root / PHOTOS / f'{name}.png'
    return own if not photo.is_file() and own.is_file() else photo


def _lying_about(root: Path, header: Mapping[str, Any]) -> list[LabelledImage]:
    """Label PNGs below a folder; its header, if it has one, knows the folder of the photos and the given names."""
    places = _search(root, lambda path: path.lower().endswith('.png'), _is_export)
    folder, names = header.get('image_folder'), header.get('image_labels') or {}
    photos, known = _photos(Path(folder)) if folder and Path(folder).is_dir() else {}, header.get('photos') or {}
    found = []
    for path in places.files:
        name = normal(path.relative_to(root).with_suffix('').as_posix())
        if name.split('/')[0] in (CONFIDENCE, OVERLAYS, DOUBT_MAPS, PHOTOS):
            continue
        given = names.get(name)
        found.append(LabelledImage(
            name, path, _own_photo(photos.get(name, []), FileIdentity.parse(known.get(name))),
            names=None if given is None else tuple(split_names(given, f'{root / SEEDS_HEADER}, image {name!r}'))))
    return found


def _own_photo(photos: Sequence[Path], known: FileIdentity | None) -> Path | None:
    """The photo of a label; of several that differ in their suffix alone, the one of the known size in bytes."""
    if len(photos) > 1:
        photos = [] if known is None else [photo for photo in photos if photo.stat().st_size == known.bytes]
    return photos[0] if len(photos) == 1 else None


def _photos(folder: Path) -> dict[str, list[Path]]:
    """By path below a folder, with and without suffix, the images in it."""
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of images')
    found: dict[str, list[Path]] = {}
    for path in _search(folder, is_image_name).files:
        name = normal(path.relative_to(folder).as_posix())
        for key in {name, strip_suffix(name)}:
            found.setdefault(key, []).append(path)
    return found


def _is_export(path: str) -> bool:
    return os.path.isfile(os.path.join(path, EXPORT_RECORD))


def _search(folder: Path, wanted: Any, leave: Any = lambda path: False) -> Found:
    found = find_files(folder, wanted, leave=leave)
    for place, reason in found.unreadable.items():
        raise ValueError(f'{place}: cannot be opened ({reason}); make it readable, or move it out of {folder}')
    return found


def _with_photo(image: LabelledImage, photos: Mapping[str, Sequence[Path]], folder: Any) -> LabelledImage:
    found = photos.get(image.name, [])
    if len(found) > 1 and image.image is not None:
        found = [photo for photo in found if normal(photo.name) == normal(image.image.name)] or found
    if not found:
        raise FileNotFoundError(f'{folder}: holds no image {image.name}.* of which {image.labels} would be the labels')
    if len(found) > 1:
        raise ValueError(f'{image.labels}: may be the labels of {found[0]} or of {found[1]}; move one of them away')
    return replace(image, image=found[0])


def _class_names(header: Mapping[str, Any], classes: Any, root: Path) -> tuple[str, ...]:
    if classes is not None:
        given = os.fspath(classes) if isinstance(classes, (str, os.PathLike)) else list(classes)
        return (BACKGROUND, *(read_classes(Path(), given) or ()))
    if not header.get('classes'):
        raise ValueError(f'{root}: nothing says which class each label is; give their names with --classes FILE (one '
                         'a line, without the background)')
    named = tuple(map(str, header['classes']))
    return named if named[0] == BACKGROUND else (BACKGROUND, *named)


def _palette(labels: Path, count: int) -> tuple[tuple[int, int, int], ...]:
    colours = label_palette(labels)
    return tuple(colours[label] for label in range(count)) if all(label in colours for label in range(count)) else ()
