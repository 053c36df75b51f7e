"""A file is its content: its time means nothing, and nothing is read where size and time are known."""
import os
import shutil

import pytest

from weclip_sam.io import identity
from weclip_sam.io.identity import FileIdentity, IdentityNotes, file_digest, identify, recognise


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(b'some bytes')
    return path


def other_time(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10 ** 9))


def test_an_unchanged_file_is_not_read(photo, monkeypatch):
    known = identify(photo)
    assert known == (10, photo.stat().st_mtime_ns, file_digest(photo)) and len(known.digest) == 16
    monkeypatch.setattr(identity, 'file_digest', None)
    assert recognise(photo, [known]) == recognise(photo, [FileIdentity(1, 2, 'x'), known]) == known
    photo.write_bytes(b'fewer')
    assert recognise(photo, [known]) is None  # its size says enough


def test_touched_and_copied_files_are_the_same(photo, tmp_path):
    known = identify(photo)
    other_time(photo)
    assert recognise(photo, [known]) == known._replace(time=photo.stat().st_mtime_ns) != known
    shutil.copy(photo, tmp_path / 'b.jpg')
    assert recognise(tmp_path / 'b.jpg', [known]).digest == known.digest


def test_another_file_of_the_same_size_is_another(photo):
    known = identify(photo)
    photo.write_bytes(b'other byte')
    other_time(photo)
    assert recognise(photo, [known]) is None and recognise(photo, []) is None
    assert recognise(photo, [known], read=False).digest == known.digest  # believed where nothing may be read
    before = known._replace(digest=file_digest(photo))
    assert recognise(photo, [known, before]).digest == before.digest


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    for function in (identify, lambda path: recognise(path, [])):
        with pytest.raises(FileNotFoundError):
            function(tmp_path / 'none')


@pytest.mark.parametrize('value', [None, [], 'abc', [1, 2], [1, 2, 3], ['1', 2, 'x'], [True, 2, 'x'], {'a': 1},
                                   [1, 2, 'x', 4]])
def test_what_is_no_identity(value):
    assert FileIdentity.parse(value) is None
    assert FileIdentity.parse([1, 2, 'x']) == FileIdentity(1, 2, 'x')


def test_notes_of_several_writers_are_all_read_but_no_half_line(tmp_path):
    first, second = IdentityNotes(tmp_path), IdentityNotes(tmp_path)
    first.add('a', 1)
    second.add('b\n"', [2])
    first.add('c')
    first.close()
    first.add('d')
    path = tmp_path / 'photos-torn.jsonl'
    path.write_bytes(b'["e"]\nnonsense\n{"a": 1}\n["f"')
    assert sorted(IdentityNotes(tmp_path).read()) == [['a', 1], ['b\n"', [2]], ['c'], ['d'], ['e']]
    assert len(list(tmp_path.glob('photos-*.jsonl'))) == 4
