"""Who is writing in a folder: one run at a time, and none that was killed stands in the way of the next."""
from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weclip_sam.io.files import patiently
from weclip_sam.io.processes import UNKNOWN, birth, this_process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = '.weclip_sam.lock'
HEARTBEAT = 20.0  # seconds between two signs of life
PATIENCE = 3 * HEARTBEAT  # without a sign of life for so long, a run of another machine is gone
LONG_AGO = 900.0  # a last sign of life so old need not be watched, whatever two machines' clocks say


class FolderTaken(ValueError):
    """Another run is writing in a folder."""


class FolderLock:
    """A file in a folder that says which process writes there; a context manager.

    The file is created with ``O_EXCL``, which holds on NFS, too. It names process, host and start; the owner touches it
    every ``HEARTBEAT`` seconds. The next run takes over the lock of a process that is gone: on the same machine it is
    looked for (by its start time, too, so that a number that was given again is not taken for it), of another machine
    the signs of life are waited for. A lock that was copied along with its folder is nobody's. Forked processes may
    hold the object; only the one that acquired it releases it.

    Args:
        folder: must exist.
        what: the work, for messages: ``'training'``.
        remedy: what to do if another run has the folder, for messages.
        launch: what all processes of one launch have in common, see :func:`launch_id`.
        name: of the file; locks of different names do not know each other.

    Raises:
        FolderTaken: on entering, when another run is writing there; names its process, host and start.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, what: str = 'run', remedy: str = 'Wait for its end',
                 launch: str | None = None, name: str = LOCK) -> None:
        self.folder, self.what, self.remedy, self.launch = Path(folder), what, remedy, launch
        self.path = self.folder / name
        self._token = ''
        self._pid = 0
        self._ended = threading.Event()

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, if need be from a run that is gone."""
        with _one_at_a_time(self.folder, self.path.name):
            while True:
                try:
                    handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                    break
                except FileExistsError:
                    if (owner := living_owner(self.folder, self.path.name)) is not None:
                        raise FolderTaken(self._refusal(owner)) from None
                    patiently(lambda: self.path.unlink(missing_ok=True))
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(self.folder)) from error
            self._write(handle)
        self._pid = os.getpid()
        self._ended.clear()
        threading.Thread(target=self._beat, name='folder lock', daemon=True).start()

    def _write(self, handle: int) -> None:
        self._token = uuid.uuid4().hex
        text = json.dumps(dict(what=self.what, **this_process(), started=time.strftime('%Y-%m-%d %H:%M:%S'),
                               command=' '.join(sys.argv)[:500], launch=self.launch, token=self._token,
                               inode=os.fstat(handle).st_ino))  # a copy has another
        try:
            with os.fdopen(handle, 'w', encoding='utf-8') as file:
                file.write(text + '\n')
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                self.path.unlink()
            raise OSError(error.errno, error.strerror, str(self.folder)) from error

    def _refusal(self, owner: Mapping[str, Any]) -> str:
        since = f', since {owner["started"]}' if owner.get('started') else ''
        return (f'{self.folder}: another {owner.get("what", "run")} is writing there (process {owner.get("pid")} on '
                f'{owner.get("host")}{since}). Nothing was changed. {self.remedy}')

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with suppress(OSError):
                if self._is_mine():
                    os.utime(self.path)

    def _is_mine(self) -> bool:
        return self._token in self.path.read_text(encoding='utf-8', errors='replace')

    def release(self) -> None:
        """Give the folder back; a lock that another run took over meanwhile stays."""
        if self._pid != os.getpid():
            return
        self._pid = 0
        self._ended.set()
        with suppress(OSError):  # the folder may have become read-only: whoever comes next sees that nobody is there
            if self._is_mine():
                patiently(self.path.unlink)


def living_owner(folder: str | os.PathLike, name: str = LOCK) -> dict[str, Any] | None:
    """What the lock of a folder says of the run that is writing there, or None where none is.

    For a run of another machine this may take a minute, and says so on stderr.
    """
    path = Path(folder) / name
    try:
        owner, status = json.loads(path.read_text(encoding='utf-8')), os.stat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        # Created a moment ago and not yet filled, or left so by a kill at that moment.
        with suppress(OSError):
            if time.time() - os.stat(path).st_mtime < 2:
                time.sleep(0.5)
                return living_owner(folder, name)
        return None
    if not isinstance(owner, dict) or owner.get('inode') != status.st_ino:
        return None
    me = this_process()
    if owner.get('job') and owner['job'] == me['job'] and owner.get('restarts') != me['restarts']:
        return None  # the same job, started again by its scheduler
    if all(owner.get(key) == me[key] for key in ('host', 'boot', 'namespace')):
        born = birth(owner.get('pid'))
        alike = born == owner.get('born') or UNKNOWN in (born, owner.get('born'))
        return owner if born is not None and alike else None
    return owner if _shows_life(path, status, str(owner.get('host'))) else None


def _shows_life(path: Path, status: os.stat_result, host: str) -> bool:
    """Whether a lock that cannot be judged from here is touched while one looks at it."""
    if time.time() - status.st_mtime > LONG_AGO:
        return False
    print(f'{path.parent}: a run on {host} was writing there; waiting up to {PATIENCE:.0f} seconds for a sign of its '
          'life', file=sys.stderr, flush=True)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(min(1.0, PATIENCE / 10))
        try:
            now = os.stat(path)
        except FileNotFoundError:
            return False
        if (now.st_mtime_ns, now.st_ino) != (status.st_mtime_ns, status.st_ino):
            return True
    return False


@contextmanager
def _one_at_a_time(folder: Path, name: str) -> Iterator[None]:
    """Of several that find a stale lock together one takes it over; where nothing can be locked, ``O_EXCL`` alone has
    to do."""
    if fcntl is None:
        with _one_at_a_time_on_windows(folder / f'{name}.guard'):
            yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _one_at_a_time_on_windows(guard: Path) -> Iterator[None]:
    """Folders cannot be opened there, so a file beside the lock is locked; nobody can remove it while another has it
    open."""
    try:
        windows: Any = importlib.import_module('msvcrt')
        file = open(guard, 'ab')
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):  # after ten seconds
            windows.locking(file.fileno(), windows.LK_LOCK, 1)
        yield
    finally:
        with suppress(OSError):
            windows.locking(file.fileno(), windows.LK_UNLCK, 1)
        file.close()
        with suppress(OSError):
            guard.unlink()


def launch_id() -> str | None:
    """What the processes of one distributed launch have in common, from the launcher's environment; None for one
    process by itself."""
    env = os.environ
    if int(env.get('WORLD_SIZE', '1') or 1) < 2:
        return None
    return ' '.join(env.get(key, '') for key in ('MASTER_ADDR', 'MASTER_PORT', 'TORCHELASTIC_RUN_ID', 'SLURM_JOB_ID',
                                                 'SLURM_STEP_ID'))
