"""A training that starts from a checkpoint of perhaps other classes: what was learnt goes to the classes by name."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from weclip_sam.engine.start.restore import checkpoint_config, leaves
from weclip_sam.io.checkpoints import require_finite, safe_load
from weclip_sam.io.names import normal
from weclip_sam.io.plain import plain
from weclip_sam.models.by_class import rows_by_class

MATCH = 'match'  # of CheckpointGuardHook's ``other_classes``
_BUILT = ('type', 'decoder', 'head', 'backbone', 'encoders', 'clip')  # settings of a model that decide its shapes
_SHOWN = 3  # differences


@dataclass(frozen=True)
class Matched:
    """Weights of a checkpoint as a model of these classes takes them.

    Attributes:
        state: by name; of layers that answer class by class, each row is that of the class of the same name.
        kept: classes that both know.
        new: classes of the model alone; their rows are as they were.
        left_out: classes of the checkpoint alone.
    """

    state: dict[str, Tensor]
    kept: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]

    def text(self) -> str:
        """What became of the classes, in a line."""
        parts = [f'{len(self.kept)} classes matched by name']
        parts += [f'{len(names)} {what} ({", ".join(names[:20])}{", ..." if len(names) > 20 else ""})'
                  for what, names in (('new', self.new), ('left out', self.left_out)) if names]
        return ', '.join(parts)


def use_start(config: Config, path: str | os.PathLike, resume: bool = False) -> None:
    """Set up ``--from``: the training starts from a checkpoint, whose classes are matched by name.

    Args:
        config: with ``work_dir``; changed in place: ``load_from``, and ``other_classes`` of the
            :class:`CheckpointGuardHook`.
        path: of the checkpoint.
        resume: what is in the work dir already goes on.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, or one of the work dir that the training would write into, or
            weights that are no numbers.
    """
    folder = Path(path).expanduser().resolve().parent
    if not resume and folder == Path(config.work_dir).resolve():
        raise ValueError(f'--from {path}: lies in the work dir that this training would write into; give it another, '
                         f'for example --work-dir {os.path.relpath(folder)}_2')
    require_finite(safe_load(path, kind='weights')['state_dict'], str(path))
    config.load_from = str(path)
    hooks = dict(config.get('default_hooks') or {})
    guard = hooks.get('guard') or dict(type='CheckpointGuardHook')
    config.default_hooks = {**hooks, 'guard': {**guard, 'other_classes': MATCH}}


def match_classes(model: nn.Module, content: Mapping[str, Any], classes: Sequence[str] | None, path: str,
                  settings: Mapping[str, Any] | None = None) -> Matched:
    """Give what a checkpoint learnt of each class to the class of the same name.

    Args:
        model: as it was built, for ``classes``.
        content: what :func:`safe_load` gave for the checkpoint.
        classes: of the data now; None where nobody knows.
        path: of the checkpoint.
        settings: the config's ``model``, for what is said of a checkpoint of another model.

    Raises:
        ValueError: it is of another model, or nobody knows the classes, or no class is the same.
    """
    meta = content.get('meta')
    named = (meta.get('dataset_meta') or {}).get('classes') if isinstance(meta, Mapping) else None
    if not named or not classes:
        raise ValueError(f'{path}: cannot be matched by name, since {"the data do" if named else "it does"} not say '
                         'which classes it knows; load_from in the config loads it as it is')
    old, now = ([normal(str(name)) for name in names] for names in (named, classes))
    learnt = {re.sub(r'^module\.', '', name): value for name, value in content['state_dict'].items()}
    own = {name: value for name, value in model.state_dict(keep_vars=True).items()
           if value.requires_grad or not isinstance(value, nn.Parameter)}
    rows = set(rows_by_class(model)) or {name for name, value in own.items()
                                         if _resized(learnt.get(name), value, len(old), len(now))}
    if wrong := _misfits(learnt, own, rows, len(old)):
        raise ValueError(f'{path}: cannot be started from, it is of another model: '
                         f'{_difference(path, content, settings) or wrong}. Take the config that it was trained with, '
                         'with these data (--cfg-options data_root=...), or train anew')
    kept = [name for name in now if name in old]
    if not kept:
        raise ValueError(f'{path}: cannot be started from, none of its classes is among those of the data. Its '
                         f'classes: {", ".join(old)}; now: {", ".join(now)}')
    if old != now and not rows:
        raise ValueError(f'{path}: was trained on other classes, or on these in another order, and no layer of '
                         f'{type(model).__name__} says that its rows are classes (models/by_class.py). Learnt prompts '
                         'are started from with model.start=FILE')
    state = {name: learnt[name] for name in own if name in learnt and name not in rows}
    places = [(0, 0), *((now.index(name) + 1, old.index(name) + 1) for name in kept)]
    target, source = map(list, zip(*places, strict=True))
    for name in rows:
        matched = own[name].detach().cpu().clone()
        matched[target] = learnt[name].to(matched)[source]
        state[name] = matched
    return Matched(state, tuple(kept), tuple(name for name in now if name not in old),
                   tuple(name for name in old if name not in now))


def _resized(learnt: Tensor | None, own: Tensor, before: int, now: int) -> bool:
    """Whether a parameter of somebody's own model has a row for each class, by its shapes."""
    return (learnt is not None and before != now and own.dim() > 0 and learnt.shape[1:] == own.shape[1:]
            and (len(learnt), len(own)) == (before + 1, now + 1))


def _misfits(learnt: Mapping[str, Tensor], own: Mapping[str, Tensor], rows: set[str], before: int) -> str:
    """The first things that do not fit, besides the number of classes."""
    told = []
    for name, value in own.items():
        if name not in learnt:
            told += [] if name.endswith('num_batches_tracked') else [f'{name} is not in it']
        elif (wanted := (before + 1, *value.shape[1:]) if name in rows else tuple(value.shape)) != \
                tuple(learnt[name].shape):
            told.append(f'{name} is {tuple(learnt[name].shape)} instead of {wanted}')
    told += [f'{name} of it is not wanted' for name in learnt if name not in own]
    return '; '.join(told[:_SHOWN]) + (f' and {len(told) - _SHOWN} more' if len(told) > _SHOWN else '')


def _difference(path: str, content: Mapping[str, Any], settings: Mapping[str, Any] | None) -> str:
    """What the settings of the two models differ in, as far as it decides their shapes."""
    with suppress(ValueError):  # it does not say how it was trained
        before = checkpoint_config(path, content).get('model')
        old, new = ({name: value for key in _BUILT for name, value in leaves(plain(each or {}, 'model').get(key), key)}
                    for each in (before, settings))
        found = [f'model.{name}: {old.get(name, "not set")} -> {new.get(name, "not set")}'
                 for name in sorted({*old, *new}) if old.get(name) != new.get(name)
                 and name.rpartition('.')[2] not in ('checkpoint', 'weights')]
        return '; '.join(found[:_SHOWN]) + (f' and {len(found) - _SHOWN} more' if len(found) > _SHOWN else '')
    return ''
