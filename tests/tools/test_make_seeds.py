"""Pseudo labels and mask banks for whole splits: complete, resumable, shared out, honest about failures."""
import errno
import importlib.util
import json
import os
import shutil
import time
from pathlib import Path

import child_processes
import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline.seed_folder import claim_folder

ROOT = Path(__file__).parents[2]
CARD = {'embed_dim': 16, 'quick_gelu': True,
        'vision_cfg': {'image_size': 32, 'layers': 3, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
NAMES = ['cat', 'dog', 'bus']
CONFIG = """
data_root = {root!r}
_reader = dict(type='FolderReader', data_root=data_root, classes=['cat', 'dog', 'bus'])
train_dataloader = dict(dataset=dict(type='ImageLabelDataset', reader=_reader))
val_dataloader = dict(dataset=dict(type='ImageLabelDataset', reader=dict(_reader, labels='val.csv')))
seed_dataset = dict(pipeline=[dict(type='ResizeToMultiple', divisor=8), dict(type='PackSample')])
mask_bank = {root!r} + '/bank_train'
mask_dataset = 'photos'
mask_generator = dict(type='MaskGenerator', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'),
                      points_per_side=3, pred_iou_thresh=0.2, stability_thresh=0.2, min_region_area=4)
model = dict(type='SeedMaker', clip=dict(type='FrozenClip', arch={card!r}, checkpoint='random'),
             seeds=[dict(type='GradCam'), dict(type='AttentionAffinity', layers=2), dict(type='PixelLabels')])
"""


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f'{name}_tool', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(name, *args):
    """The tool's exit code."""
    with pytest.raises(SystemExit) as stop:
        load_tool(name).main([str(a) for a in args])
    return stop.value.code


@pytest.fixture
def photos(tmp_path):
    """Eight small photographs, sides no multiple of the patch, one without a label; and ground truth."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'photos'
    (root / 'images').mkdir(parents=True)
    lines = ['image,classes']
    for i in range(8):
        size = (35 + i, 41 - i, 3)
        smooth = np.kron(rng.integers(0, 255, (5, 5, 3)), np.ones((9, 9, 1)))[:size[0], :size[1]]
        Image.fromarray(smooth.astype(np.uint8)).save(root / 'images' / f'p{i}.png')
        names = ['', 'cat', 'dog;bus', 'bus', 'cat;dog', 'dog', 'cat;dog;bus', 'bus;cat'][i]
        lines.append(f'p{i}.png,{names}')
        write_labels(root / 'masks' / f'p{i}.png', rng.integers(0, 4, size[:2]))
    (root / 'labels.csv').write_text('\n'.join(lines) + '\n')
    (root / 'val.csv').write_text('image,classes\np1.png,cat\np2.png,dog\n')
    card, config = tmp_path / 'card.json', tmp_path / 'photos_config.py'
    card.write_text(json.dumps(CARD))
    config.write_text(CONFIG.format(root=str(root), card=str(card)))
    return root, config


def files_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.glob('*.png'))}


def summary_of(folder):
    return json.loads((folder / 'summary.json').read_text())


def test_labels_of_a_split_have_the_size_of_the_files(photos, tmp_path, capsys):
    root, config = photos
    out = tmp_path / 'out'
    for mask in (root / 'masks').iterdir():
        mask.write_bytes(b'whoever opens this fails')  # without --evaluate nobody does
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0
    assert len(files_of(out)) == 8 and not list(out.rglob('*.tmp'))
    for i in range(8):
        labels = read_labels(out / f'p{i}.png', 3, (35 + i, 41 - i))
        allowed = {0: {0}, 1: {0, 1}, 2: {0, 2, 3}}.get(i, {0, 1, 2, 3})
        assert set(np.unique(labels)) <= allowed
        assert Image.open(out / f'p{i}.png').getpalette()[3:6] == [128, 0, 0]
    with np.load(out / 'scores' / 'p2.npz', allow_pickle=False) as scores:
        assert scores['labels'].tolist() == [2, 3] and scores['scores'].shape == (2, 5, 5)
        assert scores['scores'].dtype == np.float16 and 0 <= scores['scores'].min() <= scores['scores'].max() <= 1
    summary = summary_of(out)
    assert (summary['made'], summary['found'], summary['failed'], summary['images']) == (8, 0, {}, 8)
    stages = ['load', 'encode', 'GradCam', 'AttentionAffinity', 'PixelLabels', 'write']
    assert list(summary['seconds_per_image']) == stages
    assert 'evaluation' not in summary and '8 labels made' in capsys.readouterr().out


def test_what_is_missing_or_damaged_is_made_again_to_the_same_bytes(photos, tmp_path):
    root, config = photos
    out = tmp_path / 'out'
    run_tool('make_seeds', config, '--out', out)
    before = files_of(out)
    (out / 'p1.png').unlink()
    (out / 'p3.png').write_bytes(before['p3.png'][:40])
    write_labels(out / 'p4.png', np.zeros((3, 3), int))
    write_labels(out / 'p5.png', np.full((40, 36), 9))
    (out / '.p7.png.zzz.tmp').write_bytes(b'left by a kill')
    kept = (out / 'p6.png').stat().st_mtime_ns
    assert run_tool('make_seeds', config, '--out', out) == 0
    assert files_of(out) == before and (out / 'p6.png').stat().st_mtime_ns == kept
    assert (summary_of(out)['made'], summary_of(out)['found']) == (4, 4) and not list(out.glob('.*.tmp'))
    (out / 'scores').mkdir()
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0  # labels without scores are not done
    assert summary_of(out)['made'] == 8 and files_of(out) == before


@pytest.fixture
def disk_full_at(monkeypatch):
    """A function: the disk is full once ``wanted()`` says so."""
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    fsync = os.fsync

    def arrange(patch, wanted):
        def full(handle):
            if wanted():
                raise OSError(errno.ENOSPC, 'No space left on device')
            fsync(handle)
        patch.setattr(os, 'fsync', full)
    return arrange


def test_a_full_disk_ends_seed_making_with_whole_labels(photos, tmp_path, capsys, monkeypatch, disk_full_at):
    root, config = photos
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    run_tool('make_seeds', config, '--out', whole)
    with monkeypatch.context() as patch:
        disk_full_at(patch, lambda: any(out.glob('.p3.png.*.tmp')))
        assert run_tool('make_seeds', config, '--out', out) == 2
    assert f'error: {out}/p3.png: cannot be written, the disk is full' in capsys.readouterr().err
    assert files_of(out) == {f'p{i}.png': files_of(whole)[f'p{i}.png'] for i in range(3)}
    assert not list(out.rglob('*.tmp'))
    assert run_tool('make_seeds', config, '--out', out) == 0 and files_of(out) == files_of(whole)


def test_a_full_disk_ends_mask_making_with_whole_records(photos, tmp_path, capsys, monkeypatch, disk_full_at):
    root, config = photos
    out, calls = tmp_path / 'bank', []
    with monkeypatch.context() as patch:
        disk_full_at(patch, lambda: any(out.glob('shard-*')) and (calls.append(1) or len(calls) == 4))
        assert run_tool('make_masks', config, '--out', out) == 2
    error = capsys.readouterr().err
    assert f'error: {out}/shard-' in error and 'cannot be written, the disk is full' in error
    assert MaskBank(out, mode='r').ids() == ['p0', 'p1', 'p2']
    assert run_tool('make_masks', config, '--out', out) == 0
    lines = [line for path in out.glob('shard-*.masks') for line in path.read_bytes().splitlines()]
    assert sorted(json.loads(line[9:])['id'] for line in lines) == [f'p{i}' for i in range(8)]


def test_what_killed_writers_left_is_removed_wherever_they_wrote(photos, tmp_path):
    root, config = photos
    out, bank = tmp_path / 'out', tmp_path / 'bank'
    for path in (out / '.seeds.json.x.tmp', out / '.p1.png.x.tmp', out / 'scores' / '.p1.npz.x.tmp',
                 bank / '.bank.json.x.tmp', bank / '.summary.json.x.tmp'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'half')
    assert run_tool('make_seeds', config, '--out', out) == run_tool('make_masks', config, '--out', bank) == 0
    assert not [*out.rglob('*.tmp'), *bank.rglob('*.tmp')]


@pytest.mark.slow
def test_killed_anywhere_and_started_again(photos, tmp_path):
    root, config = photos
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    run_tool('make_seeds', config, '--out', whole)

    for enough in (1, 4):
        child = child_processes.start([ROOT / 'tools' / 'make_seeds.py', config, '--out', killed])
        deadline = time.monotonic() + 60
        while len(list(killed.glob('*.png'))) < enough and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        child_processes.kill(child)
        for path in killed.glob('*.png'):
            assert path.read_bytes() == (whole / path.name).read_bytes()  # never a torn file under its final name
    assert run_tool('make_seeds', config, '--out', killed) == 0
    assert files_of(killed) == files_of(whole) and summary_of(killed)['found'] >= 4


@pytest.mark.slow
def test_two_processes_share_the_images(photos, tmp_path):
    root, config = photos
    whole, shared, bank = tmp_path / 'whole', tmp_path / 'shared', tmp_path / 'bank'
    run_tool('make_seeds', config, '--out', whole)
    for tool, out, *options in (('make_seeds.py', shared, '--evaluate'), ('make_masks.py', bank)):
        child_processes.run(child_processes.torchrun(ROOT / 'tools' / tool, config, '--out', out, '--launcher',
                                                     'pytorch', *options), timeout=120)
    assert files_of(shared) == files_of(whole)
    summary = summary_of(shared)
    assert summary['processes'] == 2 and summary['made'] == 8 and summary['evaluation']['images'] == 8
    assert summary_of(bank)['made'] == 8 and len(list(bank.glob('shard-*.masks'))) == 2


def test_bad_images_are_recorded_and_the_rest_goes_on(photos, tmp_path, capsys):
    root, config = photos
    out = tmp_path / 'out'
    data = (root / 'images' / 'p2.png').read_bytes()
    (root / 'images' / 'p2.png').write_bytes(data[:len(data) // 2])
    assert run_tool('make_seeds', config, '--out', out, '--evaluate') == 1
    summary = summary_of(out)
    assert list(summary['failed']) == ['p2'] and 'p2.png: not a readable image' in summary['failed']['p2']
    scores = summary['evaluation']
    assert summary['made'] == 7 and (scores['images'], scores['images_without_seed']) == (7, 1)
    assert 'failed: p2:' in capsys.readouterr().out
    (root / 'images' / 'p2.png').write_bytes(data)
    assert run_tool('make_seeds', config, '--out', out) == 0
    assert (summary_of(out)['made'], summary_of(out)['found'], summary_of(out)['failed']) == (1, 7, {})


def test_a_fault_of_the_config_is_not_blamed_on_every_image(photos, tmp_path, capsys, monkeypatch):
    from weclip_sam.offline import seed_making
    monkeypatch.setattr(seed_making, 'PATIENCE', 3)
    root, config = photos
    options = ['--cfg-options', 'model.seeds.2.type=Par']
    assert run_tool('make_seeds', config, '--out', tmp_path / 'out', *options) == 2
    error = capsys.readouterr().err
    assert 'the first 3 images all failed' in error and 'must end in labels' in error
    assert run_tool('make_seeds', config, '--split', 'tune', '--out', tmp_path / 'tune') == 2
    assert 'has no tune_dataset (its splits: train, val)' in capsys.readouterr().err
    assert run_tool('make_seeds', config, '--out', tmp_path / 'sepl', '--cfg-options', 'model.clip=None') == 2
    assert "GradCam looks at CLIP's features" in capsys.readouterr().err


def test_labels_of_two_settings_are_never_mixed(photos, tmp_path, capsys):
    root, config = photos
    out = tmp_path / 'out'
    run_tool('make_seeds', config, '--out', out)
    before = files_of(out)
    other = ['--cfg-options', 'model.seeds.1.threshold=0.9']
    assert run_tool('make_seeds', config, '--out', out, *other) == 2
    error = capsys.readouterr().err
    assert 'seeds.json' in error and '--overwrite' in error and files_of(out) == before
    assert run_tool('make_seeds', config, '--out', out, '--split', 'val') == 2
    assert run_tool('make_seeds', config, '--out', out, '--overwrite', *other) == 0
    assert summary_of(out)['made'] == 8
    foreign = tmp_path / 'foreign'
    write_labels(foreign / 'p1.png', np.zeros((4, 4), int))
    assert run_tool('make_seeds', config, '--out', foreign) == 2
    assert 'nobody knows what made them' in capsys.readouterr().err
    (out / 'seeds.json').write_text('[]')
    assert run_tool('make_seeds', config, '--out', out, *other) == 2


@pytest.fixture
def twins(photos, tmp_path):
    """Another folder with files, sizes and labels of the same names, but other pictures, and its options."""
    root, config = photos
    twin = tmp_path / 'twin'
    shutil.copytree(root, twin)
    for path in (twin / 'images').iterdir():
        Image.fromarray(255 - np.array(Image.open(path))).save(path)
    return twin, ['--cfg-options', *(f'{loader}_dataloader.dataset.reader.data_root={twin}' for loader in
                                     ('train', 'val'))]


def test_masks_of_other_images_with_the_same_names_are_not_reused(photos, twins, tmp_path, capsys):
    root, config = photos
    twin, options = twins
    bank, start = tmp_path / 'bank', tmp_path / 'start'
    assert run_tool('make_masks', config, '--out', bank) == 0
    assert json.loads((bank / 'bank.json').read_text())['image_folder'] == str(root / 'images')
    before = {path: path.read_bytes() for path in bank.iterdir()}
    assert run_tool('make_masks', config, '--out', bank, *options) == 2
    error = capsys.readouterr().err
    assert f'{bank}/bank.json: ' in error and f'{root}/images, but the images are in {twin}/images' in error
    assert before == {path: path.read_bytes() for path in bank.iterdir()}
    text = config.read_text()
    merging = tmp_path / 'sepl_config.py'
    merging.write_text(text[:text.index('model = dict(')] + "model = dict(type='SeedMaker', seeds=["
                       "dict(type='SeplMerge')])")
    for i in range(8):
        write_labels(start / f'p{i}.png', np.zeros((35 + i, 41 - i), int))
    arguments = [merging, '--out', tmp_path / 'sepl', '--labels', start]
    assert run_tool('make_seeds', *arguments, *options, f'mask_bank={bank}') == 2  # whoever reads masks is told, too
    assert 'this bank was made for images in' in capsys.readouterr().err
    assert run_tool('make_seeds', *arguments, '--cfg-options', f'mask_bank={bank}') == 0
    link = tmp_path / 'link'
    link.symlink_to(root)
    other_way = f'train_dataloader.dataset.reader.data_root={link}'
    assert run_tool('make_masks', config, '--out', bank, '--cfg-options', other_way) == 0
    assert summary_of(bank)['found'] == 8


def test_seeds_of_other_images_with_the_same_names_are_not_reused(photos, twins, tmp_path, capsys):
    root, config = photos
    twin, options = twins
    out = tmp_path / 'out'
    assert run_tool('make_seeds', config, '--out', out) == 0
    before = files_of(out)
    assert run_tool('make_seeds', config, '--out', out, *options) == 2
    error = capsys.readouterr().err
    assert f'{out}/seeds.json: ' in error and f'the images are in {twin}/images' in error and '--out' in error
    assert files_of(out) == before
    header = out / 'seeds.json'
    header.write_text(header.read_text().replace(f'{root}/images', f'{twin}/images'))  # 'moved', as the error says
    assert run_tool('make_seeds', config, '--out', out, *options) == 0 and summary_of(out)['found'] == 8
    assert run_tool('make_seeds', config, '--out', out) == 2
    assert run_tool('make_seeds', config, '--out', out, '--overwrite') == 0 and files_of(out) == before


def test_a_corrected_label_makes_the_seed_of_that_image_anew(photos, tmp_path, capsys):
    root, config = photos
    out = tmp_path / 'out'
    table = root / 'labels.csv'
    lines = table.read_text()
    table.write_text(lines.replace('p7.png,bus;cat\n', ''))
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0
    table.write_text(lines.replace('p1.png,cat', 'p1.png,dog'))
    capsys.readouterr()
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0
    assert (summary_of(out)['made'], summary_of(out)['found']) == (2, 6)
    assert 'the classes of 1 images, for example p1,' in capsys.readouterr().out
    assert set(np.unique(read_labels(out / 'p1.png', 3))) <= {0, 2}
    with np.load(out / 'scores' / 'p1.npz', allow_pickle=False) as scores:
        assert scores['labels'].tolist() == [2]
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0 and summary_of(out)['found'] == 8


@pytest.fixture
def merging(photos, tmp_path):
    """A config that merges anybody's labels with SAM masks that are there, and a folder of such labels."""
    root, config = photos
    assert run_tool('make_masks', config) == 0
    text = config.read_text()
    path, start = tmp_path / 'sepl_config.py', tmp_path / 'start'
    path.write_text(text[:text.index('model = dict(')] + "model = dict(type='SeedMaker', seeds=["
                    "dict(type='SeplMerge')])")
    for i in range(8):
        write_labels(start / f'p{i}.png', np.full((35 + i, 41 - i), i % 4))
    return path, start


def test_a_replaced_input_makes_the_seed_of_that_image_anew(merging, tmp_path, capsys):
    config, start = merging
    out, arguments = tmp_path / 'out', ['--labels', start, '--out', tmp_path / 'out']
    assert run_tool('make_seeds', config, *arguments) == 0
    before = files_of(out)
    write_labels(start / 'p0.png', np.full((35, 41), 3))
    write_labels(start / 'p2.png', np.full((37, 39), 1))
    (out / 'p5.png').unlink()
    capsys.readouterr()
    assert run_tool('make_seeds', config, *arguments) == 0
    assert (summary_of(out)['made'], summary_of(out)['found']) == (3, 5)
    assert 'the labels to start from of 2 images, for example p0,' in capsys.readouterr().out
    changed = {name for name, content in files_of(out).items() if content != before[name]}
    assert changed == {'p0.png', 'p2.png'} and set(np.unique(read_labels(out / 'p2.png'))) <= {0, 1}
    assert run_tool('make_seeds', config, *arguments) == 0 and summary_of(out)['found'] == 8
    (start / 'p1.png').unlink()  # what is gone says nothing against what was made of it
    assert run_tool('make_seeds', config, *arguments) == 0 and summary_of(out)['found'] == 8


def test_labels_made_before_their_inputs_were_kept_are_believed(merging, tmp_path):
    config, start = merging
    out, arguments = tmp_path / 'out', ['--labels', start, '--out', tmp_path / 'out']
    run_tool('make_seeds', config, *arguments)
    header = json.loads((out / 'seeds.json').read_text())
    assert sorted(header.pop('input_labels')) == [f'p{i}' for i in range(8)]
    (out / 'seeds.json').write_text(json.dumps(header))
    assert run_tool('make_seeds', config, *arguments) == 0 and summary_of(out)['found'] == 8
    write_labels(start / 'p6.png', np.zeros((41, 35), int))
    assert run_tool('make_seeds', config, *arguments) == 0 and summary_of(out)['made'] == 1  # known from now on


def test_images_made_in_memory_have_no_place(tmp_path, monkeypatch):
    from weclip_sam.registry import READERS
    scenes = READERS.build(dict(type='ShapesReader', num_images=2))
    place = scenes.image_folder
    monkeypatch.setattr('weclip_sam.datasets.shapes.reader.DATA_SET_SCENES', dict(scale=(0.5, 1.0)))
    assert place.startswith('procedural scenes ') and scenes.image_folder != place
    claim_folder(tmp_path, dict(fingerprint='f'))  # as before places were kept
    assert claim_folder(tmp_path, dict(fingerprint='f', image_folder=None)) == {}
    with pytest.raises(ValueError, match='no known place'):
        claim_folder(tmp_path, dict(fingerprint='f', image_folder='/a'))


def test_evaluation_counts_what_is_written(photos, tmp_path, capsys):
    root, config = photos
    out = tmp_path / 'out'
    options = ['--cfg-options', 'model.seeds.2.min_confidence=0.6']
    assert run_tool('make_seeds', config, '--split', 'train', '--out', out, '--evaluate', *options) == 0
    hits, union, ignored, pixels = np.zeros(4), np.zeros(4), 0, 0
    for path in out.glob('*.png'):
        labels, truth = read_labels(path), read_labels(root / 'masks' / path.name)
        ignored, pixels = ignored + (labels == 255).sum(), pixels + labels.size
        labels = np.where(labels == 255, 0, labels)
        hits += [((labels == c) & (truth == c)).sum() for c in range(4)]
        union += [((labels == c) | (truth == c)).sum() for c in range(4)]
    scores = summary_of(out)['evaluation']
    assert scores['mIoU'] == pytest.approx(100 * (hits / union).mean()) and scores['images'] == 8
    assert scores['ignored_share'] == pytest.approx(ignored / pixels) and 0 < ignored < pixels
    assert [scores['classes'][name]['IoU'] for name in NAMES] == pytest.approx(list(100 * hits / union)[1:])
    assert 'of the pixels are ignored (255)' in capsys.readouterr().out


def run_slowly(monkeypatch, tool, *args, seconds, stop_at=None):
    """A run with ``seconds`` spent on every image, interrupted at image ``stop_at``; its exit code."""
    load = ImageLabelDataset.load_image

    def slow(self, index):
        if index == stop_at:
            raise KeyboardInterrupt
        time.sleep(seconds)
        return load(self, index)
    with monkeypatch.context() as patch:
        patch.setattr(ImageLabelDataset, 'load_image', slow)
        return run_tool(tool, *args)


@pytest.mark.parametrize('tool', ['make_seeds', 'make_masks'])
def test_the_time_of_all_runs_is_added_up(photos, tmp_path, monkeypatch, tool):
    root, config = photos
    args = (config, '--out', tmp_path, *(['--batch-size', '1'] if tool == 'make_masks' else []))
    assert run_slowly(monkeypatch, tool, *args, seconds=0.2, stop_at=5) == 130
    kept = json.loads((tmp_path / 'seconds.json').read_text())
    assert not (tmp_path / 'summary.json').exists() and 1 < kept['wall_seconds_of_all_runs'] < 20
    began = time.monotonic()
    assert run_slowly(monkeypatch, tool, *args, seconds=0.01) == 0
    took, first = time.monotonic() - began, summary_of(tmp_path)
    assert (first['made'], first['found']) == (3, 5) and 0.03 < first['wall_seconds'] < took
    assert first['wall_seconds_of_all_runs'] == pytest.approx(kept['wall_seconds_of_all_runs'] + first['wall_seconds'])
    assert not (tmp_path / 'seconds.json').exists()
    assert run_tool(tool, *args) == 0
    again = summary_of(tmp_path)
    assert again['wall_seconds_of_all_runs'] == pytest.approx(
        first['wall_seconds_of_all_runs'] + again['wall_seconds']) and again['made'] == 0
    if tool == 'make_seeds':
        assert run_tool(tool, *args, '--overwrite') == 0
        again = summary_of(tmp_path)
        assert again['wall_seconds_of_all_runs'] == again['wall_seconds']  # what they took is all that counts


def test_a_kill_takes_no_more_than_the_last_seconds_away(tmp_path):
    from weclip_sam.offline.shards import WorkTime
    WorkTime(tmp_path, 'masks', 100.0, time.monotonic() - 50).tick()  # and it is killed: nothing else is called
    assert 150 <= WorkTime(tmp_path, 'masks', 100.0).earlier < 200
    assert WorkTime(tmp_path, 'others', 3.0).earlier == 3 and WorkTime(tmp_path, 'masks', 500.0).earlier == 500
    (tmp_path / 'seconds.json').write_text('[1')
    assert WorkTime(tmp_path, 'masks', 7.0).earlier == 7


def test_seconds_of_masks_are_told_by_stage(photos, tmp_path, monkeypatch, capsys):
    root, config = photos
    assert run_slowly(monkeypatch, 'make_masks', config, '--out', tmp_path, seconds=0.1) == 0
    seconds = summary_of(tmp_path)['seconds_per_image']
    assert list(seconds) == ['load', 'segment', 'write'] and seconds['load'] > 0.1 > seconds['write'] > 0
    assert 'ms per image: load ' in capsys.readouterr().out
    total = 8 * sum(seconds.values())
    assert 0.8 < total < summary_of(tmp_path)['wall_seconds']  # the start is nobody's share
    assert run_tool('make_masks', config, '--out', tmp_path) == 0 and summary_of(tmp_path)['seconds_per_image'] == {}


def test_masks_that_nobody_timed_have_no_time(photos, tmp_path):
    root, config = photos
    run_tool('make_masks', config, '--out', tmp_path)
    summary = summary_of(tmp_path)
    del summary['wall_seconds_of_all_runs']  # as it was written before
    (tmp_path / 'summary.json').write_text(json.dumps(summary))
    assert run_tool('make_masks', config, '--out', tmp_path) == 0
    assert summary_of(tmp_path)['wall_seconds_of_all_runs'] > summary['wall_seconds'] > 0
    (tmp_path / 'summary.json').unlink()
    assert run_tool('make_masks', config, '--out', tmp_path) == 0
    assert 'wall_seconds_of_all_runs' not in summary_of(tmp_path) and summary_of(tmp_path)['found'] == 8


def test_labels_that_cannot_be_scored_are_on_record(photos, tmp_path, capsys):
    root, config = photos
    out, picture = tmp_path / 'out', root / 'images' / 'p2.png'
    data = picture.read_bytes()
    picture.write_bytes(data[:len(data) // 2])
    shutil.move(root / 'masks', root / 'elsewhere')
    assert run_tool('make_seeds', config, '--out', out, '--evaluate') == 1
    summary, said = summary_of(out), capsys.readouterr().out
    assert summary['made'] == 7 and list(summary['failed']) == ['p2'] and 'failed: p2: ' in said
    assert 'not scored: 8 of 8 ground-truth masks are missing' in said and 'evaluation' not in summary
    assert summary['not_scored'].startswith('8 of 8 ground-truth masks are missing')
    picture.write_bytes(data)
    shutil.move(root / 'elsewhere', root / 'masks')
    write_labels(root / 'masks' / 'p3.png', np.full((38, 38), 9))
    assert run_tool('make_seeds', config, '--out', out, '--evaluate') == 1  # a fault, not a lack
    assert 'p3.png: label values [9] name no class' in summary_of(out)['not_scored']
    write_labels(root / 'masks' / 'p3.png', np.zeros((38, 38), int))
    before = summary_of(out)['wall_seconds_of_all_runs']
    assert run_tool('make_seeds', config, '--out', out, '--evaluate') == 0
    summary = summary_of(out)
    assert summary['evaluation']['images'] == 8 and 'not_scored' not in summary
    assert summary['wall_seconds_of_all_runs'] == pytest.approx(before + summary['wall_seconds'])  # each run once


def test_the_summary_is_there_before_anything_is_scored(photos, tmp_path, monkeypatch):
    from weclip_sam.offline import seed_run
    root, config = photos

    def killed(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(seed_run, 'count_pixels', killed)
    assert run_tool('make_seeds', config, '--out', tmp_path, '--evaluate') == 130
    assert (summary_of(tmp_path)['made'], summary_of(tmp_path)['failed']) == (8, {})


def test_masks_are_made_once_and_improve_anybodys_labels(photos, tmp_path, capsys):
    root, config = photos
    start = tmp_path / 'start'
    run_tool('make_seeds', config, '--out', start)
    text = config.read_text()
    merging = tmp_path / 'sepl_config.py'
    model = "model = dict(type='SeedMaker', seeds=[dict(type='SeplMerge')])"
    merging.write_text(text[:text.index('model = dict(')] + model)
    assert run_tool('make_seeds', merging, '--out', tmp_path / 'sepl', '--labels', start) == 2
    assert 'no mask bank in' in capsys.readouterr().err
    data = (root / 'images' / 'p0.png').read_bytes()
    (root / 'images' / 'p0.png').write_bytes(data[:50])
    assert run_tool('make_masks', config) == 1
    bank = root / 'bank_train'
    assert summary_of(bank)['made'] == 7 and list(summary_of(bank)['failed']) == ['p0']
    (root / 'images' / 'p0.png').write_bytes(data)
    assert run_tool('make_masks', config) == 0
    summary = summary_of(bank)
    assert (summary['made'], summary['found'], summary['in_bank'], summary['dataset']) == (1, 7, 8, 'photos')
    assert run_tool('make_seeds', merging, '--out', tmp_path / 'sepl') == 2
    assert 'give their folder with --labels' in capsys.readouterr().err
    (tmp_path / 'empty').mkdir()
    waiting = tmp_path / 'waiting_config.py'
    for where, message in ((tmp_path / 'gone', 'no such folder'), (tmp_path / 'empty', 'holds no label PNG')):
        waiting.write_text(f'{merging.read_text()}\ninput_labels = {str(where)!r}\n')
        for given in ([merging, '--labels', where], [waiting]):
            assert run_tool('make_seeds', *given, '--out', tmp_path / 'sepl') == 2
            error = capsys.readouterr().err
            assert f'{where}: {message}' in error and 'make the labels first with tools/make_seeds.py' in error
    (start / 'p3.png').unlink()
    assert run_tool('make_seeds', merging, '--out', tmp_path / 'sepl', '--labels', start) == 1
    summary = summary_of(tmp_path / 'sepl')
    assert list(summary['failed']) == ['p3'] and 'start/p3.png' in summary['failed']['p3'] and summary['made'] == 7
    assert list(summary['seconds_per_image']) == ['load', 'SeplMerge', 'write']
    from weclip_sam.mask_bank import MaskBank
    from weclip_sam.seeds.sepl import sepl_merge
    masks = MaskBank(bank, mode='r').get('p6').masks
    expected = sepl_merge(torch.from_numpy(read_labels(start / 'p6.png')), masks, 3)
    assert np.array_equal(read_labels(tmp_path / 'sepl' / 'p6.png'), expected.numpy())
    assert run_tool('make_masks', config, '--split', 'val', '--cfg-options', 'mask_generator.points_per_side=2') == 0
    assert (root / 'bank_val' / 'bank.json').is_file()
    assert run_tool('make_masks', config, '--cfg-options', 'mask_generator.points_per_side=2') == 2
    assert 'A bank belongs to one data set and one generator' in capsys.readouterr().err
