"""Masks as PNGs: CVAT's "Segmentation mask 1.1", and folders of label PNGs.

What a colour means is said by ``labelmap.txt``, or by the palette in ``predictions.json``; what a number means, by the
header of a folder that was made here, by ``classes.txt`` in it, or by whoever imports it.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from weclip_sam.datasets.packing import SEEDS_HEADER
from weclip_sam.datasets.readers.names import CLASS_FILE
from weclip_sam.datasets.vocabulary import VOC_CLASSES, foreground_names
from weclip_sam.engine.start.predictions import HEADER, NOTED
from weclip_sam.io.archives import Files
from weclip_sam.io.images import decode_colours, decode_labels, is_grey, labels_changed, voc_palette
from weclip_sam.io.names import normal
from weclip_sam.io.text import decode_text, parse_json
from weclip_sam.offline.results import BACKGROUND, EXPORT_RECORD
from weclip_sam.review.corrections.found import ClassLabels, Correction, Corrections
from weclip_sam.review.corrections.photos import lying_with_photos
from weclip_sam.review.corrections.target import Target
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL
from weclip_sam.words import counted

LABEL_MAP, CLASS_FOLDER = 'labelmap.txt', 'SegmentationClass'
# Folders below a folder that was made here: the first has its labels, the others none.
_OURS = ('labels', 'confidence', 'overlays', 'doubts', 'photos', 'review')
IMPORTED = 'weclip_sam corrections 1'  # the format of a folder that corrections were imported to


@dataclass(frozen=True)
class Meaning:
    """What the pixels of masks stand for.

    Attributes:
        colours: names by RGB as one number; empty where colours mean nothing.
        numbers: names by number; empty where numbers mean nothing.
        source: what says so.
    """

    colours: Mapping[int, str] = field(default_factory=dict)
    numbers: Mapping[int, str] = field(default_factory=dict)
    source: str = ''


def read_masks(files: Files, labels: ClassLabels, names: Sequence[str] | None = None,
               else_as: Meaning | None = None, target: Target | None = None) -> Corrections:
    """The masks of a folder or a zip; each is looked at, once more than it is painted, so that names are known before
    anything is written.

    Args:
        files: all its ``.png``, ``.txt`` and ``.json``.
        labels: of the classes.
        names: of numbers, background first, if the files do not say.
        else_as: what masks mean where nothing else says it: as the labels that were corrected.
        target: the images that are meant; PNGs that are their photos are left out, and told.

    Raises:
        ValueError: no PNG in it, or photos alone, a ``labelmap.txt`` or header that is none, or nothing that says what
            masks mean.
    """
    header, source = _header(files)
    masks, photos_told = _masks(files, bool(header))
    meaning = _meaning(files, names, header, source, else_as)
    made_here = bool(header.get(NOTED)) and header.get('format') != IMPORTED and files.path.is_dir()
    found, untouched, photos = Corrections(notes=photos_told), 0, list[str]()
    for name, file in masks.items():
        where = files.where(file)
        if made_here and not labels_changed(where):
            untouched += 1
            continue
        if target is not None and target.is_photo(f'{name}.png', where, files.read(file)):
            photos.append(where)
            continue
        try:
            held = _held(files, file, meaning)
        except ValueError as error:
            found.failed[name] = str(error)
            continue
        for each in held:
            labels.get(each, where)
        found.images.append(Correction(name, where, partial(_paint, files, file, meaning, labels)))
    if len(photos) == len(masks):
        raise ValueError(f'{files.path}: holds no .png of a mask: all {len(photos)} are the photos themselves, '
                         f'{photos[0]} for example; give the folder that the masks are in')
    if photos:
        found.notes.append(f'{files.path}: {counted(len(photos), "PNG")} taken for photos, not labels, since they show '
                           f'what the photos show, {photos[0]} for example: left out')
    if untouched:
        found.notes.append(f'{files.path}: {untouched} labels are as they were made, so nobody corrected them, and are '
                           'left out')
    return found


def as_labels_of(classes: Sequence[str], palette: Sequence[Sequence[int]], source: str) -> Meaning:
    """What the pixels of label PNGs with this palette mean, as colours and as numbers.

    Args:
        classes: names by label, background first.
        palette: RGB triples by label.
        source: whose they are.
    """
    colours = {_packed(colour): name for colour, name in zip(palette, classes, strict=False)}
    return Meaning({**colours, _packed(voc_palette()[IGNORE_LABEL]): 'void'}, dict(enumerate(classes)), source)


def holds_masks(files: Files) -> bool:
    """Whether a folder or a zip has PNGs that may be masks."""
    photos = lying_with_photos(files.names)
    return any(name.lower().endswith('.png') and name not in photos for name in files.names)


def _masks(files: Files, made_here: bool) -> tuple[dict[str, str], list[str]]:
    """By name of the image, its mask; and what is to be told of folders that hold photos."""
    # What the labels of a folder were exported to is none of its corrections.
    exports = tuple(name.removesuffix(EXPORT_RECORD) for name in files.names if name.endswith(f'/{EXPORT_RECORD}')
                    ) if made_here else ()
    pngs = [name for name in files.names if name.lower().endswith('.png') and not name.startswith(exports)]
    inner = [name for name in pngs if f'{CLASS_FOLDER}/' in name]
    # A folder that was made here may have images in folders of any name.
    photos = {} if made_here or inner else lying_with_photos(files.names)
    masks: dict[str, str] = {}
    for file in inner or [name for name in pngs if name not in photos]:
        name = file.split(f'{CLASS_FOLDER}/', 1)[1] if inner else file
        first, _, rest = name.partition('/')
        if made_here and first in _OURS and rest:
            if first != _OURS[0]:
                continue
            name = rest
        masks[name[:-4]] = file
    passed = Counter(photos[png] for png in pngs if png in photos)
    told = [f'{files.path}: {counted(count, "PNG")} in {folder} taken for photos, not labels, since {beside} lies '
            'beside it: left out' for (folder, beside), count in passed.items()]
    if not masks:
        raise ValueError('; '.join([f'{files.path}: holds no .png of a mask', *told]))
    return masks, told


def _header(files: Files) -> tuple[dict[str, Any], str]:
    """What a folder that was made here says of itself, and where."""
    for name in (HEADER, SEEDS_HEADER):
        if name in files.names:
            where = files.where(name)
            header = parse_json(files.read(name).getvalue(), where)
            classes = header.get('classes') if isinstance(header, dict) else None
            if not isinstance(classes, list) or not classes or not all(isinstance(each, str) for each in classes):
                raise ValueError(f'{where}: names no classes')
            return header, where
    return {}, ''


def _meaning(files: Files, names: Sequence[str] | None, header: Mapping[str, Any], source: str,
             else_as: Meaning | None = None) -> Meaning:
    beside = {name.rsplit('/', 1)[-1]: name for name in reversed(files.names)}
    if LABEL_MAP in beside:
        return _label_map(decode_text(files.read(beside[LABEL_MAP]).getvalue(), files.where(beside[LABEL_MAP])),
                          files.where(beside[LABEL_MAP]))
    if names is not None:
        return Meaning(numbers=dict(enumerate(names)), source='the given names of numbers')
    if header:
        return _of_header(header, source)
    if CLASS_FILE in files.names:
        where = files.where(CLASS_FILE)
        lines = decode_text(files.read(CLASS_FILE).getvalue(), where).splitlines()
        listed = foreground_names([normal(line.strip()) for line in lines if line.strip()], where)
        return Meaning(numbers=dict(enumerate((BACKGROUND, *listed))), source=where)
    if any(f'{CLASS_FOLDER}/' in name for name in files.names):
        names = (BACKGROUND, *VOC_CLASSES)
        colours = {_packed(colour): name for colour, name in zip(voc_palette(), names, strict=False)}
        return Meaning({**colours, _packed(voc_palette()[IGNORE_LABEL]): 'void'}, dict(enumerate(names)),
                       "VOC's classes and colours")
    if else_as is not None:
        return else_as
    raise ValueError(f'{files.path}: nothing says which class the numbers of these masks are: give --like FOLDER, the '
                     'labels that were corrected, or --numbers FILE, a list of the names by number, one a line, or '
                     f'put {LABEL_MAP} or {CLASS_FILE} in it')


def _label_map(text: str, where: str) -> Meaning:
    """``name:r,g,b:parts:actions`` a line."""
    colours: dict[int, str] = {}
    order = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        fields = line.rsplit(':', 3)
        try:
            red, green, blue = map(int, fields[1].split(','))
            colour = _packed((red, green, blue))
            if len(fields) != 4 or not all(0 <= value <= 255 for value in (red, green, blue)):
                raise ValueError
        except (ValueError, IndexError):
            raise ValueError(f'{where}, line {number}: expected name:red,green,blue:parts:actions, got {line!r:.80}'
                             ) from None
        name = normal(fields[0].strip())
        if colours.setdefault(colour, name) != name:
            raise ValueError(f'{where}, line {number}: {name!r} has the colour of {colours[colour]!r}')
        order.append(name)
    if not order:
        raise ValueError(f'{where}: names no class')
    return Meaning({**{0: BACKGROUND}, **colours}, dict(enumerate(order)), where)


def _of_header(header: Mapping[str, Any], where: str) -> Meaning:
    classes = header['classes']
    names = classes if classes[0] == BACKGROUND else [BACKGROUND, *classes]
    try:
        colours = {_packed(colour): name for colour, name in zip(header.get('palette') or (), names, strict=False)}
    except (TypeError, ValueError):
        raise ValueError(f'{where}: its palette is none') from None
    if len(colours) < len(names):
        colours = {}  # two classes of one colour
    else:
        colours[_packed(voc_palette()[IGNORE_LABEL])] = 'void'  # as write_labels draws it
    return Meaning(colours, dict(enumerate(names)), where)


def _packed(colour: Sequence[int]) -> int:
    red, green, blue = colour
    return int(red) << 16 | int(green) << 8 | int(blue)


def _read(files: Files, file: str, meaning: Meaning) -> tuple[np.ndarray, list[str]]:
    """What each pixel stands for: H W places in a list of names.

    A palette that an image program has renumbered keeps its colours, so they count where they mean something.

    Raises:
        ValueError: unreadable, or pixels that mean nothing.
    """
    where = files.where(file)
    if meaning.colours and not is_grey(where, files.read(file)):
        names = meaning.colours
        colours = decode_colours(where, files.read(file)).astype(np.int32)
        pixels = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    else:
        names = {**meaning.numbers, IGNORE_LABEL: 'void'}
        pixels = decode_labels(where, files.read(file)).astype(np.uint8)
    place = np.full(1 << 24 if names is meaning.colours else 256, -1, np.int16)
    place[list(names)] = np.arange(len(names))
    places = place[pixels]
    strange = pixels[places < 0]
    if strange.size:
        what = f'the colour #{strange[0]:06x}' if names is meaning.colours else f'the number {strange[0]}'
        raise ValueError(f'{where}: {what} means nothing in {meaning.source} ({strange.size} pixels have such); masks '
                         'must not be smoothed, or compressed with loss')
    return places, list(names.values())


def _held(files: Files, file: str, meaning: Meaning) -> set[str]:
    """The names that a mask holds."""
    places, names = _read(files, file, meaning)
    return {names[place] for place in np.flatnonzero(np.bincount(places.reshape(-1), minlength=len(names)))}


def _paint(files: Files, file: str, meaning: Meaning, labels: ClassLabels) -> np.ndarray:
    places, names = _read(files, file, meaning)
    found = [labels.get(name, files.where(file)) for name in names]
    return np.array([BACKGROUND_LABEL if label is None else label for label in found], np.uint8)[places]
