"""What is wrong with a file's metadata never keeps its pixels from being read, and the way up is kept."""
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from weclip_sam.io.images import image_size, read_image, read_labels
from weclip_sam.io.metadata import orientation, pixels_only

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
ODD = {  # entries of an IFD: tag, type, count, value
    'byte where a short is meant': (0x0128, 1, 1, 2), 'ImageWidth as text': (0x0100, 2, 4, 0x41414141),
    'negative rational over zero': (0x011A, 10, 1, 50), 'GPS as a value': (0x8825, 7, 4, 0x01020304),
    'SubIFDs as rational': (0x014A, 5, 1, 50), 'Exif as text': (0x8769, 2, 3, 0x00414141)}


def exif(*entries, order='<'):
    """An EXIF block; from byte 50 on stand numbers that are neither offsets nor sizes."""
    head = struct.pack(f'{order}2sHIH', b'II' if order == '<' else b'MM', 42, 8, len(entries))
    block = head + b''.join(struct.pack(f'{order}HHII' if kind != 3 else f'{order}HHIHxx', tag, kind, count, value)
                            for tag, kind, count, value in entries) + bytes(4)
    return b'Exif\0\0' + block.ljust(50, b'\0') + struct.pack('<iiII', -1, 0, 7, 0)


def jpeg(path, block):
    Image.fromarray(PIXELS).save(path, 'JPEG', exif=block)
    return path


def png_chunk(name, content):
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))


def add_chunks(content, *chunks):
    """Put chunks behind the first one of a PNG."""
    return content[:33] + b''.join(chunks) + content[33:]


def png(image):
    file = BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


@pytest.mark.parametrize('kind', ODD)
@pytest.mark.parametrize('order', '<>')
def test_odd_tags_are_left_out_and_the_orientation_is_kept(tmp_path, kind, order):
    plain = read_image(jpeg(tmp_path / 'plain.jpg', exif((0x0112, 3, 1, 6))))
    path = jpeg(tmp_path / 'odd.jpg', exif((0x0112, 3, 1, 6), ODD[kind], order=order))
    assert image_size(path) == (9, 6) and np.array_equal(read_image(path), plain)


@pytest.mark.parametrize('entry', [(0x0112, 1, 1, 6), (0x0112, 4, 1, 6), (0x0112, 3, 2, 6)])
def test_an_orientation_of_another_type_counts(tmp_path, entry):
    path = jpeg(tmp_path / 'a.jpg', exif(entry))
    assert image_size(path) == (9, 6) and read_image(path).size == (6, 9)


@pytest.mark.parametrize('value', [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(tmp_path, value):
    assert read_image(jpeg(tmp_path / 'a.jpg', exif((0x0112, 3, 1, value)))).size == (9, 6)


def test_where_pillow_fails_the_one_tag_is_read_alone(monkeypatch):
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, 'JPEG', exif=exif((0x0110, 2, 4, 0), (0x0112, 3, 1, 8), order='>'))
    image = Image.open(file)

    def fail(self):
        raise KeyError('odd')
    monkeypatch.setattr(Image.Image, 'getexif', fail)
    assert orientation(image) == 8
    image.info['exif'] = b'Exif\0\0nonsense'
    assert orientation(image) == 1


def test_what_is_read_says_nothing_of_its_orientation_any_more(tmp_path):
    assert read_image(jpeg(tmp_path / 'a.jpg', exif((0x0112, 3, 1, 6)))).info == {}


@pytest.mark.parametrize('chunks', [
    [png_chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(3 << 20)))],
    [png_chunk(b'iCCP', b'profile\0\0' + zlib.compress(bytes(3 << 20)))],
    [png_chunk(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(bytes(3 << 20)))],
    [png_chunk(b'tEXt', b'Comment\0' + b'a' * (1 << 20))] * 70,
    [png_chunk(b'tEXt', b'Comment\0abc')[:-1] + b'?'], [png_chunk(b'pHYs', b'\0')], [png_chunk(b'gAMA', b'')],
], ids=['packed text', 'profile', 'packed XMP', 'much text', 'damaged text', 'short pHYs', 'empty gAMA'])
def test_pngs_are_read_whatever_their_other_chunks_hold(tmp_path, chunks):
    turned = png_chunk(b'eXIf', exif((0x0112, 3, 1, 6))[6:])
    (tmp_path / 'a.png').write_bytes(add_chunks(png(Image.fromarray(PIXELS)), turned, *chunks))
    assert image_size(tmp_path / 'a.png') == (9, 6)
    assert np.array_equal(read_image(tmp_path / 'a.png'), np.rot90(PIXELS, -1))
    labels = Image.fromarray(PIXELS[..., 0] % 4)
    (tmp_path / 'labels.png').write_bytes(add_chunks(png(labels), *chunks))
    assert np.array_equal(read_labels(tmp_path / 'labels.png'), labels)


def test_text_behind_the_pixels_is_no_obstacle_either(tmp_path):
    content, text = png(Image.fromarray(PIXELS)), png_chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(3 << 20)))
    (tmp_path / 'a.png').write_bytes(content[:-12] + text + content[-12:])
    assert np.array_equal(read_image(tmp_path / 'a.png'), PIXELS)


def test_an_odd_tag_of_a_tiff_is_left_out(tmp_path):
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, 'TIFF', description='text', tiffinfo={0x0112: 6})
    content = bytearray(file.getvalue())
    start, = struct.unpack_from('<I', content, 4)
    places = range(start + 2, start + 2 + 12 * struct.unpack_from('<H', content, start)[0], 12)
    place, = (each for each in places if struct.unpack_from('<H', content, each)[0] == 270)
    struct.pack_into('<HII', content, place + 2, 13, 0x7FFFFFFF, 0x7FFFFFFF)
    (tmp_path / 'a.tif').write_bytes(content)
    assert np.array_equal(read_image(tmp_path / 'a.tif'), np.rot90(PIXELS, -1))
    bare = Image.open(pixels_only(BytesIO(content)))
    assert 270 not in bare.tag_v2 and bare.tag_v2[0x0112] == 6


def test_jpeg_without_metadata_keeps_colours_and_orientation():
    file = BytesIO()
    Image.fromarray(PIXELS).convert('CMYK').save(file, 'JPEG', exif=exif((0x0112, 3, 1, 3)), comment=b'text')
    bare, whole = Image.open(pixels_only(file)), Image.open(file)
    assert bare.mode == 'CMYK' and np.array_equal(bare, whole) and orientation(bare) == 3
    assert 'comment' in whole.info and 'comment' not in bare.info


@pytest.mark.parametrize('content', [b'', b'\xff\xd8', b'\xff\xd8\xff\xe1\0', b'II*\0\xff\xff\xff\xff', b'GIF89a  ',
                                     b'\x89PNG\r\n\x1a\n\0\0', b'II*\0\x08\0\0\0\xff\xff'])
def test_what_holds_no_picture_gets_none(content):
    bare = pixels_only(BytesIO(content))
    assert bare is None or len(bare.getvalue()) <= 8


def test_png_info_of_usual_size_is_read_at_once(tmp_path, monkeypatch):
    info = PngInfo()
    info.add_text('Comment', 'text')
    Image.fromarray(PIXELS).save(tmp_path / 'a.png', pnginfo=info)
    monkeypatch.setattr('weclip_sam.io.image_files.pixels_only', lambda file: pytest.fail('not needed'))
    assert np.array_equal(read_image(tmp_path / 'a.png'), PIXELS)
