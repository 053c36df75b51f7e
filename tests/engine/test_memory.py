"""What a process took; where the system tells less, less is known."""
import os
import signal
import subprocess
import sys
import types

import pytest

from weclip_sam.engine import memory
from weclip_sam.engine.memory import peak_memory, wait_and_measure
from weclip_sam.engine.start import together


def start(code):
    return subprocess.Popen([sys.executable, '-c', code])


def test_memory_and_cpu_time_of_a_process_that_has_ended():
    code, peak, cpu = wait_and_measure(start('import sys; block = bytearray(b"x" * 90_000_000); sys.exit(3)'))
    assert code == 3 and 0.09 < peak < 100 and 0 < cpu < 60
    process = start('import os; os.abort()')
    assert wait_and_measure(process)[0] == process.returncode == -signal.SIGABRT


def test_windows_counts_neither(monkeypatch):
    monkeypatch.delattr(os, 'wait4')
    assert wait_and_measure(start('raise SystemExit(3)')) == (3, None, None)


def test_without_proc_getrusage_tells_and_without_both_psutil(monkeypatch):
    told = peak_memory(workers=True)
    assert 0.05 < told['process'] and 'largest_worker' in told

    def nothing(key):
        raise FileNotFoundError(key)
    monkeypatch.setattr(memory, 'process_status', nothing)
    assert peak_memory()['process'] == pytest.approx(told['process'], rel=0.9)
    monkeypatch.setattr(memory, 'resource', None)
    psutil = types.ModuleType('psutil')
    psutil.Process = lambda: types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(peak_wset=5 * 10 ** 8))
    monkeypatch.setitem(sys.modules, 'psutil', psutil)
    told = peak_memory(workers=True)
    assert told['process'] == 0.5 and 'largest_worker' not in told
    monkeypatch.setitem(sys.modules, 'psutil', None)
    assert 'process' not in peak_memory()


def test_on_windows_the_main_thread_is_interrupted_without_a_signal(monkeypatch):
    monkeypatch.setattr(together, 'os', types.SimpleNamespace(name='nt'))
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append('asked to end'))
    try:
        together._interrupt()
        for _ in range(1000):  # a handler runs between two steps of the interpreter
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ['asked to end']
