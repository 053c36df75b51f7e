"""Files of network weights, in whichever of the formats people have them: told by their content, never run.

What is particular to a network (which file, how large, which line fetches it, does it fit) is its own reader's:
:mod:`weclip_sam.foundation` has one for CLIP, for SAM and for timm's networks.
"""
from __future__ import annotations

import errno
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from weclip_sam.io.pickles import Damaged, Refused, load_pickled
from weclip_sam.io.torchscript import is_torchscript, read_torchscript

FORMATS = 'a PyTorch state dict (.pt, .pth), a .safetensors file or a TorchScript archive'
PICKLED, SCRIPTED, SAFETENSORS = 'a file of torch.save', 'a TorchScript archive', 'a safetensors file'
TRAINING = 'a training checkpoint'

_FOREIGN = {
    b'\x89PNG': 'a PNG image', b'\xff\xd8\xff': 'a JPEG image', b'\x1f\x8b': 'a gzip archive',
    b'\x93NUMPY': 'a numpy array', b'<!DO': 'a web page', b'<!do': 'a web page', b'<htm': 'a web page',
    b'version https://': 'a Git LFS pointer (run `git lfs pull`)', b'{': 'JSON text'}
_WRAPPERS = ('state_dict', 'model', 'model_state_dict')


class TensorFile(NamedTuple):
    """The weights of a file and what kind of file it is, for messages."""

    tensors: dict[str, Tensor]
    kind: str


def detect_format(path: Path) -> str:
    """``PICKLED``, ``SCRIPTED`` or ``SAFETENSORS``, by the first and last bytes of a file.

    Raises:
        Refused: empty, truncated, of a kind that holds no weights, or an archive that would unpack to more than it is.
        Exception: of zipfile's, when an archive is damaged.
    """
    size = path.stat().st_size
    with open(path, 'rb') as file:
        start = file.read(16)
    if not start:
        raise Damaged('the file is empty, truncated before its first byte.')
    if start.startswith(b'PK'):
        if not zipfile.is_zipfile(path):
            raise Damaged(f'truncated after {size:,} bytes (the end of the archive is missing).')
        with zipfile.ZipFile(path) as archive:
            if is_torchscript(archive):
                return SCRIPTED
            # torch.save compresses nothing; its reader would unpack what others compressed, however much that is.
            if sum(record.file_size for record in archive.infolist()) > size:
                raise Refused('its records are longer than the file: not written by torch.save, or damaged.')
        return PICKLED
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise Refused(f'{what}, not weights (expected {FORMATS}).')
    if start[8:9] == b'{':
        length = struct.unpack('<Q', start[:8])[0]
        if length > size - 8:
            raise Damaged(f'a safetensors file, truncated: its header of {length:,} bytes does not fit into it.')
        return SAFETENSORS
    return PICKLED


@contextmanager
def explained(name: str, fix: str = '', again: str = 'Copy or download it again.') -> Iterator[None]:
    """Whatever goes wrong with a file's content while it is read becomes a ValueError of one line.

    Args:
        name: begins the line.
        fix: ends it.
        again: what to do about a file that is not whole, before ``fix``.
    """
    try:
        yield
    except Refused as error:
        problem = f'cannot be read: {error} {again}' if isinstance(error, Damaged) else str(error)
    except Exception as error:  # every reader has exceptions of its own for damaged bytes
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a seek to nowhere is EINVAL
            raise  # the disk's fault, not the file's
        line = (str(error).strip().splitlines() or [''])[0][:200]
        problem = ('cannot be read: it is truncated, damaged or of another format '
                   f'({type(error).__name__}: {line}). {again}')
    else:
        return
    raise ValueError(f'{name}: {problem} {fix}'.rstrip())


def read_tensors(path: Path, what: str, fix: str = '', published: int | None = None) -> TensorFile:
    """The state dict in a file, on the CPU; nothing in the file is run, in none of the formats.

    Usual wrappings are undone: an entry ``state_dict``, ``model`` or ``model_state_dict``, and a ``module.`` before
    every name. Entries that are no tensors are left out. Large files may be mapped: copy the tensors before the file
    changes.

    Args:
        path: of a file that exists; its name does not matter.
        what: begins the errors, ``'SAM checkpoint'``, say.
        fix: ends the errors: where to get a good one.
        published: size in bytes of the file that was probably meant, for messages.

    Raises:
        ValueError: truncated, damaged, of another format, refused as unsafe, or without tensors.
    """
    size = f'{path.stat().st_size:,} bytes' + (f', expected {published:,}' if published else '')
    with explained(f'{what} {path} ({size})', fix):
        kind = detect_format(path)
        content = read_torchscript(path) if kind == SCRIPTED else load_file(path) if kind == SAFETENSORS else \
            load_pickled(path, mmap=True)
        if isinstance(content, Mapping) and {'state_dict', 'message_hub'} <= set(content):
            kind = TRAINING
        return TensorFile(_unwrap(content), kind)


def _unwrap(content: Any) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise Refused(f'expected a dict of tensors, found {type(content).__name__}.')
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise Refused(f'expected a dict of tensors, found none (but {sorted(map(str, content))[:4]}).')
    if all(key.startswith('module.') for key in tensors):
        tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return tensors
