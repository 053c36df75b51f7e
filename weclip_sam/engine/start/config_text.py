"""The text of a config, which Python reads again whatever its keys are."""
from __future__ import annotations

import keyword
import math
import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

_WIDTH = 118


class ReadableConfig(Config):
    """A config whose ``pretty_text``, logged and dumped into work dirs, is always valid Python.

    mmengine writes keys between plain quotes, and its formatter then refuses the whole text where a key has a quote, a
    backslash or a line break in it, or is a word of Python.
    """

    @classmethod
    def of(cls, config: Config) -> ReadableConfig:
        """The same settings; they are shared, not copied."""
        readable = cls.__new__(cls)
        for name, value in vars(config).items():
            object.__setattr__(readable, name, value)
        return readable

    @property
    def pretty_text(self) -> str:
        """Assignments, one a line or more, sorted by name."""
        return config_text(self.to_dict())


def config_text(values: Mapping[str, Any]) -> str:
    """Python source that gives ``values`` when it is run; what no literal can say is written as its ``repr``, quoted.

    Args:
        values: names of variables and what they hold.
    """
    return ''.join(f'{name} = {_text(value, len(str(name)) + 3, 0)}\n'
                   for name, value in sorted(values.items(), key=lambda item: str(item[0])))


def _text(value: Any, column: int, indent: int) -> str:
    """``value`` on one line if it fits behind ``column``, else each item on a line of its own."""
    short = _pieces(value, ', ', '', lambda item: _text(item, 0, 0))
    if '\n' not in short and len(short) + column <= _WIDTH:
        return short
    inner = ' ' * (indent + 4)
    return _pieces(value, f',\n{inner}', f'\n{inner}', lambda item: _text(item, indent + 16, indent + 4))


def _pieces(value: Any, between: str, first: str, write: Any) -> str:
    if isinstance(value, Mapping):
        named = all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)
        items = [f'{key}={write(item)}' if named else f'{_leaf(key)}: {write(item)}' for key, item in
                 sorted(value.items(), key=lambda pair: str(pair[0]))]
        left, right = ('dict(', ')') if named else ('{', '}')
    elif isinstance(value, (list, tuple)):
        items = [write(item) for item in value]
        left, right = ('[', ']') if isinstance(value, list) else ('(', ',)' if len(value) == 1 else ')')
    else:
        return _leaf(value)
    return f'{left}{first if items else ""}{between.join(items)}{right}'


def _leaf(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "float('nan')" if math.isnan(value) else '1e999' if value > 0 else '-1e999'
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return repr(value)
    if isinstance(value, tuple):  # as a key
        return f'({"".join(f"{_leaf(item)}, " for item in value)})'
    if isinstance(value, (set, frozenset)):
        return f'{{{", ".join(sorted(map(_leaf, value)))}}}' if value else 'set()'
    return repr(os.fspath(value) if isinstance(value, os.PathLike) else
                f'{value.__module__}.{value.__qualname__}' if isinstance(value, type) else repr(value))
