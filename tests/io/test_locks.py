"""One run at a time in a folder; a run that is gone stands in nobody's way."""
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import child_processes
import pytest
from other_systems import like_windows

from weclip_sam.io import locks
from weclip_sam.io.locks import LOCK, FolderLock, FolderTaken, launch_id, living_owner

SUPPORT = Path(__file__).parents[1] / 'support'


def owner_of(folder, **changes):
    """Change what a lock says; its file stays the same."""
    path = folder / LOCK
    owner = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(owner))
    return owner


@pytest.fixture
def left(tmp_path):
    """A function: the lock of a run that did not give it back, with other entries."""
    def make(**changes):
        lock = FolderLock(tmp_path, 'training')
        lock.acquire()
        lock._ended.set()
        return owner_of(tmp_path, **changes)
    return make


def test_a_second_run_is_refused_and_told_whose_the_folder_is(tmp_path):
    with FolderLock(tmp_path, 'training'):
        assert living_owner(tmp_path)['what'] == 'training'
        with pytest.raises(FolderTaken, match=f'another training is writing there .process {os.getpid()} on .*Choose '):
            FolderLock(tmp_path, 'test', 'Choose another --work-dir').acquire()
    assert living_owner(tmp_path) is None and not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError), FolderLock(tmp_path):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def child(what, folder):
    """A process that takes the folder's lock, see ``support/lock_child.py``; what it says comes through a pipe."""
    process = subprocess.Popen([sys.executable, str(SUPPORT / 'lock_child.py'), what, str(folder)], text=True,
                               env=child_processes.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               start_new_session=True)
    return process


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = child('hold', tmp_path)
    try:
        assert process.stdout.readline() == 'holds it\n'
        with pytest.raises(FolderTaken):
            FolderLock(tmp_path).acquire()
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while living_owner(tmp_path) and time.monotonic() < deadline:  # dead, and its parent has not taken note
            time.sleep(0.01)
        with FolderLock(tmp_path):
            assert living_owner(tmp_path)['pid'] == os.getpid()
    finally:
        child_processes.kill(process)
        process.communicate()


def test_a_number_given_to_another_process_and_another_boot_are_no_sign_of_life(tmp_path, left, monkeypatch):
    left(born='1')
    assert living_owner(tmp_path) is None
    with FolderLock(tmp_path):
        pass
    left(pid='x')
    assert living_owner(tmp_path) is None


@pytest.mark.slow
def test_a_forked_worker_does_not_give_the_lock_back(tmp_path):
    assert child_processes.run([SUPPORT / 'lock_child.py', 'fork', tmp_path]) == 'still held\n'


def test_a_lock_that_another_took_over_is_not_given_back(tmp_path):
    with FolderLock(tmp_path):
        (tmp_path / LOCK).unlink()
        (tmp_path / LOCK).write_text('{}')
    assert (tmp_path / LOCK).exists()


def test_of_another_machine_the_signs_of_life_are_waited_for(tmp_path, left, monkeypatch, capsys):
    monkeypatch.setattr(locks, 'PATIENCE', 0.4)
    left(host='elsewhere', boot='another')
    assert living_owner(tmp_path) is None and 'elsewhere' in capsys.readouterr().err
    beat = threading.Timer(0.1, os.utime, args=(tmp_path / LOCK,))
    beat.start()
    with pytest.raises(FolderTaken, match='on elsewhere'):
        FolderLock(tmp_path).acquire()
    beat.join()
    os.utime(tmp_path / LOCK, (1, 1))  # an old one is not even watched
    monkeypatch.setattr(locks, 'PATIENCE', 1000)
    with FolderLock(tmp_path):
        pass


def test_a_job_that_its_scheduler_starts_again_takes_its_own_lock(tmp_path, left, monkeypatch):
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    left(host='elsewhere', boot='another')
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    with FolderLock(tmp_path):
        pass


def test_the_owner_shows_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, 'HEARTBEAT', 0.02)
    with FolderLock(tmp_path):
        os.utime(tmp_path / LOCK, (1, 1))
        deadline = time.monotonic() + 20
        while os.stat(tmp_path / LOCK).st_mtime == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.stat(tmp_path / LOCK).st_mtime > 1


def test_a_copied_lock_is_nobody_s(tmp_path):
    (tmp_path / 'a').mkdir()
    with FolderLock(tmp_path / 'a'):
        shutil.copytree(tmp_path / 'a', tmp_path / 'b')
        assert living_owner(tmp_path / 'b') is None
        with FolderLock(tmp_path / 'b'):
            pass
        (tmp_path / 'a').rename(tmp_path / 'c')  # a moved one is still its owner's
        assert living_owner(tmp_path / 'c') is not None


@pytest.mark.parametrize('text', ['', '[1]', '{', '{}', '\xff'])
def test_a_lock_that_a_kill_left_half_written_is_taken_over(tmp_path, text):
    (tmp_path / LOCK).write_bytes(text.encode('latin-1'))
    os.utime(tmp_path / LOCK, (1, 1))
    with FolderLock(tmp_path):
        assert living_owner(tmp_path) is not None


@pytest.mark.slow
def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path, left):
    left(born='1')
    processes = [child('grab', tmp_path) for _ in range(4)]
    try:
        for process in processes:
            assert process.stdout.readline() == 'ready\n'
        for process in processes:
            process.stdin.write('\n')
            process.stdin.flush()
        found = sorted(process.stdout.readline() for process in processes)
    finally:
        for process in processes:
            child_processes.kill(process)
            process.communicate()
    assert found == ['refused\n'] * 3 + ['taken\n']


def test_a_full_disk_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError) as caught:
        FolderLock(tmp_path).acquire()
    assert caught.value.filename == str(tmp_path) and not list(tmp_path.iterdir())


def test_processes_of_one_launch_know_each_other(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    assert launch_id() is None
    for name, value in dict(WORLD_SIZE='2', MASTER_ADDR='a', MASTER_PORT='1').items():
        monkeypatch.setenv(name, value)
    first = launch_id()
    monkeypatch.setenv('MASTER_PORT', '2')
    assert first and launch_id() != first


def test_locks_of_different_names_do_not_know_each_other(tmp_path):
    with FolderLock(tmp_path, 'download', name='.a.lock'), FolderLock(tmp_path, 'training'):
        with pytest.raises(FolderTaken, match='another download is writing there'):
            FolderLock(tmp_path, 'download', name='.a.lock').acquire()
        assert living_owner(tmp_path, '.a.lock')['what'] == 'download' and living_owner(tmp_path, '.b.lock') is None


def test_on_a_system_without_fcntl_and_proc(tmp_path, monkeypatch, left):
    """As on Windows; tried there by nobody."""
    taken = like_windows(monkeypatch)
    with FolderLock(tmp_path, 'training'):
        assert taken == ['locked', 'given back'] and living_owner(tmp_path)['born'] == '1000.00'
        with pytest.raises(FolderTaken, match='another training is writing there'):
            FolderLock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())
    left(pid=4242, born='7.00')  # a number that nobody has any more
    with FolderLock(tmp_path):
        assert living_owner(tmp_path)['pid'] == os.getpid()
    left(born='7.00')  # and one that somebody else has
    with FolderLock(tmp_path):
        pass
    left(born=None, pid=4243)  # nobody may look at that process: it is believed to live
    with pytest.raises(FolderTaken):
        FolderLock(tmp_path).acquire()


def test_where_nothing_can_be_locked_the_file_alone_has_to_do(tmp_path, monkeypatch):
    like_windows(monkeypatch)
    monkeypatch.setitem(sys.modules, 'msvcrt', None)
    with FolderLock(tmp_path), pytest.raises(FolderTaken):
        FolderLock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())


def test_on_windows_a_file_that_somebody_has_open_is_tried_again(tmp_path, monkeypatch):
    like_windows(monkeypatch)
    refused = iter([PermissionError(13, 'in use'), PermissionError(13, 'in use'), None])
    unlink = Path.unlink

    def in_use(path, *args, **kwargs):
        if path.name == LOCK and (error := next(refused)) is not None:
            raise error
        unlink(path, *args, **kwargs)
    monkeypatch.setattr(Path, 'unlink', in_use)
    with FolderLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
