"""Files appear whole or not at all."""
import errno
import json
import os

import numpy as np
import pytest
import torch

from weclip_sam.io import files
from weclip_sam.io.files import atomic_open, inside, is_of_one_file, remove_stale_temporaries, size_text, write_json


def test_content_appears_only_when_complete(tmp_path):
    target = tmp_path / 'new' / 'a.txt'
    with atomic_open(target, 'w') as file:
        file.write('grün')
        assert not target.exists()
    assert target.read_text(encoding='utf-8') == 'grün' and [p.name for p in target.parent.iterdir()] == ['a.txt']
    assert target.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o022))


def test_a_failure_keeps_the_old_content_and_leaves_nothing(tmp_path):
    (tmp_path / 'a').write_bytes(b'old')
    with pytest.raises(RuntimeError), atomic_open(tmp_path / 'a') as file:
        file.write(b'half')
        raise RuntimeError
    assert (tmp_path / 'a').read_bytes() == b'old' and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError) as caught, atomic_open(tmp_path / 'a') as file:
        file.write(b'x')
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / 'a')
    assert not list(tmp_path.iterdir())


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / 'folder').mkdir()
    for path, number in ((tmp_path / 'folder', errno.EISDIR), (tmp_path / ('a' * 300), errno.ENAMETOOLONG)):
        with pytest.raises(OSError) as caught, atomic_open(path) as file:
            file.write(b'x')
        assert caught.value.errno == number and caught.value.filename == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ['folder']


def test_a_folder_that_becomes_read_only_is_no_fault_of_the_temporary_file(tmp_path, monkeypatch):
    def refuse(name, *_):
        raise PermissionError(errno.EACCES, 'Permission denied', name)
    (tmp_path / 'a').write_bytes(b'old')
    for call in ('replace', 'unlink'):
        monkeypatch.setattr(os, call, refuse)
    with pytest.raises(PermissionError) as caught, atomic_open(tmp_path / 'a') as file:
        file.write(b'new')
    assert caught.value.filename == str(tmp_path / 'a') and (tmp_path / 'a').read_bytes() == b'old'
    monkeypatch.undo()
    assert remove_stale_temporaries(tmp_path) == 1


def test_only_whole_files_are_written(tmp_path):
    with pytest.raises(ValueError, match="must be 'wb' or 'w'"), atomic_open(tmp_path / 'a', 'a'):
        pass


def test_json_is_strict_and_takes_arrays(tmp_path):
    write_json(tmp_path / 'a.json', dict(nan=float('nan'), array=np.arange(2), scalar=torch.tensor(1.5), path=tmp_path,
                                         nested=[(1, float('inf'))]))
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(nan=None, array=[0, 1], scalar=1.5, path=str(tmp_path),
                                                                 nested=[[1, None]])


def test_stale_temporaries_are_removed_and_nothing_else(tmp_path):
    for name in ('.iter_5.pth.x1.tmp', '.other.json.x.tmp', 'iter_5.pth', '.hidden'):
        (tmp_path / name).write_bytes(b'')
    assert remove_stale_temporaries(tmp_path, '*.pth') == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.hidden', '.other.json.x.tmp', 'iter_5.pth']
    assert remove_stale_temporaries(tmp_path / 'nowhere') == 0


@pytest.mark.parametrize(('name', 'message'), [
    ('a' * 256, 'too long.*at most 255 bytes'), ('b/' + 'ü' * 128 + '.jpg', 'too long'), ('a/' * 2100 + 'a', '4095'),
    ('\ud800.jpg', r"'\\ud800.jpg' has characters that no file name"), ('a\0', 'stays inside')])
def test_names_that_no_file_can_have_are_refused_with_their_source(tmp_path, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        inside(tmp_path, name, 'labels.csv')
    assert str(caught.value).startswith('labels.csv: ') and len(str(caught.value)) < 2 * len(name) + 300
    assert inside(tmp_path, 'ü' * 127 + '.', 'labels.csv').parent == tmp_path


@pytest.mark.parametrize('name', ['a' * 251 + '.png', 'ü' * 125 + '.json', '写' * 84 + 'x', 'x' * 243 + '.jpg',
                                  'short.png'])
def test_whatever_can_be_named_can_be_written(tmp_path, name):
    seen = []
    with atomic_open(tmp_path / name) as file:
        file.write(b'x')
        seen += [path.name for path in tmp_path.iterdir()]
    assert (tmp_path / name).read_bytes() == b'x' and len(seen) == 1
    assert len(os.fsencode(seen[0])) <= max(len(os.fsencode(name)), 40)
    (tmp_path / seen[0]).write_bytes(b'')  # as a kill leaves it
    assert remove_stale_temporaries(tmp_path, f'*{name[-4:]}') == 1 and (tmp_path / name).is_file()


@pytest.mark.parametrize('number, one', [(errno.ENAMETOOLONG, True), (errno.EISDIR, True), (errno.EACCES, True),
                                         (errno.ENOSPC, False), (errno.EIO, False), (None, False)])
def test_faults_of_one_file_and_of_the_disk(number, one):
    assert is_of_one_file(OSError(number, 'x')) is one and not is_of_one_file(ValueError())


def test_on_windows_a_file_that_somebody_reads_is_replaced_a_moment_later(tmp_path, monkeypatch):
    monkeypatch.setattr(files, '_WINDOWS', True)
    monkeypatch.setattr(files, '_PAUSES', (0, 0))
    tries, replace = [], os.replace

    def in_use(source, target):
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError(13, 'in use', str(source), None, str(target))
        replace(source, target)
    monkeypatch.setattr(os, 'replace', in_use)
    with atomic_open(tmp_path / 'a.txt', 'w') as file:
        file.write('new')
    assert (tmp_path / 'a.txt').read_text() == 'new' and len(tries) == 3
    tries[:] = []
    monkeypatch.setattr(files, '_PAUSES', (0,))
    with pytest.raises(PermissionError), atomic_open(tmp_path / 'a.txt', 'w') as file:
        file.write('newer')
    assert [path.read_text() for path in tmp_path.iterdir()] == ['new']


@pytest.mark.parametrize('count, words', [(0, '0 kB'), (100_000, '100 kB'), (11_520, '11.5 kB'), (999_999, '1 MB'),
                                          (2_564_550_879, '2.56 GB'), (5e14, '500 TB')])
def test_sizes_in_words(count, words):
    assert size_text(count) == words


@pytest.mark.parametrize('sync', [True, False])
def test_small_files_need_not_wait_for_the_disk(tmp_path, monkeypatch, sync):
    waited = []
    monkeypatch.setattr(os, 'fsync', waited.append)
    with atomic_open(tmp_path / 'a', sync=sync) as file:
        file.write(b'x')
    assert (tmp_path / 'a').read_bytes() == b'x' and bool(waited) is sync
