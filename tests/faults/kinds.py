"""The faults that strike a run."""
from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

from faults.runs import data_workers, kill, wait_until
from faults.works import Work


class Fault:
    """What befalls a run: here ``kill -9`` of its process group.

    Attributes:
        kinds: of work that it can befall.
        workers: see :class:`Work`.
        ends_itself: the run notices, and ends with an error.
        lasts: until :meth:`mend`, so that a start meanwhile must fail, too.
    """

    name, kinds, workers, ends_itself, lasts = 'kill', ('training', 'masks', 'seeds'), 0, False, False

    def prepare(self, work: Work) -> None:
        """Before the first run."""

    def close(self, work: Work) -> None:
        """After the last run."""

    def in_child(self) -> None:
        """In a process that will be struck, before anything else."""

    def strike(self, process: Any, work: Work) -> bool:
        """Whether there was anything to strike."""
        kill(process)
        return True

    def mend(self, work: Work) -> None:
        """Take the fault away."""

    def names(self, work: Work) -> str:
        """What the error must name."""
        return str(work.out)


class DiskFull(Fault):
    name, ends_itself = 'disk', True
    size = 320 << 20  # four checkpoints at a time, and some

    def prepare(self, work: Work) -> None:
        disk = work.home / 'disk'
        disk.mkdir(exist_ok=True)
        self.lasts = _mount(disk, self.size)
        self.filler = disk / 'filler' if self.lasts else None
        work.out = disk / 'out'
        print(f'  {work.name}, disk: {"a tmpfs" if self.lasts else "no tmpfs to be had: a limit on file sizes"}')

    def close(self, work: Work) -> None:
        if self.filler is not None:
            subprocess.run(['umount', str(work.home / 'disk')], check=True)
        work.out = work.home / 'out'

    def strike(self, process: Any, work: Work) -> bool:
        if self.filler is None:
            try:
                hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
            except ProcessLookupError:
                return False
            return True
        with open(self.filler, 'wb', buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
        return True

    def mend(self, work: Work) -> None:
        if self.filler is not None:
            self.filler.unlink(missing_ok=True)


class WorkerDies(Fault):
    name, kinds, workers, ends_itself = 'worker', ('training', 'seeds'), 1, True

    def strike(self, process: Any, work: Work) -> bool:
        wait_until(process, lambda: bool(data_workers(process.pid)), 0.01)
        for pid in data_workers(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def names(self, work: Work) -> str:
        return 'a data worker died'


class ReadOnly(Fault):
    name, ends_itself, lasts = 'read-only', True, True

    def in_child(self) -> None:
        """root may write where chmod forbids it: put that power (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) away."""
        if os.geteuid() != 0:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        for number in (1, 2):
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP: not after an exec either
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        for word in range(3):
            sets[word] &= ~0b110
        if libc.capset(header, sets) != 0:
            raise OSError(ctypes.get_errno(), 'capset')

    def strike(self, process: Any, work: Work) -> bool:
        work.out.mkdir(exist_ok=True)
        self._allow(work, 0o555)
        return True

    def mend(self, work: Work) -> None:
        self._allow(work, 0o755)

    @staticmethod
    def _allow(work: Work, mode: int) -> None:
        for folder in (work.out, *(path for path in work.out.rglob('*') if path.is_dir())):
            folder.chmod(mode)


def _mount(folder: Path, size: int) -> bool:
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)], capture_output=True)
    return done.returncode == 0


ALL_FAULTS = (Fault, DiskFull, WorkerDies, ReadOnly)
