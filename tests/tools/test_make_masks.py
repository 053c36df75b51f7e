"""Mask banks for whole splits: complete, of their own images, and timed."""
import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.io.images import write_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline import precision


def test_a_full_disk_ends_mask_making_with_whole_records(photos, tmp_path, capsys, monkeypatch, disk_full_at, run_tool):
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


def test_masks_of_other_images_with_the_same_names_are_not_reused(photos, twins, tmp_path,
                                                                  capsys, run_tool, summary_of):
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


def test_seconds_of_masks_are_told_by_stage(photos, tmp_path, capsys, run_tool, summary_of, run_slowly):
    root, config = photos
    assert run_slowly('make_masks', config, '--out', tmp_path, seconds=0.1) == 0
    seconds = summary_of(tmp_path)['seconds_per_image']
    assert list(seconds) == ['load', 'segment', 'write'] and seconds['load'] > 0.1 > seconds['write'] > 0
    assert 'ms per image: load ' in capsys.readouterr().out
    total = 8 * sum(seconds.values())
    assert 0.8 < total < summary_of(tmp_path)['wall_seconds']  # the start is nobody's share
    assert run_tool('make_masks', config, '--out', tmp_path) == 0 and summary_of(tmp_path)['seconds_per_image'] == {}


def test_masks_that_nobody_timed_have_no_time(photos, tmp_path, run_tool, summary_of):
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


@pytest.mark.parametrize('given, seen', [([], [1] * 8), (['--batch-size', 4], [4, 4]),
                                         (['--cfg-options', 'mask_generator.encode_batch=8'], [8])])
def test_the_encoder_sees_as_many_images_at_once_as_are_asked_for(photos, run_tool, tmp_path, monkeypatch, given, seen):
    root, config = photos
    for path in (root / 'images').iterdir():  # of one size
        Image.open(path).resize((32, 32)).save(path)
    batches, see = [], FrozenSam.see

    def watch(self, images, blocks):
        batches.append(len(images))
        return see(self, images, blocks)
    monkeypatch.setattr(FrozenSam, 'see', watch)
    assert run_tool('make_masks', config, '--out', tmp_path / 'bank', *given) == 0
    assert batches == seen


def test_a_signal_within_an_image_ends_the_run_and_the_masks_so_far_stay(photos, run_tool, monkeypatch, summary_of,
                                                                        capsys):
    root, config = photos
    ask, calls = FrozenSam.ask, []

    def stop(self, *args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return ask(self, *args)
    monkeypatch.setattr(FrozenSam, 'ask', stop)
    options = ['--cfg-options', 'mask_generator.points_per_chunk=3']  # three times an image
    assert run_tool('make_masks', config, *options) == 143 and len(calls) == 5
    assert capsys.readouterr().err.endswith('stopped. The same command goes on.\n')
    monkeypatch.undo()
    assert run_tool('make_masks', config, *options) == 0
    assert (summary_of(root / 'bank_train')['found'], summary_of(root / 'bank_train')['made']) == (1, 7)


def test_a_bank_has_one_precision_and_goes_on_in_it(photos, run_tool, tmp_path, capsys, summary_of, monkeypatch):
    root, config = photos
    first = ['--cfg-options', 'train_dataloader.dataset.limit=2']
    assert run_tool('make_masks', config, '--out', tmp_path / 'half', '--amp', *first) == 0
    assert 'computing in bf16\n' in capsys.readouterr().err
    assert MaskBank(tmp_path / 'half').header['generator'].endswith(' bf16')
    assert run_tool('make_masks', config, '--out', tmp_path / 'half') == 0  # no word about it
    assert (summary_of(tmp_path / 'half')['found'], summary_of(tmp_path / 'half')['made']) == (2, 6)
    capsys.readouterr()
    assert run_tool('make_masks', config, '--out', tmp_path / 'half', '--no-amp') == 2
    error = capsys.readouterr().err
    assert f'{tmp_path}/half/bank.json: this bank holds masks made in bf16, but fp32 was asked for: go on in bf16 ' \
           '(--amp or neither' in error
    seconds = {torch.float32: 1.2, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, 'measure_block', lambda encoder, dtype: seconds[dtype])
    for said in ('would not pay, a block of this SAM is 1.2 times as fast', 'would pay: add --amp'):
        assert run_tool('make_masks', config, '--out', tmp_path / 'whole', *first) == 0
        assert f'computing in fp32; on this CPU bfloat16 {said}' in capsys.readouterr().err
        seconds[torch.float32] = 2.0
    assert run_tool('make_masks', config, '--out', tmp_path / 'whole', '--amp') == 2
    assert 'made in fp32, but bf16 was asked for: go on in fp32 (--no-amp or neither' in capsys.readouterr().err
