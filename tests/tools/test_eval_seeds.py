"""Scoring label PNGs in folders and archives; the published number on real data."""
import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.engine.start.class_names import resolve_classes

ROOT = Path(__file__).parents[2]
VOC_TRAIN = ROOT.parent / 'shared' / 'voc_train'


@pytest.fixture(scope='module')
def tool():
    module = importlib.import_module('weclip_sam.cli.eval_seeds')
    return module


GT = {'a': [[0, 1], [1, 255]], 'b': [[2, 2], [0, 0]]}
PRED = {'a': [[0, 1], [0, 2]], 'b': [[2, 0], [0, 0]]}


def write_png(path, labels, mode='P'):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(labels, dtype=np.uint8)
    image = Image.frombytes('L', array.shape[::-1], array.tobytes())
    if mode == 'P':
        image.putpalette(list(range(256)) * 3)
    image.convert(mode).save(path) if mode != 'P' else image.save(path)


def folder(path, labels):
    for name, values in labels.items():
        write_png(path / f'{name}.png', values)
    return path


def archive(path, labels, inside='labels'):
    folder(path.with_suffix(''), labels)
    with zipfile.ZipFile(path, 'w') as out:
        for name in labels:
            out.write(path.with_suffix('') / f'{name}.png', f'{inside}/{name}.png')
    return path


@pytest.mark.parametrize('jobs', ['1', '2'])
@pytest.mark.parametrize('kinds', [(folder, folder), (archive, folder), (archive, archive)])
def test_folders_and_archives_give_the_hand_computed_scores(tool, tmp_path, capsys, kinds, jobs):
    pred, gt = kinds[0](tmp_path / 'pred.zip', PRED | {'unused': [[0]]}), kinds[1](tmp_path / 'gt.zip', GT)
    tool.main(['--pred', str(pred), '--gt', str(gt), '--classes', '3', '--jobs', jobs,
               '--json', str(tmp_path / 'o.json')])
    result = json.loads((tmp_path / 'o.json').read_text())
    # Background: 3 right of 3 true + 2 wrongly claimed; class 1: 1 of 2; class 2: 1 of 2 (255 is not counted).
    assert [round(c['IoU'], 4) for c in result['classes'].values()] == [60.0, 50.0, 50.0]
    assert result['mIoU'] == pytest.approx(160 / 3) and result['images'] == 2
    out = capsys.readouterr().out
    assert 'mIoU 53.33' in out and '(1 further predictions have no ground truth' in out


def run_and_fail(tool, capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        tool.main([*map(str, args), '--jobs', '1'])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def broken_sets():
    yield 'missing', PRED.keys() - {'b'}, {}, 'pred/b.png: missing; every ground truth needs its prediction'
    yield 'size', PRED.keys(), {'b': [[0, 0]]}, r'pred/b.png: size (1, 2) differs from its ground truth (2, 2)'
    yield 'label', PRED.keys(), {'b': [[7, 0], [0, 0]]}, 'pred/b.png: labels [7] lie outside the 3 classes; allowed are'
    yield 'ignore', PRED.keys(), {'a': [[255, 1], [0, 0]]}, '255 is for ground truth alone'


@pytest.mark.parametrize('name, keep, change, message', list(broken_sets()))
def test_broken_predictions_name_the_file_and_the_rule(tool, tmp_path, capsys, name, keep, change, message):
    gt = folder(tmp_path / 'gt', GT)
    pred = folder(tmp_path / 'pred', {k: (PRED | change)[k] for k in keep})
    assert message in run_and_fail(tool, capsys, '--pred', pred, '--gt', gt, '--classes', 3)


def test_unreadable_files_are_named(tool, tmp_path, capsys):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    args = ('--pred', pred, '--gt', gt, '--classes', 3)
    whole = (pred / 'a.png').read_bytes()
    (pred / 'a.png').write_bytes(whole[:60])
    assert 'pred/a.png: not a readable image (' in run_and_fail(tool, capsys, *args)
    (pred / 'a.png').write_bytes(b'no image at all')
    assert 'pred/a.png: not a readable image; expected PNG' in run_and_fail(tool, capsys, *args)
    Image.new('RGB', (2, 2)).save(pred / 'a.png')
    assert "pred/a.png: labels must be a palette or grey image of one channel, got mode 'RGB'" in run_and_fail(
        tool, capsys, *args)
    (tmp_path / 'x.zip').write_bytes(b'no zip')
    broken = run_and_fail(tool, capsys, '--pred', tmp_path / 'x.zip', '--gt', gt)
    assert 'x.zip: neither a folder nor a readable zip' in broken
    (tmp_path / 'empty').mkdir()
    assert 'empty: holds no .png' in run_and_fail(tool, capsys, '--pred', tmp_path / 'empty', '--gt', gt)
    assert "Did you mean 'pred'" in run_and_fail(tool, capsys, '--pred', tmp_path / 'prd', '--gt', gt)


def test_a_corrupted_archive_member_is_named(tool, tmp_path, capsys):
    gt, pred = folder(tmp_path / 'gt', GT), archive(tmp_path / 'pred.zip', PRED)
    data = bytearray(pred.read_bytes())
    at = data.find(b'IDAT') + 6
    data[at] ^= 0xff
    pred.write_bytes(data)
    error = run_and_fail(tool, capsys, '--pred', pred, '--gt', gt)
    assert 'pred.zip/labels/a.png: cannot be unpacked (Bad CRC-32' in error


def test_two_maps_of_one_name_are_an_error(tool, tmp_path, capsys):
    pred = folder(tmp_path / 'pred', PRED)
    write_png(pred / 'again' / 'a.png', [[0]])
    gt = folder(tmp_path / 'gt', GT)
    assert 'two label maps are called a.png' in run_and_fail(tool, capsys, '--pred', pred, '--gt', gt)


def test_lists_and_class_files(tool, tmp_path, capsys):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    (tmp_path / 'ids.txt').write_text('a\n')
    (tmp_path / 'names.txt').write_text('background\ncat\ndog\n')
    (tmp_path / 'names.json').write_text('["cat", "dog"]')
    for names in ('names.txt', 'names.json'):
        tool.main(['--pred', str(pred), '--gt', str(gt), '--list', str(tmp_path / 'ids.txt'), '--classes',
                   str(tmp_path / names), '--jobs', '1'])
        out = capsys.readouterr().out
        assert 'images 1' in out and 'cat' in out and 'dog' in out and 'mIoU 50.00' in out
    (tmp_path / 'ids.txt').write_text('a\nb\na\n')
    sets = ('--pred', pred, '--gt', gt)
    args = (*sets, '--classes', 3)
    assert "image id 'a' is listed twice" in run_and_fail(tool, capsys, *args, '--list', tmp_path / 'ids.txt')
    assert 'no such file' in run_and_fail(tool, capsys, *args, '--list', tmp_path / 'no.txt')
    (tmp_path / 'ids.txt').write_text('zebra\n')
    assert 'zebra.png: missing' in run_and_fail(tool, capsys, *args, '--list', tmp_path / 'ids.txt')
    (tmp_path / 'names.txt').write_text('cat\ncat\n')
    assert "'cat' appears twice" in run_and_fail(tool, capsys, *sets, '--classes', tmp_path / 'names.txt')
    assert "Did you mean 'coco'" in run_and_fail(tool, capsys, *sets, '--classes', 'cocoo')


@pytest.mark.slow
@pytest.mark.skipif(not VOC_TRAIN.exists(), reason='the VOC labels are not beside the checkout')
def test_transcam_pseudo_labels_score_what_is_published(tool, tmp_path, capsys):
    tool.main(['--pred', str(VOC_TRAIN / 'transcam_pseudo_labels.zip'), '--gt', str(VOC_TRAIN / 'ground_truth.zip'),
               '--list', str(VOC_TRAIN / 'train.txt'), '--json', str(tmp_path / 'voc.json')])
    result = json.loads((tmp_path / 'voc.json').read_text())
    assert result['images'] == 1464 and round(result['mIoU'], 2) == 70.14


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_a_byte_order_mark_makes_no_difference(tool, tmp_path, capsys, encoding):
    pred, gt = folder(tmp_path / 'pred', PRED), folder(tmp_path / 'gt', GT)
    (tmp_path / 'names.txt').write_text('background\ncup\nball\n', encoding=encoding)
    (tmp_path / 'names.json').write_text('["background", "cup", "ball"]', encoding=encoding)
    (tmp_path / 'ids.txt').write_text('a\r\nsub\\b.png\r\n', encoding=encoding)
    tables = []
    for names in ('names.txt', 'names.json'):
        tool.main(['--pred', str(pred), '--gt', str(gt), '--classes', str(tmp_path / names), '--jobs', '1',
                   '--list', str(tmp_path / 'ids.txt')])
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] and tables[0].count('background') == 1 and '\nball ' in tables[0]


def test_text_in_another_encoding_names_file_and_line(tool, tmp_path, capsys):
    pred, gt = folder(tmp_path / 'pred', PRED), folder(tmp_path / 'gt', GT)
    (tmp_path / 'names.txt').write_bytes('cup\nkäse\n'.encode('cp1252'))
    message = run_and_fail(tool, capsys, '--pred', pred, '--gt', gt, '--classes', tmp_path / 'names.txt')
    assert f'{tmp_path}/names.txt, line 2: not UTF-8 text' in message and 'save it as UTF-8' in message


@pytest.mark.parametrize('first', ['_background_', '__background__', 'Background', 'BACKGROUND', 'void',
                                   '__ignore__\n_background_'])
@pytest.mark.parametrize('kind', ['txt', 'json'])
def test_a_name_for_label_0_may_come_first(tool, tmp_path, capsys, first, kind):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    names = [*first.split('\n'), 'cat', 'dog']
    path = tmp_path / f'names.{kind}'
    path.write_text(json.dumps(names) if kind == 'json' else '\n'.join(names))
    tool.main(['--pred', str(pred), '--gt', str(gt), '--classes', str(path), '--jobs', '1',
               '--json', str(tmp_path / 'o.json')])
    result = json.loads((tmp_path / 'o.json').read_text())
    assert [round(c['IoU']) for c in result['classes'].values()] == [60, 50, 50]
    assert list(result['classes']) == ['background', 'cat', 'dog']


@pytest.mark.parametrize('names, bad', [('cat\nbackground\ndog', 'background'), ('cat\ndog\nvoid', 'void'),
                                        ('__ignore__\ncat\ndog', '__ignore__'),
                                        ('void\nbackground\ncat', 'background')])
def test_a_name_for_the_background_among_the_classes_is_refused(tool, tmp_path, capsys, names, bad):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    (tmp_path / 'names.txt').write_text(names)
    told = run_and_fail(tool, capsys, '--pred', pred, '--gt', gt, '--classes', tmp_path / 'names.txt')
    assert f"names.txt: '{bad}' would be label" in told and 'leave it out' in told


def test_ground_truth_is_compared_with_a_table_of_names(tool, tmp_path, capsys):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    args = ['--pred', str(pred), '--gt', str(gt), '--classes', str(tmp_path / 'names.txt'), '--jobs', '1',
            '--json', str(tmp_path / 'o.json'), '--labels', str(tmp_path / 'labels.csv')]
    for line, wrong in (('in/a.jpg,cat\nb.jpg,dog\n', 0), ('in/a.jpg,dog\nb.jpg,dog\nunknown.jpg,cat\n', 1)):
        (tmp_path / 'labels.csv').write_text(f'image,classes\n{line}')
        tool.main(args)
        out = capsys.readouterr().out
        assert ('WARNING' in out) == bool(wrong) and json.loads((tmp_path / 'o.json').read_text())[
            'ground_truth_check'] | {'worst': []} == dict(images=2, disagreeing=wrong, unnamed=wrong, worst=[],
                                                          none_of_the_named=wrong, very_probably_wrong=bool(wrong))
    (tmp_path / 'labels.csv').write_text('image,classes\na.jpg,catt\n')
    assert "labels.csv: 'catt' is none of the classes. Did you mean 'cat'" in run_and_fail(tool, capsys, *args[:-4],
                                                                                         *args[-2:])


@pytest.mark.parametrize('masks, said', [([[0, 255], [0, 0]], '0 and 255 alone (255 on 25 % of the pixels)'),
                                         ([[255, 255]], '255 alone')])
def test_masks_that_draw_the_object_as_255_are_no_ground_truth(tool, tmp_path, capsys, masks, said):
    gt, pred = folder(tmp_path / 'gt', {'a': masks, 'b': masks}), folder(tmp_path / 'pred', {'a': masks, 'b': masks})
    told = run_and_fail(tool, capsys, '--pred', pred, '--gt', gt, '--classes', 3, '--json', tmp_path / 'o.json')
    assert f'ground truth {gt}: the masks hold {said}' in told and 'write labels 1..2' in told
    assert not (tmp_path / 'o.json').exists()


@pytest.mark.parametrize('truth, note', [([[0, 0, 0, 1, 255]], False), ([[0, 0, 1, 255]], True), ([[0, 0]], False)])
def test_much_ignored_is_told(tool, tmp_path, capsys, truth, note):
    gt, pred = folder(tmp_path / 'gt', {'a': truth}), folder(tmp_path / 'pred', {'a': np.zeros_like(truth)})
    tool.main(['--pred', str(pred), '--gt', str(gt), '--classes', '2', '--jobs', '1'])
    assert ('NOTE 25 % of the pixels of the ground truth are 255' in capsys.readouterr().out) == note


HEADERS = {'predictions.json': ['background', 'cat', 'dog'], 'seeds.json': ['cat', 'dog']}


@pytest.mark.parametrize('header', HEADERS)
@pytest.mark.parametrize('place', ['out', 'out/labels'])
def test_labels_that_say_what_they_are_of_name_the_classes(tool, tmp_path, capsys, header, place):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'out' / 'labels', PRED)
    path, names = tmp_path / place / header, tmp_path / 'names.txt'
    path.write_text(json.dumps(dict(classes=HEADERS[header])))
    args = ['--pred', str(pred), '--gt', str(gt), '--jobs', '1']
    tool.main([*args, '--json', str(tmp_path / 'o.json')])
    assert f'class names are those of {path}' in capsys.readouterr().out
    assert list(json.loads((tmp_path / 'o.json').read_text())['classes']) == ['background', 'cat', 'dog']
    for right in ('cat\ndog', 'background\ncat\ndog', 'cat\ndog\ncow', None):
        names.write_text(right or '')
        tool.main([*args, '--classes', str(names) if right else '3'])
        assert 'class names are' not in capsys.readouterr().out
    for wrong, how in (('dog\ncat', 'the same classes in another order'), ('cat\ncow', 'other classes')):
        names.write_text(wrong)
        told = run_and_fail(tool, capsys, *args, '--classes', names)
        assert f'{how} than {path} says' in told
        assert f'There: cat, dog; --classes: {wrong.replace(chr(10), ", ")}.' in told
    assert 'other classes than' in run_and_fail(tool, capsys, *args, '--classes', 2)


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"classes": null}', '{"classes": [1]}', '{"classes": ["x"]'])
def test_default_names_are_said_to_be_voc_s(tool, tmp_path, capsys, content):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    (pred / 'predictions.json').write_text(content)  # does not say, or is none of ours
    args = ['--pred', str(pred), '--gt', str(gt), '--jobs', '1']
    tool.main(args)
    out = capsys.readouterr().out
    assert "class names are VOC's 21" in out.splitlines()[0] and '--classes FILE' in out and 'aeroplane' in out
    tool.main([*args, '--classes', 'voc'])
    assert 'class names are' not in capsys.readouterr().out
    write_png(gt / 'a.png', [[0, 30], [1, 255]])
    with pytest.raises(SystemExit):
        tool.main(args)
    said = capsys.readouterr()
    assert "class names are VOC's 21" in said.out and 'labels [30] lie outside the 21 classes' in said.err


@pytest.mark.parametrize('table', ['image,classes\na.jpg,cat\n', 'Image\tclasses\na.jpg\tcat\n', 'a.jpg,cat;dog\nb.jpg',
                                   'image;classes\na.jpg;cat\n'])
def test_a_label_table_is_no_list_of_classes(tool, tmp_path, capsys, table):
    gt, pred = folder(tmp_path / 'gt', GT), folder(tmp_path / 'pred', PRED)
    (tmp_path / 'labels.csv').write_text(table)
    told = run_and_fail(tool, capsys, '--pred', pred, '--gt', gt, '--classes', tmp_path / 'labels.csv')
    assert 'labels.csv: begins with' in told and 'table of images' in told and 'give classes.txt' in told


@pytest.mark.parametrize(('name', 'text', 'message'), [
    ('c.txt', '# classes\ncat\ndog\n', 'is a comment'), ('c.txt', '0 background\n1 cat\n', 'numbers before the names'),
    ('c.csv', 'id,name\n1,cat\n2,dog\n', 'numbers before the names'),
    ('c.yaml', 'names:\n  0: cat\n', 'one class name per line')])
def test_lists_that_would_shift_the_labels_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f'{name}: .*{message}'):
        resolve_classes(str(tmp_path / name))


def test_a_list_of_label_numbers_begins_with_the_background(tmp_path):
    for text, names in (('0\n1\n2\n', ('1', '2')), ('1 euro\n2 euro\n', ('1 euro', '2 euro'))):
        (tmp_path / 'c.txt').write_text(text)
        assert resolve_classes(str(tmp_path / 'c.txt')) == ('background', *names)


def test_ground_truth_with_renumbered_palettes_is_told(tool, tmp_path, capsys):
    gt, pred = tmp_path / 'gt', folder(tmp_path / 'pred', {'a': [[0, 1]], 'b': [[0, 1]]})
    for name, colour in (('a', (128, 0, 0)), ('b', (0, 128, 0))):
        image = Image.fromarray(np.array([[0, 1]], np.uint8))
        image.putpalette([0, 0, 0, *colour])
        (gt / name).parent.mkdir(exist_ok=True)
        image.save(gt / f'{name}.png')
    tool.main(['--pred', str(pred), '--gt', str(gt), '--classes', '3', '--jobs', '1'])
    assert 'WARNING the palettes of the ground truth do not agree: label 1 is #800000' in capsys.readouterr().out


def test_a_folder_of_results_is_scored_by_its_labels(tool, tmp_path, capsys):
    folder(tmp_path / 'made' / 'labels', PRED)
    folder(tmp_path / 'made' / 'confidence', GT)
    (tmp_path / 'made' / 'predictions.json').write_text(json.dumps(dict(classes=['background', 'cup', 'table'])))
    tool.main(['--pred', str(tmp_path / 'made'), '--gt', str(folder(tmp_path / 'gt', GT)), '--jobs', '1'])
    said = capsys.readouterr().out
    assert f'class names are those of {tmp_path}/made/predictions.json' in said and '53.33' in said
