"""The colours of label PNGs: numbers count, but where an image program has renumbered a palette, the colours show it.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weclip_sam.colors import hex_colors, voc_palette
from weclip_sam.io.images import ImageReadError, decode_labels, label_palette
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL

Colours = Mapping[int, tuple[int, int, int]]
_ADVICE = ('Numbers count here, colours do not: if an image program has renumbered the palettes, as saving as an '
           'indexed or optimised PNG may do, the masks are wrong, and so is every score; write the labels as grey PNGs')


def colours_of(labels: np.ndarray, palette: Colours) -> dict[int, tuple[int, int, int]]:
    """The colours of the labels that an image holds; none of those whose colour stands for another one there, too."""
    held = {int(label): palette[int(label)] for label in np.unique(labels) if int(label) in palette}
    return {label: colour for label, colour in held.items() if list(held.values()).count(colour) == 1}


class PaletteCheck:
    """Compares the colours of label PNGs, one after another.

    Args:
        classes: the C names; label = position + 1.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._label_of: dict[tuple[int, int, int], tuple[int, str]] = {}  # by colour, the first label and its file
        self._colour_of: dict[int, tuple[tuple[int, int, int], str]] = {}
        self._conflict, self._conflicts = '', 0  # the first, and how many

    def add(self, name: str, colours: Colours) -> None:
        """Look at the colours of the labels that a file holds; a grey one has none."""
        for label, colour in colours.items():
            first, file = self._label_of.setdefault(colour, (label, name))
            before, other = self._colour_of.setdefault(label, (colour, name))
            if first != label:
                self._tell(f'the colour {_hex(colour)} is label {first} in {file} and {label} in {name}')
            elif before != colour and label not in (BACKGROUND_LABEL, IGNORE_LABEL):
                self._tell(f'label {label} is {_hex(before)} in {other} and {_hex(colour)} in {name}')

    def _tell(self, conflict: str) -> None:
        self._conflict, self._conflicts = self._conflict or conflict, self._conflicts + 1

    def message(self) -> str:
        """One line for people, or nothing where the colours contradict no label."""
        if self._conflicts:
            more = f' ({self._conflicts} such disagreements)' if self._conflicts > 1 else ''
            return f'the palettes of the ground truth do not agree: {self._conflict}{more}. {_ADVICE}'
        voc = {colour: label for label, colour in enumerate(voc_palette(len(self.classes) + 1))}
        means = {label: voc.get(colour) for label, (colour, _) in sorted(self._colour_of.items(), reverse=True)
                 if label != IGNORE_LABEL}
        if means.get(BACKGROUND_LABEL, BACKGROUND_LABEL) is None:
            del means[BACKGROUND_LABEL]  # drawn in whatever colour
        moved = next(((label, other) for label, other in means.items() if label != other), None)
        if moved is None or None in means.values():
            return ''
        label, other = moved
        name = ('background', *self.classes)[other or BACKGROUND_LABEL]
        return (f"the ground truth draws label {label} in the colour that VOC's palette has for label {other} "
                f'({name}), for example in {self._colour_of[label][1]}. {_ADVICE}')


def look_at_palettes(records: Sequence[Any], classes: Sequence[str], most: int = 200) -> str:
    """:meth:`PaletteCheck.message` of the ground truth of records, at most so many of them, spread over the set."""
    check = PaletteCheck(classes)
    paths = [record.mask_path for record in records if record.mask_path is not None]
    for place in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)).tolist():
        look_at(check, paths[place])
    return check.message()


def look_at(check: PaletteCheck, path: Path) -> None:
    """Add a file; whoever reads the labels of one that cannot be read says so."""
    try:
        if palette := label_palette(path):
            check.add(str(path), colours_of(decode_labels(path), palette))
    except ImageReadError:
        pass


def _hex(colour: tuple[int, int, int]) -> str:
    return hex_colors([colour])[0]
