"""Label PNGs in folders and archives: read in any process, refused with their place."""
import os
import pickle
import signal
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.evaluation import label_files
from weclip_sam.evaluation.label_files import LabelStore, score_label_files
from weclip_sam.io import archives
from weclip_sam.io.images import write_labels
from weclip_sam.io.parallel import WorkerError


def png(labels, dtype=np.uint8):
    file = BytesIO()
    Image.fromarray(np.array(labels, dtype)).save(file, 'PNG')
    return file.getvalue()


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, 'w', compression) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


def test_an_archive_travels_to_another_process_by_its_path(tmp_path):
    store = LabelStore(archive(tmp_path / 'a.zip', {f'deep/{i}.png': png([[i, 255]]) for i in range(3)}))
    packed = pickle.dumps(store)
    assert len(packed) < 300  # not its list of files, which may be long: it goes along with the tasks
    twin = pickle.loads(packed)
    assert twin.ids() == ['0', '1', '2'] and np.array_equal(twin.read('2'), [[2, 255]])
    assert pickle.loads(packed) is twin  # opened once


def test_grey_of_16_bits_is_a_label_map_too(tmp_path):
    store = LabelStore(archive(tmp_path / 'a.zip', {'a.png': png([[3, 300]], np.uint16), 'b.png': png([[3, 30]])}))
    assert store.read('a').tolist() == [[3, 300]] and store.read('b').tolist() == [[3, 30]]
    with pytest.raises(ValueError, match=r'a\.zip/a\.png: labels \[300\] lie outside the 4 classes'):
        score_label_files(store, LabelStore(archive(tmp_path / 'gt.zip', {'a.png': png([[3, 3]])})), 4)


@pytest.mark.parametrize('harm', ['damaged', 'encrypted'])
def test_a_member_that_cannot_be_unpacked_is_named(tmp_path, harm):
    path = archive(tmp_path / 'a.zip', {'a.png': png(np.arange(256).reshape(16, 16))})
    data = bytearray(path.read_bytes())
    if harm == 'damaged':
        data[40:60] = b'\xff' * 20
    else:
        for place in (6, data.find(b'PK\x01\x02') + 8):  # the flag in the member's two headers
            data[place] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'a\.zip/a\.png: cannot be unpacked \(.*make the archive anew'):
        LabelStore(path).read('a')


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, 'LARGEST_MEMBER', 10)
    with pytest.raises(ValueError, match=r'a\.zip/a\.png: refused, it unpacks to'):
        LabelStore(archive(tmp_path / 'a.zip', {'a.png': png([[1]])})).read('a')


@pytest.mark.parametrize('workers', [1, 2])
def test_scores_are_summed_image_by_image_in_any_number_of_processes(tmp_path, workers):
    rng = np.random.default_rng(0)
    sets = [{f'{i}.png': png(rng.integers(0, 3, (4, 5))) for i in range(40)} for _ in range(2)]
    stores = [LabelStore(archive(tmp_path / f'{k}.zip', members)) for k, members in enumerate(sets)]
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for image_id in stores[0].ids():
        guess, truth = (store.read(image_id) for store in stores)
        for row in range(3):
            for column in range(3):
                expected[row, column] += int(((truth == row) & (guess == column)).sum())
    told = []
    counts = score_label_files(*stores, 3, workers=workers, progress=told.append)
    assert torch.equal(counts, expected) and told == list(range(41))
    with pytest.raises(ValueError, match=r'0\.zip/\d+\.png: labels \[2\] lie outside the 2 classes'):
        score_label_files(*stores, 2, workers=workers)


def _die(*args):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_process_is_explained_with_the_tool_s_own_option(tmp_path, monkeypatch):
    store = LabelStore(archive(tmp_path / 'a.zip', {f'{i}.png': png([[0]]) for i in range(3)}))
    monkeypatch.setattr(label_files, '_count', _die)
    with pytest.raises(WorkerError, match='scoring: a worker process died after 0 of 3 files .*fewer --jobs .--jobs 1'):
        score_label_files(store, store, 1, workers=2)


def test_ids_are_found_in_either_unicode_form(tmp_path):
    for root, name in (('gt', 'e\u0301'), ('pred', '\u00e9')):
        write_labels(tmp_path / root / f'{name}.png', np.array([[0, 1]]))
    predictions, truths = LabelStore(tmp_path / 'pred'), LabelStore(tmp_path / 'gt')
    assert truths.ids() == predictions.ids() == ['\u00e9'] and 'e\u0301' in predictions
    assert score_label_files(predictions, truths, 2).diagonal().tolist() == [1, 1]
    assert truths.read('e\u0301').tolist() == [[0, 1]]


def _set_method(path, method, flags=0):
    """Say of the only member that it is packed in another way."""
    data = bytearray(path.read_bytes())
    directory = data.find(b'PK\x01\x02')
    for flag_place, method_place in ((6, 8), (directory + 8, directory + 10)):
        data[flag_place] |= flags
        data[method_place] = method
    path.write_bytes(data)
    return path


@pytest.mark.parametrize('method, flags, text', [(9, 0, 'packed with Deflate64'), (93, 0, 'packed with Zstandard'),
                                                 (42, 0, 'packed with method 42'), (8, 1, 'encrypted'),
                                                 (99, 1, 'packed with AES encryption'), (8, 0x41, 'encrypted')])
def test_members_that_cannot_be_unpacked_here_are_told_before_the_work(tmp_path, method, flags, text):
    path = _set_method(archive(tmp_path / 'a.zip', {'a.png': png([[1]])}), method, flags)
    with pytest.raises(ValueError, match=rf'a\.zip/a\.png: cannot be unpacked \({text}\); make the archive anew'):
        LabelStore(path)


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_anywhere_gives_labels_or_one_error(tmp_path, compression):
    labels = np.random.default_rng(0).integers(0, 9, (8, 8))
    whole = archive(tmp_path / 'a.zip', {'x/a.png': png(labels)}, compression).read_bytes()
    assert np.array_equal(LabelStore(tmp_path / 'a.zip').read('a'), labels)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0xFF
        (tmp_path / 'b.zip').write_bytes(data)
        try:
            store = LabelStore(tmp_path / 'b.zip')
            assert np.array_equal(store.read(store.ids()[0]), labels)
        except ValueError as error:
            assert 'b.zip' in str(error) and '\n' not in str(error)


@pytest.mark.parametrize('name', ['labels\\train\\a.png', '..\\a.png', '../../a.png', '/root/a.png', 'C:\\x\\a.PNG'])
def test_whatever_way_to_a_member_only_its_file_name_counts(tmp_path, name):
    store = LabelStore(archive(tmp_path / 'a.zip', {name: png([[3]]), '__MACOSX\\._a.png': b'',
                                                    '.ipynb_checkpoints\\a-checkpoint.png': b''}))
    assert store.ids() == ['a'] and store.read('a').tolist() == [[3]]
    assert [path.name for path in tmp_path.iterdir()] == ['a.zip']


def test_a_folder_is_searched_through_links_and_past_copies(tmp_path):
    for place in ('gt/sub/._a.png', 'gt/sub/a.png', 'gt/.ipynb_checkpoints/a-checkpoint.png', 'disk/b.PNG'):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(png([[1]]))
    os.symlink('../disk', tmp_path / 'gt' / 'more')
    os.symlink('..', tmp_path / 'gt' / 'sub' / 'loop')
    assert LabelStore(tmp_path / 'gt').ids() == ['a', 'b'] and LabelStore(tmp_path / 'gt').read('b').tolist() == [[1]]


def test_a_sub_folder_that_cannot_be_opened_is_no_empty_one(tmp_path, monkeypatch):
    (tmp_path / 'locked').mkdir()
    (tmp_path / 'a.png').write_bytes(png([[1]]))
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'locked':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)
    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(ValueError, match=r'locked: cannot be opened \(Permission denied\)'):
        LabelStore(tmp_path)
