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
    monkeypatch.setattr(label_files, '_LARGEST_MEMBER', 10)
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
