"""What a checkpoint says about places is never followed out of the work dir."""
import json
import shutil
from pathlib import Path

import torch

from weclip_sam.engine import find_resumable, safe_load


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def test_a_run_resumed_elsewhere_leaves_the_first_as_it_is(run_toy, tmp_path):
    options = dict(default_hooks__sheets=None, train_cfg__val_interval=2, default_hooks__checkpoint__interval=2,
                   default_hooks__checkpoint__max_keep_ckpts=-1, custom_hooks=[])
    run_toy(work_dir='first', train_cfg__max_iters=4, **options)
    first = tmp_path / 'first'
    before = {path: path.read_bytes() for path in first.glob('*') if path.is_file()}
    content = safe_load(first / 'iter_4.pth')
    content['message_hub']['runtime_info']['best_score'] = -1.0  # whatever validates next is better
    torch.save(content, tmp_path / 'iter_4.pth')
    assert Path(content['message_hub']['runtime_info']['best_ckpt']).parent == first
    run_toy(work_dir='second', resume=True, load_from=str(tmp_path / 'iter_4.pth'), train_cfg__max_iters=6, **options)
    assert {path: path.read_bytes() for path in first.glob('*') if path.is_file()} == before
    assert any(name.startswith('best_') for name in names(tmp_path / 'second')), 'the second run kept no best one'
    summary = json.loads((tmp_path / 'second' / 'summary.json').read_text())
    assert Path(summary['best']['checkpoint']).parent == tmp_path / 'second'

    # A copy of the folder goes on with its own best checkpoint, and takes its place only there.
    copy = tmp_path / 'copy'
    shutil.copytree(first, copy)
    run_toy(work_dir='copy', resume=True, load_from=str(copy / 'iter_4.pth'), train_cfg__max_iters=4, **options)
    assert {path: path.read_bytes() for path in first.glob('*') if path.is_file()} == before
    summary = json.loads((copy / 'summary.json').read_text())
    assert all(str(first) not in str(where) for where in summary['written'].values())


def test_a_pointer_leads_only_to_a_file_of_its_folder(tmp_path, trained_run):
    copy = tmp_path / 'copy'
    copy.mkdir()
    (copy / 'last_checkpoint').write_text(str(trained_run / 'iter_2.pth'))
    assert find_resumable(copy) is None
    shutil.copy(trained_run / 'iter_2.pth', copy / 'iter_1.pth')
    assert find_resumable(copy) == copy / 'iter_1.pth'
    shutil.copy(trained_run / 'iter_2.pth', copy)
    assert find_resumable(copy) == copy / 'iter_2.pth'
    for text in ('', '/', '..', '\0'):
        (copy / 'last_checkpoint').write_text(text)
        assert find_resumable(copy) == copy / 'iter_2.pth'


def test_a_checkpoint_of_nan_is_not_gone_on_from(tmp_path, trained_run):
    shutil.copy(trained_run / 'iter_2.pth', tmp_path / 'iter_1.pth')
    content = safe_load(trained_run / 'iter_2.pth')
    next(value for value in content['state_dict'].values() if value.is_floating_point()).fill_(torch.nan)
    torch.save(content, tmp_path / 'iter_2.pth')
    assert find_resumable(tmp_path) == tmp_path / 'iter_1.pth'
