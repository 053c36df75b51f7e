"""The processes of a run end together: what ends one ends all, and one of them says why."""
from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

from torch import distributed

_KEY = 'weclip_sam/ended'
_POLL = 1.0    # seconds between two looks at the store
_GRACE = 20.0  # seconds that a process has to end by itself, for closing files; then it is ended

_watcher: threading.Thread | None = None
_done = threading.Event()     # this process has done its part
_leaving = threading.Event()  # this process is about to end by an error
_told = threading.Event()     # another one is


def watch_others() -> None:
    """From now on end this process (exit code 2) when another one of its group ends by an error.

    Without it the others would wait in their next collective: under NCCL, and where a launcher does not kill them,
    for minutes or days. To be called in every process once the group is there; does nothing without one.
    """
    global _watcher
    store = _store()
    if store is None or (_watcher is not None and _watcher.is_alive()):
        return
    for event in (_done, _leaving, _told):
        event.clear()
    _watcher = threading.Thread(target=_watch, args=(store,), daemon=True, name='watch_others')
    _watcher.start()


def stop_watching() -> None:
    """This process has done its part: whatever comes of the others, it is not to be ended."""
    _done.set()
    if _watcher is not None:
        _watcher.join(5 * _POLL)


def begin_to_leave() -> None:
    """An error ends this process: from now on nobody's signal disturbs the end of one of several."""
    _leaving.set()
    if _store() is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def is_first_to_end() -> bool:
    """Tell the other processes that this one ends by an error.

    Returns:
        Whether nobody did so before, so that this one is to say why. True without other processes, and where their
        store cannot be reached.
    """
    store = _store()
    if store is not None:
        with suppress(Exception):
            return store.add(_KEY, 1) == 1
    return True


def others_ended() -> bool:
    """Whether another process has told that it ends by an error."""
    store = _store()
    if store is not None:
        with suppress(Exception):
            return _told.is_set() or store.add(_KEY, 0) > 0
    return _told.is_set()


def leave(code: int) -> NoReturn:
    """End with an exit code. In a group at once: its threads could abort an interpreter's orderly end, or never end.
    """
    if _store() is None:
        raise SystemExit(code) from None
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    time.sleep(2.5 * _POLL)  # the store may live in this process: let the others see it
    os._exit(code)


def _store() -> distributed.Store | None:
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() < 2:
        return None
    return distributed.distributed_c10d._get_default_store()


def _interrupt() -> None:
    if os.name == 'nt':
        _thread.interrupt_main(signal.SIGTERM)  # os.kill would end the process there, without a word
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def _watch(store: distributed.Store) -> None:
    told = False
    while not told and not _done.wait(_POLL):
        try:
            told = store.add(_KEY, 0) > 0
        except Exception:  # its host is gone; whoever waits for that process gets an error of its own
            return
    if not told:
        return
    _told.set()
    if not _leaving.is_set():
        # An interruption wherever the main thread is; in a collective it waits in C and hears nothing.
        _interrupt()
    if not _done.wait(_GRACE):
        os._exit(2)
