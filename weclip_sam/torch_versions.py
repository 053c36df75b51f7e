"""torch and torchvision must be a pair that was built for each other; pip does not always see to that.

Importing this module makes sure that they are: otherwise timm, open_clip and segment_anything fail with words that name
neither. Most torchvision releases ask for one torch release by number, but builds for CPUs and for GPUs have the same
numbers, and a torch that is there already may be kept or replaced.
"""
from __future__ import annotations

from importlib import metadata

import torch

# torch's release, and the torchvision that goes with it.
PAIRS = {'2.11': '0.26', '2.12': '0.27', '2.13': '0.28', '2.14': '0.29', '2.15': '0.29'}


def require_torchvision() -> None:
    """Import torchvision and look whether its operators fit this torch.

    Raises:
        ImportError: they do not, or it is not installed. One line that says both versions and what to install.
    """
    try:
        import torchvision  # noqa: F401
        if not hasattr(torch.ops.torchvision, 'nms'):
            raise RuntimeError('its compiled part cannot be loaded')
    except (ImportError, RuntimeError, OSError, AssertionError) as error:
        raise ImportError(_told(error)) from error


def _told(error: BaseException) -> str:
    try:
        found = f'torchvision {metadata.version("torchvision")} does not fit torch {torch.__version__}'
    except metadata.PackageNotFoundError:
        found = f'torchvision, which belongs to torch {torch.__version__}, is missing'
    release = '.'.join(torch.__version__.split('.')[:2])
    if release in PAIRS:
        remedy = (f'Take the one that goes with it, from the index that torch came from: pip install --force-reinstall '
                  f'--no-deps "torchvision=={PAIRS[release]}.*"')
    else:
        newest = list(PAIRS)[-1]
        remedy = f'Install a pair: pip install "torch=={newest}.*" "torchvision=={PAIRS[newest]}.*"'
    return f'{found} ({" ".join(str(error).split())[:200]}). {remedy} (docs/install.md)'


require_torchvision()
