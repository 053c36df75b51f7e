#!/usr/bin/env python
"""Faults at random moments lose nothing: ``python tests/fault_campaign.py --kills 20 --tries 5``.

Training, mask making and seed making run once without interruption. Then each is struck by a fault and started again,
until there were so many; what comes out at the end must equal the uninterrupted run bit by bit. A kind of work that
ends before its tries are used up is compared, and begins again in an empty folder. The faults:

``kill``
    ``kill -9`` of the whole process group.
``disk``
    The work dir is on a small tmpfs, which is filled up; where none can be mounted, no file of the process may grow.
``worker``
    ``kill -9`` of a process that loads images (training and seeds; mask making has none).
``read-only``
    The work dir and its folders lose their write permission.

``replaced``
    Photos are replaced, cropped, touched and copied between two runs of mask and of seed making, the first of which is
    killed; masks and labels must then be those of the photos that are there (:func:`replaced_inputs`).

After ``disk``, ``worker`` and ``read-only`` the run must have ended by itself, with exit code 2 and one error that
names the place, without a traceback; a start while the disk is full or read-only must end likewise; and when that is
mended, the same command must go on.

The moments: half of the faults fall anywhere in the run's time, the start of the interpreter included; a quarter at a
random time after the work itself has begun; a quarter at the very moment a file is being written. Runs whose start-up
is of no interest are forked from this process, which has imported everything already.

Exit code: 0 nothing was lost, 1 something was. pytest does not collect this file.
"""
from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch is imported; a forked child has one thread

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from weclip_sam.engine import find_resumable, safe_load  # noqa: E402
from weclip_sam.mask_bank import MaskBank  # noqa: E402
from weclip_sam.registry import READERS  # noqa: E402

MOMENTS = ('anywhere', 'at work', 'while writing')
LOSSES = ('lost', 'doubled', 'torn', 'left over', 'different', 'failed starts', 'unclear ends')
NOISE = ('Traceback (most recent', 'Logging error', 'Exception in thread', 'Exception ignored')
PRIVATE = ['unshare', '--user', '--map-root-user', '--mount']  # mounts of its own, which end with it
CONFIG = 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py'
SEED_CONFIG = 'configs/clip_es/clip-es_tiny_free_shapes.py'
LIMIT = 1200  # seconds after which a single start counts as hanging
FORK = multiprocessing.get_context('fork')


class Work(ABC):
    """One kind of work: how to start it, how to see it move, and what must hold.

    Args:
        home: folder of everything this kind writes.
        workers: processes that load images.
    """

    name: str

    def __init__(self, home: Path, workers: int = 0) -> None:
        self.home, self.reference, self.out, self.workers = home, home / 'reference', home / 'out', workers
        home.mkdir(parents=True, exist_ok=True)
        self.faults: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}  # of the reference, once it has run

    def fault(self, kind: str, what: str) -> None:
        """Note that something was lost, doubled, ..."""
        self.faults.append((kind, what))
        print(f'  {self.name}: {kind}: {what}', flush=True)

    @abstractmethod
    def command(self, out: Path) -> list[str]:
        """Arguments of python for a run into ``out``; the same for the first start and all later ones."""

    @abstractmethod
    def progress(self, out: Path) -> int:
        """A number that grows while the work itself (not its start-up) goes on."""

    def writing(self, out: Path) -> bool:
        """Whether a file is being written at this moment."""
        return any(name.endswith('.tmp') for folder in (out, out / 'sheets') for name in _names(folder))

    @abstractmethod
    def share_done(self) -> float:
        """How much of the work is safe, from 0 to 1, as of the last check."""

    @abstractmethod
    def check_after_fault(self) -> None:
        """What a fault may not have done to ``out``."""

    @abstractmethod
    def check_at_end(self) -> None:
        """What a run that ended must have in ``out``."""

    def check_leftovers(self) -> None:
        """Temporary files that nothing will ever remove."""
        for path in sorted(self.out.rglob('*.tmp')):
            self.fault('left over', str(path.relative_to(self.out)))

    def begin_again(self) -> None:
        """The next run starts from nothing."""
        shutil.rmtree(self.out, ignore_errors=True)


class Training(Work):
    """``tools/train.py --resume`` with a mask bank of its own, made before."""

    name = 'training'
    iterations = 40

    def __init__(self, home: Path, workers: int = 0) -> None:
        super().__init__(home, workers)
        self.images = 'train_dataloader.dataset.reader.num_images=12'
        self.bank = home.parent / 'bank'
        log = home.parent / 'bank.log'
        _end(_start([str(ROOT / 'tools/make_masks.py'), CONFIG, '--out', str(self.bank), '--cfg-options', self.images],
                    log), log, 'the mask bank')
        self.reached = 0

    def command(self, out: Path) -> list[str]:
        return [str(ROOT / 'tools/train.py'), CONFIG, '--work-dir', str(out), '--resume', '--cfg-options',
                f'train_cfg.max_iters={self.iterations}', 'train_cfg.val_interval=10', 'param_scheduler.0.end=40',
                'param_scheduler.0.warmup_iters=5', 'model.rfm_start=20', 'train_dataloader.batch_size=2', self.images,
                'val_dataloader.batch_size=2', 'val_dataloader.dataset.reader.num_images=6',
                'default_hooks.checkpoint.interval=5', 'default_hooks.sheets.images=1',
                'default_hooks.logger.interval=1', f'mask_bank={self.bank}', 'seed_dataset.reader.num_images=2',
                f'train_dataloader.num_workers={self.workers}']

    def progress(self, out: Path) -> int:
        return sum(path.read_text(errors='replace').count('Iter(') for path in out.glob('*/*.log'))

    def share_done(self) -> float:
        return self.reached / self.iterations

    def check_after_fault(self) -> None:
        newest = find_resumable(self.out)
        at = int(newest.stem.removeprefix('iter_')) if newest else 0
        if at < self.reached:
            self.fault('lost', f'resumable at {self.reached} before the fault, at {at} after it')
        self.reached = at
        for path in self.out.glob('*.pth'):
            self._read(path)
        pointer = self.out / 'last_checkpoint'
        if pointer.is_file() and not Path(pointer.read_text()).is_file():
            self.fault('lost', f'last_checkpoint names {pointer.read_text()!r}, which is not there')
        for path in (*self.out.glob('*.json'), *self.out.glob('sheets/*.png')):
            _check_whole(path, self.fault)

    def _read(self, path: Path) -> Any:
        try:
            return safe_load(path)
        except ValueError as error:
            self.fault('torn', str(error))
            return None

    def check_at_end(self) -> None:
        self.check_after_fault()
        names = [sorted(p.name for p in (*folder.glob('*.pth'), *folder.glob('*.json'), *folder.glob('sheets/*.png'),
                                         *folder.glob('last_checkpoint'))) for folder in (self.reference, self.out)]
        for name in sorted(set(names[0]) - set(names[1])):
            self.fault('lost', f'{name} is missing at the end')
        for name in sorted(set(names[1]) - set(names[0])):
            self.fault('doubled', f'{name} is there, and not in the uninterrupted run')
        for name in sorted(set(names[0]) & set(names[1])):
            pair = [folder / name for folder in (self.reference, self.out)]
            if name.endswith('.pth'):
                contents = [self._read(path) for path in pair]
                keys = ('state_dict', 'optimizer', 'param_schedulers', 'rng_state', 'data_sampler')
                for key in keys:
                    if None not in contents and not same(*(content.get(key) for content in contents)):
                        self.fault('different', f'{key} of {name}')
            elif name.startswith('iou_') and pair[0].read_bytes() != pair[1].read_bytes():
                self.fault('different', name)
        for path in self.out.glob('sheets/*.png'):
            if path.read_bytes() != (self.reference / 'sheets' / path.name).read_bytes():
                self.fault('different', f'sheets/{path.name}')

    def begin_again(self) -> None:
        super().begin_again()
        self.reached = 0


class Masks(Work):
    """``tools/make_masks.py``, four images at a time."""

    name = 'masks'
    images = 40

    def command(self, out: Path) -> list[str]:
        return [str(ROOT / 'tools/make_masks.py'), CONFIG, '--out', str(out), '--batch-size', '4', '--cfg-options',
                f'train_dataloader.dataset.reader.num_images={self.images}']

    def progress(self, out: Path) -> int:
        return sum(path.stat().st_size for path in out.glob('shard-*.masks'))

    def writing(self, out: Path) -> bool:
        """Records are appended, so there is no temporary file: the moment a shard has grown."""
        size, self._seen = getattr(self, '_seen', None), self.progress(out)
        return super().writing(out) or (size is not None and self._seen > size)

    def share_done(self) -> float:
        return len(self.known) / self.images

    def check_after_fault(self) -> None:
        if not (self.out / 'bank.json').is_file():
            if any(self.out.glob('shard-*')):
                self.fault('lost', 'bank.json is missing beside shards')
            return
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            with MaskBank(self.out, mode='r') as bank, MaskBank(self.reference, mode='r') as whole:
                there = set(bank.ids())
                if lost := self.known - there:
                    self.fault('lost', f'records of {sorted(lost)}')
                self.known = there
                for image_id in there:
                    if not same(_tensors(bank.get(image_id)), _tensors(whole.get(image_id))):
                        self.fault('different', f'masks of {image_id}')
        for warning in told:
            self.fault('torn', str(warning.message))

    known: set[str] = set()

    def check_at_end(self) -> None:
        self.check_after_fault()
        records = [[json.loads(line[9:])['id'] for path in sorted(folder.glob('shard-*.masks'))
                    for line in path.read_bytes().split(b'\n')[:-1]] for folder in (self.reference, self.out)]
        for image_id in sorted(set(records[0]) - set(records[1])):
            self.fault('lost', f'no record of {image_id}')
        for image_id in sorted({each for each in records[1] if records[1].count(each) > 1}):
            self.fault('doubled', f'{records[1].count(image_id)} records of {image_id}')
        summary = _check_whole(self.out / 'summary.json', self.fault)
        if summary and (summary['in_bank'], summary['failed']) != (self.images, {}):
            self.fault('lost', f'summary.json counts {summary["in_bank"]} images, {len(summary["failed"])} failed')

    def begin_again(self) -> None:
        super().begin_again()
        self.known = set()


class Seeds(Work):
    """``tools/make_seeds.py --scores``."""

    name = 'seeds'
    images = 40

    def command(self, out: Path) -> list[str]:
        return [str(ROOT / 'tools/make_seeds.py'), SEED_CONFIG, '--out', str(out), '--scores', '--workers',
                str(self.workers), '--cfg-options', f'train_dataloader.dataset.reader.num_images={self.images}']

    def progress(self, out: Path) -> int:
        return sum(name.endswith('.png') for name in _names(out))

    def writing(self, out: Path) -> bool:
        return super().writing(out) or any(name.endswith('.tmp') for name in _names(out / 'scores'))

    known: set[str] = set()

    def share_done(self) -> float:
        return len(self.known) / (2 * self.images)  # a PNG and the scores of each

    def check_after_fault(self) -> None:
        there = {str(p.relative_to(self.out)) for p in (*self.out.glob('*.png'), *self.out.glob('scores/*.npz'))}
        if lost := self.known - there:
            self.fault('lost', f'{sorted(lost)}')
        self.known = there
        for name in there:
            if not (self.reference / name).is_file():
                self.fault('doubled', f'{name} is there, and not in the uninterrupted run')
            elif _digest(self.out / name) != _digest(self.reference / name):
                whole = (self.reference / name).read_bytes().startswith((self.out / name).read_bytes())
                self.fault('torn' if whole else 'different', name)
        for path in self.out.glob('*.json'):
            _check_whole(path, self.fault)

    def check_at_end(self) -> None:
        self.check_after_fault()
        expected = {str(p.relative_to(self.reference))
                    for p in (*self.reference.glob('*.png'), *self.reference.glob('scores/*.npz'))}
        for name in sorted(expected - self.known):
            self.fault('lost', f'{name} is missing at the end')
        summary = _check_whole(self.out / 'summary.json', self.fault)
        if summary and (summary['made'] + summary['found'], summary['failed']) != (self.images, {}):
            self.fault('lost', f'summary.json counts {summary["made"]} made and {summary["found"]} found')

    def begin_again(self) -> None:
        super().begin_again()
        self.known = set()


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
        _kill(process)
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
        _wait(process, lambda: bool(_data_workers(process.pid)), 0.01)
        for pid in _data_workers(process.pid)[:1]:
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


ALL_FAULTS = (Fault, DiskFull, WorkerDies, ReadOnly)


def _mount(folder: Path, size: int) -> bool:
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)], capture_output=True)
    return done.returncode == 0


def _data_workers(pid: int) -> list[int]:
    """Processes that load images for ``pid``."""
    found = []
    for folder in Path('/proc').iterdir():
        try:
            name, _, rest = (folder / 'stat').read_text().partition('(')[2].rpartition(')')
        except (OSError, ValueError):
            continue
        if name == 'pt_data_worker' and int(rest.split()[1]) == pid and rest.split()[0] != 'Z':
            found.append(int(folder.name))
    return sorted(found)


def same(first: Any, second: Any) -> bool:
    """Whether two nested values are equal, tensors bit by bit."""
    if isinstance(first, torch.Tensor):
        return (isinstance(second, torch.Tensor) and first.dtype == second.dtype and first.shape == second.shape
                and first.numpy().tobytes() == second.numpy().tobytes())
    if isinstance(first, dict):
        return isinstance(second, dict) and list(first) == list(second) and all(same(first[k], second[k])
                                                                               for k in first)
    if isinstance(first, (list, tuple)):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def _tensors(masks: Any) -> dict[str, torch.Tensor] | None:
    return None if masks is None else {key: value.contiguous() for key, value in vars(masks).items()}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_whole(path: Path, fault: Callable[[str, str], None]) -> Any:
    """The JSON of a file; pictures are only looked at for their end."""
    if not path.is_file():
        fault('lost', f'{path.name} is missing')
    elif path.suffix == '.png':
        if not path.read_bytes().endswith(b'IEND\xaeB`\x82'):
            fault('torn', path.name)
    else:
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            fault('torn', f'{path.name}: {error}')
    return None


def _run(command: list[str], handle: int, fresh: bool, fault: Fault) -> None:
    os.setsid()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    fault.in_child()
    os.chdir(ROOT)
    if fresh:
        os.environ['PYTHONPATH'] = str(ROOT)
        os.execv(sys.executable, [sys.executable, *command])
    torch.set_num_threads(1)
    sys.argv = command
    runpy.run_path(command[0], run_name='__main__')


def _start(command: list[str], log: Path, fresh: bool = True, fault: Fault | None = None) -> Any:
    with open(log, 'ab') as file:
        # Through a pipe: what a run says must be heard when none of its files may grow.
        cat = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=file)
    process = FORK.Process(target=_run, args=(command, cat.stdin.fileno(), fresh, fault or Fault()))
    process.start()
    cat.stdin.close()
    process.cat = cat
    return process


def _end(process: Any, log: Path, what: str) -> None:
    if _code(process) != 0:
        raise SystemExit(f'{what} failed even without a kill:\n{log.read_text()[-3000:]}')


def _code(process: Any) -> int | str:
    """The exit code once the process has ended and everything it said is in the log."""
    process.join(LIMIT)
    if (code := process.exitcode) is None:
        _kill(process)
        code = 'none, it hangs'
    try:
        process.cat.wait(10)
    except subprocess.TimeoutExpired:  # somebody else holds the pipe
        process.cat.kill()
    return code


def _kill(process: Any) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # before it had a group of its own
        process.kill()
    process.join()


def _wait(process: Any, enough: Callable[[], bool], interval: float) -> bool:
    """True once ``enough`` says so, False if the process ended before."""
    deadline = time.monotonic() + LIMIT
    while process.is_alive() and time.monotonic() < deadline:
        if enough():
            return process.is_alive()
        time.sleep(interval)
    return False


def _wait_for_moment(process: Any, work: Work, moment: str, began: int, seconds: dict[str, float],
                     rng: random.Random) -> bool:
    """True when it is time to kill, False if the run ended before."""
    # What is done already takes no time again; yet some runs should come to their end.
    delay = seconds['work'] * max(0.3, 1 - work.share_done())
    if moment == 'anywhere':
        delay += seconds['all'] - seconds['work']
    delay *= rng.random()
    if moment != 'anywhere' and not _wait(process, lambda: work.progress(work.out) > began, 0.05):
        return False
    end = time.monotonic() + delay
    if not _wait(process, lambda: time.monotonic() >= end, 0.005):
        return False
    return moment != 'while writing' or _wait(process, lambda: work.writing(work.out), 0.0005)


def _run_reference(work: Work) -> dict[str, float]:
    began = time.monotonic()
    log = work.home / 'reference.log'
    process = _start(work.command(work.reference), log)
    _wait(process, lambda: work.progress(work.reference) > 0, 0.05)
    first = time.monotonic()
    _end(process, log, work.name)
    end = time.monotonic()
    return dict(all=end - began, work=end - first)


def _check_end(process: Any, work: Work, fault: Fault, log: Path, said: int) -> None:
    """The run must have ended by itself, with one clear error."""
    code = _code(process)
    text = log.read_bytes()[said:].decode(errors='replace')
    told = [line for line in text.replace('\r', '\n').split('\n') if line.startswith('error: ')]
    if code != 2 or len(told) != 1 or fault.names(work) not in told[0] or any(noise in text for noise in NOISE):
        work.fault('unclear ends', f'{fault.name}: exit code {code}: {text[-3000:]}')


def campaign(work: Work, fault: Fault, tries: int, rng: random.Random) -> dict[str, Any]:
    """Strike ``work`` so many times, and let it end; the report says what that did."""
    began = time.monotonic()
    seconds = work.seconds = work.seconds or _run_reference(work)
    work.faults = []
    fault.prepare(work)
    try:
        work.begin_again()
        counts = _campaign(work, fault, tries, rng, seconds)
    finally:
        fault.close(work)
    losses = {kind: sum(each == kind for each, _ in work.faults) for kind in LOSSES}
    return dict(fault=fault.name, tries=tries, **counts, **losses, reference_seconds=seconds,
                seconds=time.monotonic() - began, details=[f'{kind}: {what}' for kind, what in work.faults])


def _campaign(work: Work, fault: Fault, tries: int, rng: random.Random, seconds: dict[str, float]) -> dict[str, Any]:
    moments = [MOMENTS[0]] * (tries - tries // 2)
    moments += [MOMENTS[1 + i % 2] for i in range(tries // 2)]
    rng.shuffle(moments)
    made, survived, runs, equal, starts = dict.fromkeys(MOMENTS, 0), 0, 0, 0, 0
    log, clean = work.home / f'{fault.name}.log', True
    faults_before_run = pending = 0  # pending: faults whose next start has not shown yet that it can go on
    while True:
        left, said = len(moments), log.stat().st_size if log.is_file() else 0
        process = _start(work.command(work.out), log, not moments or moments[-1] == 'anywhere', fault)
        starts += 1
        seen = work.progress(work.out)
        struck = bool(left) and _wait_for_moment(process, work, moments[-1], seen, seconds, rng) \
            and fault.strike(process, work)
        code = _code(process)
        if struck and fault.ends_itself and code == 0:  # it had nothing more to write
            fault.mend(work)
            struck = False
        if struck:
            moment = moments.pop()
            made[moment] += 1
            before = len(work.faults)
            if fault.ends_itself:
                _check_end(process, work, fault, log, said)
            work.check_after_fault()
            if fault.lasts:
                said = log.stat().st_size
                _check_end(_start(work.command(work.out), log, False, fault), work, fault, log, said)
                work.check_after_fault()
                fault.mend(work)
            survived += pending and clean
            pending, clean = 1, len(work.faults) == before
            print(f'  {work.name}, {fault.name}: {tries - len(moments)} of {tries}, {moment}, '
                  f'{work.share_done():.0%} done', flush=True)
            continue
        if code != 0:
            work.fault('failed starts', f'exit code {code}: {log.read_text(errors="replace")[-1500:]}')
            clean = False
        else:
            work.check_at_end()
            work.check_leftovers()
        survived += pending and clean
        runs += 1
        equal += code == 0 and not any(kind in ('different', 'lost', 'torn')
                                       for kind, _ in work.faults[faults_before_run:])
        pending, clean, faults_before_run = 0, True, len(work.faults)
        if not moments:
            break
        work.begin_again()
    return dict(moments=made, survived=survived, starts=starts, runs_to_the_end=runs, bit_equal_runs=equal)


FOLDER_SEEDS = """
_base_ = ['{root}/configs/_base_/datasets/folder.py', '{root}/configs/_base_/models/seed_maker_tiny.py',
          '{root}/configs/_base_/seeds/clip_es_tiny.py']
model = dict(seeds={{{{_base_.seeds}}}})
data_root = {photos!r}
train_dataloader = dict(dataset=dict(reader=dict(data_root=data_root)))
seed_dataset = dict(reader=dict(data_root=data_root), pipeline=[
    dict(type='ResizeLong', size=112), dict(type='ResizeToMultiple', divisor=8), dict(type='PackSample')])
"""
PHOTOS = 12


def replaced_inputs(home: Path, tries: int, rng: random.Random) -> dict[str, Any]:
    """Replace photos so many times, kill the run that notices, start it again, and compare with fresh runs."""
    began, photos = time.monotonic(), home / 'photos'
    home.mkdir(parents=True, exist_ok=True)
    config, log, faults = home / 'clip-es_tiny_folder.py', home / 'replaced.log', []
    config.write_text(FOLDER_SEEDS.format(root=ROOT, photos=str(photos)))
    (photos / 'images').mkdir(parents=True)
    scenes = READERS.build(dict(type='ShapesReader', num_images=PHOTOS + 2 * tries))
    for number in range(PHOTOS):
        scenes.load_image(number).save(photos / 'images' / f'p{number}.bmp')
    names = [';'.join(scenes.vocabulary.classes[i] for i in record.classes) for record in scenes.records[:PHOTOS]]
    (photos / 'classes.txt').write_text('\n'.join(scenes.vocabulary.classes))
    (photos / 'labels.csv').write_text('image,classes\n' + ''.join(
        f'p{number}.bmp,{name}\n' for number, name in enumerate(names)))

    def commands(out: Path) -> list[list[str]]:
        tiny = str(ROOT / 'configs/weclip_sam/weclip-sam_tiny_400_folder.py')
        return [[str(ROOT / 'tools/make_masks.py'), tiny, '--out', str(out / 'masks'), '--batch-size', '2',
                 '--cfg-options', f'data_root={photos}'],
                [str(ROOT / 'tools/make_seeds.py'), str(config), '--out', str(out / 'seeds')]]

    def run(out: Path) -> None:
        for command in commands(out):
            _end(_start(command, log, False), log, 'replaced inputs')

    def results(out: Path) -> dict[str, Any]:
        with MaskBank(out / 'masks', mode='r') as bank:
            masks = {image_id: _tensors(bank.get(image_id)) for image_id in bank.ids()}
        return {**masks, **{path.name: _digest(path) for path in (out / 'seeds').glob('*.png')}}

    run(home / 'out')
    survived = 0
    for number in range(tries):
        changed = rng.sample(range(PHOTOS), 4)
        for index, how in zip(changed, ('replaced', 'cropped', 'touched', 'copied'), strict=True):
            _replace(photos / 'images' / f'p{index}.bmp', how, scenes.load_image(PHOTOS + number), rng)
        for command in commands(home / 'out'):
            process = _start(command, log, False)
            end = time.monotonic() + rng.random() * 4
            if _wait(process, lambda end=end: time.monotonic() >= end, 0.01):
                _kill(process)
            _code(process)
        before = {path.name: path.stat().st_mtime_ns for path in (home / 'out' / 'seeds').glob('*.png')}
        run(home / 'out')
        shutil.rmtree(home / 'fresh', ignore_errors=True)
        run(home / 'fresh')
        one, two = results(home / 'out'), results(home / 'fresh')
        wrong = [('lost', name) for name in set(two) - set(one)] + [('doubled', name) for name in set(one) - set(two)]
        wrong += [('different', name) for name in set(one) & set(two) if not same(one[name], two[name])]
        for index in changed[2:]:  # the same photos as before: not made anew
            name = f'p{index}.png'
            if before.get(name) != (home / 'out' / 'seeds' / name).stat().st_mtime_ns:
                wrong.append(('different', f'{name} was made anew for nothing'))
        faults += wrong
        survived += not wrong
        print(f'  replaced inputs: {number + 1} of {tries}, photos {changed}: {wrong or "well"}', flush=True)
    losses = {kind: sum(each == kind for each, _ in faults) for kind in LOSSES}
    return dict(fault='replaced', tries=tries, moments={**dict.fromkeys(MOMENTS, 0), 'anywhere': tries},
                survived=survived, runs_to_the_end=tries, bit_equal_runs=survived, **losses,
                seconds=time.monotonic() - began, details=[f'{kind}: {what}' for kind, what in faults])


def _replace(path: Path, how: str, other: Any, rng: random.Random) -> None:
    if how == 'replaced':  # a BMP of equal size in pixels has the same size in bytes
        with Image.open(path) as image:
            size = image.size
        other.resize(size).rotate(90 * rng.randrange(4)).save(path)
    elif how == 'cropped':
        with Image.open(path) as image:
            cropped = image.crop((0, 0, max(48, image.width - 8), image.height))
        cropped.save(path)
    elif how == 'touched':
        path.touch()
    else:
        shutil.copy(path, path.with_suffix('.copy'))
        os.replace(path.with_suffix('.copy'), path)


def format_table(reports: dict[str, dict[str, Any]]) -> str:
    """One line a kind of work and fault."""
    rows = [('work, fault', 'tries', *MOMENTS, 'survived', *LOSSES, 'bit-equal runs')]
    for name, report in reports.items():
        rows.append((name, report['tries'], *(report['moments'][moment] for moment in MOMENTS), report['survived'],
                     *(report[kind] for kind in LOSSES), f'{report["bit_equal_runs"]} of {report["runs_to_the_end"]}'))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join('  '.join(str(cell).rjust(width) if column else str(cell).ljust(width)
                               for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    kinds, faults = [kind.name for kind in (Training, Masks, Seeds)], [fault.name for fault in ALL_FAULTS]
    faults.append('replaced')
    parser = argparse.ArgumentParser(description='Strike the tools at random moments and look for what is lost.')
    parser.add_argument('--kills', type=int, default=20, help='of each kind of work (default: 20)')
    parser.add_argument('--tries', type=int, default=5, help='of every other fault, of each kind of work (default: 5)')
    parser.add_argument('--faults', choices=faults, nargs='+', default=faults, help='these faults (default: all)')
    parser.add_argument('--seed', type=int, default=0, help='of the random moments (default: 0)')
    parser.add_argument('--out', type=Path, help='the report as JSON')
    parser.add_argument('--only', choices=kinds, nargs='+', default=kinds, help='these kinds of work (default: all)')
    parser.add_argument('--keep', type=Path, metavar='DIR', help='work in DIR and leave everything there')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    reports: dict[str, dict[str, Any]] = {}
    for name in ('models', 'datasets', 'seeds', 'visualization', 'foundation', 'evaluation'):
        importlib.import_module(f'weclip_sam.{name}')
    with tempfile.TemporaryDirectory(prefix='fault_campaign_') as temporary:
        for kind in (Training, Masks, Seeds):
            works: dict[int, Work] = {}  # by the number of workers: each has an uninterrupted run of its own
            for fault in (each() for each in ALL_FAULTS):
                if kind.name not in args.only or fault.name not in args.faults or kind.name not in fault.kinds:
                    continue
                if fault.workers not in works:
                    home = (args.keep or Path(temporary)) / f'{kind.name}{"_workers" if fault.workers else ""}'
                    works[fault.workers] = kind(home, fault.workers)
                name = f'{kind.name}, {fault.name}'
                tries = args.kills if fault.name == 'kill' else args.tries
                reports[name] = campaign(works[fault.workers], fault, tries, random.Random(f'{args.seed} {name}'))
                print(format_table({name: reports[name]}), flush=True)
                if args.out:
                    args.out.write_text(json.dumps(dict(seed=args.seed, work=reports), indent=2) + '\n')
        if 'replaced' in args.faults:
            home = (args.keep or Path(temporary)) / 'replaced'
            reports['photos, replaced'] = replaced_inputs(home, args.tries, random.Random(f'{args.seed} replaced'))
            if args.out:
                args.out.write_text(json.dumps(dict(seed=args.seed, work=reports), indent=2) + '\n')
    print(f'\n{format_table(reports)}')
    return int(any(report[kind] for report in reports.values() for kind in LOSSES)
               or any(report['survived'] != report['tries'] for report in reports.values()))


if __name__ == '__main__':
    private = 'FAULT_CAMPAIGN_PRIVATE'
    if private not in os.environ and shutil.which(PRIVATE[0]) and \
            subprocess.run([*PRIVATE, 'true'], capture_output=True).returncode == 0:
        os.environ[private] = '1'
        os.execvp(PRIVATE[0], [*PRIVATE, sys.executable, *sys.argv])
    sys.exit(main())
