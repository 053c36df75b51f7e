"""The tensors of a TorchScript archive, read without running it.

``torch.jit.load`` executes code that the archive brings along (``__setstate__`` of its modules, which may write files),
so it is of no use for files from elsewhere. An archive's ``data.pkl`` alone says which tensor is where: it is unpickled
here into inert records, and the tensors are cut out of the archive's ``data/`` afterwards. Nothing that the file names
is ever imported or called.
"""
from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from weclip_sam.io.pickles import Refused

_DTYPES = {f'{name}Storage': dtype for name, dtype in dict(
    Double=torch.float64, Float=torch.float32, Half=torch.float16, BFloat16=torch.bfloat16, Long=torch.int64,
    Int=torch.int32, Short=torch.int16, Char=torch.int8, Byte=torch.uint8, Bool=torch.bool).items()}
_MAX_ENTRIES = 100_000  # of all modules together; a ViT-L has some 5,000
_MAX_NAME = 1000  # characters of a dotted name
_MAX_DIMENSIONS = 64  # as in torch


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive was written by ``torch.jit.save`` (as against ``torch.save``)."""
    return any(name.endswith('constants.pkl') or '/code/' in name for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Every tensor of the modules in a TorchScript archive, under the dotted names of its state dict.

    Returns:
        Parameters, buffers and other tensor attributes, on the CPU, in the archive's dtypes. Tensors that share
        storage in the archive share it here.

    Raises:
        Refused: it holds something else than modules and tensors, or asks for more than there is.
        Exception: of nearly any type, when bytes are damaged.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.count('/') == 1 and name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise Refused(f'a TorchScript archive with {len(pickles)} records data.pkl instead of one')
        records = _Records(archive, pickles[0].removesuffix('data.pkl'), path.stat().st_size)
        module = _Unpickler(io.BytesIO(records.read('data.pkl'))).load()
        if not isinstance(module, _Module):
            raise Refused(f'a TorchScript archive of a {type(module).__name__}, not of a module')
        return {name: records.tensor(found) for name, found in _walk(module)}


class _Inert:
    """What the unpickler makes instead of the objects a file names: it takes anything and does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:  # without one, a pickle could set attributes of the class itself
        pass


class _Module(_Inert):
    attributes: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise Refused('refused: loading this TorchScript archive would run code of its own (__setstate__). Save '
                          "the model's state_dict() with torch.save instead")
        self.attributes = state


class _Dict(_Inert, dict):
    """A dict with the keys of TorchScript: the hash of tuples within tuples may take forever."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if not (type(key) in (str, float, complex, bool, _Tensor) or _is_int64(key)):
            raise pickle.UnpicklingError(f'a dict with a {type(key).__name__} as a key')
        super().__setitem__(key, value)


class _Storage(NamedTuple):
    """A tensor's numbers; no pickle can make one but through ``persistent_load``."""

    dtype: torch.dtype
    key: str
    length: int


# What a file sets is checked for its type before anything is done with it: numbers times strings and the texts of
# nested tuples have no bounds.
class _Tensor(_Inert):
    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if type(storage) is not _Storage or not _is_int64(offset):
            raise pickle.UnpicklingError('a tensor without a storage or an offset')
        for numbers in (size, stride):
            if type(numbers) is not tuple or len(numbers) > _MAX_DIMENSIONS or not all(map(_is_int64, numbers)):
                raise pickle.UnpicklingError('a tensor whose size or stride is no tuple of integers')
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


def _is_int64(value: Any) -> bool:
    return type(value) is int and -2 ** 63 <= value < 2 ** 63


# In Python, not in C: a damaged file makes the C unpickler allocate any amount of memory.
class _Unpickler(pickle._Unpickler):
    append: Callable[[Any], None]  # set by load()

    def _empty_dict(self) -> None:
        self.append(_Dict())

    # TorchScript writes no sets and no bytearrays; the latter are allocated before they are read.
    dispatch: ClassVar[dict[int, Callable[[Any], None]]]
    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if bytes([code]) not in (
        pickle.DICT, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8)}
    dispatch[pickle.EMPTY_DICT[0]] = _empty_dict

    def find_class(self, module: str, name: str) -> Any:
        if module == '__torch__' or module.startswith('__torch__.'):
            return _Module
        if module == 'torch' and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return _Tensor
        if (module, name) == ('collections', 'OrderedDict'):
            return _Dict
        if module == 'torch.jit._pickle' or (module, name) == ('torch', 'device'):  # attributes that are no weights
            return _Inert
        raise Refused(f'refused: this TorchScript archive names {module}.{name}, which is neither module nor tensor')

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count = pid
        if kind != 'storage' or not isinstance(dtype, torch.dtype) or type(key) is not str or not _is_int64(count):
            raise pickle.UnpicklingError('a reference to something else than a storage')
        return _Storage(dtype, key, count)


class _Records:
    """The bytes of an archive; each storage is read once, and never more in all than the file is long."""

    def __init__(self, archive: zipfile.ZipFile, root: str, budget: int) -> None:
        self.archive, self.root, self.budget = archive, root, budget
        self.storages: dict[_Storage, Tensor] = {}

    def read(self, name: str) -> bytes:
        record = self.archive.getinfo(self.root + name)
        self.budget -= record.file_size
        if self.budget < 0:
            raise Refused(f'its records are longer than the file (at {name}): it is compressed or damaged')
        return self.archive.read(record)

    def tensor(self, wanted: _Tensor) -> Tensor:
        """Cut one tensor out of its storage; ``as_strided`` checks that it lies within."""
        flat = self._storage(wanted.storage)
        if math.prod(wanted.size) > len(flat):
            raise Refused(f'a tensor of {tuple(wanted.size)} in a storage of {len(flat)} numbers')
        return flat.as_strided(wanted.size, wanted.stride, wanted.offset)

    def _storage(self, wanted: _Storage) -> Tensor:
        if wanted not in self.storages:
            dtype, key, length = wanted
            content = self.read(f'data/{key}')
            if len(content) != length * dtype.itemsize:
                raise Refused(f'its record data/{key} has {len(content)} bytes, expected {length} x {dtype.itemsize}: '
                              'the file is damaged')
            self.storages[wanted] = torch.frombuffer(bytearray(content), dtype=dtype) if content else \
                torch.empty(0, dtype=dtype)
        return self.storages[wanted]


def _walk(root: _Module) -> Iterator[tuple[str, _Tensor]]:
    """(dotted name, tensor) of everything below ``root``, in the order of the file."""
    entries, waiting = 0, [('', root)]
    while waiting:
        prefix, module = waiting.pop()
        below = []
        for name, value in module.attributes.items():
            entries += 1
            if type(name) is not str or len(prefix) + len(name) > _MAX_NAME:
                raise Refused(f'its modules have names that are no text or longer than {_MAX_NAME:,} characters: '
                              'modules within themselves, or damaged')
            if isinstance(value, _Tensor):
                yield f'{prefix}{name}', value
            elif isinstance(value, _Module):
                below.append((f'{prefix}{name}.', value))
        if entries > _MAX_ENTRIES:
            raise Refused(f'its modules hold more than {_MAX_ENTRIES:,} entries: modules within themselves, or '
                          'damaged')
        waiting += reversed(below)
