"""Values of 10 or 12 bits in files of 16 are scaled by the depth that they have, where the file says it."""
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from weclip_sam.io.images import as_rgb, read_image

TWELVE = np.linspace(0, 4095, 20 * 30).astype(np.uint16).reshape(20, 30) | 1
EXPECTED = np.rint(TWELVE / 4095 * 255).astype(np.uint8)


def write_png(path, values, sbit=None):
    """A PNG of 16 bits; values H W or H W bands."""
    height, width = values.shape[:2]
    bands = 1 if values.ndim == 2 else values.shape[2]
    rows = values.astype('>u2').reshape(height, -1)
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, 16, {1: 0, 3: 2, 4: 6}[bands], 0, 0, 0)),
              *([] if sbit is None else [(b'sBIT', bytes([sbit] * bands))]),
              (b'IDAT', zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))), (b'IEND', b'')]
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))
        for name, content in chunks))
    return path


def test_grey_png(tmp_path):
    image = read_image(write_png(tmp_path / 'a.png', TWELVE, sbit=12))
    assert np.array_equal(np.asarray(image)[..., 0], EXPECTED) and 'suspected_bits' not in image.info


def test_png_whose_values_are_stretched_as_the_standard_wants_it(tmp_path):
    stretched = TWELVE << 4 | TWELVE >> 8
    assert np.array_equal(np.asarray(read_image(write_png(tmp_path / 'a.png', stretched, sbit=12)))[..., 0], EXPECTED)
    dark = np.asarray(read_image(write_png(tmp_path / 'b.png', (TWELVE >> 6) << 4, sbit=12)))
    assert dark.max() == round(63 * 16 / 257)


@pytest.mark.parametrize('bands', [3, 4])
def test_colour_png(tmp_path, bands):
    values = np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1], np.full_like(TWELVE, 4095)][:bands], -1)
    image = read_image(write_png(tmp_path / 'a.png', values, sbit=12))
    assert np.array_equal(image, np.stack([EXPECTED, EXPECTED[::-1], EXPECTED[:, ::-1]], -1))
    full = read_image(write_png(tmp_path / 'b.png', values * 16))
    assert np.abs(np.asarray(full).astype(int) - np.asarray(image)).max() <= 1


@pytest.mark.parametrize('tag', [341, 281])
def test_grey_tiff(tmp_path, tag):
    Image.fromarray(TWELVE).save(tmp_path / 'a.tif', tiffinfo={tag: 4095})
    assert np.array_equal(np.asarray(read_image(tmp_path / 'a.tif'))[..., 0], EXPECTED)


def test_a_largest_value_of_a_tiff_that_is_a_statistic_is_no_depth(tmp_path):
    Image.fromarray(TWELVE).save(tmp_path / 'a.tif', tiffinfo={281: 4000})
    image = read_image(tmp_path / 'a.tif')
    assert np.asarray(image).max() == 16 and image.info == dict(suspected_bits=12)


def test_tiff_of_twelve_bits(tmp_path):
    values = TWELVE.reshape(-1, 2).astype(np.uint32)
    packed = (values[:, 0] << 12 | values[:, 1]).astype('>u4').view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    tags = [(256, 4, 30), (257, 4, 20), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1),
            (278, 4, 20), (279, 4, len(packed))]
    head = struct.pack('<2sHIH', b'II', 42, 8, len(tags)) + b''.join(
        struct.pack('<HHII', tag, kind, 1, value) for tag, kind, value in tags) + bytes(4)
    (tmp_path / 'a.tif').write_bytes(head.ljust(122, b'\0') + packed)
    assert np.array_equal(np.asarray(read_image(tmp_path / 'a.tif'))[..., 0], EXPECTED)


@pytest.mark.parametrize('bands, kind', [(1, b'P5'), (3, b'P6')])
def test_pgm_and_ppm_by_their_maxval(tmp_path, bands, kind):
    values = np.repeat(TWELVE[..., None], bands, -1)
    (tmp_path / 'a.pnm').write_bytes(kind + b'\n30 20\n4095\n' + values.astype('>u2').tobytes())
    image = read_image(tmp_path / 'a.pnm')
    assert np.abs(np.asarray(image)[..., 0].astype(int) - EXPECTED).max() <= (bands == 1) and image.info == {}


@pytest.mark.parametrize('bits', [8, 10, 12, 14])
def test_values_that_seem_to_have_fewer_bits_are_told_and_left(tmp_path, bits):
    values = (TWELVE << 4) >> (16 - bits)
    image = read_image(write_png(tmp_path / 'a.png', values))
    assert image.info == dict(suspected_bits=bits) and np.asarray(image).max() <= (1 << bits) / 257 + 1
    colour = read_image(write_png(tmp_path / 'b.png', np.repeat(values[..., None], 3, -1)))
    assert colour.info == dict(suspected_bits=bits)
    assert as_rgb(values).info == dict(suspected_bits=bits)


def test_values_of_sixteen_bits_are_no_suspects(tmp_path):
    for values in (TWELVE << 4, np.zeros_like(TWELVE)):
        assert read_image(write_png(tmp_path / 'a.png', values)).info == {}
    assert read_image(write_png(tmp_path / 'a.png', np.repeat((TWELVE << 4)[..., None], 3, -1))).info == {}
    assert read_image(write_png(tmp_path / 'a.png', TWELVE, sbit=16)).info == {}
