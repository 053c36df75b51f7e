"""What kind of value a place of a config takes, as far as the annotation of its owner's argument says."""
from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Any

from mmengine import registry as root_registries
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from weclip_sam import registry as own_registries
from weclip_sam.registry import SCOPE

_TEXT = {'str', 'PathLike', 'Path'}
_SIMPLE = _TEXT | {'int', 'float', 'bool', 'None'}
_ANYTHING = {'Any', 'object'}
# Variables of a config that hold a path or a name; no argument stands behind them.
TEXT_VARIABLES = ('data_root', 'mask_bank', 'mask_dataset', 'input_labels', 'train_split', 'val_split')

# Parts of a config that are dicts, or None.
_DICTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
          'optim_wrapper', 'default_hooks', 'randomness', 'env_cfg', 'log_processor', 'mask_generator', 'seed_dataset',
          'tune_dataset', 'tta', 'crf', 'sam')

# Numbers of things, and the least that there can be; mmengine's classes take them, whose annotations are not believed.
_COUNTS = {('train_cfg', 'max_iters'): 1, ('train_cfg', 'max_epochs'): 1,
           **{(f'{part}_dataloader', name): least for part in ('train', 'val', 'test')
              for name, least in (('batch_size', 1), ('num_workers', 0))}}


@cache
def all_registries() -> tuple[Registry, ...]:
    """This package's registries, filled, and mmengine's."""
    own = [value for value in vars(own_registries).values() if isinstance(value, Registry)]
    for registry in own:
        registry.import_from_location()
    root = [value for value in vars(root_registries).values() if isinstance(value, Registry)]
    return tuple({id(each): each for each in [*own, *root]}.values())


def registered(name: Any) -> Callable | None:
    """What is registered by a name, in whatever registry; nothing is imported for it."""
    found = (registry.module_dict[name] for registry in all_registries() if name in registry.module_dict)
    return next(found, None) if isinstance(name, str) else None


def _members(annotation: Any) -> set[str]:
    """The names of what an annotation allows, without what stands in brackets: ``str | Sequence[str]``."""
    if isinstance(annotation, str):
        while (shorter := re.sub(r'\[[^\[\]]*\]', '', annotation)) != annotation:
            annotation = shorter
        return {part.strip().rpartition('.')[2] for part in annotation.split('|')}
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set().union(*map(_members, typing.get_args(annotation)))
    if annotation in (None, type(None)):
        return {'None'}
    kind = typing.get_origin(annotation) or annotation
    return {kind.__name__ if isinstance(kind, type) else 'Any'}


def kinds_of(owner: Callable | None, argument: str) -> set[str]:
    """What an argument takes, e.g. ``{'str', 'None'}``; empty where nobody says.

    Only this package's annotations and the Runner's are believed: others take more than theirs say.
    """
    if owner is None or owner is not Runner and not getattr(owner, '__module__', '').startswith(SCOPE):
        return set()
    if owner is Runner and argument == 'log_level':
        return {'str', 'int'}
    try:
        parameter = inspect.signature(owner).parameters.get(argument)
    except (TypeError, ValueError):  # written in C
        return set()
    if parameter is None or parameter.annotation is parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
        return set()
    kinds = _members(parameter.annotation)
    return {'Any'} if kinds & _ANYTHING else kinds


def takes(kinds: set[str], value: Any) -> bool:
    """Whether an argument of these kinds takes a value that is no text."""
    if 'Any' in kinds:
        return True
    if value is None:
        return 'None' in kinds
    if isinstance(value, bool):
        return 'bool' in kinds
    if isinstance(value, (int, float)):
        return bool({'int', 'float'} & kinds) or not kinds <= _SIMPLE
    return not kinds <= _SIMPLE


def takes_text(kinds: set[str]) -> bool:
    """Whether text is among the kinds."""
    return bool(kinds & _TEXT)


def check_kinds(config: Config, source: str) -> None:
    """Numbers where a path or a name is wanted, and texts where a number is: told before anything is built.

    Args:
        config: with all options applied.
        source: begins the error.

    Raises:
        ValueError: naming the place, what was expected and what stands there.
    """
    for name in _DICTS:
        for place, value in ((name, config.get(name)), (f'{name}.dataset', _dataset(config.get(name)))):
            if not isinstance(value, (Mapping, type(None))) or value is None and place == 'model':
                raise ValueError(f'{source}: {place}: expected settings (a dict), got {value!r:.60}')
    if not isinstance(config.get('custom_hooks'), (list, tuple, type(None))):
        raise ValueError(f'{source}: custom_hooks: expected a list of hooks, got {config.custom_hooks!r:.60}')
    _check_counts(config, source)
    for name in TEXT_VARIABLES:
        value = config.get(name)
        if value is not None and value is not True and not isinstance(value, (str, PurePath, Mapping)):
            raise ValueError(_no_text(source, name, value))
    for place, node in walk_dicts(dict(config.items()), ''):
        owner = Runner if not place else registered(node.get('type'))
        for name, value in node.items() if owner is not None else ():
            kinds, where = kinds_of(owner, str(name)), f'{place}.{name}'.lstrip('.')
            if not kinds or 'Any' in kinds:
                continue
            if not isinstance(value, (str, PurePath)) and kinds <= _TEXT | {'None'} and not takes(kinds, value):
                raise ValueError(_no_text(source, where, value))
            if isinstance(value, str) and kinds <= (_SIMPLE - _TEXT) | {'Tensor'}:
                raise ValueError(f'{source}: {where}: expected {" or ".join(sorted(kinds))}, got the text {value!r}')


def _check_counts(config: Config, source: str) -> None:
    for (part, name), least in _COUNTS.items():
        settings = config.get(part) or {}
        value = settings.get(name)
        if name not in settings or value is None and name != 'max_iters':
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{source}: {part}.{name}: expected a whole number of at least {least}, got '
                             f'{value!r:.60}')


def _dataset(loader: Any) -> Any:
    return loader.get('dataset') if isinstance(loader, Mapping) else None


def _no_text(source: str, where: str, value: Any) -> str:
    told = f'{type(value).__name__} {value!r:.60}' if value is not None else 'None'
    return (f'{source}: {where}: expected a path or a name, got the {told}; write it in quotes in a config '
            f"('{value!s:.30}'), or on a command line {where}=./{value!s:.30} for a folder")


def walk_dicts(node: Any, place: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted place, dict) of every dict in a config, outer ones first."""
    if isinstance(node, Mapping):
        yield place, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, below in items:
        yield from walk_dicts(below, f'{place}.{key}'.lstrip('.'))
