"""Reading checkpoints without running what a stranger put in them, and saying clearly what is wrong with a file."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader

from weclip_sam.checks import suggest_name
from weclip_sam.io.given import find_checkpoint
from weclip_sam.io.pickles import Refused, load_pickled
from weclip_sam.io.tensors import PICKLED, detect_format, explained

_KINDS = ('any', 'weights', 'training')


def safe_load(path: str | os.PathLike, map_location: Any = 'cpu', kind: str = 'any') -> Any:
    """Read a ``.pth``/``.pt`` file; code inside it is never executed.

    Args:
        path: a local file.
        map_location: as for ``torch.load``.
        kind: what the caller needs. ``'any'``; ``'weights'``: a dict with a ``state_dict``; ``'training'``: weights
            with optimizer state and counters, so that training can go on.

    Returns:
        What the file holds.

    Raises:
        FileNotFoundError: no such file (names a similar one in the folder).
        ValueError: truncated, of another format, holding code, or of another kind; names the file and what is expected.
    """
    if kind not in _KINDS:
        raise ValueError(f'kind must be one of {_KINDS}, got {kind!r}.{suggest_name(kind, _KINDS)}')
    path = find_checkpoint(path)
    with explained(str(path), again='Copy or download it again, or use an earlier checkpoint.'):
        found = detect_format(path)
        if found != PICKLED:
            raise Refused(f'{found}, not a training checkpoint. Foundation weights in this form are named in the '
                          "model's own `checkpoint` setting.")
        content = load_pickled(path, map_location)
    _check_kind(path, content, kind)
    return content


def _check_kind(path: Path, content: Any, kind: str) -> None:
    if kind == 'any':
        return
    if not isinstance(content, dict) or 'state_dict' not in content:
        keys = sorted(map(str, content))[:6] if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: holds no model of this package (expected a dict with 'state_dict', found {keys}); "
                         'name foundation weights in the model\'s own `checkpoint` setting.')
    missing = [key for key in ('meta', 'optimizer', 'message_hub') if key not in content]
    if kind == 'training' and missing:
        raise ValueError(f'{path}: training cannot go on from it, it lacks {missing} (a "best" checkpoint holds '
                         'weights alone). '
                         'Resume from an iter_*.pth file, or start a new run with --cfg-options load_from=...')


def find_resumable(work_dir: str | os.PathLike) -> Path | None:
    """The newest checkpoint of a run that can be read and resumed, or None if there is none.

    The file of the name that ``last_checkpoint`` gives is tried first, then ``iter_*.pth`` from the newest down: a file
    that was damaged by other means than a kill, or holds NaN, must not end the run while an older one is good. Only
    files of this folder are looked at: the pointer of a copied folder names the original's.
    """
    folder = Path(work_dir)
    candidates = []
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        with suppress(OSError, UnicodeDecodeError):
            if name := Path(pointer.read_text(encoding='utf-8').strip()).name:
                candidates.append(folder / name)
    numbered = [(int(match.group(1)), p) for p in folder.glob('iter_*.pth')
                if (match := re.fullmatch(r'iter_(\d+)\.pth', p.name))]
    candidates += [p for _, p in sorted(numbered, reverse=True)]
    for path in dict.fromkeys(candidates):
        try:
            require_finite(safe_load(path, kind='training')['state_dict'], str(path))
        except (OSError, ValueError):
            continue
        return path
    return None


class NotFiniteError(ValueError):
    """Losses or weights are NaN or infinite.

    Attributes:
        iteration: of the training, counted from 1, if one is meant.
        parts: what is not finite, with its value.
    """

    def __init__(self, text: str, iteration: int | None = None, parts: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.iteration, self.parts = iteration, parts or {}


def not_finite(state: Mapping[str, Any], learnt: bool = False) -> list[str]:
    """Names of the tensors that hold NaN, or an infinite number where that cannot be meant.

    Args:
        state: tensors by name; what is none, and whole numbers, are finite.
        learnt: all are trained, and infinity is never meant; otherwise only in a ``weight`` or ``bias`` (the mask of an
            attention has it, for example).
    """
    tensors = {name: value for name, value in state.items()
               if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel()}
    sound = [torch.isfinite(value).all() if learnt or name.rpartition('.')[2] in ('weight', 'bias')
             else ~torch.isnan(value).any() for name, value in tensors.items()]
    if not sound:
        return []
    flags = torch.stack([flag.to(sound[0].device) for flag in sound]).tolist()  # one wait for all
    return [name for name, flag in zip(tensors, flags, strict=True) if not flag]


def require_finite(state: Mapping[str, Any], path: str) -> None:
    """Make sure that the weights of a checkpoint are numbers.

    Raises:
        NotFiniteError: naming the first ones that are not.
    """
    if wrong := not_finite(state):
        raise NotFiniteError(f'{path}: {len(wrong)} of its {len(state)} tensors hold NaN or infinite numbers (first: '
                             f'{wrong[0]}): the training that wrote it went wrong. Use an earlier checkpoint, or train '
                             'anew with a smaller learning rate', parts=dict.fromkeys(wrong, 'not finite'))


def check_covers(model: torch.nn.Module, state_dict: dict[str, Any], path: str = 'checkpoint') -> None:
    """Make sure a checkpoint fits: every trained parameter and saved buffer is in it, nothing is of another shape.

    Frozen parameters may be missing (they are not saved), and so may batch norms' counts of batches (old files).
    mmengine itself loads what happens to match and warns, which silently evaluates random weights.

    Raises:
        ValueError: with the counts and the first names that do not fit.
    """
    own = dict(model.state_dict(keep_vars=True))
    state = {re.sub(r'^module\.', '', key): value for key, value in state_dict.items()}
    trained = sorted(name for name, p in own.items() if p.requires_grad or not isinstance(p, torch.nn.Parameter))
    trained = [name for name in trained if not name.endswith('num_batches_tracked')]
    missing = [name for name in trained if name not in state]
    shapes = [f'{name} {tuple(state[name].shape)} instead of {tuple(p.shape)}' for name, p in sorted(own.items())
              if name in state and state[name].shape != p.shape]
    if missing or shapes:
        parts = []
        if missing:
            parts.append(f'{len(missing)} of {len(trained)} trained parameters and buffers are missing '
                         f'(first: {missing[0]})')
        if shapes:
            parts.append(f'{len(shapes)} have another shape (first: {shapes[0]})')
        raise ValueError(f'{path}: does not fit this model ({type(model).__name__}): {"; ".join(parts)}. Use the '
                         'config the checkpoint was trained with (a copy lies beside it), '
                         'with the same classes and sizes.')


# mmengine logs a loader by its name behind 'load_from_'.
def load_from_local(filename: str, map_location: Any = 'cpu') -> Any:
    """A checkpoint on disk, read by :func:`safe_load`, without the text that mmengine would run when it resumes."""
    content = safe_load(filename, map_location)
    meta = content.get('meta') if isinstance(content, dict) else None
    if isinstance(meta, dict):
        meta.pop('config', None)  # Runner.resume gives it to Config.fromstring, which executes it
    return content


def load_from_http(filename: str, map_location: Any = 'cpu') -> Any:
    """Download once into torch's cache, then read as any other file."""
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / filename.rsplit('/', 1)[-1].split('?')[0]
    if not target.exists():
        torch.hub.download_url_to_file(filename, str(target))
    return load_from_local(str(target), map_location)


def load_from_elsewhere(filename: str, map_location: Any = 'cpu') -> Any:
    """Cloud stores and model zoos bring readers of their own, which would unpickle anything: refused."""
    raise ValueError(f'{filename}: checkpoints are read from local files and http(s) addresses only.')


def install_safe_loading() -> None:
    """Make mmengine read every checkpoint through :func:`safe_load` (called once when the engine is imported)."""
    for scheme in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(scheme, load_from_elsewhere, force=True)
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
