"""The pictures of the page, pixel by pixel."""
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from weclip_sam.review.layers import (
    HATCHES,
    confidence_layer,
    doubt_layers,
    label_layer,
    photo_layer,
    shown_size,
)

PALETTE = [(0, 0, 0), (200, 30, 30), (30, 200, 30)]


def decoded(content):
    return np.asarray(Image.open(BytesIO(content)).convert('RGBA'))


@pytest.mark.parametrize('size, shown', [((480, 640), (96, 128)), ((24, 32), (96, 128)), ((1, 4000), (1, 128)),
                                         ((64, 64), (128, 128))])
def test_the_long_side_is_given(size, shown):
    assert shown_size(size, 128) == shown


def test_labels_have_their_colours_the_background_none():
    labels = np.zeros((32, 64), np.uint8)
    labels[:, 16:32], labels[:, 32:48], labels[:, 48:] = 1, 2, 255
    picture = decoded(label_layer(labels, PALETTE, 64))
    assert picture.shape == (32, 64, 4)
    assert picture[10, 5, 3] == 0
    assert tuple(picture[10, 24]) == (200, 30, 30, 255) and tuple(picture[10, 40]) == (30, 200, 30, 255)
    assert picture[10, 16, 1] > 100 and picture[10, 16, 3] == 255  # the outline is a lighter red
    ignored = picture[4:28, 52:62]
    assert {tuple(pixel) for pixel in ignored.reshape(-1, 4).tolist()} == {(235, 235, 235, 255), (60, 60, 60, 150)}


def test_a_label_beyond_the_palette_is_drawn_all_the_same():
    assert decoded(label_layer(np.full((8, 8), 7, np.uint8), PALETTE, 8))[4, 4, 3] == 255


def test_the_darker_the_less_sure():
    sure = np.zeros((32, 64), np.float32)
    sure[:, 22:42], sure[:, 42:] = 0.5, 1.0
    strength = decoded(confidence_layer(sure, 128))[16, :, 3].astype(int)
    assert strength[2] == 235 and 80 < strength[32] < 150 and strength[-2] == 0


def test_each_who_disagrees_has_a_hatch_of_its_own_where_it_does():
    left, above = np.zeros((2, 64, 64), bool)
    left[:, :32] = above[:32] = True
    doubts = dict(cam=left, sam=np.zeros((64, 64), bool), decoder=above)
    layers = doubt_layers(doubts, 64)
    assert list(layers) == ['cam', 'decoder']
    cam, decoder = decoded(layers['cam']), decoded(layers['decoder'])
    assert not cam[:, 32:, 3].any() and not decoder[32:, :, 3].any()
    assert 0.1 < (cam[:, :32, :3] == HATCHES['cam']).all(-1).mean() < 0.35
    assert (np.diff(decoder[:32, :, 3].astype(int), axis=1) == 0).all()  # lines across
    assert not (cam[:, :32] == np.roll(cam[:, :32], 1, axis=1)).all()


def test_photos_are_small_jpegs(tmp_path):
    Image.new('RGB', (900, 300), (10, 200, 90)).save(tmp_path / 'a.png')
    picture = Image.open(BytesIO(photo_layer(tmp_path / 'a.png', 90)))
    assert picture.format == 'JPEG' and picture.size == (90, 30)
    assert np.abs(np.asarray(picture)[15, 40].astype(int) - (10, 200, 90)).max() < 6
