"""SAM's features on disk: an image's own or none, in float16, without a pickle."""
import json

import numpy as np
import pytest
import torch

from weclip_sam.datasets.frame import Frame
from weclip_sam.io.identity import FileIdentity, identify
from weclip_sam.mask_bank import FeatureBank, FeatureMap, feature_folder
from weclip_sam.registry import TRANSFORMS

FOUND = FeatureMap(torch.arange(24).view(2, 3, 4).half(), (16, 20), (2.0, 2.5))
ABOUT = dict(fingerprint='sam', dataset='photos', block=5, pool=1)
PHOTO = FileIdentity(7, 11, 'abc')


def test_what_is_put_is_what_is_read(tmp_path):
    root = feature_folder(tmp_path)
    with FeatureBank(root, **ABOUT) as bank:
        assert bank.get('a/é') is None and 'a/é' not in bank and bank.made_of('a/é') is None
        bank.put('a/é', FOUND, PHOTO, 512)
        bank.put('b', FOUND)
        with pytest.raises(ValueError, match='expected float16'):
            bank.put('c', FeatureMap(FOUND.tokens.float(), FOUND.size, FOUND.extent))
    again = FeatureBank(root, mode='r')
    assert 'a/e\u0301' in again and 'c' not in again and again.header['block'] == 5  # a name in its other form
    found = again.get('a/é', (16, 20))
    assert torch.equal(found.tokens, FOUND.tokens) and (found.size, found.extent) == (FOUND.size, FOUND.extent)
    made_of = again.made_of('a/é')
    assert (made_of.size, made_of.photos, made_of.max_sides) == ((16, 20), (PHOTO,), (512,))
    assert again.made_of('b').photos == ()
    with pytest.raises(ValueError, match=r"features of 'a/é' are of an image of \(16, 20\), the image is \(9, 20\)"):
        again.get('a/é', (9, 20))
    with pytest.raises(ValueError, match="mode 'r'"):
        again.put('c', FOUND)


def test_a_new_photo_takes_the_place_of_the_old_one_and_a_touched_one_does_not(tmp_path):
    bank, other = FeatureBank(tmp_path, **ABOUT), FileIdentity(7, 13, 'def')
    bank.put('a', FOUND, PHOTO)
    bank.note('a', PHOTO._replace(time=12), None)
    assert FeatureBank(tmp_path).made_of('a').photos == bank.made_of('a').photos == (PHOTO, PHOTO._replace(time=12))
    bank.put('a', FOUND, other)
    assert FeatureBank(tmp_path).made_of('a').photos == bank.made_of('a').photos == (other,)


def test_banks_of_others_and_damaged_files_are_told(tmp_path):
    bank = FeatureBank(tmp_path, image_folder='/photos', **ABOUT)
    bank.put('a', FOUND)
    for change, message in ((dict(fingerprint='other'), "made for generator 'sam', but 'other'"),
                            (dict(fingerprint='sam bf16'), 'holds features made in fp32, but bf16'),
                            (dict(dataset='coco'), "for dataset 'photos'"),
                            (dict(image_folder='/elsewhere'), 'made for images in /photos')):
        with pytest.raises(ValueError, match=message):
            FeatureBank(tmp_path, **{**ABOUT, **change})
    assert 'images in /photos' in FeatureBank(tmp_path, image_folder='/elsewhere', moved=True).elsewhere
    with pytest.raises(FileNotFoundError, match='no feature bank in .*make_masks.py --features'):
        FeatureBank(tmp_path / 'none', mode='r')
    path = next(tmp_path.rglob('*.safetensors'))
    whole = path.read_bytes()
    for damaged in (whole[:-3], b'', b'{"a": 1}', whole.replace(b'extent', b'extend')):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"feature bank {path}: the features of 'a' are damaged"):
            bank.get('a')
        assert bank.made_of('a') is None or damaged[-8:] == whole[-8:]
    header = json.loads((tmp_path / 'features.json').read_text())
    (tmp_path / 'features.json').write_text(json.dumps({**header, 'block': 'last'}))
    with pytest.raises(ValueError, match='not the header of a feature bank'):
        FeatureBank(tmp_path)
    (tmp_path / 'features.json').unlink()
    with pytest.raises(ValueError, match='holds features. The header says whose'):
        FeatureBank(tmp_path, **ABOUT)


# In the frame of a crop ----------------------------------------------------------------------------------------------

def ramp(rows, columns, extent, size):
    """Tokens whose values are the place, in pixels of the image, of their middle."""
    down, across = ((torch.arange(count) + 0.5) * side / reach
                    for count, side, reach in zip((rows, columns), size, extent, strict=True))
    return torch.stack([down[:, None].expand(rows, columns), across.expand(rows, columns)], 2)


FRAMES = {
    'whole': lambda frame: frame, 'flipped': lambda frame: frame.flip(),
    'larger': lambda frame: frame.resize(120, 176), 'smaller': lambda frame: frame.resize(30, 44),
    'cropped': lambda frame: frame.crop(10, 20, 32, 48),
    'all': lambda frame: frame.resize(90, 132).flip().crop(7, 30, 64, 64).pad(16, 0, 0, 32)}


@pytest.mark.parametrize('name', FRAMES)
def test_tokens_follow_scale_crop_flip_and_padding(name):
    """A cell's value is the mean place of its pixels, wherever that is not nearer to the edge than half a token."""
    size, extent = (60, 88), (7.5, 11.0)
    frame = FRAMES[name](Frame.whole(*size))
    found = frame.take_tokens(ramp(8, 11, extent, size), extent, 8)
    assert found.shape == (-(-frame.size[0] // 8), -(-frame.size[1] // 8), 2)
    compared = 0
    for axis, index in ((0, frame.rows), (1, frame.cols)):
        for cell in range(found.shape[axis]):
            pixels = index[8 * cell:8 * (cell + 1)]
            pixels = pixels[pixels >= 0]
            line = found.select(axis, cell)[:, axis]
            if not len(pixels):
                assert not found.select(axis, cell).any()  # padding
            elif pixels.min() >= 4 and pixels.max() < size[axis] - 4:
                values = line[line != 0]
                torch.testing.assert_close(values, torch.full_like(values, pixels.mean() + 0.5), atol=1e-3, rtol=0)
                compared += len(values) > 0
    assert compared >= 4
    assert frame.take_tokens(FOUND.tokens, FOUND.extent, 16).dtype == torch.float16


def test_a_frame_without_a_pixel_has_no_tokens():
    frame = Frame(np.full(20, -1), np.full(24, -1), (60, 88))
    assert not frame.take_tokens(torch.ones(8, 11, 3), (7.5, 11.0), 8).any()
    one = Frame.whole(5, 5).take_tokens(torch.ones(1, 1, 3), (1.0, 1.0), 2)
    assert torch.equal(one, torch.ones(3, 3, 3))


def test_loading_says_what_is_missing_and_checks_the_photo(tmp_path, write_image):
    photo, other = write_image(tmp_path / 'a.png'), write_image(tmp_path / 'b.png', seed=1)
    with FeatureBank(tmp_path / 'bank', image_folder='/before', **ABOUT) as bank:
        bank.put('a', FOUND, identify(photo))

    def load(path=photo, image_id='a', **settings):
        step = TRANSFORMS.build(dict(type='LoadFeatures', image_folder=str(tmp_path)) |
                                dict(bank=str(tmp_path / 'bank')) | settings)
        return step(dict(image_id=image_id, image_path=str(path), ori_shape=(16, 20)))['features']
    _, block, found = load()  # the folder was renamed, the photo is the same
    assert block == 5 and torch.equal(found.tokens, FOUND.tokens)
    with pytest.raises(ValueError, match='made for images in /before'):
        load(other)
    with pytest.raises(ValueError, match='made for images in /before'):
        load(image_id='b')
    bank.header['image_folder'] = str(tmp_path)
    (tmp_path / 'bank' / 'features.json').write_text(json.dumps(bank.header))
    with pytest.raises(ValueError, match="no features of image 'b'; run tools/make_masks.py --features"):
        load(image_id='b')
    assert load(image_id='b', missing='none') is None and load(bank=str(tmp_path / 'none'), missing='none') is None
    for wrong in (dict(missing='live'), dict(stride=0), dict(pool=0)):
        with pytest.raises(ValueError, match=f'LoadFeatures.{next(iter(wrong))}'):
            load(**wrong)
