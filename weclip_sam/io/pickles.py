"""``torch.load`` that runs nothing: tensors, plain containers, and what mmengine's training checkpoints hold besides.

torch's ``weights_only`` unpickler refuses everything but tensors and plain containers. A training checkpoint also holds
mmengine's log history (:class:`HistoryBuffer` with numpy arrays); exactly those types are allowed in addition, and only
while a file is being read.
"""
from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_HISTORY_METHODS = ('current', 'max', 'mean', 'min')


class Refused(Exception):
    """A file that was understood and is not acceptable; the text says what it is, not which file."""


class Damaged(Refused):
    """A file that is not whole."""


def _history_method(owner: Any, name: str) -> Callable:
    """What a checkpoint gets when it asks for ``getattr``: the statistics of HistoryBuffer and nothing else."""
    if owner is HistoryBuffer and name in _HISTORY_METHODS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'getattr({getattr(owner, "__name__", owner)!s}, {name!r}) is refused')


def _private_dtype(code: Any, *_: Any) -> np.dtype:
    """What a checkpoint gets when it asks for ``numpy.dtype``: numbers alone, and a copy of its own.

    A pickle goes on to set the state of what it got. With numpy's own object, a damaged byte there would spoil the type
    for the whole process.
    """
    found = np.dtype(code, copy=True)
    if found.kind not in 'bfiu':
        raise pickle.UnpicklingError(f'numpy.dtype({code!r}) is refused')
    return found


def _allowed_globals() -> list[Any]:
    multiarray = import_module(f'numpy.{"_core" if hasattr(np, "_core") else "core"}.multiarray')  # numpy 2 / numpy 1
    allowed: list[Any] = [HistoryBuffer, np.ndarray, (_private_dtype, 'numpy.dtype'),
                          (_history_method, 'builtins.getattr')]
    for name in ('_reconstruct', 'scalar'):
        # Files written under either numpy name the module differently.
        allowed += [(getattr(multiarray, name), f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')]
    return allowed + [type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u4', 'u8', 'bool')]


def load_pickled(path: Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """What ``torch.save`` wrote, in its archive or its older format.

    Args:
        path: any name; torch would take one that ends in ``.safetensors`` for that format, so it gets the open file.
        map_location: as for ``torch.load``.
        mmap: map the tensors of an archive instead of reading them; they must be copied before the file may change.

    Raises:
        Refused: no pickle, or one that asks for something that could run code.
        OSError: the disk's fault, not the file's.
        Exception: of nearly any type, when bytes are damaged.
    """
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            with open(path, 'rb') as file:
                if mmap and file.read(4) == b'PK\x03\x04' and path.suffix != '.safetensors':
                    return torch.load(path, map_location=map_location, weights_only=True, mmap=True)
                file.seek(0)
                return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused(_explain_refusal(str(error))) from None


def _explain_refusal(text: str) -> str:
    found = (re.search(r'Unsupported global: GLOBAL ([\w.]+)', text)  # builtins come without their module
             or re.search(r'(?:GLOBAL|global|class|import|function) ([\w.]+\.[\w.]+)', text)
             or re.search(r'(getattr\([^)]*\))', text))
    what = (f'asks to load `{found.group(1)}`, and a file that names code can run it.' if found else
            'is damaged, or holds something else than tensors, numbers, strings and lists.')
    return (f'refused. It {what} Nothing was executed. Only tensors and plain values are accepted; ask the author for '
            'a state dict or a .safetensors file.')
