"""tools/predict.py: files for every image, a record of failures, and an exit code that tells."""
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.foundation import MaskGenerator
from weclip_sam.structures import MaskSet

ROOT = Path(__file__).parents[2]


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
    for asked, message in (([], 'sam tiny -> False'), (['--sam'], 'setting mask_generator is missing'),
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


@pytest.mark.parametrize('images, out, text', [
    ('photos', 'photos', 'lies in the image folder'), ('photos', 'photos/sub/out', 'lies in the image folder'),
    ('out/overlays', 'out', 'would be overwritten'), ('out/labels/a.png', 'out', 'would be overwritten')])
def test_outputs_stay_apart_from_images(tool, tmp_path, monkeypatch, capsys, images, out, text):
    for name in ('photos/a.png', 'out/overlays/a.png', 'out/labels/a.png'):
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(SystemExit) as stop:
        tool.main(['none.pth', images, '--out', out])
    assert stop.value.code == 2 and text in capsys.readouterr().err and sorted(tmp_path.rglob('*')) == before
    found = tool.search(['photos'])
    tool.check_apart(['photos', 'photos/a.png'], 'photos_out', found)
    tool.check_apart(['photos/a.png'], 'photos', {})  # a file by name is found no second time


def test_outputs_never_share_a_name(tool, tmp_path):
    for name in ('f/a.jpg', 'f/a.png', 'f/b.png', 'g/b.png'):
        picture(tmp_path / name)
    arguments = [str(tmp_path / 'f'), str(tmp_path / 'g'), str(tmp_path / 'f' / 'b.png')]
    named = tool.list_images(arguments, tool.search(arguments))
    assert [name for _, name in named] == ['a.jpg', 'a.png', 'b.png', 'b.png_2']


@pytest.mark.parametrize('files, names', [
    (('a.jpg', 'A.png'), ['A.png', 'a.jpg']),  # sorted: capitals first
    (('A.jpg', 'a.jpg'), ['A.jpg', 'a.jpg_2']),
    (('cafe\u0301.jpg', 'caf\u00e9.png'), ['caf\u00e9.jpg', 'caf\u00e9.png']),
    (('a.jpg', 'a.jpg.tif', 'a.png'), ['a.jpg', 'a.jpg_2', 'a.png']),
    (('b.png', 'b.tif', 'b.png_2.jpg', 'b.png.png'), ['b.png', 'b.png_2', 'b.png_2_2', 'b.tif']),
    (('a.jpg', 'a.png/b.jpg'), ['a_2', 'a.png/b']),
    (('my photo.jpg', 'day 1/my photo.jpg'), ['day 1/my photo', 'my photo'])])
def test_outputs_never_meet_on_any_file_system(tool, tmp_path, files, names):
    for name in files:
        (tmp_path / 'f' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'f' / name).touch()
    arguments = [str(tmp_path / 'f')]
    found = tool.list_images(arguments, tool.search(arguments))
    assert [name for _, name in found] == names and len(found) == len(files)


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
    assert stop.value.code == 1 and '4 of 5 images segmented' in said
    assert 'passed over: other kinds of files 1 (1 .heic), hidden or of the system 3' in said
    assert f'files of 16 bits whose values seem to have fewer: 1 images, for example {photos / "deep.png"} (10)' in said
    record = json.loads((out / 'predictions.json').read_text())
    assert record['suspected_bits'] == {str(photos / 'deep.png'): 10}
    assert list(record['failed']) == [str(photos / 'same.jpg')] and 'same.png' in record['failed'][
        str(photos / 'same.jpg')]
    assert sorted(p.relative_to(out / 'labels').as_posix() for p in (out / 'labels').rglob('*.png') if p.is_file()) == [
        'a.png', 'day2/there.png', 'deep.png', f'{name}.png']


def test_outputs_stay_out_of_linked_folders(tool, tmp_path, monkeypatch, capsys):
    picture(tmp_path / 'disk' / 'a.png')
    (tmp_path / 'photos').mkdir()
    os.symlink('../disk', tmp_path / 'photos' / 'day2')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        tool.main(['none.pth', 'photos', '--out', 'disk/out'])
    assert 'lies in the image folder photos' in capsys.readouterr().err


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
    error = run(code=2)
    assert 'labels/a.png was changed since it was written' in error and '--overwrite' in error
    run(images=[picture(tmp_path / 'f' / 'b.png')])  # other images are added
    assert f'{out}: labels/a.png was changed' in run(code=2) and label.read_bytes() == corrected
    run('--overwrite')
    assert label.read_bytes() == made
    run()
    record = json.loads((out / 'predictions.json').read_text())
    del record['pixels_noted']  # a folder of before it was noted
    (out / 'predictions.json').write_text(json.dumps(record))
    Image.fromarray(np.full((24, 40), 1, np.uint8)).save(label)
    run()
    assert label.read_bytes() == made
