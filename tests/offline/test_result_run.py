"""The loop that writes folders of results: complete, resumable, honest about failures. A stand-in makes them."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.models.refine import SamUse
from weclip_sam.offline.result_folder import Asked, ResultFolder, doubt_bits
from weclip_sam.offline.result_run import run_results
from weclip_sam.offline.results import open_labels
from weclip_sam.result import SegmentationResult

CLASSES = ('background', 'cat', 'dog')
CARD = dict(checkpoint='x.pth', weights='w', config=None, options=[], multi_scale=False, crf=False, sam=False,
            product='labels', split=None)
LABELS = np.array([[0, 1, 1], [2, 255, 0]], np.uint8)
SURE = np.array([[255, 51, 102], [0, 0, 204]], np.uint8)


@pytest.fixture
def photos(tmp_path):
    asked = [Asked(name, tmp_path / 'photos' / f'{name}.png', ('cat', 'dog')) for name in ('p0', 'p1', 'p2', 'sub/p3')]
    for number, one in enumerate(asked):
        one.image.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (3, 2), (number, 0, 0)).save(one.image)
    return asked


def result(asked, labels=LABELS):
    return SegmentationResult(labels, CLASSES, np.zeros((2, 3, 3), np.uint8), name=asked.name, confidence=SURE,
                              names=asked.names, named={'cat': 0.75}, sam=SamUse(3, True, 0.5),
                              doubts={'cam': LABELS == 1, 'decoder': LABELS > 0})


def run(out, asked, make=None, options=None, **more):
    """Returns the report and the names of the images that were made."""
    folder, made = ResultFolder(out, CARD, asked, CLASSES, **{'doubts': True, **(options or {})}), []

    def one(index):
        made.append(asked[index].name)
        answer = result(asked[index]) if make is None else make(asked[index])
        if isinstance(answer, BaseException) and not isinstance(answer, Exception):
            raise answer
        return answer
    report = run_results('labels', folder, lambda index: SimpleNamespace(shape=(1,), index=index),
                         lambda items, clock: [one(item.index) for item in items], done='labelled', **more)
    return report, made


def test_everything_is_written_and_read_back(tmp_path, photos, capsys):
    report, _ = run(tmp_path / 'out', photos, palette=[(0, 0, 0), (1, 2, 3), (4, 5, 6), (7, 8, 9)])
    said = capsys.readouterr().out
    assert len(report.made) == 4 and '4 of 4 images labelled' in said and 'SAM: 0.5 s an image, 3.0 masks' in said
    folder = open_labels(tmp_path / 'out')
    assert folder.classes == CLASSES and folder.palette == ((0, 0, 0), (1, 2, 3), (4, 5, 6))
    assert [one.name for one in folder] == ['p0', 'p1', 'p2', 'sub/p3']
    last = folder.images[3]
    assert last.image == photos[3].image and last.names == ('cat', 'dog') and last.named == {'cat': 0.75}
    assert np.array_equal(folder.read(last), LABELS)
    assert np.array_equal(np.asarray(Image.open(last.confidence)), SURE)
    assert last.scores == {'background': pytest.approx((255 + 204) / 510, abs=1e-6),
                           'cat': pytest.approx((51 + 102) / 510, abs=1e-6), 'dog': 0}
    assert last.doubts == {'cam': pytest.approx(2 / 6, abs=1e-6), 'decoder': pytest.approx(4 / 6, abs=1e-6)}
    doubts = folder.read_doubts(last)
    assert np.array_equal(doubts['cam'], LABELS == 1) and np.array_equal(doubts['decoder'], LABELS > 0)
    assert not doubts['sam'].any() and Image.open(last.doubt_map).mode == 'L'
    entry = json.loads((tmp_path / 'out' / 'predictions.json').read_text())['images'][3]
    assert entry['areas'] == {'background': pytest.approx(1 / 3, abs=1e-6), 'cat': pytest.approx(1 / 3, abs=1e-6),
                              'dog': pytest.approx(1 / 6, abs=1e-6)} and entry['masks'] == 3
    assert not [*(tmp_path / 'out').rglob('*.tmp'), *(tmp_path / 'out').glob('entries-*')]


def test_what_is_not_wanted_is_not_written(tmp_path, photos):
    run(tmp_path / 'out', photos, options=dict(overlays=False, confidence=False, doubts=False))
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['environment.json', 'labels',
                                                                          'predictions.json']
    folder = open_labels(tmp_path / 'out')
    assert folder.images[0].confidence is None and folder.read_doubts(folder.images[0]) is None


def run_stopped_at(name, out, photos):
    def make(asked):
        if asked.name == name:
            raise KeyboardInterrupt
        return result(asked)
    with pytest.raises(KeyboardInterrupt):
        run(out, photos, make)


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(tmp_path, photos):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    run(whole, photos)
    run_stopped_at('p2', out, photos)
    assert len(list((out / 'labels').glob('*.png'))) == 2 and list(out.glob('entries-*.jsonl'))
    (note,) = out.glob('entries-*.jsonl')
    note.write_bytes(note.read_bytes() + b'[{"labels": "labels/p2.png", "ima')  # half a line, as a kill leaves it
    report, made = run(out, photos)
    assert made == ['p2', 'sub/p3'] and report.found == ['p0', 'p1']
    entries = [json.loads((folder / 'predictions.json').read_text())['images'] for folder in (whole, out)]
    assert entries[0] == entries[1]
    report, made = run(out, photos)
    assert not made and len(report.found) == 4


def test_other_photos_names_or_files_are_made_anew(tmp_path, photos):
    out = tmp_path / 'out'
    run(out, photos)
    Image.new('RGB', (3, 2), 'red').save(photos[0].image)
    renamed = [photos[0], Asked('p1', photos[1].image, ('dog',)), *photos[2:]]
    (out / 'confidence' / 'p2.png').unlink()
    assert run(out, renamed)[1] == ['p0', 'p1', 'p2']
    assert open_labels(out).images[1].names == ('dog',)
    assert run(out, renamed, options=dict(overwrite=True))[1] == ['p0', 'p1', 'p2', 'sub/p3']


def test_what_belongs_to_an_earlier_label_is_neither_left_nor_taken_for_done(tmp_path, photos):
    out, other = tmp_path / 'out', [Asked('p0', photos[0].image, ('dog',)), *photos[1:]]
    run(out, photos)
    bare = dict(overlays=False, confidence=False, doubts=False)
    assert run(out, other, options=bare)[1] == ['p0']
    for kind in ('overlays', 'confidence', 'doubts'):
        assert not (out / kind / 'p0.png').exists() and (out / kind / 'p1.png').is_file()
    run(tmp_path / 'bare', photos[:1], options=bare)
    for kind in ('overlays', 'confidence', 'doubts'):  # as if it had been killed before it could note them
        (tmp_path / 'bare' / kind).mkdir()
        (out / kind / 'p1.png').rename(tmp_path / 'bare' / kind / 'p0.png')
    assert run(tmp_path / 'bare', photos[:1])[1] == ['p0']
    assert open_labels(tmp_path / 'bare').images[0].scores


def test_a_run_that_was_stopped_can_be_looked_at(tmp_path, photos):
    from weclip_sam.export import export_folder
    out, said = tmp_path / 'out', []
    run(out, photos[:1])
    run_stopped_at('p2', out, photos)
    folder = open_labels(out)
    assert [one.name for one in folder] == ['p0', 'p1'] and folder.classes == CLASSES
    assert folder.images[1].scores and folder.lacking == 2
    export_folder(folder, ['coco'], told=said.append)
    assert '2 images have no labels yet: the run that makes them has not ended' in said[-1]
    run(out, photos)
    assert not open_labels(out).told
    run_stopped_at('p0', tmp_path / 'first', photos)
    with pytest.raises(ValueError, match='holds no label PNG; the run that makes them has not ended'):
        open_labels(tmp_path / 'first')


def test_overwriting_removes_results_and_nothing_else(tmp_path, photos):
    out = tmp_path / 'out'
    run(out, photos)
    mine = out / 'photos' / 'mine.png'
    mine.parent.mkdir()
    mine.write_bytes(b'somebody put photos where results go')
    run(out, photos[:1], options=dict(overwrite=True))
    assert mine.is_file() and sorted(path.name for path in (out / 'labels').rglob('*.png')) == ['p0.png']


def test_what_was_corrected_by_hand_stays_or_is_an_error(tmp_path, photos):
    out = tmp_path / 'out'
    run(out, photos)
    Image.fromarray(np.full((2, 3), 1, np.uint8)).save(out / 'labels' / 'p1.png')
    assert run(out, photos)[1] == [] and read_labels(out / 'labels' / 'p1.png').all()
    with pytest.raises(ValueError, match=r'labels/p1.png was changed since it was written'):
        run(out, [Asked('p1', photos[1].image, ('dog',))])
    assert read_labels(out / 'labels' / 'p1.png').all()


def test_failures_are_told_and_tried_again(tmp_path, photos, capsys):
    out = tmp_path / 'out'
    report, _ = run(out, photos, lambda asked: RuntimeError('bad') if asked.name == 'p1' else result(asked))
    assert report.failed == {'p1': 'bad'}
    assert f'failed: {photos[1].image}: bad' in capsys.readouterr().out
    assert json.loads((out / 'predictions.json').read_text())['failed'] == {str(photos[1].image): 'bad'}
    report, made = run(out, photos)
    assert made == ['p1'] and json.loads((out / 'predictions.json').read_text())['failed'] == {}
    photos[2].image.unlink()
    report, made = run(out, photos)
    assert list(report.failed) == ['p2'] and not made


def test_images_made_in_memory_are_written_for_whoever_comes_later(tmp_path):
    asked = [Asked('drawn', None, ())]
    assert run(tmp_path / 'out', asked)[1] == ['drawn'] and run(tmp_path / 'out', asked)[1] == []
    (tmp_path / 'out').rename(tmp_path / 'moved')
    (only,) = open_labels(tmp_path / 'moved').images
    assert only.image == tmp_path / 'moved' / 'photos' / 'drawn.png' and only.names == ()
    assert Image.open(only.image).size == (3, 2)


def test_where_nothing_can_be_written_it_ends_soon(tmp_path, photos):
    out, many = tmp_path / 'out', [Asked(f'{number}', photos[0].image) for number in range(12)]
    out.mkdir()
    (out / 'labels').write_text('')
    with pytest.raises(ValueError, match=r'labels.*cannot be written .*10 images so far'):
        run(out, many)


def test_results_of_two_kinds_are_not_mixed(tmp_path, photos):
    run(tmp_path / 'out', photos)
    with pytest.raises(ValueError, match=r'by tools/make_labels\.py, not tools/predict\.py'):
        ResultFolder(tmp_path / 'out', {**CARD, 'product': 'prediction'}, photos, CLASSES)
    write_labels(tmp_path / 'mine' / 'labels' / 'a.png', LABELS)
    with pytest.raises(ValueError, match='nobody knows what made them'):
        ResultFolder(tmp_path / 'mine', CARD, photos, CLASSES)


def test_bits_of_doubts():
    one = np.array([[True, False, True]])
    assert doubt_bits({'cam': one, 'decoder': np.array([[False, False, True]]), 'sam': ~one}).tolist() == [[1, 2, 5]]
