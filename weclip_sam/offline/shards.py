"""Sharing out the work of a tool that trains nothing: the same launchers as training, results gathered at the end."""
from __future__ import annotations

import gc
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from torch import distributed

from weclip_sam.checks import suggest_name
from weclip_sam.engine.progress import ProgressReporter
from weclip_sam.engine.start.launch import LAUNCHERS, _fill_environment
from weclip_sam.io.files import write_json

SECONDS = 'seconds.json'

# Processes wait for the slowest one, whose share may take days.
_PATIENCE = timedelta(days=30)


def start_sharing(launcher: str) -> torch.device:
    """Join the process group (gloo: only small results travel), and pick this process's device.

    Args:
        launcher: as in training; ``none`` is one process.

    Returns:
        The GPU of this process's local rank, or the CPU where there is none.

    Raises:
        ValueError: an unknown launcher, or one whose environment variables are missing.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"--launcher must be one of {LAUNCHERS}, got '{launcher}'.{suggest_name(launcher, LAUNCHERS)}")
    local_rank = 0
    if launcher != 'none':
        _fill_environment(launcher)
        local_rank = int(os.environ['LOCAL_RANK'])
        if not distributed.is_initialized():
            distributed.init_process_group('gloo', timeout=_PATIENCE)
    if not torch.cuda.is_available():
        return torch.device('cpu')
    device = torch.device('cuda', local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def stop_sharing() -> None:
    """Leave the process group, if one was joined: at the interpreter's end its threads may abort the process."""
    if distributed.is_initialized():
        gc.collect()  # a model that is wrapped for training holds the group
        distributed.destroy_process_group()


class WorkTime:
    """Wall seconds that went into a folder, over all runs: those that were stopped or killed count, too.

    While a run goes on, the main process keeps them in ``seconds.json``; at the end they go to the tool's summary.

    Args:
        folder: of the results.
        work: what is made, as one text; seconds spent on anything else there do not count.
        before: what the summary of the last complete run says about the same work.
        began: ``time.monotonic()`` when this run began; None: now.
    """

    interval = 10.0  # seconds between two writes: what a kill takes away at most

    def __init__(self, folder: str | os.PathLike, work: str, before: float = 0.0, began: float | None = None) -> None:
        self.path, self.work = Path(folder) / SECONDS, work
        self.began = time.monotonic() if began is None else began
        self._kept_at, self.earlier = self.began, before
        with suppress(OSError, ValueError, KeyError, TypeError):
            stopped = json.loads(self.path.read_text(encoding='utf-8'))
            if stopped['work'] == work:
                self.earlier = max(before, float(stopped['wall_seconds_of_all_runs']))

    def __enter__(self) -> WorkTime:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._keep()

    def read(self) -> dict[str, float]:
        """``wall_seconds`` of this run so far, and ``wall_seconds_of_all_runs``."""
        seconds = time.monotonic() - self.began
        return dict(wall_seconds=seconds, wall_seconds_of_all_runs=self.earlier + seconds)

    def tick(self) -> None:
        """Call it often."""
        if time.monotonic() - self._kept_at >= self.interval:
            self._keep()

    def finish(self) -> None:
        """Call it when the summary has been written."""
        if is_main_process():
            self.path.unlink(missing_ok=True)

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        if is_main_process():
            with suppress(OSError):  # a full disk shall be reported by whoever has something to lose
                write_json(self.path, dict(work=self.work, **self.read()))


def digest_files(names: Sequence[str], find: Callable[[str], Path], title: str) -> dict[str, str]:
    """A digest of each named file, to tell when it is replaced; every process reads its share, all get all.

    Args:
        names: what the files are called in the result.
        find: the path of a name.
        title: of the progress bar.

    Returns:
        16 hexadecimal digits by name; names whose file cannot be found or read are left out, as using it will tell.
    """
    mine = names[get_rank()::get_world_size()]
    progress = ProgressReporter()
    if is_main_process():
        progress.start(title, len(mine))
    digests = {}
    for done, name in enumerate(mine, start=1):
        with suppress(ValueError, OSError):
            digests[name] = hashlib.blake2b(find(name).read_bytes(), digest_size=8).hexdigest()
        if is_main_process():
            progress.update(done)
    progress.stop()
    return {key: value for part in all_gather_object(digests) for key, value in part.items()}
