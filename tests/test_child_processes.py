"""What tests start, ends with them."""
import re
import subprocess
import sys
import time
from pathlib import Path

import child_processes
import pytest
import torch

TESTS = Path(__file__).parent
PARENT = 'import subprocess, time; print(subprocess.Popen(["sleep", "60"]).pid, flush=True); time.sleep(60)'


def running(pid):
    return pid in child_processes.processes()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(child_processes, 'GRACE', 1.0)


def test_a_child_that_is_left_is_named_and_ended():
    before = child_processes.children()
    assert child_processes.end_new_children(before) == {}
    child = subprocess.Popen(['sleep', '60'])
    assert child_processes.end_new_children(before) == {child.pid: 'sleep 60'}
    assert child.wait() == -9 and child_processes.children() == before


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere orphans are nobody\'s')
def test_what_a_child_leaves_behind_is_found():
    before = child_processes.children()
    said = subprocess.run(['sh', '-c', 'sleep 60 >/dev/null 2>&1 & echo $!'], capture_output=True, text=True).stdout
    assert child_processes.end_new_children(before) == {int(said): 'sleep 60'} and not running(int(said))


def test_a_child_that_ends_in_time_is_not_left():
    before = child_processes.children()
    child = subprocess.Popen(['sleep', '0.2'])
    assert child_processes.end_new_children(before) == {} and child.wait() == 0


def test_a_command_that_hangs_is_ended_with_all_that_it_started():
    child = child_processes.start(['-c', PARENT])
    grandchild = int(child.stdout.readline())
    began = time.monotonic()
    with pytest.raises(AssertionError, match='no end after 0.1 s'):
        child_processes.finish(child, timeout=0.1)
    assert time.monotonic() - began < 30 and not running(child.pid) and not running(grandchild)


def test_a_command_that_fails_is_told():
    with pytest.raises(AssertionError, match='exit code 3:\nat work'):
        child_processes.run(['-c', 'print("at work"); raise SystemExit(3)'])


def test_a_command_has_nothing_of_this_process_s_group(monkeypatch):
    monkeypatch.setenv('MASTER_PORT', '29500')
    code = 'import os; print(os.environ.get("MASTER_PORT"), os.environ["OMP_NUM_THREADS"])'
    assert child_processes.run(['-c', code]) == 'None 1\n'


def test_no_test_forks_after_torch_has_run_or_joins_a_group_at_a_place_of_its_own_choice():
    files = [path for path in TESTS.rglob('*.py') if path != Path(__file__)]

    def those_with(pattern):
        return {path.name for path in files if re.search(pattern, path.read_text(encoding='utf-8'))}
    forks = those_with(r"get_context\(['\"]fork['\"]|os\.fork\(")
    assert forks <= {'fill_bank.py', 'lock_child.py', 'two_ranks.py'}  # they fork before they run torch
    places = those_with(r"MASTER_PORT=|['\"]MASTER_PORT['\"]\]? ?[:=]")
    # The first asks the system for a free port each time; the others only look at the variables and join nothing.
    assert places <= {'two_ranks.py', 'test_locks.py', 'test_work_dir.py'}
    assert torch.get_num_threads() == 1  # nor has a forked data worker anything to wait for


def test_a_process_of_two_threads_may_not_fork():
    code = ('import threading; from forking import require_one_thread; require_one_thread(); stop = threading.Event()\n'
            'threading.Thread(target=stop.wait).start()\ntry: require_one_thread()\nexcept AssertionError as error: '
            'print(error)\nfinally: stop.set()')
    if sys.platform == 'linux':
        assert '2 threads, of which a fork' in child_processes.run(['-c', code], child_processes.environment(
            TESTS / 'support'))
