"""How much of a disk masks take is told before they are made, and again when some are."""
import shutil
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from weclip_sam.bits import pack_bits
from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline import room as module
from weclip_sam.offline.room import FIRST, MaskRoom, mean_size
from weclip_sam.structures import MaskSet

GENERATOR = SimpleNamespace(settings=dict(points_per_side=10, crop_n_layers=1))


class Photos:
    """Images of 300 x 500, of which every third cannot be read."""

    def __init__(self, count):
        self.image_ids = [f'p{index}' for index in range(count)]

    def image_size(self, index):
        if index % 3 == 2:
            raise ValueError('broken')
        return 300, 500


def masks():
    bits = torch.zeros(1, 8, 8, dtype=torch.bool)
    bits[0, 2:5, 1:7] = True
    return MaskSet(pack_bits(bits), torch.zeros(1, dtype=torch.long), torch.ones(1), torch.ones(1),
                   torch.zeros(1, dtype=torch.long), 8)


@pytest.fixture
def bank(tmp_path):
    with MaskBank(tmp_path / 'bank', 'sam', 'photos') as bank:
        yield bank


@pytest.fixture
def free(monkeypatch):
    """A function: so many bytes are free."""
    usage = namedtuple('usage', 'total used free')

    def arrange(count):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(count, 0, count))
    arrange(10 ** 12)
    return arrange


def test_a_guess_by_points_and_sizes_comes_first(bank, free, capsys):
    MaskRoom(bank, GENERATOR, Photos(100)).tell()
    each = 10 * (2 + 1) * 0.9 * 800 / 1e3  # points * (2 + layers), bytes by height and width
    assert capsys.readouterr().err == (f'masks of 100 images take about {each * 100 / 1e3:.3g} MB ({each:.3g} kB an '
                                       f'image, a guess that is rather too high) in {bank.root}; 1 TB are free\n')
    free(2_000_000)
    MaskRoom(bank, GENERATOR, Photos(100)).tell()
    told = capsys.readouterr().err
    assert told.startswith('warning: masks of 100 images') and 'but only 2 MB are free there' in told
    for nothing_known in (SimpleNamespace(), SimpleNamespace(settings={})):
        MaskRoom(bank, nothing_known, Photos(100)).tell()
    MaskRoom(bank, GENERATOR, Photos(0)).tell()
    assert capsys.readouterr().err == ''


def test_after_the_first_images_what_they_took_counts(bank, free, capsys):
    photos = Photos(3 * FIRST)
    room = MaskRoom(bank, GENERATOR, photos)
    for name in photos.image_ids:
        bank.put(name, masks())
        room.note(name)
    size = bank.bytes_of('p0')
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and f'({size / 1e3:.3g} kB an image, as the first {FIRST})' in lines[0]
    assert sum(path.stat().st_size for path in bank.root.glob('shard-*.masks')) == sum(
        map(bank.bytes_of, photos.image_ids)) and bank.bytes_of('none') == 0
    # And the next time what is in the bank.
    MaskRoom(bank, GENERATOR, Photos(4 * FIRST)).tell()
    assert f'masks of {FIRST} images' in (told := capsys.readouterr().err)
    assert f'as the {3 * FIRST} images that are there' in told
    MaskRoom(bank, GENERATOR, photos, anew=['p1']).tell()
    assert 'masks of 1 images' in capsys.readouterr().err


def test_of_few_images_nothing_more_is_told_and_a_disk_that_is_too_small_is(bank, free, capsys):
    rooms = [MaskRoom(bank, GENERATOR, Photos(count)) for count in (2 * FIRST - 1, 2 * FIRST)]
    bank.put('p0', masks())
    for told, room in enumerate(rooms):
        free(FIRST * bank.bytes_of('p0'))
        for _ in range(FIRST):
            room.note('p0')
        assert capsys.readouterr().err.count('warning: masks of 32 images') == told


def test_sizes_are_looked_at_in_a_sample_and_broken_files_are_passed_over(monkeypatch):
    assert mean_size(Photos(9), [0, 1, 2]) == (300, 500) and mean_size(Photos(9), [2, 5]) is None
    looked = []
    photos = SimpleNamespace(image_size=lambda index: (looked.append(index), (1, 3))[1])
    monkeypatch.setattr(module, 'SAMPLED', 5)
    assert mean_size(photos, range(50)) == (1, 3) and looked == [0, 10, 20, 30, 40]
