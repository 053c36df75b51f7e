"""A legend: which colour is what, in words."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization.overlays import stripes
from weclip_sam.visualization.text import Font, shortened, wrapped, written

PAPER, INK, FAINT = (250, 250, 250), (25, 25, 25), (110, 110, 110)


def label_name(label: int, names: Sequence[str]) -> str:
    """What a label is called: ``ignored`` for 255, ``label 7`` where there is no name for it."""
    return 'ignored' if label == IGNORE_LABEL else names[label] if label < len(names) else f'label {label}'


def draw_legend(labels: Sequence[int], colors: np.ndarray, names: Sequence[str], width: int, size: int = 15,
                notes: Sequence[str] = ()) -> np.ndarray:
    """The colours and names of labels, in as many lines as they need, and sentences below them.

    Args:
        labels: those that occur, in this order; 255 is shown striped.
        colors: N 3 uint8 by label.
        names: by label, background first.
        width: of the strip, pixels; a name that is wider ends in an ellipsis.
        size: of the letters, pixels.
        notes: sentences in grey, broken into lines.

    Returns:
        H width 3 uint8; of no height without labels and notes.
    """
    lines = _lines(labels, names, size, width)
    words = [line for note in notes for line in wrapped(note, size, width)]
    step = round(1.6 * size)
    strip = Image.new('RGB', (width, step * (len(lines) + len(words))), PAPER)
    draw = ImageDraw.Draw(strip)
    for row, line in enumerate(lines):
        for label, name, font, left in line:
            chip = _chip(label, colors, size)
            strip.paste(Image.fromarray(chip), (left, row * step + (step - size) // 2))
            draw.text((left + round(1.4 * size), (row + 0.5) * step), name, fill=INK, font=font, anchor='lm')
    for row, text in enumerate(words, start=len(lines)):
        text, font = written(text, size)
        draw.text((0, (row + 0.5) * step), text, fill=FAINT, font=font, anchor='lm')
    return np.asarray(strip)


def _lines(labels: Sequence[int], names: Sequence[str], size: int, width: int
           ) -> list[list[tuple[int, str, Font, int]]]:
    """Break the legend into lines: (label, name, its font, x) each."""
    lines: list[list[tuple[int, str, Font, int]]] = []
    left = 0
    for label in labels:
        name, font = written(label_name(label, names), size, f'label {label}')
        name = shortened(name, font, width - 1.4 * size)
        needed = round(1.4 * size + font.getlength(name))
        if not lines or left + needed > width:
            lines.append([])
            left = 0
        lines[-1].append((label, name, font, left))
        left += needed + round(1.2 * size)
    return lines


def _chip(label: int, colors: np.ndarray, size: int) -> np.ndarray:
    if label == IGNORE_LABEL:
        chip = np.where(stripes(size, size, max(size // 5 * 2, 2))[..., None], 215, 110).astype(np.uint8).repeat(3, -1)
    else:
        chip = np.broadcast_to(colors[min(label, len(colors) - 1)], (size, size, 3)).copy()
    chip[[0, -1]] = chip[:, [0, -1]] = 90  # pale colours have an end on paper, too
    return chip
