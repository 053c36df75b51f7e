"""Whether results are equal, bit by bit, and whole."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


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


def tensors_of(masks: Any) -> dict[str, torch.Tensor] | None:
    return None if masks is None else {key: value.contiguous() for key, value in vars(masks).items()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_whole(path: Path, fault: Callable[[str, str], None]) -> Any:
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
