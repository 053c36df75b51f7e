"""Every kind of image is read as people see it, or refused with its name."""
import io
import pickle
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from weclip_sam.io.images import (
    ImageReadError,
    check_labels,
    image_size,
    labels_changed,
    read_image,
    read_labels,
    write_labels,
)


def _gradient(height=6, width=9):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_rgb_png_is_exact(tmp_path):
    Image.fromarray(_gradient()).save(tmp_path / 'a.png')
    image = read_image(tmp_path / 'a.png')
    assert image.mode == 'RGB' and np.array_equal(np.asarray(image), _gradient())
    assert image_size(tmp_path / 'a.png') == (6, 9)


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF', 'PNG', 'WEBP', 'MPO'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, kind):
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[:10, :20] = 255
    # How a camera stores it: undo what the tag asks a viewer to do.
    undo = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
            6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2), 8: np.rot90(upright, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo)).save(tmp_path / 'a.jpg', kind, exif=exif, quality=95)
    image = np.asarray(read_image(tmp_path / 'a.jpg')).astype(int)
    assert image.shape == (20, 40, 3) and np.abs(image - upright).max() < 60
    assert image_size(tmp_path / 'a.jpg') == (20, 40)
    assert read_image(tmp_path / 'a.jpg', max_side=10).size == (10, 5)


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_a_tiff_whose_orientation_is_in_its_xmp_is_turned_once(tmp_path, orientation):
    """Pillow gives its size as stored before decoding, and as seen afterwards; before Pillow 11 it does so for all."""
    stored = np.zeros((40, 20, 3), np.uint8)
    stored[:10] = 255
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/>'
                 '</x:xmpmeta>').encode()
    tags.tagtype[700] = 1
    Image.fromarray(stored).save(tmp_path / 'a.tif', tiffinfo=tags)
    with Image.open(tmp_path / 'a.tif') as image:
        if image.getexif().get(0x0112, 1) != orientation != 1:
            pytest.skip('this Pillow does not look there')
    upright = {1: stored, 3: stored[::-1, ::-1], 6: np.rot90(stored, -1)}[orientation]
    assert np.array_equal(np.asarray(read_image(tmp_path / 'a.tif')), upright)
    assert image_size(tmp_path / 'a.tif') == upright.shape[:2]
    small = read_image(tmp_path / 'a.tif', max_side=20)
    assert small.size == (upright.shape[1] // 2, upright.shape[0] // 2)


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / 'a.png')
    assert np.asarray(read_image(tmp_path / 'a.png'))[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]


def test_thirty_two_bit_and_float_tiff(tmp_path):
    Image.fromarray(np.array([[0, 257 * 7, 65535]], np.int32)).save(tmp_path / 'i.tif')
    assert np.asarray(read_image(tmp_path / 'i.tif'))[0, :, 0].tolist() == [0, 7, 255]
    for top, expected in ((1.0, 255), (200.0, 200), (65535.0, 255)):
        Image.fromarray(np.array([[0, np.nan, top]], np.float32)).save(tmp_path / 'f.tif')
        assert np.asarray(read_image(tmp_path / 'f.tif'))[0, :, 0].tolist() == [0, 0, expected]


def _in_doubles(values, scale):
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(np.rint(finite * scale), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('block', [1, 7, 300, 1 << 20])
def test_blocks_of_rows_give_the_values_of_the_whole(tmp_path, monkeypatch, block):
    monkeypatch.setattr('weclip_sam.io.depth.BLOCK', block)
    every = np.arange(65536, dtype=np.uint16).reshape(64, 1024)
    wide = np.random.default_rng(0).integers(-2 ** 31, 2 ** 31, (9, 50), dtype=np.int64).astype(np.int32)
    cases = [(every, 'png', 255 / 65535), (every.astype('>u2'), 'tif', 255 / 65535), (wide, 'tif', 255 / 65535),
             (wide % 70000, 'tif', 255 / 65535)]
    for top, scale in ((1, 255.0), (255, 1.0), (65535, 255 / 65535)):
        values = np.random.default_rng(1).random((13, 60), np.float32) * top
        values[0, :4], values[-1, -1] = (np.nan, np.inf, -np.inf, -3), top
        cases.append((values, 'tif', scale))
    for values, kind, scale in cases:
        Image.fromarray(values).save(tmp_path / f'a.{kind}')
        found = np.asarray(read_image(tmp_path / f'a.{kind}'))
        assert np.array_equal(found, np.repeat(_in_doubles(values, scale)[..., None], 3, 2)), (values.dtype, scale)


@pytest.mark.slow
def test_the_largest_sixteen_bit_image_needs_little_more_memory_than_one_of_eight(tmp_path):
    for kind in (np.uint8, np.uint16):
        Image.fromarray(np.zeros((4000, 5000), kind)).save(tmp_path / f'{kind.__name__}.png', compress_level=1)
    code = ('import resource; from weclip_sam.io.images import read_image\n'
            'for name in ("uint8", "uint8", "uint16"):\n'
            '    read_image(name + ".png"); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, eight, sixteen = map(int, done.stdout.split())
    assert sixteen < eight + 2 * 40, done.stdout  # MB; the 16 bits of the file alone are 40, as doubles they are 160


@pytest.mark.parametrize('mode', ['L', 'P', '1', 'CMYK', 'YCbCr'])
def test_other_modes_become_rgb(tmp_path, mode):
    name = tmp_path / ('a.jpg' if mode in ('CMYK', 'YCbCr') else 'a.png')
    Image.new('RGB', (16, 8), (255, 255, 255)).convert(mode).save(name)
    image = read_image(name)
    assert image.mode == 'RGB' and image.size == (16, 8) and np.asarray(image).min() > 240


def test_transparency_shows_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    image = np.asarray(read_image(tmp_path / 'a.png'))
    assert image[:2].max() == 0 and image[2:].min() == 255


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:])
    assert np.asarray(read_image(tmp_path / 'a.gif'))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (50, 1), (3, 10_000)])
def test_odd_sizes_work(tmp_path, size):
    Image.new('RGB', size[::-1], (9, 8, 7)).save(tmp_path / 'a.png')
    assert np.asarray(read_image(tmp_path / 'a.png')).shape == (*size, 3)


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif', 'bmp', 'gif'])
def test_truncated_files_are_named(tmp_path, kind):
    path = tmp_path / f'a.{kind}'
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(ImageReadError, match=f'a.{kind}.*not a readable image'):
        read_image(path)


@pytest.mark.parametrize('content', [b'', b'no image', pickle.dumps([1]), b'\x89PNG\r\n\x1a\n', b'GIF89a'])
def test_no_image_is_named(tmp_path, content):
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(ImageReadError, match='a.jpg'):
        read_image(tmp_path / 'a.jpg')


EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n'


@pytest.mark.parametrize('read', [read_image, image_size, read_labels])
def test_a_photo_that_is_a_program_starts_nothing(tmp_path, monkeypatch, read):
    (tmp_path / 'photo.jpg').write_bytes(EPS)
    started = []
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *args, **kwargs: started.append(args))
    with pytest.raises(ImageReadError, match='photo.jpg: not a readable image; expected .*PNG.*: convert or replace'):
        read(tmp_path / 'photo.jpg')
    assert not started


@pytest.mark.parametrize('kind', ['ICO', 'TGA', 'PCX', 'ICNS', 'DDS', 'PDF'])
def test_other_formats_are_refused_whatever_their_name(tmp_path, kind):
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png', kind)
    with pytest.raises(ImageReadError, match='a.png: not a readable image; expected JPEG, PNG, .*PPM'):
        read_image(tmp_path / 'a.png')


@pytest.mark.parametrize('kind', ['JPEG', 'MPO', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'PPM', 'JPEG2000'])
def test_formats_of_photographs_are_read_whatever_their_name(tmp_path, kind):
    more = dict(save_all=True, append_images=[Image.new('RGB', (9, 5))]) if kind == 'MPO' else {}
    Image.new('RGB', (9, 5), 'white').save(tmp_path / 'photo', kind, **more)
    assert read_image(tmp_path / 'photo').getextrema() == ((255, 255),) * 3 and image_size(tmp_path / 'photo') == (5, 9)


@pytest.mark.parametrize('kind', ['TIFF', 'BMP', 'JPEG'])
def test_labels_are_png_alone(tmp_path, kind):
    Image.new('L', (4, 4)).save(tmp_path / 'a.png', kind)
    with pytest.raises(ImageReadError, match=r'a.png: not a readable image; expected PNG \(by content'):
        read_labels(tmp_path / 'a.png')


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ImageReadError, match='gone.jpg: no such file'):
        read_image(tmp_path / 'gone.jpg')


def test_a_path_that_cannot_be_read_is_not_called_a_broken_image(tmp_path):
    for path, told in ((tmp_path, 'Is a directory'), (tmp_path / ('a' * 300), 'File name too long')):
        with pytest.raises(ImageReadError) as caught:
            read_image(path)
        assert str(caught.value) == f'{path}: cannot be read ({told})'


def _png_header(width, height):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(b'\0' * 1000)) + chunk(b'IEND', b''))


@pytest.mark.parametrize('size', [(10_001, 10_000), (60_000, 60_000), (2 ** 31 - 1, 2 ** 31 - 1)])
def test_decompression_bombs_are_refused_before_decoding(tmp_path, size):
    (tmp_path / 'bomb.png').write_bytes(_png_header(*size))
    for read in (read_image, image_size, read_labels):
        with pytest.raises(ImageReadError, match='bomb.png.*max_pixels'):
            read(tmp_path / 'bomb.png')


def test_the_limit_can_be_set(tmp_path):
    Image.new('L', (20, 20)).save(tmp_path / 'a.png')
    with pytest.raises(ImageReadError, match='max_pixels=399'):
        read_image(tmp_path / 'a.png', max_pixels=399)
    assert read_image(tmp_path / 'a.png', max_pixels=400).size == (20, 20)


def test_labels_round_trip_with_the_voc_palette(tmp_path):
    labels = np.array([[0, 1, 15], [20, 255, 2]], np.uint8)
    write_labels(tmp_path / 'deep' / 'a.png', labels)
    assert np.array_equal(read_labels(tmp_path / 'deep' / 'a.png', 20, (2, 3)), labels)
    image = Image.open(tmp_path / 'deep' / 'a.png')
    assert image.mode == 'P'
    colours = np.asarray(image.convert('RGB'))
    assert colours[0].tolist() == [[0, 0, 0], [128, 0, 0], [192, 128, 128]]
    assert colours[1, 1].tolist() == [224, 224, 192]
    assert [p.name for p in (tmp_path / 'deep').iterdir()] == ['a.png']


def test_own_palette_wins(tmp_path):
    write_labels(tmp_path / 'a.png', np.array([[0, 1]]), [(1, 2, 3), (4, 5, 6)])
    assert np.asarray(Image.open(tmp_path / 'a.png').convert('RGB'))[0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize('labels', [np.zeros((2, 2)), np.full((2, 2), 256), np.full((2, 2), -1), np.zeros((0, 2), int),
                                    np.zeros((1, 2, 2), int)])
def test_wrong_arrays_are_not_written(tmp_path, labels):
    with pytest.raises(ValueError, match='a.png'):
        write_labels(tmp_path / 'a.png', labels)
    assert not (tmp_path / 'a.png').exists()


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_labels(tmp_path / 'a.png', np.zeros((2, 2), np.uint8))
    before = (tmp_path / 'a.png').read_bytes()

    def full_disk(self, file, **options):
        file.write(b'half')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(Image.Image, 'save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        write_labels(tmp_path / 'a.png', np.ones((2, 2), np.uint8))
    assert (tmp_path / 'a.png').read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_labels_outside_the_classes_are_named(tmp_path):
    write_labels(tmp_path / 'a.png', np.array([[0, 3, 7, 255]]))
    with pytest.raises(ValueError, match=r'a\.png: label values \[7\].*0 \(background\) to 3 and 255'):
        read_labels(tmp_path / 'a.png', 3)
    with pytest.raises(ValueError, match='labels are 1 x 4.*image is 4 x 1'):
        read_labels(tmp_path / 'a.png', 7, (4, 1))
    check_labels(np.array([[0, 255]], np.uint8), 'x', 1)


def test_colour_labels_are_refused(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    with pytest.raises(ImageReadError, match="palette or grey.*'RGB'"):
        read_labels(tmp_path / 'a.png')
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / 'b.png')
    with pytest.raises(ImageReadError, match='b.png'):
        read_labels(tmp_path / 'b.png')


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_pngs_give_labels_or_a_named_error(tmp_path, data):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4).save(buffer, 'PNG')
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / 'damaged.png'
    path.write_bytes(bytes(content[:data.draw(st.integers(0, len(content)))]))
    try:
        labels = read_labels(path, 3)
    except ValueError as error:
        assert 'damaged.png' in str(error)
    else:
        assert labels.dtype == np.uint8 and labels.ndim == 2


@pytest.mark.parametrize('orientation', [1, 6])
def test_shrinking_keeps_shape_and_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((600, 800, 3), np.uint8)
    stored[:, 400:] = 200
    Image.fromarray(stored).save(tmp_path / 'a.jpg', exif=exif)
    small = np.asarray(read_image(tmp_path / 'a.jpg', max_side=80)).astype(int)
    expected = stored[::10, ::10] if orientation == 1 else np.rot90(stored[::10, ::10], -1)
    assert small.shape == expected.shape and np.abs(small - expected).mean() < 5
    assert np.asarray(read_image(tmp_path / 'a.jpg', max_side=800)).shape[:2] in ((600, 800), (800, 600))


def test_labels_say_whether_they_were_corrected(tmp_path):
    path, labels = tmp_path / 'a.png', np.array([[0, 1], [2, 255]], np.uint8)
    assert not labels_changed(path)  # nothing there
    write_labels(path, labels)
    assert not labels_changed(path) and not labels_changed(path, unsaid=False)
    with Image.open(path) as image:
        image.load()
    text = PngInfo()
    text.add_text('pixels', image.info['pixels'])
    image.putpixel((0, 0), 2)
    image.save(path, pnginfo=text)  # an editor that keeps what it does not know
    assert labels_changed(path) and labels_changed(path, unsaid=False)
    image.save(path)  # and one that drops it
    assert labels_changed(path) and not labels_changed(path, unsaid=False)
    image.convert('RGB').save(path)
    assert labels_changed(path)
    path.write_bytes(path.read_bytes()[:45])
    assert not labels_changed(path)  # nobody can read what it was
