"""The bank gives back what was put, survives kills and corruption, and refuses the masks of other data."""
import contextlib
import dataclasses
import json
import os
import pickle
import shutil
import warnings
import zlib

import child_processes
import fill_bank
import numpy as np
import pytest
import torch
from fill_bank import some_masks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weclip_sam.bits import pack_bits
from weclip_sam.io import rle
from weclip_sam.io.identity import FileIdentity, identify
from weclip_sam.io.rle import decode_bits, decode_masks, encode_masks, run_lengths
from weclip_sam.mask_bank import MadeOf, MaskBank, masks_of_photo
from weclip_sam.mask_bank import bank as bank_module
from weclip_sam.structures import MaskSet


def assert_same(one, two):
    for name in ('masks', 'level', 'predicted_iou', 'stability', 'sample_index'):
        a, b = getattr(one, name), getattr(two, name)
        assert a.dtype == b.dtype and torch.equal(a, b), name


def shard_of(root):
    shards = sorted(root.glob('shard-*.masks'))
    assert len(shards) == 1
    return shards[0]


@pytest.mark.parametrize('count', [0, 1, 5])
def test_round_trip_is_exact(tmp_path, count):
    bank = MaskBank(tmp_path / 'bank', 'generator', 'shapes')
    masks = some_masks(count, count)
    bank.put('2007_000027', masks)
    assert_same(bank.get('2007_000027'), masks)
    again = MaskBank(tmp_path / 'bank', 'generator', 'shapes', mode='r')
    assert_same(again.get('2007_000027', size=(9, 7)), masks)
    assert '2007_000027' in again and len(again) == 1 and again.get('other') is None


def test_ids_are_sorted_and_unusual_ids_work(tmp_path):
    bank = MaskBank(tmp_path)
    names = ['b', 'a/é x', 'line\nbreak', '"quoted"', 'c' * 300]
    for i, name in enumerate(names):
        bank.put(name, some_masks(i))
    again = MaskBank(tmp_path, mode='r')
    assert again.ids() == sorted(names)
    for i, name in enumerate(names):
        assert_same(again.get(name), some_masks(i))


def test_putting_twice_keeps_the_first(tmp_path):
    bank = MaskBank(tmp_path)
    bank.put('a', some_masks(0))
    bank.put('a', some_masks(1))
    assert_same(MaskBank(tmp_path).get('a'), some_masks(0))


@pytest.mark.parametrize('kind, kwargs', [('generator', dict(fingerprint='other')), ('dataset', dict(dataset='other'))])
def test_bank_of_others_is_refused(tmp_path, kind, kwargs):
    MaskBank(tmp_path, 'g1', 'voc')
    MaskBank(tmp_path)  # not asked, not checked
    words = rf"bank\.json: this bank was made for {kind} '(g1|voc)', but 'other'.*one data set"
    with pytest.raises(ValueError, match=words):
        MaskBank(tmp_path, **kwargs)


def test_bank_for_any_generator_is_refused_to_one_in_whatever_precision(tmp_path):
    MaskBank(tmp_path)
    for fingerprint in ('g1', 'g1 bf16'):
        with pytest.raises(ValueError, match=f"made for generator None, but '{fingerprint}' was asked for"):
            MaskBank(tmp_path, fingerprint)


def test_bank_of_other_images_with_the_same_names_is_refused(tmp_path):
    MaskBank(tmp_path / 'bank', 'g', 'folder', image_folder='/a/images')
    MaskBank(tmp_path / 'bank', 'g', 'folder', image_folder='/a/images')
    MaskBank(tmp_path / 'bank', mode='r')  # not asked, not checked
    words = r"bank\.json: .*images in /a/images, but the images are in /b/images.*another folder.*mask_bank.*moved"
    for mode in 'ra':
        with pytest.raises(ValueError, match=words):
            MaskBank(tmp_path / 'bank', 'g', 'folder', mode, image_folder='/b/images')
    header = tmp_path / 'bank' / 'bank.json'
    header.write_text(header.read_text().replace('/a/images', '/b/images'))  # as the error says
    MaskBank(tmp_path / 'bank', 'g', 'folder', image_folder='/b/images')
    MaskBank(tmp_path / 'any', 'g')
    text = (tmp_path / 'any' / 'bank.json').read_text()
    MaskBank(tmp_path / 'any', image_folder='/b/images')
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'bank.json').write_text(text.replace(',\n  "image_folder": null', ''))  # of before it was kept
    MaskBank(tmp_path / 'old', 'g')
    with pytest.raises(ValueError, match='no known place'):
        MaskBank(tmp_path / 'old', image_folder='/b/images')


def test_other_size_is_refused(tmp_path):
    bank = MaskBank(tmp_path)
    bank.put('a', some_masks())
    with pytest.raises(ValueError, match=r"shard-.*'a' are \(9, 7\), the image is \(7, 9\)"):
        bank.get('a', size=(7, 9))


def test_bad_use(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no mask bank in .*make_masks'):
        MaskBank(tmp_path / 'none', mode='r')
    assert not (tmp_path / 'none').exists()
    bank = MaskBank(tmp_path)
    with pytest.raises(ValueError, match='non-empty string'):
        bank.put(7, some_masks())
    with pytest.raises(ValueError, match='several images'):
        bank.put('a', MaskSet.stack([some_masks(), some_masks()]))
    with pytest.raises(ValueError, match=r"masks of 'a': expected levels 0 .*, got \[3\]"):
        bank.put('a', dataclasses.replace(some_masks(), level=torch.full_like(some_masks().level, 3)))
    assert len(bank) == 0
    with pytest.raises(ValueError, match="mode 'r'"):
        MaskBank(tmp_path, mode='r').put('a', some_masks())
    with pytest.raises(ValueError, match="mode must be 'r'"):
        MaskBank(tmp_path, mode='w')


@pytest.mark.parametrize('text, words', [('{', 'damaged'), ('[]', 'not the header'),
                                         ('{"format": "x"}', 'not the header')])
def test_damaged_header(tmp_path, text, words):
    MaskBank(tmp_path, 'g')
    (tmp_path / 'bank.json').write_text(text)
    with pytest.raises(ValueError, match=rf'bank\.json.*{words}'):
        MaskBank(tmp_path)


def test_missing_header_is_not_invented(tmp_path):
    MaskBank(tmp_path, 'g').put('a', some_masks())
    (tmp_path / 'bank.json').unlink()
    with pytest.raises(ValueError, match='masks. The header says whose'):
        MaskBank(tmp_path, 'h')


def test_masks_of_small_images_are_decoded_once(tmp_path, monkeypatch):
    some = some_masks()
    monkeypatch.setattr(bank_module, 'KEPT_BYTES', some.packed().held.numel() + 1)
    bank = MaskBank(tmp_path)
    bank.put('a', some)
    bank.put('b', some)
    assert bank.get('a').packed() is bank.get('a') and bank.get('b') is not bank.get('b'), 'there is room for one'
    bank.put('a', some_masks(4), replace=True)
    assert_same(bank.get('a'), some_masks(4))
    assert pickle.loads(pickle.dumps(bank)).get('a') is not bank.get('a')


def test_torn_tail_is_ignored_at_every_byte(tmp_path):
    bank = MaskBank(tmp_path)
    for i in range(3):
        bank.put(f'i{i}', some_masks(i, 2, 4, 4))
    shard = shard_of(tmp_path)
    whole = shard.read_bytes()
    begin = whole.rstrip(b'\n').rindex(b'\n') + 1
    for cut in range(begin, len(whole)):
        shard.write_bytes(whole[:cut])
        again = MaskBank(tmp_path)
        assert again.ids() == ['i0', 'i1']
        assert again.get('i2') is None
    again.put('i2', some_masks(2, 2, 4, 4))
    assert shard.read_bytes() == whole[:-1]  # a new process never appends to a torn shard
    final = MaskBank(tmp_path, mode='r')
    for i in range(3):
        assert_same(final.get(f'i{i}'), some_masks(i, 2, 4, 4))


@pytest.mark.parametrize('index', [b'', b'garbage\n', b'["i0", 0, 5]\n', b'["i0", 3, 99]\n', b'[',
                                   b'["i0", 0, 99999]\n'])
def test_index_is_only_a_convenience(tmp_path, index):
    bank = MaskBank(tmp_path)
    for i in range(3):
        bank.put(f'i{i}', some_masks(i))
    shard_of(tmp_path).with_suffix('.index').write_bytes(index)
    with pytest.warns() if b', 5]' in index else _silence():
        again = MaskBank(tmp_path)
        found = [again.get(f'i{i}') for i in range(3)]
    for i in range(1 if b', 5]' in index else 0, 3):
        assert_same(found[i], some_masks(i))


def _silence():
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter('error')
    return stack


def test_damaged_record_counts_as_missing_and_can_be_replaced(tmp_path):
    bank = MaskBank(tmp_path)
    for i in range(3):
        bank.put(f'i{i}', some_masks(i))
    shard = shard_of(tmp_path)
    lines = shard.read_bytes().split(b'\n')
    lines[1] = lines[1].replace(b'"level":[', b'"level":{', 1)
    shard.write_bytes(b'\n'.join(lines))
    again = MaskBank(tmp_path)
    with pytest.warns(UserWarning, match=r"shard-.*\.masks: the record of 'i1' at byte \d+ is damaged"):
        assert again.get('i1') is None
    again.put('i1', some_masks(1))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # whether the damaged shard is asked first depends on its random name
        assert_same(MaskBank(tmp_path).get('i1'), some_masks(1))
    assert_same(again.get('i2'), some_masks(2))


def test_a_shard_that_is_gone_counts_as_damaged(tmp_path):
    MaskBank(tmp_path).put('a', some_masks())
    bank = MaskBank(tmp_path, mode='r')
    shard_of(tmp_path).unlink()
    assert bank.made_of('a') is None and bank.origin('a') is None
    with pytest.warns(UserWarning, match="the record of 'a' at byte 0 is damaged and counts as missing"):
        assert bank.get('a') is None


def test_readers_see_what_others_add(tmp_path):
    writer, reader = MaskBank(tmp_path), MaskBank(tmp_path, mode='r')
    writer.put('a', some_masks(0))
    assert len(reader) == 0
    assert_same(reader.get('a'), some_masks(0))
    with open(shard_of(tmp_path), 'ab') as file:  # half a line: being written
        file.write(b'12345678 {"id":')
    reader.refresh()
    assert reader.ids() == ['a']


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    """The folder of two banks that forks filled, see ``support/fill_bank.py``."""
    folder = tmp_path_factory.mktemp('filled')
    child_processes.run([fill_bank.__file__, folder])
    return folder


def test_several_processes_fill_one_bank(filled):
    bank = MaskBank(filled / 'together', 'g', 'd', mode='r')
    assert bank.ids() == sorted(str(number) for number in range(fill_bank.TOGETHER))
    assert len(list((filled / 'together').glob('shard-*.masks'))) == 3
    for name in bank.ids():
        assert_same(bank.get(name), some_masks(int(name)))


def test_forked_and_pickled_banks_write_their_own_shard(tmp_path, monkeypatch):
    bank = MaskBank(tmp_path)
    bank.put('0', some_masks(0))
    inherited = object.__new__(MaskBank)  # as a forked process has it, open shard and all
    inherited.__dict__.update(bank.__dict__, _places=dict(bank._places), _read_to=dict(bank._read_to))
    with monkeypatch.context() as forked:
        forked.setattr(os, 'getpid', lambda: -1)
        inherited.put('1', some_masks(1))
    inherited.close()
    pickle.loads(pickle.dumps(bank)).put('2', some_masks(2))
    bank.put('3', some_masks(3))
    assert len(list(tmp_path.glob('shard-*.masks'))) == 3
    bank.close()
    again = MaskBank(tmp_path, mode='r')
    for i in range(4):
        assert_same(again.get(str(i)), some_masks(i))


def test_kill_loses_nothing_that_was_put(filled):
    names = [str(number) for number in range(fill_bank.KILLED)]
    bank = MaskBank(filled / 'killed', 'g', 'd')
    done = len(bank)
    assert 3 <= done < len(names) and bank.ids() == sorted(names[:done])  # in order, without a gap
    for name in names[:done:7]:
        assert_same(bank.get(name), some_masks(int(name)))


def test_full_disk_leaves_earlier_masks_intact(tmp_path):
    bank = MaskBank(tmp_path)
    bank.put('a', some_masks(0))
    real = bank._writer._shard

    class Full:
        fileno, truncate, seek, close = real.fileno, real.truncate, real.seek, real.close

        def write(self, data):
            real.write(data[:11])
            raise OSError(28, 'No space left on device')

    bank._writer._shard = Full()
    with pytest.raises(OSError, match="cannot add 'b'.*No space left.*intact") as caught:
        bank.put('b', some_masks(1))
    assert caught.value.filename == str(bank._writer.path)
    bank._writer._shard = real
    bank.put('c', some_masks(2))
    again = MaskBank(tmp_path)
    assert again.ids() == ['a', 'c']
    assert_same(again.get('c'), some_masks(2))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10 ** 6), new=st.binary(min_size=1, max_size=12), in_index=st.booleans())
def test_random_corruption_never_gives_wrong_masks(tmp_path_factory, where, new, in_index):
    root = tmp_path_factory.mktemp('bank')
    bank = MaskBank(root)
    for i in range(4):
        bank.put(f'i{i}', some_masks(i))
    path = shard_of(root).with_suffix('.index') if in_index else shard_of(root)
    data = bytearray(path.read_bytes())
    where %= len(data)
    data[where:where + len(new)] = new
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = MaskBank(root)
        intact = 0
        for i in range(4):
            found = again.get(f'i{i}')
            if found is not None:
                assert_same(found, some_masks(i))
                intact += 1
    # At most the records that the bytes touch are lost, and none that only the index lost.
    assert intact >= 2


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2 ** 32 - 1), height=st.integers(1, 40), width=st.integers(1, 40), density=st.floats(0, 1))
def test_rle_round_trip(seed, height, width, density):
    masks = torch.from_numpy(np.random.default_rng(seed).random((2, height, width)) < density)
    codes = encode_masks(masks)  # written by pycocotools, read by us
    assert torch.equal(decode_masks(codes, height, width), masks)


def test_rle_codes_of_many_masks_are_read_together(monkeypatch):
    generator = np.random.default_rng(0)
    masks = torch.from_numpy(np.stack([generator.random((13, 19)) < density for density in np.linspace(0, 1, 9)]))
    masks[3, :, :5], masks[4, :, -5:] = True, True
    codes = encode_masks(masks)
    codes[2] = run_lengths(codes[2]).tolist()
    for pixels in (1, 600, 10 ** 6):
        monkeypatch.setattr(rle, 'PIXEL_BLOCK', pixels)
        assert torch.equal(decode_bits(codes, 13, 19), pack_bits(masks))
    assert decode_masks([[0, 0, 4, 0, 0, 2]], 2, 3).tolist() == [[[False, False, True]] * 2]
    with pytest.raises(ValueError, match='does not describe 13 x 19'):
        decode_bits([*codes, [13 * 19 - 1]], 13, 19)


def test_rle_by_hand():
    # Column by column: 2 background, 3 foreground, 1 background; small numbers are the characters from '0'.
    assert encode_masks(torch.tensor([[[0, 1, 1], [0, 1, 0]]]).bool()) == ['231']
    assert run_lengths('231').tolist() == [2, 3, 1]
    assert run_lengths('0P4').tolist() == [0, 128]  # 128 = 0 + 4 * 32


@settings(max_examples=200, deadline=None)
@given(code=st.text(st.characters(min_codepoint=40, max_codepoint=130), max_size=30))
def test_hostile_rle_is_an_error_not_a_crash(code):
    try:
        assert decode_masks([code], 5, 6).shape == (1, 5, 6)
    except ValueError:
        pass


def test_uncompressed_rle_is_read_like_the_compressed_one():
    both = decode_masks(['231', [2, 3, 1]], 2, 3)
    assert both[0].tolist() == [[0, 1, 1], [0, 1, 0]] and torch.equal(both[0], both[1])


@pytest.mark.parametrize('code, message', [
    ('\u00e923', 'ASCII'), (None, 'expected a string'), (b'231', 'expected a string'), ([2, True, 3], 'whole numbers'),
    ([2.0, 4], 'whole numbers'), ([2 ** 70, 6 - 2 ** 70], 'whole numbers, at most'), ([-1, 7], 'does not describe'),
    ([[6]], 'whole numbers'), ([], 'does not describe'), ('', 'not a COCO RLE'), ([2, 3], 'does not describe 2 x 3')])
def test_what_is_no_rle_is_refused(code, message):
    with pytest.raises(ValueError, match=message):
        decode_masks([code], 2, 3)


def test_origin_is_kept_with_the_masks(tmp_path):
    bank = MaskBank(tmp_path)
    bank.put('a', some_masks(0), 'digest')
    bank.put('b', some_masks(1))
    again = MaskBank(tmp_path, mode='r')
    assert [again.origin(name) for name in 'abc'] == ['digest', None, None]
    assert_same(again.get('a'), some_masks(0))
    shard_of(tmp_path).write_bytes(shard_of(tmp_path).read_bytes().replace(b'digest', b'Digest'))
    assert again.origin('a') is None


def test_huge_claims_are_refused():
    with pytest.raises(ValueError, match='at most'):
        decode_masks(encode_masks(torch.ones(1, 2, 2)), 10 ** 6, 10 ** 6)


def test_record_with_valid_checksum_but_foreign_content(tmp_path):
    bank = MaskBank(tmp_path)
    bank.put('a', some_masks())
    for content in (dict(id='b'),
                    dict(id='b', size=[2, 2], level=[0], predicted_iou=[1], stability=[1], counts=['zzz']),
                    dict(id='b', size=[2, 2], level=[7], predicted_iou=[1], stability=[1], counts=['04']),
                    dict(id='b', size=['x', 2], level=[], predicted_iou=[], stability=[], counts=[]),
                    dict(id='b', size=[2, 2], level=[0], predicted_iou=[1], stability=[1], counts=[3])):
        text = json.dumps(content).encode()
        (tmp_path / 'shard-foreign.masks').write_bytes(b'%08x %s\n' % (zlib.crc32(text), text))
        with pytest.warns(UserWarning, match="'b'.*damaged"):
            assert MaskBank(tmp_path).get('b') is None


PHOTO, OTHER = FileIdentity(10, 20, 'x'), FileIdentity(11, 30, 'y')


def replaced(root):
    """A bank whose image a was replaced, and b was not."""
    with MaskBank(root, 'g', 'd') as bank:
        bank.put('a', some_masks(0), photo=PHOTO)
        bank.put('b', some_masks(1), photo=PHOTO)
    with MaskBank(root, 'g', 'd') as bank:
        bank.put('a', some_masks(2, height=5), photo=OTHER, max_side=8, replace=True)
    return bank


@pytest.mark.parametrize('without', ['', '*.index', 'photos-*'])
def test_a_newer_record_takes_the_place_of_the_older(tmp_path, without):
    bank = replaced(tmp_path)
    for path in tmp_path.glob(without) if without else ():
        path.unlink()  # a convenience, both
    for each in (bank, MaskBank(tmp_path, 'g', 'd', mode='r')):
        assert_same(each.get('a', (5, 7)), some_masks(2, height=5))
        assert_same(each.get('b'), some_masks(1))
        assert each.made_of('a') == MadeOf((5, 7), (OTHER,), (8,))
        assert each.made_of('b') == MadeOf((9, 7), (PHOTO,), (None,)) and each.made_of('c') is None
    with MaskBank(tmp_path, 'g', 'd') as again:
        again.put('a', some_masks(3), photo=PHOTO, replace=True)
        again.put('a', some_masks(4), photo=OTHER, replace=True)
        again.put('c', some_masks(5))
        assert_same(again.get('a'), some_masks(4))
    assert len(list(tmp_path.glob('*.g2.masks'))) == len(list(tmp_path.glob('*.g3.masks'))) == 1
    last = MaskBank(tmp_path, mode='r')
    assert_same(last.get('a'), some_masks(4))
    assert last.ids() == ['a', 'b', 'c'] and last.made_of('a').photos == (OTHER,)


def test_an_older_program_refuses_a_bank_with_newer_records_and_reads_others(tmp_path):
    def version(root):
        return json.loads((root / 'bank.json').read_text())['version']
    with MaskBank(tmp_path / 'plain') as bank:
        bank.put('a', some_masks(0), photo=PHOTO)
    replaced(tmp_path / 'replaced')
    assert (version(tmp_path / 'plain'), version(tmp_path / 'replaced')) == (1, 2)
    name, index = shard_of(tmp_path / 'plain').name, shard_of(tmp_path / 'plain').with_suffix('.index')
    assert '.g' not in name and len(json.loads(index.read_text())) == 3  # as that program reads it
    header = tmp_path / 'plain' / 'bank.json'
    header.write_text(header.read_text().replace('"version": 1', '"version": 3'))
    with pytest.raises(ValueError, match='version 3, this program reads versions 1 and 2'):
        MaskBank(tmp_path / 'plain')


def test_masks_of_a_photo_are_found_wherever_it_lies(tmp_path, write_image):
    photo = write_image(tmp_path / 'photos' / 'day1' / 'a.png', (9, 7))
    other = write_image(tmp_path / 'others' / 'a.png', (9, 7), seed=1)
    with MaskBank(tmp_path / 'bank') as bank:
        bank.put('a', some_masks(0), photo=identify(other))
        bank.put('day1/a', some_masks(1), photo=identify(photo))
        bank.put('b', some_masks(2))  # nobody has noted of which photo
    assert_same(masks_of_photo(bank, photo, (9, 7)), some_masks(1))
    assert masks_of_photo(bank, photo, (4, 4)) is None
    copy = shutil.copy(photo, tmp_path / 'a.png')
    assert masks_of_photo(bank, copy, (9, 7)) is None  # an end of its path is no name of it
    assert_same(masks_of_photo(bank, other, (9, 7)), some_masks(0))
    assert masks_of_photo(bank, write_image(tmp_path / 'b.png', (9, 7)), (9, 7)) is None


def test_masks_of_a_photo_that_is_gone_do_not_come_back(tmp_path):
    replaced(tmp_path)
    shard, = tmp_path.glob('*.g1.masks')
    shard.write_bytes(shard.read_bytes().replace(b'"level":[', b'"level":{', 1))
    again = MaskBank(tmp_path)
    with pytest.warns(UserWarning, match="record of 'a' at byte 0 is damaged"):
        assert again.get('a') is None and 'a' not in again
    again.put('a', some_masks(6), photo=OTHER)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert_same(MaskBank(tmp_path).get('a'), some_masks(6))


def test_banks_of_before_photos_were_kept_are_noted(tmp_path):
    bank = MaskBank(tmp_path)
    bank.put('a,"level":[', some_masks(0))
    bank.put('b' * 5000, some_masks(1))
    for name in bank.ids():
        assert MaskBank(tmp_path).made_of(name) == MadeOf((9, 7))
        bank.note(name, PHOTO, None)
        bank.note(name, PHOTO._replace(time=21), 1024)
        expected = MadeOf((9, 7), (PHOTO, PHOTO._replace(time=21)), (None, 1024))
        assert bank.made_of(name) == MaskBank(tmp_path).made_of(name) == expected
    with pytest.raises(ValueError, match="no masks of 'c'"):
        bank.note('c', PHOTO, None)
    with pytest.raises(ValueError, match="mode 'r'"):
        MaskBank(tmp_path, mode='r').note('b' * 5000, PHOTO, None)
    for line in (['b'], ['b', 0, [1, 2], None, [1]], [1, 0, [1, 2], None, PHOTO], ['b', 'x', [1, 2], None, PHOTO]):
        (tmp_path / 'photos-strange.jsonl').write_text(json.dumps(line) + '\n')
        assert MaskBank(tmp_path).made_of('b' * 5000) == expected


def test_several_processes_put_newer_records(tmp_path):
    for name in '0123':
        MaskBank(tmp_path, 'g', 'd').put(name, some_masks(int(name)), photo=PHOTO)
    banks = [MaskBank(tmp_path, 'g', 'd') for _ in range(2)]
    for name in '0123':
        banks[int(name) % 2].put(name, some_masks(10 + int(name)), photo=OTHER, replace=True)
    again = MaskBank(tmp_path, mode='r')
    for name in '0123':
        assert_same(again.get(name), some_masks(10 + int(name)))
    assert len(list(tmp_path.glob('*.g1.masks'))) == 2


def test_ids_are_found_in_either_unicode_form(tmp_path):
    composed, decomposed, masks = '\u00e9', 'e\u0301', some_masks()
    with MaskBank(tmp_path) as bank:
        bank.put(decomposed, masks, origin='x')
        bank.put(composed, some_masks(1))  # is there
        assert composed in bank and decomposed in bank and len(bank) == 1
    # A bank of before ids were compared in one form.
    shard = shard_of(tmp_path)
    text = shard.read_bytes()[9:-1].replace(b'"\\u00e9"', b'"e\\u0301"')
    shard.write_bytes(b'%08x %s\n' % (zlib.crc32(text), text))
    shard.with_suffix('.index').unlink()
    bank = MaskBank(tmp_path, mode='r')
    assert bank.ids() == [composed] and bank.origin(decomposed) == 'x'
    for name in (composed, decomposed):
        assert_same(bank.get(name), masks)
