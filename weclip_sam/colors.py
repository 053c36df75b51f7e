"""The colours of labels: one source for overlays, sheets, label PNGs, pages and JSON.

A data set's ``metainfo['palette']`` says which colours its labels have, and goes into every checkpoint; whatever draws
labels takes them from there by :func:`label_colors`. VOC and COCO have VOC's colours, as files of theirs do everywhere;
all other data have those of :func:`class_colors`, which were chosen to be told apart.
"""
from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np

Palette = Sequence[Sequence[int]]

# Chosen by a search for the largest smallest CIEDE2000 distance between any two, in each of four eyes (see
# class_colors), as they are and as an overlay mixes them with grey: first the best eight among vivid colours, then the
# best 26 that begin with these, then 80 that begin with those (chroma at least 55, 36, 28); each in the order that
# keeps every beginning of the list apart.
_CHOSEN = (
    'd20096', '1ef0c3', 'b49600', 'c396ff', 'b4f000', '0f5aff', 'ff7887', '4b7800', 'ffc3ff', 'c3004b',
    '1e8769', 'ffc378', 'c36987', '2db4a5', '8769b4', '87873c', 'a5f0a5', 'ff87c3', '8778ff', '5aa569',
    '0f692d', '96b45a', 'a52dd2', 'c378c3', 'c3c31e', '963c69', '69d2e1', '784b00', '006996', '69875a',
    '4b0fff', '78c3a5', 'a54b5a', 'ff3c5a', 'a5a5e1', 'a5d2a5', '5a96e1', '96693c', 'b47800', 'd287a5',
    '6978d2', 'c34b00', '69fff0', 'd2b4ff', '965a78', 'a50078', '8700c3', '963c2d', 'a578a5', '2d96b4',
    'b4ff78', 'd2c387', '4bc3c3', '87ffc3', '87e1d2', 'd2a53c', '1ea578', 'f0d25a', 'e1a5d2', '694b78',
    'c34b87', 'e19696', 'e1f096', 'b4c35a', 'f04b96', 'ffa5b4', 'd27887', 'e187d2', 'f02dd2', '008796',
    'c38769', '69e196', 'a587ff', 'b4b478', '964b87', 'b4005a', '96784b', '784bb4', '87e1ff', '3c78a5')


def class_colors(count: int) -> np.ndarray:
    """Colours of labels 0..count-1 that can be told apart: black for the background, then vivid ones.

    A colour depends on its label alone, so that one more class changes none. The smallest CIEDE2000 distance between
    any two of the first classes (2 is just seen side by side, 5 at a glance), as people see them and as three kinds of
    colour blindness do by Machado's simulation (2009, severity 1):

    ======= ====== ========== ============ ==========
    classes all    protanopia deuteranopia tritanopia
    ======= ====== ========== ============ ==========
    8       25.6   14.4       14.5         14.5
    26      12.4   7.4        7.3          6.9
    80      6.4    3.7        3.6          3.3
    ======= ====== ========== ============ ==========

    So 26 classes can be named by colour; of 80 the nearest can be told where they touch, but hardly be found in a
    legend, and with colour blindness they cannot: names on the regions are for that. Mixed into a photograph (overlays)
    colours come nearer: 8.5 and, for the colour-blind, 4.5 of 26; 3.8 and 2.2 of 80. From the 81st class on nothing is
    promised but that no two are equal.

    Returns:
        count 3 uint8.
    """
    colors = [(0, 0, 0), *(_rgb(code) for code in _CHOSEN[:max(count - 1, 0)])]
    taken, turn = set(colors), len(_CHOSEN)
    while len(colors) < count:
        # The golden angle never returns to a hue; lightness alternates on top of it.
        turn += 1
        red, green, blue = colorsys.hls_to_rgb(turn * 0.381966 % 1, (0.45, 0.62, 0.74)[turn % 3], 0.75)
        color = (round(255 * red), round(255 * green), round(255 * blue))
        if color not in taken:
            taken.add(color)
            colors.append(color)
    return np.array(colors[:count], dtype=np.uint8).reshape(-1, 3)


def voc_palette(size: int = 256) -> list[tuple[int, int, int]]:
    """The VOC colours: the bits of a label, three at a time, become the high bits of red, green and blue.

    Returns:
        ``size`` RGB triples in 0..255; label 0 is black and 255 a light cream.
    """
    colours = []
    for label in range(size):
        rgb = [0, 0, 0]
        for step in range(8):
            for channel in range(3):
                rgb[channel] |= (label >> (3 * step + channel) & 1) << (7 - step)
        colours.append((rgb[0], rgb[1], rgb[2]))
    return colours


def label_colors(palette: Palette | None, count: int) -> np.ndarray:
    """The colours of labels 0..count-1 of data with this palette: those that its label PNGs have.

    Args:
        palette: RGB triples by label, a data set's ``metainfo['palette']``; labels beyond it, and all where there is
            none, have VOC's colour, as :func:`weclip_sam.io.images.write_labels` writes it.
        count: C+1, background first.

    Returns:
        count 3 uint8.
    """
    given = [tuple(int(value) for value in color) for color in (() if palette is None else palette)]
    return np.array([*given, *voc_palette(max(count, len(given)))[len(given):]][:count], np.uint8).reshape(-1, 3)


def hex_colors(colors: np.ndarray | Iterable[Sequence[int]]) -> list[str]:
    """``#rrggbb`` of N RGB triples in 0..255, as JSON files and pages say colours."""
    return ['#' + ''.join(f'{int(value):02x}' for value in color) for color in colors]


def _rgb(code: str) -> tuple[int, int, int]:
    return int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)
