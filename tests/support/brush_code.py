"""An encoder of Label Studio's run lengths (thi.ng's rle-pack), written from its description alone."""
import itertools

import numpy as np

SIZES = (3, 4, 8, 16)


def block(repeated, values, choose):
    """The bits of one block, its count written with the shortest number that holds it, or the longest."""
    count = len(values)
    fitting = [place for place, size in enumerate(SIZES) if count - 1 < 1 << size]
    place = fitting[0 if choose == 'short' else -1]
    shown = values[:1] if repeated else values
    return f'{int(repeated)}{place:02b}{count - 1:0{SIZES[place]}b}' + ''.join(f'{value:08b}' for value in shown)


def encode(values, literal=False, choose='short'):
    """rle-pack of bytes: runs of equal ones, or all of them as they are."""
    values = [int(value) for value in values]
    text = f'{len(values):032b}{7:05b}' + ''.join(f'{size - 1:04b}' for size in SIZES)
    runs = [values] if literal else [list(run) for _, run in itertools.groupby(values)]
    for run in runs:
        for first in range(0, len(run), 1 << 16):
            text += block(not literal, run[first:first + (1 << 16)], choose)
    text += '0' * (-len(text) % 8)
    return [int(text[place:place + 8], 2) for place in range(0, len(text), 8)]


def brush(mask, colour=None):
    """The code of a mask, H W bool, as the converter writes it (all four values alike), or in a colour as the editor
    does."""
    if colour is None:
        return encode(np.repeat(mask.astype(np.uint8).ravel() * 255, 4))
    return encode((mask[..., None] * np.array([*colour, 255])).ravel())
