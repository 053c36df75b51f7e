"""Dicts of rows in ``.npy`` files, as ``numpy.save(file, {'name': row})`` writes them, read without running anything.

Such a file is a pickle inside. Of all that a pickle can ask for, it gets stand-ins that hold numbers: an array, its
type, a single number or text. Anything else is refused before it is looked up.
"""
from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 1 << 30


class _Dtype:
    """Stands for ``numpy.dtype``: what kind of number, in which byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or np.dtype(code).kind not in 'biufUO':
            raise pickle.UnpicklingError(f'numpy.dtype({code!r:.40}) is refused')
        self.code, self.order = code.lstrip('<>=|'), '='

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ('<', '>', '|', '='):
            raise pickle.UnpicklingError('numpy.dtype with an unusual state is refused')
        self.order = state[1]

    def values(self, raw: Any) -> np.ndarray:
        """The numbers in bytes."""
        if not isinstance(raw, bytes) or self.code.startswith('O'):
            raise pickle.UnpicklingError('an array without its bytes is refused')
        return np.frombuffer(raw, np.dtype(self.order.strip('=|') + self.code))


class _Array:
    """Stands for an array while it is read; ``value`` is the array, or the one object of an object array."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise pickle.UnpicklingError('an array with an unusual state is refused')
        _, shape, dtype, _, content = state
        if dtype.code.startswith('O'):
            if shape != () or not isinstance(content, list) or len(content) != 1:
                raise pickle.UnpicklingError('expected one dict')
            self.value = content[0]
        else:
            self.value = dtype.values(content).reshape(shape)


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError('numpy.scalar is refused')
    return dtype.values(raw)[0].item()


def _latin1(text: Any, encoding: Any) -> bytes:
    """Protocols of before bytes could be pickled ask for ``codecs.encode``."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise pickle.UnpicklingError('_codecs.encode is refused')
    return text.encode('latin1')


class _Asked:
    """What a pickle gets for a name: it can be called, and nothing about it can be changed."""

    __slots__ = ('_make',)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError('a changed function is refused')


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ('numpy', 'ndarray'): lambda *_: _Array(), ('numpy', 'dtype'): _Dtype, ('_codecs', 'encode'): _latin1,
    ('collections', 'OrderedDict'): lambda: {},
    **{(f'numpy.{core}.multiarray', name): make for core in ('core', '_core')
       for name, make in (('_reconstruct', lambda *_: _Array()), ('scalar', _scalar))}}


class _Reader(pickle._Unpickler):  # the one in Python: no file can make it reserve memory
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f'it asks to load `{module}.{name}`, and a file that names code can run it')
        return _Asked(_KNOWN[module, name])

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError('it refers to something outside of the file')


def read_rows(path: str | os.PathLike[str]) -> dict[str | int, np.ndarray]:
    """Rows of numbers by the name (or whole number) of an image.

    Args:
        path: what ``numpy.save`` made of a dict of arrays, or of lists, of numbers.

    Returns:
        One-dimensional arrays.

    Raises:
        ValueError: naming the file: of another kind, damaged, or asking for something that could run code.
        OSError: it cannot be read.
    """
    path = Path(path)
    expected = "expected a .npy file of a dict {'image id': row of 0 and 1}, as numpy.save writes it"
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f'{path}: {path.stat().st_size} bytes are too many for image labels')
    file = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else \
            np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except Exception as error:
        raise ValueError(f'{path}: {expected} ({error})') from None
    if dtype.kind != 'O' or shape != ():
        raise ValueError(f'{path}: an array of {dtype} and shape {shape}; {expected}')
    try:
        found = _Reader(file).load()
    except pickle.UnpicklingError as error:
        raise ValueError(f'{path}: refused, {error}. Nothing was executed; {expected}') from None
    except Exception as error:  # damaged bytes raise nearly anything
        raise ValueError(f'{path}: damaged ({type(error).__name__}: {error!s:.100}); {expected}') from None
    table = found.value if isinstance(found, _Array) else found
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f'{path}: holds {type(table).__name__ if table else "nothing"}; {expected}')
    return {_key(key, path): _row(key, value, path) for key, value in table.items()}


def _key(key: Any, path: Path) -> str | int:
    if type(key) not in (str, int):
        raise ValueError(f'{path}: an image is called {key!r:.40}; expected a text or a whole number')
    return key


def _row(key: Any, value: Any, path: Path) -> np.ndarray:
    row = value.value if isinstance(value, _Array) else value
    if isinstance(row, (list, tuple)) and all(type(each) in (int, float, bool) for each in row):
        row = np.array(row, np.float64)
    if not isinstance(row, np.ndarray) or row.ndim != 1 or row.dtype.kind not in 'biuf':
        raise ValueError(f'{path}, image {key!r:.60}: expected a row of numbers, 1 for each class that is there')
    return row
