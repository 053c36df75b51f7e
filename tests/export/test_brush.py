"""Label Studio's brush masks, decoded as the scheme says, bit by bit."""
import numpy as np
import pytest
from export_scene import scenes

from weclip_sam.export.brush import brush_rle


def decode(code):
    """The bytes, by the letter of rle-pack's scheme."""
    bits = ''.join(f'{byte:08b}' for byte in code)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(bits[place - count:place], 2)
    size, word, sizes, out = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)], []
    while len(out) < size:
        series, length = read(1), read(sizes[read(2)]) + 1
        out += [read(word)] * length if series else [read(word) for _ in range(length)]
    assert len(bits) - place < 8 and not bits[place:].strip('0')
    return np.array(out, np.uint8)


MASKS = [*(labels == label for labels in scenes().values() for label in (1, 2)), np.ones((1, 1), bool),
         np.random.default_rng(0).random((9, 11)) < 0.5, np.ones((200, 300), bool), np.arange(70000)[None] > 40000]


@pytest.mark.parametrize('mask', MASKS, ids=lambda mask: 'x'.join(map(str, mask.shape)))
def test_every_pixel_is_there_four_times(mask):
    channels = decode(brush_rle(mask)).reshape(*mask.shape, 4)
    assert np.array_equal(channels, np.repeat(mask[..., None], 4, -1) * np.uint8(255))


@pytest.mark.parametrize('length', [1, 2, 3, 4, 5, 63, 64, 65, 16384, 16385, 32769])
def test_lengths_at_the_limits_of_their_sizes(length):
    mask = np.zeros((1, length + 1), bool)
    mask[0, :length] = True
    assert np.array_equal(decode(brush_rle(mask)), np.repeat(mask[0], 4) * np.uint8(255))
