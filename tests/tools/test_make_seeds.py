"""Pseudo labels for whole splits: complete, resumable, shared out, honest about failures."""
import json
import shutil
import time
from pathlib import Path

import child_processes
import numpy as np
import pytest
import torch
from PIL import Image
from two_ranks import run_on_two

from weclip_sam.colors import class_colors
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.io.locks import FolderLock

ROOT = Path(__file__).parents[2]


def files_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.glob('*.png'))}


def test_labels_of_a_split_have_the_size_of_the_files(photos, tmp_path, capsys, run_tool, summary_of):
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
        assert Image.open(out / f'p{i}.png').getpalette()[:6] == class_colors(2).reshape(-1).tolist()
    with np.load(out / 'scores' / 'p2.npz', allow_pickle=False) as scores:
        assert scores['labels'].tolist() == [2, 3] and scores['scores'].shape == (2, 5, 5)
        assert scores['scores'].dtype == np.float16 and 0 <= scores['scores'].min() <= scores['scores'].max() <= 1
    summary = summary_of(out)
    assert (summary['made'], summary['found'], summary['failed'], summary['images']) == (8, 0, {}, 8)
    stages = ['load', 'encode', 'GradCam', 'AttentionAffinity', 'PixelLabels', 'write']
    assert list(summary['seconds_per_image']) == stages
    assert 'evaluation' not in summary and '8 labels made' in capsys.readouterr().out


def test_what_is_missing_or_damaged_is_made_again_to_the_same_bytes(photos, tmp_path, run_tool, summary_of):
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


def test_a_full_disk_ends_seed_making_with_whole_labels(photos, tmp_path, capsys, monkeypatch, disk_full_at, run_tool):
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


def test_what_killed_writers_left_is_removed_wherever_they_wrote(photos, tmp_path, run_tool):
    root, config = photos
    out, bank = tmp_path / 'out', tmp_path / 'bank'
    for path in (out / '.seeds.json.x.tmp', out / '.p1.png.x.tmp', out / 'scores' / '.p1.npz.x.tmp',
                 bank / '.bank.json.x.tmp', bank / '.summary.json.x.tmp'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'half')
    assert run_tool('make_seeds', config, '--out', out) == run_tool('make_masks', config, '--out', bank) == 0
    assert not [*out.rglob('*.tmp'), *bank.rglob('*.tmp')]


@pytest.mark.slow
def test_killed_anywhere_and_started_again(photos, tmp_path, load_tool, run_tool, summary_of):
    root, config = photos
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    run_tool('make_seeds', config, '--out', whole)

    child = child_processes.start([ROOT / 'tools' / 'make_seeds.py', config, '--out', killed])
    deadline = time.monotonic() + 240
    while len(list(killed.glob('*.png'))) < 3 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child_processes.kill(child)
    for path in killed.glob('*.png'):
        assert path.read_bytes() == (whole / path.name).read_bytes()  # never a torn file under its final name
    assert run_tool('make_seeds', config, '--out', killed) == 0
    assert files_of(killed) == files_of(whole) and summary_of(killed)['found'] >= 3


@pytest.mark.slow
def test_two_processes_share_the_images(photos, tmp_path, load_tool, run_tool, summary_of):
    root, config = photos
    whole, shared, bank = tmp_path / 'whole', tmp_path / 'shared', tmp_path / 'bank'
    run_tool('make_seeds', config, '--out', whole)
    (tmp_path / 'two').mkdir()
    for ended in run_on_two([[ROOT / 'tools' / tool, config, '--out', out, '--launcher', 'pytorch', *options]
                             for tool, out, *options in (('make_seeds.py', shared, '--evaluate'),
                                                         ('make_masks.py', bank))], tmp_path / 'two'):
        assert [code for code, _ in ended] == [0, 0], ended
    assert files_of(shared) == files_of(whole)
    summary = summary_of(shared)
    assert summary['processes'] == 2 and summary['made'] == 8 and summary['evaluation']['images'] == 8
    assert summary_of(bank)['made'] == 8 and len(list(bank.glob('shard-*.masks'))) == 2


def test_bad_images_are_recorded_and_the_rest_goes_on(photos, tmp_path, capsys, run_tool, summary_of):
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


def test_a_name_that_leaves_no_room_for_a_label_is_one_failure(photos, tmp_path, run_tool, summary_of):
    root, config = photos
    fits, longest = 'x' * 251, 'y' * 255
    table = (root / 'labels.csv').read_text()
    for old, new in (('p1.png', f'{fits}.png'), ('p2.png', longest)):
        (root / 'images' / old).rename(root / 'images' / new)
        (root / 'masks' / old).unlink(missing_ok=True)
        table = table.replace(old, new)
    (root / 'labels.csv').write_text(table)
    for options, made in (([], 7), ([], 0), (['--overwrite', '--scores'], 7)):
        assert run_tool('make_seeds', config, '--out', tmp_path / 'out', *options) == 1
        summary = summary_of(tmp_path / 'out')
        assert (summary['made'], list(summary['failed'])) == (made, [longest])
        assert 'cannot be written (File name too long)' in summary['failed'][longest]
    assert (tmp_path / 'out' / f'{fits}.png').is_file()


def test_a_fault_of_the_config_is_not_blamed_on_every_image(photos, tmp_path, capsys, monkeypatch, run_tool):
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
    assert "GradCam needs the features of the encoder 'clip'" in capsys.readouterr().err


def test_labels_of_two_settings_are_never_mixed(photos, tmp_path, capsys, run_tool, summary_of):
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


def test_a_seed_folder_in_use_is_refused_and_overwriting_mixes_nothing(photos, tmp_path, capsys, run_tool):
    root, config = photos
    out = tmp_path / 'out'
    assert run_tool('make_seeds', config, '--out', out) == 0
    before = files_of(out)
    with FolderLock(out, 'seed making'):
        for arguments in ([], ['--overwrite']):
            assert run_tool('make_seeds', config, '--out', out, *arguments) == 2
            assert 'another seed making is writing there' in capsys.readouterr().err
    # Labels that would stay behind beside the new ones; those of images that left the list are the folder's own.
    write_labels(out / 'strange.png', np.zeros((4, 4), int))
    assert run_tool('make_seeds', config, '--out', out, '--overwrite') == 2
    assert 'strange.png' in capsys.readouterr().err
    (out / 'strange.png').unlink()
    assert files_of(out) == before
    table = root / 'labels.csv'
    table.write_text(table.read_text().replace('p7.png,bus;cat\n', ''))
    (root / 'images' / 'p7.png').unlink()
    assert run_tool('make_seeds', config, '--out', out, '--overwrite') == 0
    assert sorted(path.stem for path in out.glob('*.png')) == [f'p{i}' for i in range(7)]


def test_seeds_of_other_images_with_the_same_names_are_not_reused(photos, twins, tmp_path,
                                                                  capsys, run_tool, summary_of):
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
    assert run_tool('make_seeds', config, '--out', out, *options) == 0 and summary_of(out)['made'] == 8  # it is not so
    assert run_tool('make_seeds', config, '--out', out) == 2
    assert run_tool('make_seeds', config, '--out', out, '--overwrite') == 0 and files_of(out) == before


def test_a_corrected_label_makes_the_seed_of_that_image_anew(photos, tmp_path, capsys, run_tool, summary_of):
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


def test_a_replaced_input_makes_the_seed_of_that_image_anew(merging, tmp_path, capsys, run_tool, summary_of):
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


def test_labels_made_before_their_inputs_were_kept_are_believed(merging, tmp_path, run_tool, summary_of):
    config, start = merging
    out, arguments = tmp_path / 'out', ['--labels', start, '--out', tmp_path / 'out']
    run_tool('make_seeds', config, *arguments)
    header = json.loads((out / 'seeds.json').read_text())
    assert sorted(header.pop('input_labels')) == [f'p{i}' for i in range(8)]
    (out / 'seeds.json').write_text(json.dumps(header))
    assert run_tool('make_seeds', config, *arguments) == 0 and summary_of(out)['found'] == 8
    write_labels(start / 'p6.png', np.zeros((41, 35), int))
    assert run_tool('make_seeds', config, *arguments) == 0 and summary_of(out)['made'] == 1  # known from now on


def test_evaluation_counts_what_is_written(photos, tmp_path, capsys, run_tool, summary_of):
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
    scored = [scores['classes'][name]['IoU'] for name in ('cat', 'dog', 'bus')]
    assert scored == pytest.approx(list(100 * hits / union)[1:])
    assert 'of the pixels are ignored (255)' in capsys.readouterr().out


@pytest.mark.parametrize('tool', ['make_seeds', 'make_masks'])
def test_the_time_of_all_runs_is_added_up(photos, tmp_path, tool, run_tool, summary_of, run_slowly):
    root, config = photos
    args = (config, '--out', tmp_path, *(['--batch-size', '1'] if tool == 'make_masks' else []))
    assert run_slowly(tool, *args, seconds=0.2, stop_at=5) == 130
    kept = json.loads((tmp_path / 'seconds.json').read_text())
    assert not (tmp_path / 'summary.json').exists() and 1 < kept['wall_seconds_of_all_runs'] < 20
    began = time.monotonic()
    assert run_slowly(tool, *args, seconds=0.01) == 0
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


def test_labels_that_cannot_be_scored_are_on_record(photos, tmp_path, capsys, run_tool, summary_of):
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


def test_the_summary_is_there_before_anything_is_scored(photos, tmp_path, monkeypatch, run_tool, summary_of):
    from weclip_sam.offline import seed_run
    root, config = photos

    def killed(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(seed_run, 'count_pixels', killed)
    assert run_tool('make_seeds', config, '--out', tmp_path, '--evaluate') == 130
    assert (summary_of(tmp_path)['made'], summary_of(tmp_path)['failed']) == (8, {})


def test_masks_are_made_once_and_improve_anybodys_labels(photos, tmp_path, capsys, run_tool, summary_of):
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
    from weclip_sam.seeds.sepl import sepl_merge_batch
    masks = MaskBank(bank, mode='r').get('p6')
    expected = sepl_merge_batch(torch.from_numpy(read_labels(start / 'p6.png'))[None], masks, 3)[0]
    assert np.array_equal(read_labels(tmp_path / 'sepl' / 'p6.png'), expected.numpy())
    assert run_tool('make_masks', config, '--split', 'val', '--cfg-options', 'mask_generator.points_per_side=2') == 0
    assert (root / 'bank_val' / 'bank.json').is_file()
    assert run_tool('make_masks', config, '--cfg-options', 'mask_generator.points_per_side=2') == 2
    assert 'A bank belongs to one data set and one generator' in capsys.readouterr().err


def test_a_label_that_was_corrected_by_hand_is_not_lost(photos, tmp_path, capsys, run_tool, summary_of):
    root, config = photos
    out = tmp_path / 'out'
    assert run_tool('make_seeds', config, '--out', out) == 0
    with Image.open(out / 'p1.png') as image:
        labels = np.array(image)
    Image.fromarray(np.where(labels == 0, 255, 0).astype(np.uint8)).save(out / 'p1.png')
    before = files_of(out)
    assert run_tool('make_seeds', config, '--out', out) == 0 and files_of(out) == before  # kept
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 2
    assert f'{out}/p1.png: was changed since it was made' in capsys.readouterr().err and files_of(out) == before
    table = (root / 'labels.csv').read_text()
    (root / 'labels.csv').write_text(table.replace('p1.png,cat', 'p1.png,cat;dog'))
    assert run_tool('make_seeds', config, '--out', out) == 2
    error = capsys.readouterr().err
    assert f'{out}/p1.png: was changed since it was made' in error and 'the classes of its image' in error
    assert '--overwrite' in error and files_of(out) == before
    assert run_tool('make_seeds', config, '--out', out, '--overwrite') == 0 and files_of(out) != before
