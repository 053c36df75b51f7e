"""What other systems have and lack, on Linux."""
import fcntl
import os
import sys
import types

from weclip_sam.io import files, locks, processes

OWN_BIRTH, OTHERS = 1000.0, 4243  # when this process began, and the number of one that nobody may look at


def like_windows(monkeypatch):
    """No fcntl and no /proc, but msvcrt and psutil; a file that is in use is tried again, at once.

    Returns:
        A list that grows by what is done to the guard.
    """
    done = []

    def locking(handle, mode, count):
        assert count == 1
        fcntl.lockf(handle, fcntl.LOCK_EX if mode == 1 else fcntl.LOCK_UN, count)
        done.append({1: 'locked', 0: 'given back'}[mode])

    psutil = types.ModuleType('psutil')
    psutil.STATUS_ZOMBIE = 'zombie'
    psutil.Error = type('Error', (Exception,), {})
    psutil.NoSuchProcess = type('NoSuchProcess', (psutil.Error,), {})

    class Process:
        def __init__(self, pid):
            if pid != os.getpid():
                raise (psutil.Error if pid == OTHERS else psutil.NoSuchProcess)

        def status(self):
            return 'running'

        def create_time(self):
            return OWN_BIRTH

    psutil.Process = Process
    msvcrt = types.ModuleType('msvcrt')
    msvcrt.LK_LOCK, msvcrt.LK_UNLCK, msvcrt.locking = 1, 0, locking
    for name, module in (('psutil', psutil), ('msvcrt', msvcrt)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(locks, 'fcntl', None)
    monkeypatch.setattr(processes, '_PROC', processes.Path('/no proc'))
    monkeypatch.setattr(files, '_WINDOWS', True)
    monkeypatch.setattr(files, '_PAUSES', (0, 0, 0))
    return done
