"""Checkpoints: only data is read from them, and a kill at any moment leaves a good one."""
import errno
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from weclip_sam.engine import check_covers, find_resumable, safe_load
from weclip_sam.engine.hooks import checkpoint as checkpoint_hook
from weclip_sam.engine.start.errors import explain
from weclip_sam.io import files


class Evil:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class EvilGetattr:
    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def test_history_and_numpy_values_are_read(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save(dict(log=buffer, best=np.float64(3.5), counts=np.arange(3), flags=np.array([True])), tmp_path / 'a.pth')
    content = safe_load(tmp_path / 'a.pth')
    assert content['log'].mean() == 1.5 and content['log'].statistics('max') == 2.0
    assert content['best'] == 3.5 and content['counts'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('legacy', [False, True])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, legacy):
    trap = tmp_path / 'sprung'
    torch.save(dict(state_dict={}, extra=Evil(trap)), tmp_path / 'evil.pth', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r'evil.pth: refused.*mkdir.*Nothing was executed'):
        safe_load(tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='refused'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'evil.pth'))
    assert not trap.exists()


@pytest.mark.parametrize('owner, name', [(HistoryBuffer, '__init__'), (HistoryBuffer, 'update'), (np.ndarray, 'max')])
def test_getattr_reaches_the_history_statistics_alone(tmp_path, owner, name):
    torch.save(EvilGetattr(owner, name), tmp_path / 'e.pth')
    with pytest.raises(ValueError, match=r'e.pth: refused.*getattr'):
        safe_load(tmp_path / 'e.pth')


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / 'evil.pth').write_bytes(pickle.dumps(Evil(tmp_path / 'sprung')))
    with pytest.raises(ValueError, match='evil.pth'):
        safe_load(tmp_path / 'evil.pth')
    assert not (tmp_path / 'sprung').exists()


def test_other_schemes_are_refused():
    with pytest.raises(ValueError, match='local files and http'):
        CheckpointLoader.load_checkpoint('torchvision://resnet50')


def test_every_cut_of_a_checkpoint_is_an_error_that_names_it(tmp_path):
    torch.save(dict(state_dict=dict(w=torch.zeros(50))), tmp_path / 'good.pth')
    data = (tmp_path / 'good.pth').read_bytes()
    for length in [0, 1, 4, 30, len(data) // 2, len(data) - 1]:
        (tmp_path / 'cut.pth').write_bytes(data[:length])
        with pytest.raises(ValueError, match='cut.pth'):
            safe_load(tmp_path / 'cut.pth')


@pytest.mark.parametrize('legacy', [False, True])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_a_checkpoint_or_an_error_that_names_it(tmp_path, legacy, data):
    good, path = tmp_path / 'good.pth', tmp_path / 'damaged.pth'
    if not good.exists():
        torch.save(dict(state_dict=dict(w=torch.zeros(3)), meta=dict(iter=3), optimizer={}, message_hub={},
                        log=HistoryBuffer([1.0], [1])), good, _use_new_zipfile_serialization=not legacy)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = safe_load(path, kind='training')
    except ValueError as error:
        assert 'damaged.pth' in str(error)
    else:
        assert 'state_dict' in found
    assert np.arange(3.0).sum() == 3 and float(np.float64(2.5)) == 2.5  # the file spoilt nothing outside itself


def test_a_checkpoint_cannot_change_numpys_own_types(tmp_path):
    class Singleton:
        def __reduce__(self):
            return np.dtype, ('f8', False, False), (3, '>', None, None, None, -1, -1, 0)

    torch.save(dict(kind=Singleton()), tmp_path / 'a.pth')
    assert safe_load(tmp_path / 'a.pth')['kind'] is not np.dtype('f8')
    assert np.dtype('f8').isnative and np.arange(2.0).tolist() == [0.0, 1.0]
    torch.save(dict(kind=np.dtype('O')), tmp_path / 'objects.pth')
    with pytest.raises(ValueError, match='objects.pth: refused'):
        safe_load(tmp_path / 'objects.pth')


@pytest.mark.parametrize('at, value', [('state_dict', 0x85), ('end', 1)])
def test_text_and_archive_that_make_no_sense_are_named(tmp_path, at, value):
    torch.save(dict(state_dict=dict(w=torch.zeros(3))), tmp_path / 'a.pth')
    content = bytearray((tmp_path / 'a.pth').read_bytes())
    # Of the archive's end record: the number of its disks.
    content[content.index(b'state_dict') if at == 'state_dict' else content.rindex(b'PK\x06\x07') + 16] = value + 1
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(ValueError, match='a.pth: cannot be read.*use an earlier checkpoint'):
        safe_load(tmp_path / 'a.pth')


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from([b'', b'PK\x03\x04', b'\x80\x02', b'\x80\x02}', b'\x80\x05\x95']),
       rest=st.binary(max_size=60))
def test_any_bytes_are_no_checkpoint(tmp_path, start, rest):
    (tmp_path / 'fuzz.pth').write_bytes(start + rest)
    with pytest.raises(ValueError, match='fuzz.pth'):
        safe_load(tmp_path / 'fuzz.pth', kind='training')


@pytest.mark.parametrize('content, message', [
    (b'\x89PNG\r\n\x1a\n' + bytes(30), 'a PNG image'), (b'{"a": 1}', 'JSON text'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    (b'hello world, not a checkpoint', 'of another format'),
    ((40).to_bytes(8, 'little') + b'{"a":{"dtype":"F32"}}', 'safetensors')])
def test_foreign_files_are_named_for_what_they_are(tmp_path, content, message):
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        safe_load(tmp_path / 'x.pth')


def test_torchscript_archives_and_folders_are_told_apart(tmp_path):
    with zipfile.ZipFile(tmp_path / 'clip.pt', 'w') as archive:
        archive.writestr('clip/constants.pkl', b'')
    with pytest.raises(ValueError, match='TorchScript'):
        safe_load(tmp_path / 'clip.pt')
    with pytest.raises(ValueError, match='is a folder'):
        safe_load(tmp_path)


def test_missing_file_suggests_its_neighbour(tmp_path):
    torch.save({}, tmp_path / 'iter_1000.pth')
    with pytest.raises(FileNotFoundError, match=r"iter_100.pth: no such checkpoint. Did you mean 'iter_1000.pth'"):
        safe_load(tmp_path / 'iter_100.pth')


def test_kinds(tmp_path):
    torch.save(dict(w=torch.zeros(2)), tmp_path / 'bare.pth')
    torch.save(dict(state_dict={}, meta={}, message_hub={}), tmp_path / 'best.pth')
    assert safe_load(tmp_path / 'bare.pth')['w'].shape == (2,)
    with pytest.raises(ValueError, match=r"expected a dict with 'state_dict', found \['w'\]"):
        safe_load(tmp_path / 'bare.pth', kind='weights')
    with pytest.raises(ValueError, match=r"it lacks \['optimizer'\]"):
        safe_load(tmp_path / 'best.pth', kind='training')
    with pytest.raises(ValueError, match="Did you mean 'weights'"):
        safe_load(tmp_path / 'best.pth', kind='weight')


def test_check_covers_counts_what_does_not_fit():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    model[1].requires_grad_(False)
    check_covers(model, {k: v for k, v in model.state_dict().items() if k.startswith('0')})
    with pytest.raises(ValueError, match=r'1 of 2 trained parameters and buffers are missing \(first: 0.bias\)'):
        check_covers(model, {'module.0.weight': torch.zeros(3, 2)}, 'x.pth')
    with pytest.raises(ValueError, match=r'x.pth.*0.weight \(3, 5\) instead of \(3, 2\)'):
        check_covers(model, {'0.weight': torch.zeros(3, 5), '0.bias': torch.zeros(3)}, 'x.pth')


def test_find_resumable_prefers_the_pointer_then_the_newest_good_file(tmp_path):
    assert find_resumable(tmp_path) is None
    whole = dict(state_dict={}, meta={}, optimizer={}, message_hub={})
    for step in (5, 10, 20):
        torch.save(whole, tmp_path / f'iter_{step}.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/before/moving/iter_10.pth')
    assert find_resumable(tmp_path) == tmp_path / 'iter_10.pth'
    (tmp_path / 'iter_10.pth').write_bytes(b'PK\x03\x04 cut')
    assert find_resumable(tmp_path) == tmp_path / 'iter_20.pth'
    (tmp_path / 'iter_20.pth').write_bytes(b'')
    assert find_resumable(tmp_path) == tmp_path / 'iter_5.pth'


class Killed(BaseException):
    """Stands for a kill: nothing in the run may catch it."""


@pytest.mark.parametrize('moment', ['while writing', 'before the pointer', 'before pruning', 'before validation'])
def test_a_kill_at_any_moment_ends_with_the_same_numbers(run_toy, tmp_path, monkeypatch, moment):
    options = dict(default_hooks__checkpoint__max_keep_ckpts=1)
    whole = run_toy(work_dir='whole', **options)

    with monkeypatch.context() as patch:
        if moment == 'before validation':
            original = checkpoint_hook.AtomicCheckpointHook.after_train_iter

            def after(self, runner, *args, **kwargs):
                original(self, runner, *args, **kwargs)
                if runner.iter == 7:
                    raise Killed
            patch.setattr(checkpoint_hook.AtomicCheckpointHook, 'after_train_iter', after)
        elif moment == 'before pruning':
            prune = checkpoint_hook.AtomicCheckpointHook._prune
            patch.setattr(checkpoint_hook.AtomicCheckpointHook, '_prune',
                          lambda self, oldest: prune(self, oldest) if oldest < 8 else (_ for _ in ()).throw(Killed))
        else:
            replace = os.replace

            newer = tmp_path / 'cut' / 'iter_8.pth'

            def maybe(source, target):
                name = os.path.basename(target)
                if moment == 'while writing' and name == 'iter_8.pth':
                    raise Killed
                if moment == 'before the pointer' and name == 'last_checkpoint' and os.path.exists(newer):
                    raise Killed
                replace(source, target)
            patch.setattr(files.os, 'replace', maybe)
        with pytest.raises(Killed):
            run_toy(work_dir='cut', **options)
    (tmp_path / 'cut' / '.iter_8.pth.abc.tmp').write_bytes(b'half')

    found = find_resumable(tmp_path / 'cut')
    expected = 'iter_4.pth' if moment in ('while writing', 'before the pointer') else 'iter_8.pth'
    assert found == tmp_path / 'cut' / expected
    resumed = run_toy(work_dir='cut', resume=True, load_from=str(found), **options)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    left = {name: sorted(p.name for p in (tmp_path / name).glob('*') if p.suffix == '.pth' or 'tmp' in p.name)
            for name in ('whole', 'cut')}
    assert left['whole'] == left['cut']
    assert 'iter_12.pth' in left['cut'] and len(left['cut']) == 2  # the last and the best
    for name in ('whole', 'cut'):
        assert (tmp_path / name / 'last_checkpoint').read_text() == str(tmp_path / name / 'iter_12.pth')
    assert whole.message_hub.get_info('best_score') == resumed.message_hub.get_info('best_score')


def test_a_disk_that_is_full_keeps_the_older_checkpoint(run_toy, tmp_path, monkeypatch):
    whole, folder, fsync = run_toy(work_dir='whole'), tmp_path / 'cut', os.fsync

    def full(handle):
        if list(folder.glob('.iter_8.pth.*')):
            raise OSError(errno.ENOSPC, 'No space left on device')
        fsync(handle)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, 'fsync', full)
        with pytest.raises(OSError) as caught:
            run_toy(work_dir='cut')
    told = explain(caught.value)
    assert told.startswith(f'{folder}/iter_8.pth: cannot be written, the disk is full') and 'are intact' in told
    assert not list(folder.glob('.*.tmp')) and not (folder / 'iter_8.pth').exists()
    assert find_resumable(folder) == folder / 'iter_4.pth'
    resumed = run_toy(work_dir='cut', resume=True, load_from=str(folder / 'iter_4.pth'))
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(run_toy, tmp_path):
    folder = tmp_path / 'run'
    (folder / 'sheets').mkdir(parents=True)
    left = ['.iter_4.pth.x.tmp', '.best_mIoU_iter_4.pth.x.tmp', '.last_checkpoint.x.tmp', '.iou_val.json.x.tmp',
            '.summary.json.x.tmp', '.error.txt.x.tmp', 'sheets/.iter_000004.png.x.tmp']
    for name in [*left, 'mine.tmp', '.mine.csv.x.tmp']:
        (folder / name).write_bytes(b'half')
    run_toy()
    assert sorted(p.name for p in folder.rglob('*.tmp')) == ['.mine.csv.x.tmp', 'mine.tmp']


def test_resuming_a_finished_run_scores_it_again(run_toy, tmp_path):
    first = run_toy()
    again = run_toy(resume=True, load_from=str(tmp_path / 'run' / 'iter_12.pth'))
    reports = [r.val_evaluator.metrics[0].last_report for r in (first, again)]
    assert str(reports[0]) == str(reports[1])  # as text, since NaN is not equal to itself


def test_a_checkpoint_of_another_model_is_refused_on_resume(run_toy, tmp_path):
    run_toy(work_dir='first')
    content = safe_load(tmp_path / 'first' / 'iter_12.pth')
    content['state_dict']['first.weight'] = torch.zeros(9, 3, 1, 1)
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth: does not fit this model \(ToySegmentor\).*\(9, 3, 1, 1\)'):
        run_toy(work_dir='second', resume=True, load_from=str(tmp_path / 'other.pth'))


@pytest.mark.parametrize('given, expected', [(None, 3), (5, 5), (-1, -1)])
def test_a_short_training_saves_four_times_by_default(run_toy, given, expected):
    runner = run_toy(default_hooks__checkpoint__interval=given)
    hook = next(hook for hook in runner.hooks if isinstance(hook, checkpoint_hook.AtomicCheckpointHook))
    assert runner.max_iters == 12 and hook.interval == expected


def test_saved_buffers_count():
    model = torch.nn.BatchNorm1d(3)
    state = model.state_dict()
    check_covers(model, {key: value for key, value in state.items() if key != 'num_batches_tracked'})
    with pytest.raises(ValueError, match='1 of 4 trained parameters and buffers are missing .first: running_var'):
        check_covers(model, {key: value for key, value in state.items() if key != 'running_var'})
    with pytest.raises(ValueError, match='running_mean'):
        check_covers(model, {**state, 'running_mean': torch.zeros(4)})
