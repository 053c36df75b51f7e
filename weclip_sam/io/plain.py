"""Settings as plain values: what a checkpoint may hold, and what of a checkpoint is believed."""
from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

MAX_VALUES = 100_000  # of all containers together; the longest config has some 2,000
MAX_DEPTH = 50


def plain(value: Any, source: str) -> Any:
    """A copy of ``value`` in numbers, strings, None, lists, tuples and dicts of exactly Python's types.

    Sets of strings or numbers become sorted lists, paths strings, arrays and tensors lists of numbers, classes their
    names; subclasses (such as mmengine's ConfigDict) what they derive from.

    Args:
        value: what a config holds, or what a file claims to be one.
        source: begins the errors.

    Raises:
        ValueError: anything else; keys that are neither strings nor integers; more values than ``MAX_VALUES`` or deeper
            than ``MAX_DEPTH`` (a small file may hold a list twice within a list, and so on).
    """
    left = MAX_VALUES

    def copy(node: Any, place: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise ValueError(f'{source}: its settings are more than {MAX_VALUES:,} values, or nested deeper than '
                             f'{MAX_DEPTH}')
        for kind in (bool, int, float, str):
            if isinstance(node, kind):
                return kind(node)
        if node is None:
            return None
        if isinstance(node, Mapping):
            for key in node:
                if type(key) not in (str, int):
                    raise ValueError(f'{source}: {place or "it"} has a {type(key).__name__} as a key; expected strings')
            return {key: copy(item, f'{place}.{key}'.lstrip('.'), depth + 1) for key, item in node.items()}
        if isinstance(node, (list, tuple)):
            items = [copy(item, f'{place}.{index}', depth + 1) for index, item in enumerate(node)]
            return items if isinstance(node, list) else tuple(items)
        if isinstance(node, (set, frozenset)) and all(isinstance(item, (str, int, float)) for item in node):
            return copy(sorted(node, key=lambda item: (isinstance(item, str), item)), place, depth + 1)
        if isinstance(node, os.PathLike):
            return os.fspath(node)
        if isinstance(node, (np.generic, np.ndarray, torch.Tensor)) and math.prod(node.shape) <= left:
            return copy(node.tolist(), place, depth + 1)
        if isinstance(node, type):
            return node.__name__
        raise ValueError(f'{source}: {place or "it"} is a {type(node).__name__}, which a checkpoint cannot hold; '
                         'expected numbers, strings, lists, tuples, dicts and None')

    return copy(value, '', 0)
