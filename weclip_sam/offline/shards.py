"""Sharing out the work of a tool that trains nothing: the same launchers as training, results gathered at the end."""
from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from torch import distributed

from weclip_sam.checks import suggest_name
from weclip_sam.choices import LAUNCHERS
from weclip_sam.engine.progress import ProgressReporter
from weclip_sam.engine.start.launch import _fill_environment
from weclip_sam.engine.start.together import stop_watching, watch_others
from weclip_sam.io.identity import file_digest

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
        watch_others()
    if not torch.cuda.is_available():
        return torch.device('cpu')
    device = torch.device('cuda', local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def stop_sharing() -> None:
    """Leave the process group, if one was joined: at the interpreter's end its threads may abort the process."""
    if distributed.is_initialized():
        stop_watching()
        gc.collect()  # a model that is wrapped for training holds the group
        distributed.destroy_process_group()


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
            digests[name] = file_digest(find(name))
        if is_main_process():
            progress.update(done)
    progress.stop()
    return {key: value for part in all_gather_object(digests) for key, value in part.items()}
