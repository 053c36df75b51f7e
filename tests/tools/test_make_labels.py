"""tools/make_labels.py: the labels that teach a trained model, for its own images and for photos with names."""
import json
import time
from pathlib import Path

import child_processes
import numpy as np
import pytest
import torch
from PIL import Image
from two_ranks import run_on_two

from weclip_sam.datasets.shapes.reader import ShapesReader
from weclip_sam.engine import safe_load
from weclip_sam.engine.start.restore import restore_model
from weclip_sam.foundation.named_sam import named_generator
from weclip_sam.io.identity import identify
from weclip_sam.mask_bank import MaskBank
from weclip_sam.models.labelling import final_labels
from weclip_sam.models.refine import SamAtTest
from weclip_sam.offline.results import open_labels
from weclip_sam.registry import DATASETS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkpoint(labelling_run):
    return labelling_run / 'iter_400.pth'


@pytest.fixture
def make(run_tool, checkpoint, capsys):
    """A function: runs the tool; returns its exit code and what it told."""
    def run(*args, checkpoint=checkpoint):
        code = run_tool('make_labels', checkpoint, *args, '--device', 'cpu')
        return code, capsys.readouterr()
    return run


@pytest.fixture
def scenes(tmp_path):
    """Three scenes of another split as PNGs, one of them large, with a table."""
    return write_scenes(tmp_path / 'photos')


@pytest.fixture(scope='module')
def whole(run_tool, labelling_run, tmp_path_factory):
    """Their labels, of a run that nothing disturbed, in a folder ``whole`` beside the scenes ``photos``."""
    folder = tmp_path_factory.mktemp('undisturbed')
    scenes = write_scenes(folder / 'photos')
    assert run_tool('make_labels', labelling_run / 'iter_400.pth', scenes, '--out', folder / 'whole', '--device',
                    'cpu') == 0
    return folder / 'whole'


def write_scenes(root):
    reader = ShapesReader('tune', 3)
    (root / 'sub').mkdir(parents=True)
    rows = ['image,classes']
    for index, record in enumerate(reader.records):
        picture = reader.load_image(index)
        name = f'{"sub/" if index == 2 else ""}s{index}.png'
        picture.resize((168, 168) if index == 1 else picture.size).save(root / name)
        rows.append(f'{name},{";".join(reader.vocabulary.classes[c] for c in record.classes)}')
    (root / 'labels.csv').write_text('\n'.join(rows))
    return root


def record_of(out):
    return json.loads((out / 'predictions.json').read_text())


def test_labels_of_the_images_that_a_model_was_trained_on(make, checkpoint, tmp_path):
    out = tmp_path / 'out'
    code, told = make('--out', out)
    assert code == 0 and '3 of 3 images labelled' in told.out and 'made live for 3 of 3 images' in told.out
    folder, record = open_labels(out), record_of(out)
    assert record['product'] == 'labels' and record['split'] == 'train' and len(folder) == 3
    model, config, meta = restore_model(checkpoint, labels=True)
    dataset = DATASETS.build(dict(type='ImageLabelDataset', reader=config.train_dataloader.dataset.reader,
                                  pipeline=[dict(type='PackSample', original=True)]))
    for index, one in enumerate(folder):
        item = dataset[index]
        made = final_labels(model, item['inputs'], item['data_samples'], SamAtTest(config.mask_generator))
        assert np.array_equal(folder.read(one), made.labels.numpy())
        assert np.array_equal(np.asarray(Image.open(one.confidence)), (255 * made.confidence).round().byte().numpy())
        for name, other in made.doubts.items():
            assert np.array_equal(folder.read_doubts(one)[name], other.numpy())
            assert one.doubts[name] == pytest.approx(float(other.float().mean()), abs=1e-6)
        assert set(one.names) == {meta['classes'][c] for c in dataset.records[index].classes} == set(one.named)
        assert np.array_equal(np.asarray(Image.open(one.image)), np.asarray(dataset.load_image(index)))


@pytest.mark.slow
def test_masks_of_a_bank_are_taken_and_give_the_same_labels(make, run_tool, labelling_run, tmp_path):
    make('--out', tmp_path / 'live')
    bank, config = tmp_path / 'bank', ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py'
    assert run_tool('make_masks', config, '--out', bank, '--cfg-options',
                    'train_dataloader.dataset.reader.num_images=3') == 0
    options = ('--cfg-options', f'mask_bank={bank}', f'train_dataloader.dataset.mask_bank={bank}',
               f'seed_dataset.mask_bank={bank}')
    code, told = make('--out', tmp_path / 'banked', *options)
    assert code == 0 and 'all from a bank' in told.out
    for path in (tmp_path / 'live' / 'labels').iterdir():
        assert path.read_bytes() == (tmp_path / 'banked' / 'labels' / path.name).read_bytes()
    code, told = make('--out', tmp_path / 'named', '--sam', 'tiny', *options)  # the SAM of the config: its bank, too
    assert code == 0 and 'all from a bank' in told.out


def test_photos_with_a_table(make, scenes, tmp_path):
    out = tmp_path / 'out'
    code, told = make(scenes, '--out', out)
    assert code == 0 and '3 of 3 images labelled' in told.out
    folder = open_labels(out)
    assert [one.name for one in folder] == ['s0', 's1', 'sub/s2']
    table = dict(line.split(',') for line in (scenes / 'labels.csv').read_text().splitlines()[1:])
    for one in folder:
        relative = one.image.relative_to(scenes).as_posix()
        named = set(table[relative].split(';'))
        labels = folder.read(one)
        assert labels.shape == Image.open(one.image).size[::-1] and set(one.names) == named
        assert {folder.classes[label] for label in np.unique(labels)} <= named | {'background'}
    assert not (out / 'photos').exists() and make(scenes, '--out', out)[1].out.count('3 found') == 1


def test_masks_of_a_photo_are_recognised_by_its_content(make, scenes, tmp_path):
    bank = tmp_path / 'bank'
    with MaskBank(bank) as masks:
        rgb = torch.from_numpy(np.array(Image.open(scenes / 's0.png').convert('RGB'))).permute(2, 0, 1)
        masks.put('s0', SamAtTest(named_generator('tiny')).masks(rgb), photo=identify(scenes / 's0.png'))
    code, told = make(scenes / 's0.png', scenes / 's1.png', '--labels', scenes / 'labels.csv', '--out',
                      tmp_path / 'out', '--cfg-options', f'mask_bank={bank}')
    assert code == 0 and 'made live for 1 of 2 images' in told.out


@pytest.mark.slow
def test_sam_and_crf_refine_labels_among_the_named_classes(make, whole, tmp_path):
    plain, refined, scenes = whole, tmp_path / 'refined', whole.parent / 'photos'
    code, told = make(scenes, '--out', refined, '--sam', '--crf')
    assert code == 0 and record_of(refined)['sam'] is True and record_of(refined)['crf'] is True
    changed = 0
    for one, before in zip(open_labels(refined), open_labels(plain), strict=True):
        labels = open_labels(refined).read(one)
        changed += int((labels != open_labels(plain).read(before)).sum())
        assert {open_labels(refined).classes[label] for label in np.unique(labels)} <= {'background', *one.names}
    assert changed > 0
    assert 'made in another way' in make(scenes, '--out', refined)[1].err


def test_stopped_and_started_again(make, whole, run_slowly, checkpoint, tmp_path):
    out, scenes = tmp_path / 'out', whole.parent / 'photos'
    run_slowly('make_labels', checkpoint, scenes, '--out', out, '--device', 'cpu', seconds=0, stop_at=2)
    assert len(list((out / 'labels').rglob('*.png'))) == 2 and record_of(out)['images'] == []
    code, told = make(scenes, '--out', out)
    assert code == 0 and '1 of 3 images labelled' in told.out and '2 found' in told.out
    assert record_of(out)['images'] == record_of(whole)['images']
    for path in whole.rglob('*.png'):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes()


@pytest.mark.slow
def test_killed_anywhere_and_started_again(make, whole, checkpoint, tmp_path):
    killed, scenes = tmp_path / 'killed', whole.parent / 'photos'
    child = child_processes.start([ROOT / 'tools' / 'make_labels.py', checkpoint, scenes, '--out', killed,
                                   '--device', 'cpu'])
    deadline = time.monotonic() + 120
    while not list(killed.rglob('*.png')) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child_processes.kill(child)
    assert make(scenes, '--out', killed)[0] == 0
    assert record_of(killed)['images'] == record_of(whole)['images'] and not list(killed.rglob('*.tmp'))
    for path in whole.rglob('*.png'):
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes()


@pytest.mark.slow
def test_two_processes_share_the_photos(whole, checkpoint, tmp_path):
    shared = tmp_path / 'shared'
    ended, = run_on_two([[ROOT / 'tools' / 'make_labels.py', checkpoint, whole.parent / 'photos', '--out', shared,
                          '--launcher', 'pytorch', '--device', 'cpu']], tmp_path)
    assert [code for code, _ in ended] == [0, 0], ended
    assert record_of(shared)['images'] == record_of(whole)['images']
    for path in whole.rglob('*.png'):
        assert path.read_bytes() == (shared / path.relative_to(whole)).read_bytes()


@pytest.mark.slow
def test_what_cannot_be(make, scenes, tmp_path):
    table, out = scenes / 'labels.csv', tmp_path / 'out'
    rows, reader = table.read_text(), dict(_delete_=1, type='FolderReader', data_root=str(scenes))
    for given, content, message in (
            ([scenes, '--labels', tmp_path / 'none.csv'], rows, 'none.csv: no such file'),
            ([scenes / 's0.png'], rows, 'give the table of the photos, --labels FILE'),
            (['--labels', table], rows, 'of which photos?'),
            ([scenes], rows.replace('sub/s2.png,', 'z.png,'), 'does not name 1 of the 3 photos'),
            ([scenes], rows + ';zebra', "image 'sub/s2.png': the model knows no class 'zebra'. It knows 10: bird"),
            ([scenes, '--sam', 'vit_x'], rows, "--sam vit_x: expected one of"),
            (['--split', 'nowhere'], rows, 'invalid choice'),
            ([scenes, '--cfg-options', 'mask_generator=None'], rows, 'Name one: --sam tiny, --sam vit_b, --sam FILE'),
            (['--cfg-options', f'train_dataloader.dataset.reader={json.dumps(reader)}'], rows,
             'was trained on the classes bird, boat')):
        table.write_text(content)
        code, told = make(*given, '--out', out)
        assert code == 2 and message in told.err, told.err
        assert 'Traceback' not in told.err and not (out / 'labels').exists()
    table.write_text(rows)
    (tmp_path / 'bad.png').write_bytes(b'nothing')
    (scenes / 'bad.png').write_bytes(b'nothing')
    table.write_text(rows + '\nbad.png,cat')
    code, told = make(scenes, '--out', out)
    assert code == 1 and '3 of 4 images labelled' in told.out and 'bad.png: not a readable image' in told.out
    assert list(record_of(out)['failed']) == [str(scenes / 'bad.png')]


def test_a_model_that_makes_no_labels_says_so(make, checkpoint, tmp_path):
    content = safe_load(checkpoint)
    settings = content['meta']['settings']
    settings['model'] = {**settings['model'], 'seeds': None, 'labels': 'offline'}
    torch.save(content, tmp_path / 'offline.pth')
    code, told = make('--out', tmp_path / 'out', checkpoint=tmp_path / 'offline.pth')
    assert code == 2 and 'learnt from labels that were made before' in told.err and told.err.count('\n') == 1
    settings['model'] = {**safe_load(checkpoint)['meta']['settings']['model']}
    settings['train_dataloader']['dataset']['reader'] = {'type': 'subprocess.Popen', 'args': ['true']}
    torch.save(content, tmp_path / 'evil.pth')
    code, told = make('--out', tmp_path / 'out', checkpoint=tmp_path / 'evil.pth')
    assert code == 2 and 'refused' in told.err and 'Nothing was executed' in told.err
