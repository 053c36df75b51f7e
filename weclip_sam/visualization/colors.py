"""Colours that stay apart on photographs."""
from __future__ import annotations

import colorsys

import numpy as np

# Twenty hues of similar strength and alternating lightness, so that neighbours in the list differ most.
_VIVID = ('e6194b', '3cb4e7', 'f5c518', '8e44ff', '2ecc71', 'ff7f27', 'ff5cc8', '00a99d', 'a0d911', '3f51f7',
          '7a0033', '7fd8be', 'b8860b', 'c39bff', '00d5ff', 'ff9e80', '5b8c00', '8d4a2f', 'ffe0b0', '1f8a4c')


def class_colors(count: int) -> np.ndarray:
    """Colours of labels 0..count-1 for looking at: black for the background, then vivid ones.

    Data set palettes (VOC's has five dark reds) are for files; overlays want hues that can be told apart.

    Returns:
        count 3 uint8.
    """
    colors = [(0, 0, 0)]
    for label in range(max(count - 1, 0)):
        if label < len(_VIVID):
            code = int(_VIVID[label], 16)
            colors.append((code >> 16, code >> 8 & 255, code & 255))
        else:
            # The golden angle never returns to a hue; lightness alternates on top of it.
            red, green, blue = colorsys.hls_to_rgb(label * 0.381966 % 1, (0.45, 0.62, 0.74)[label % 3], 0.75)
            colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return np.array(colors[:count], dtype=np.uint8)
