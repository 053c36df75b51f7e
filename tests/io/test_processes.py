"""Whether a process is there, and whether it is the same one."""
import os
import sys
import types

import pytest
from other_systems import like_windows

from weclip_sam.io import processes
from weclip_sam.io.processes import UNKNOWN, birth, this_process


def test_this_process_is_there_and_began_once():
    assert this_process() == this_process() and this_process()['pid'] == os.getpid()
    assert birth(os.getpid()) == this_process()['born'] is not None
    assert birth('7') is birth(None) is birth(2 ** 22 + 1) is None


def test_through_psutil_where_there_is_no_proc(monkeypatch):
    like_windows(monkeypatch)
    assert birth(os.getpid()) == '1000.00' and birth(1) is None and birth(4243) == UNKNOWN
    assert this_process()['boot'] == this_process()['namespace'] == ''
    monkeypatch.setattr(sys.modules['psutil'].Process, 'status', lambda self: 'zombie')
    assert birth(os.getpid()) is None


def test_without_psutil_a_signal_asks_but_never_on_windows(monkeypatch):
    like_windows(monkeypatch)
    monkeypatch.setitem(sys.modules, 'psutil', None)
    assert birth(os.getpid()) == UNKNOWN and birth(2 ** 22 + 1) is None
    there = dict(vars(os), name='nt', kill=lambda *_: pytest.fail('that would end it'))
    monkeypatch.setattr(processes, 'os', types.SimpleNamespace(**there))
    assert birth(2 ** 22 + 1) == UNKNOWN
