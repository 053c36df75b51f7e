"""Where and with what something was made: ``environment.json`` and ``config.py`` beside results."""
from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size

import weclip_sam
from weclip_sam.engine.start.config_text import config_text
from weclip_sam.io.files import atomic_open, write_json
from weclip_sam.io.text import read_json

ENVIRONMENT, SETTINGS = 'environment.json', 'config.py'
_PACKAGES = ('torch', 'torchvision', 'timm', 'open_clip_torch', 'segment-anything', 'mmengine-lite', 'mmengine',
             'numpy', 'pillow', 'opencv-python-headless', 'opencv-python', 'safetensors')
# Variables that change numbers, or which devices are seen.
_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'CUBLAS_WORKSPACE_CONFIG',
              'TORCH_ALLOW_TF32_CUBLAS_OVERRIDE', 'PYTORCH_CUDA_ALLOC_CONF')
_PATIENCE = 20  # seconds for git


def describe_environment() -> dict[str, Any]:
    """What this process is and runs on, as JSON has it.

    ``command``, ``folder`` (the current one), ``time``; ``python``, ``platform``, ``packages``; ``cpu``, ``cpu_count``
    (that this process may use), ``threads`` (of torch), ``gpus`` (names), ``cuda``; ``processes``; ``variables`` that
    change numbers, if they are set; ``git`` (``commit``, and ``dirty``: whether files of the package were
    changed since) where the package is a checkout, else None.
    """
    return dict(
        command=shlex.join(sys.argv), folder=os.getcwd(), time=time.strftime('%Y-%m-%d %H:%M:%S'),
        **_machine(), threads=torch.get_num_threads(), processes=get_world_size(),
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ}, git=_checkout())


def write_environment(folder: str | os.PathLike, goes_on: bool = False) -> None:
    """Write ``environment.json`` into a folder of results; the main process calls it.

    Args:
        folder: must exist.
        goes_on: with results that are there: environments of before that were others are kept, as ``earlier``.
    """
    path, found = Path(folder) / ENVIRONMENT, describe_environment()
    if goes_on and (before := _read(path)):
        earlier = before.pop('earlier', [])
        earlier = earlier if isinstance(earlier, list) else []
        kept = [each for each in (*earlier, before) if _without_moment(each) != _without_moment(found)]
        found.update({'earlier': kept} if kept else {})
    write_json(path, found)


def write_settings(folder: str | os.PathLike, config: Config) -> None:
    """Write ``config.py``, a config with everything filled in, into a folder of results; the main process calls it."""
    with atomic_open(Path(folder) / SETTINGS, 'w') as file:
        file.write(config_text(config.to_dict()))


def _without_moment(environment: Any) -> Any:
    return {key: value for key, value in environment.items() if key not in ('command', 'time')} \
        if isinstance(environment, dict) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        before = read_json(path)
    except (OSError, ValueError):
        return {}
    return before if isinstance(before, dict) else {}


@cache
def _machine() -> dict[str, Any]:
    """What does not change while the process lives."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return dict(python=platform.python_version(), platform=platform.platform(), packages=_versions(), cpu=_cpu(),
                cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
                gpus=gpus, cuda=torch.version.cuda if gpus else None)


def _versions() -> dict[str, str]:
    """Of the packages that numbers depend on, as far as they are installed."""
    found = dict(weclip_sam=weclip_sam.__version__)
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    """The processor's name as its maker writes it, where the system tells."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as info:
            named = [line.partition(':')[2].strip() for line in info if line.startswith('model name')]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


@cache
def _checkout() -> dict[str, Any] | None:
    """Commit of the package's own repository; None of an installed one, even in a folder that has another's."""
    root = Path(weclip_sam.__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, text=True, check=True,
                              timeout=_PATIENCE).stdout.strip()
    try:
        if Path(git('rev-parse', '--show-toplevel')).resolve() != root:
            return None
        return dict(commit=git('rev-parse', 'HEAD'), dirty=bool(git('status', '--porcelain', '--', 'weclip_sam')))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
