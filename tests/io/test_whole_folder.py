"""A folder that is whole or not there."""
import os

import pytest

from weclip_sam.io.whole_folder import whole_folder


def test_it_takes_the_place_of_the_old_one(tmp_path):
    for text in ('one', 'two'):
        with whole_folder(tmp_path / 'in' / 'x') as place:
            assert not list(place.iterdir())
            (place / 'file').write_text(text)
        assert (tmp_path / 'in' / 'x' / 'file').read_text() == text and os.listdir(tmp_path / 'in') == ['x']


def test_a_failure_leaves_the_old_one(tmp_path):
    with whole_folder(tmp_path / 'x') as place:
        (place / 'file').write_text('old')
    with pytest.raises(OSError) as error, whole_folder(tmp_path / 'x') as place:
        (place / 'other').write_text('new')
        (place / 'none' / 'file').write_text('')
    assert error.value.filename == str(tmp_path / 'x' / 'none' / 'file')
    assert os.listdir(tmp_path) == ['x'] and os.listdir(tmp_path / 'x') == ['file']


def test_what_a_kill_left_is_removed(tmp_path):
    (tmp_path / '.x.12345678.tmp' / 'in').mkdir(parents=True)
    (tmp_path / '.xy.12345678.tmp').mkdir()
    with whole_folder(tmp_path / 'x'):
        pass
    assert sorted(os.listdir(tmp_path)) == ['.xy.12345678.tmp', 'x']


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError), whole_folder(tmp_path / 'file' / 'x'):
        pass
