"""tools/predict.py: files for every image, a record of failures, and an exit code that tells."""
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from weclip_sam.api import Segmenter
from weclip_sam.datasets.shapes import scenes
from weclip_sam.foundation import MaskGenerator
from weclip_sam.structures import MaskSet

ROOT = Path(__file__).parents[2]
CLASSES = ('background', *scenes.CLASSES)


@pytest.fixture(scope='module')
def tool():
    module = importlib.import_module('weclip_sam.cli.predict')
    return module


def picture(path, size=(40, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def test_a_folder_is_segmented_and_failures_are_recorded(tool, trained_run, tmp_path, capsys):
    photos = tmp_path / 'photos'
    picture(photos / 'a.jpg')
    picture(photos / 'sub' / 'b.png', (17, 31))
    (photos / 'broken.png').write_bytes(b'nothing')
    (photos / 'notes.txt').write_text('no image')
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        tool.main([str(trained_run / 'iter_2.pth'), str(photos), '--out', str(out), '--device', 'cpu'])
    assert stop.value.code == 1 and '2 of 3 images segmented' in capsys.readouterr().out
    record = json.loads((out / 'predictions.json').read_text())
    assert [Path(entry['image']).name for entry in record['images']] == ['a.jpg', 'b.png']
    assert list(record['failed']) == [str(photos / 'broken.png')] and 'not a readable' in record['failed'][
        str(photos / 'broken.png')]
    assert record['classes'][0] == 'background' and len(record['classes']) == 11
    for entry, size in zip(record['images'], [(40, 24), (17, 31)], strict=True):
        labels = Image.open(out / entry['labels'])
        assert labels.mode == 'P' and labels.size == size == (entry['width'], entry['height'])
        drawn, times = Image.open(out / entry['overlay']), -(-320 // max(size))  # enlarged, so that words can be read
        assert drawn.width == max(times * size[0], 156) and drawn.height > times * size[1]  # the legend is below
        values = np.asarray(labels)
        assert entry['areas'] == {record['classes'][v]: pytest.approx((values == v).mean(), abs=1e-6)
                                  for v in np.unique(values)}
    assert (out / 'labels' / 'sub' / 'b.png').is_file()
    assert not list(out.rglob('*.tmp'))


def test_success_and_options(tool, trained_run, tmp_path):
    file, out = picture(tmp_path / 'x.png'), tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        tool.main([str(trained_run / 'iter_2.pth'), str(file), '--out', str(out), '--device', 'cpu', '--no-overlay',
                   '--tta', '--cfg-options', 'model.test.flip=True'])
    assert stop.value.code == 0
    record = json.loads((out / 'predictions.json').read_text())
    assert record['failed'] == {} and record['multi_scale'] and not (out / 'overlays').exists()


def test_with_sam_it_tells_once_what_sam_did(tool, trained_run, tmp_path, capsys, monkeypatch):
    files, out = [picture(tmp_path / f'{name}.png') for name in 'ab'], tmp_path / 'out'
    generate, empty = MaskGenerator.generate, iter([True, False])
    monkeypatch.setattr(MaskGenerator, 'generate', lambda self, rgb: MaskSet.empty(*rgb.shape[:2]) if next(
        empty) else generate(self, rgb))
    with pytest.raises(SystemExit) as stop:
        tool.main([str(trained_run / 'iter_2.pth'), *map(str, files), '--sam', 'tiny', '--out', str(out),
                   '--device', 'cpu', '--no-overlay'])
    told = capsys.readouterr().out
    assert stop.value.code == 0 and told.count('SAM: ') == 1
    assert 'made live for 2 of 2 images; 1 of 2 images have no mask and keep their prediction' in told
    record = json.loads((out / 'predictions.json').read_text())
    counts = [entry['masks'] for entry in record['images']]
    assert record['sam'] == 'tiny' and counts[0] == 0 < counts[1]
    for asked, message in (([], '--sam tiny before, now no --sam'),
                           (['--sam'], 'setting mask_generator is missing'),
                           (['--sam', 'vit_b'], 'sam_vit_b_01ec64.pth does not exist')):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(trained_run / 'iter_2.pth'), str(files[0]), *asked, '--out', str(out)])
        told = capsys.readouterr().err
        assert stop.value.code == 2 and message in told and told.count('\n') == 1


def test_it_does_not_start_on_nothing(tool, trained_run, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    for arguments, text in ([[str(trained_run / 'iter_2.pth'), str(tmp_path / 'empty')], 'no image in this folder'],
                            [[str(trained_run / 'iter_2.pth'), str(tmp_path / 'nowhere')],
                             'nowhere: no such image or folder'],
                            [[str(trained_run / 'iter_9.pth'), str(tmp_path / 'photos')], 'no such']):
        picture(tmp_path / 'photos' / 'y.png')
        with pytest.raises(SystemExit) as stop:
            tool.main([*arguments, '--out', str(tmp_path / 'out')])
        assert stop.value.code == 2 and text in capsys.readouterr().err


def test_outputs_of_other_images_are_not_mixed_in(tool, trained_run, tmp_path, capsys):
    first, second, out = picture(tmp_path / 'f' / 'a.png'), picture(tmp_path / 'g' / 'a.png'), tmp_path / 'out'

    def run(*images, code=0, options=()):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(trained_run / 'iter_2.pth'), *map(str, images), '--out', str(out), '--device', 'cpu',
                       *options])
        assert stop.value.code == code
        return capsys.readouterr().err
    run(first)
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    error = run(second, picture(tmp_path / 'f' / 'b.png'), code=2)
    assert f'labels/a.png of an earlier run is of {first} and would be overwritten by that of {second}, 1 such' in error
    assert '--overwrite' in error
    after = {path: path.read_bytes() for path in out.rglob('*') if path.is_file() and path.suffix != '.lock'}
    assert after == {path: content for path, content in before.items() if path.suffix != '.lock'}
    run(tmp_path / 'f' / 'b.png')  # another name
    run(first, tmp_path / 'f' / 'b.png')  # the same
    assert sorted(path.name for path in (out / 'labels').iterdir()) == ['a.png', 'b.png']
    run(second, options=['--overwrite'])
    assert sorted(path.name for path in (out / 'labels').iterdir()) == ['a.png']
    assert sorted(path.name for path in (out / 'overlays').iterdir()) == ['a.png']
    record = json.loads((out / 'predictions.json').read_text())
    record['images'], record['inputs'] = [], {'labels/a.png': str(first)}  # as a run leaves it that was killed
    (out / 'predictions.json').write_text(json.dumps(record))
    assert f'is of {first}' in run(second, code=2)
    run(first)


def test_names_that_are_no_utf8_or_decomposed(tool, trained_run, tmp_path):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    try:
        picture(photos / os.fsdecode(b'caf\xe9.png'))
    except OSError:
        pytest.skip('this file system has no such names')
    picture(photos / 'e\u0301.png')
    (photos / os.fsdecode(b'broken\xe9.png')).write_bytes(b'nothing')
    with pytest.raises(SystemExit) as stop:
        tool.main([str(trained_run / 'iter_2.pth'), str(photos), '--out', str(out), '--device', 'cpu', '--no-overlay'])
    assert stop.value.code == 1
    record = json.loads((out / 'predictions.json').read_text())
    assert [(out / entry['labels']).is_file() for entry in record['images']] == [True, True]
    assert (out / 'labels' / '\u00e9.png').is_file() and len(record['failed']) == 1


def test_every_kind_of_folder_and_name(tool, trained_run, tmp_path, capsys):
    photos, out, name = tmp_path / 'photos', tmp_path / 'out', 'x' * 251
    for path in (photos / 'a.jpg', photos / f'{name}.png', tmp_path / 'disk' / 'there.jpg', photos / 'same.jpg'):
        picture(path)
    (photos / 'a.jpg').rename(photos / 'a.JFIF')
    os.symlink('../disk', photos / 'day2')
    for place in ('._a.jpg', '__MACOSX/._a.jpg', '.ipynb_checkpoints/a-checkpoint.jpg', 'b.heic'):
        (photos / place).parent.mkdir(exist_ok=True)
        (photos / place).write_bytes(b'')
    values = np.linspace(0, 1023, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(values).save(photos / 'deep.png')
    with pytest.raises(SystemExit):  # the folder is this model's from now on
        tool.main([str(trained_run / 'iter_2.pth'), str(photos / 'a.JFIF'), '--out', str(out), '--device', 'cpu'])
    (out / 'labels' / 'same.png').mkdir(parents=True)
    with pytest.raises(SystemExit) as stop:
        tool.main([str(trained_run / 'iter_2.pth'), str(photos), '--out', str(out), '--device', 'cpu'])
    said = capsys.readouterr().out
    assert stop.value.code == 1 and '3 of 5 images segmented' in said and '1 found, 1 failed' in said
    assert 'passed over: other kinds of files 1 (1 .heic), hidden or of the system 3' in said
    assert f'files of 16 bits whose values seem to have fewer: 1 image, for example {photos / "deep.png"} (10)' in said
    record = json.loads((out / 'predictions.json').read_text())
    assert record['suspected_bits'] == {str(photos / 'deep.png'): 10}
    assert list(record['failed']) == [str(photos / 'same.jpg')] and 'same.png' in record['failed'][
        str(photos / 'same.jpg')]
    assert sorted(p.relative_to(out / 'labels').as_posix() for p in (out / 'labels').rglob('*.png') if p.is_file()) == [
        'a.png', 'day2/there.png', 'deep.png', f'{name}.png']


def test_where_nothing_can_be_written_it_ends_soon(tool, trained_run, tmp_path, capsys):
    for number in range(12):
        picture(tmp_path / 'photos' / f'{number}.png')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'labels').write_text('')
    with pytest.raises(SystemExit) as stop:
        tool.main([str(trained_run / 'iter_2.pth'), str(tmp_path / 'photos'), '--out', str(tmp_path / 'out')])
    assert stop.value.code == 2 and 'labels' in capsys.readouterr().err


def test_what_was_corrected_by_hand_is_not_written_over(tool, trained_run, tmp_path, capsys):
    image, out = picture(tmp_path / 'f' / 'a.png'), tmp_path / 'out'
    label = out / 'labels' / 'a.png'

    def run(*options, code=0, images=(image,)):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(trained_run / 'iter_2.pth'), *map(str, images), '--out', str(out), '--device', 'cpu',
                       *options])
        assert stop.value.code == code
        return capsys.readouterr().err
    run()
    made = label.read_bytes()
    Image.fromarray(np.full((24, 40), 1, np.uint8)).save(label)
    corrected = label.read_bytes()
    run()  # nothing is left to do
    assert label.read_bytes() == corrected
    picture(image, (41, 24))  # it would be made anew
    error = run(code=2)
    assert 'labels/a.png was changed since it was written' in error and '--overwrite' in error
    run(images=[picture(tmp_path / 'f' / 'b.png')])  # other images are added
    assert f'{out}: labels/a.png was changed' in run(code=2) and label.read_bytes() == corrected
    picture(image)
    run('--overwrite')
    assert label.read_bytes() == made
    record = json.loads((out / 'predictions.json').read_text())
    record['images'] = []
    del record['pixels_noted']  # a folder of before it was noted
    (out / 'predictions.json').write_text(json.dumps(record))
    Image.fromarray(np.full((24, 40), 1, np.uint8)).save(label)
    run()
    assert label.read_bytes() == made


def test_confidence_is_written_and_scored(tool, trained_run, tmp_path):
    file, out = picture(tmp_path / 'x.png'), tmp_path / 'out'
    for options, there in (([], True), (['--overwrite', '--no-confidence'], False)):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(trained_run / 'iter_2.pth'), str(file), '--out', str(out), '--device', 'cpu', *options])
        (entry,) = json.loads((out / 'predictions.json').read_text())['images']
        assert stop.value.code == 0 and (out / 'confidence' / 'x.png').is_file() is there is ('scores' in entry)
        assert entry['image'] == str(file) and 'names' not in entry
        if there:
            written = np.asarray(Image.open(out / entry['confidence']))
            labels = np.asarray(Image.open(out / entry['labels']))
            assert entry['scores'] == {name: pytest.approx(written[labels == label].mean() / 255, abs=1e-6)
                                       for label, name in enumerate(CLASSES) if (labels == label).any()}
    probabilities = Segmenter(trained_run / 'iter_2.pth', 'cpu')(file, probabilities=True).probabilities
    assert np.abs(written.astype(int) - np.rint(255 * probabilities.max(0).astype(float)).astype(int)).max() <= 1


def test_only_named_classes_are_possible(tool, trained_run, tmp_path, capsys):
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    for name in ('a', 'b', 'c'):
        picture(photos / f'{name}.png', (40 + ord(name), 24))
    table = photos / 'labels.csv'
    table.write_text('image,classes\na.png,cow;boat\nb.png,\n')

    def run(*options):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(trained_run / 'iter_2.pth'), str(photos), '--out', str(out), '--device', 'cpu',
                       '--labels', str(table), *options])
        return stop.value.code, capsys.readouterr().err
    code, error = run()
    assert code == 2 and 'does not name 1 of the 3 photos' in error and 'c.png' in error and error.count('\n') == 1
    assert not (out / 'labels').exists()
    assert run('--unlisted', 'all')[0] == 0
    a, b, c = json.loads((out / 'predictions.json').read_text())['images']
    assert set(a['areas']) <= {'background', 'boat', 'cow'} and a['names'] == ['boat', 'cow']
    assert set(a['named']) == {'boat', 'cow'} and all(0 <= score <= 1 for score in a['named'].values())
    assert b['areas'] == {'background': 1} and b['names'] == [] and b['scores'] == {'background': 1}
    assert 'names' not in c and 'named' not in c
    table.write_text('image,classes\na.png,cow;boat\nb.png,cwo\nc.png,dog')
    assert "image 'b.png': the model knows no class 'cwo'. Did you mean 'cow'" in run()[1]
    table.write_text('image,classes\na.png,boat;cow\nb.png,dog\nc.png,dog')  # two have other names now
    made = (out / 'labels' / 'a.png').stat().st_mtime_ns
    assert run()[0] == 0 and (out / 'labels' / 'a.png').stat().st_mtime_ns == made
    assert set(json.loads((out / 'predictions.json').read_text())['images'][1]['areas']) <= {'background', 'dog'}


def test_exports_are_checked_before_the_work_and_written_after_it(tool, trained_run, tmp_path, capsys, monkeypatch):
    asked = []

    def export_folder(folder, names, out=None, *, told, **options):
        asked.append(([one.name for one in folder], list(names)))
        told('coco: 1 image, and what else there is to say')
        return {name: folder.root / f'{name}.json' for name in names}
    monkeypatch.setitem(sys.modules, 'weclip_sam.export', SimpleNamespace(export_folder=export_folder))
    file, out = picture(tmp_path / 'x.png'), tmp_path / 'out'
    for options, code in ((['--export', 'coko'], 2), (['--export', 'coco', 'voc'], 0)):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(trained_run / 'iter_2.pth'), str(file), '--out', str(out), '--device', 'cpu', *options])
        told = capsys.readouterr()
        assert stop.value.code == code and out.exists() is (code == 0)
        assert ("no export is called 'coko'. Did you mean 'coco'? There are: coco, " in told.err) is (code == 2)
    assert asked == [(['x'], ['coco', 'voc'])] and 'coco: 1 image, and what else' in told.out
