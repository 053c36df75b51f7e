"""Sharing out the work of a tool that trains nothing: the same launchers as training, results gathered at the end."""
from __future__ import annotations

import os
from datetime import timedelta

import torch
from torch import distributed

from weclip_sam.checks import suggest_name
from weclip_sam.engine.launch import LAUNCHERS, _fill_environment

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
    """Leave the process group, if one was joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
