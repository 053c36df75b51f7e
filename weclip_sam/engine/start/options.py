"""``--cfg-options``: what a command line says, read as what may stand in that place of the config."""
from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.runner import LogProcessor, Runner, TestLoop, ValLoop
from mmengine.runner.utils import set_random_seed
from torch.utils.data import DataLoader

from weclip_sam.checks import suggest_name
from weclip_sam.engine.start.kinds import TEXT_VARIABLES, kinds_of, registered, takes, takes_text

# Keys that mmengine reads from the config itself, besides the arguments of Runner.
_EXTRA_KEYS = {'custom_imports', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg', 'compile',
               'activation_checkpointing', 'efficient_conv_bn_eval'}
RUNNER_KEYS = (set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}) | _EXTRA_KEYS
# Dicts without a type, whose reader is known all the same.
_READERS_OF = dict(val_cfg=ValLoop, test_cfg=TestLoop, log_processor=LogProcessor, randomness=set_random_seed)
# Names that hold a path or a name wherever they stand, for owners that do not say what they take.
_TEXTS = {*TEXT_VARIABLES, 'bank', 'checkpoint', 'out_dir', 'split', 'work_dir'}
_NEVER_NONE = {'data_root', 'split', 'train_split', 'val_split'}
_NUMBERS_TOO = {'loss_scale'}  # of AmpOptimWrapper: 'dynamic' or a number
_ABSENT = object()


def parse_options(options: Sequence[str], config: Config | None = None) -> dict[str, Any]:
    """``['a.b=1', "c=['x y']", 'd=p,q']`` as a dict.

    A value is read as a Python literal; what is none is a text as it stands, blanks and all. ``true`` and ``false``
    are truth values. As with mmengine, commas make a list (``p,q``) and names in brackets need no quotes (``[p,q]``);
    a path, which has a slash, may hold commas.

    Args:
        options: as typed.
        config: what they are for. Where a text stands in it, or its owner takes nothing else, the value is the text
            that was typed, whatever it looks like: a folder may be called ``2024``, ``1e5`` or ``cups,balls``.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        key, sign, text = option.partition('=')
        key, text = key.strip(), text.strip()
        if not sign or not key:
            raise ValueError(f"--cfg-options: expected key=value, got '{option}'")
        value = _option_value(text)
        parsed[key] = text if config is not None and _is_text(config, key, value, text) else value
    return parsed


def _option_value(text: str) -> Any:
    text = text.strip()
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    else:
        if value is ... or isinstance(value, bytes) or ('#' in text and '#' not in repr(value)):  # no comment is meant
            return text
        return list(value) if isinstance(value, tuple) and not text.startswith('(') else value
    kind = {'[]': list, '()': tuple}.get(text[:1] + text[-1:])
    if kind is None and (',' not in text or '/' in text or '\\' in text):
        return text
    inner = text[1:-1] if kind else text
    return (kind or list)(_option_value(part) for part in _split_at_commas(inner) if part.strip())


def _split_at_commas(text: str) -> list[str]:
    """At those that no bracket encloses."""
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in '([{') - (letter in ')]}')
        if letter == ',' and depth <= 0:
            parts.append('')
        else:
            parts[-1] += letter
    return parts


def _is_text(config: Config, key: str, value: Any, text: str) -> bool:
    """Whether what looks like a number, a list, None or a truth value is meant as the text that was typed."""
    if isinstance(value, (str, Mapping)) or key.rpartition('.')[2] in _NUMBERS_TOO:
        return False
    *path, last = key.split('.')
    parent = _at(config, path)
    if kinds := kinds_of(_owner(parent, path), last):
        return takes_text(kinds) and not takes(kinds, value)
    if not (isinstance(_below(parent, last), str) or last in _TEXTS and not isinstance(_below(parent, last), bool)):
        return False
    if value is None:
        return last in _NEVER_NONE
    return last in _TEXTS or not isinstance(value, (list, tuple, set)) or not text.startswith(('[', '(', '{'))


def _at(config: Config, path: Sequence[str]) -> Any:
    node: Any = config._cfg_dict
    for part in path:
        node = _below(node, part)
    return node


def _below(node: Any, part: str) -> Any:
    if isinstance(node, (list, tuple)) and re.fullmatch(r'\d+', part) and int(part) < len(node):
        return node[int(part)]
    return node.get(part, _ABSENT) if isinstance(node, Mapping) else _ABSENT


def _owner(parent: Any, path: Sequence[str]) -> Any:
    """Whose arguments a dict of the config holds: a class, a function, or None where nobody knows."""
    if not path:
        return Runner
    if isinstance(parent, Mapping) and 'type' in parent:
        kind = parent['type']
        return registered(kind) if isinstance(kind, str) else kind
    if path[-1].endswith('dataloader'):
        return DataLoader
    return _READERS_OF.get(path[0]) if len(path) == 1 else None


def apply_options(config: Config, options: Mapping[str, Any]) -> None:
    """Merge dotted options into ``config``; each must name a place that exists.

    The last part of a key may be new only where a constructor could take it (a dict with a ``type``, whose arguments
    are checked when it is built; a data loader; the settings of mmengine's that have no type) or at the top level for a
    key the runner knows.
    """
    for key, value in options.items():
        _check_option(config, key)
        *path, last = key.split('.')
        parent = _at(config, path)
        if isinstance(parent, list) and not isinstance(value, Mapping):  # mmengine merges dicts into lists, no values
            parent[int(last)] = value
            continue
        try:
            config.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"--cfg-options {key}={value}: {error}") from None


def _check_option(config: Config, key: str) -> None:
    node: Any = config._cfg_dict
    parts = key.split('.')
    for depth, part in enumerate(parts):
        shown = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, (list, tuple)):
            if not re.fullmatch(r'\d+', part) or int(part) >= len(node):
                raise ValueError(f"--cfg-options {key}: {shown} is a list of {len(node)}; '{part}' is no index of it")
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node:
                last = depth == len(parts) - 1
                if last and depth > 0 and 'type' in node:
                    return
                accepted = RUNNER_KEYS if depth == 0 else _untyped_arguments(node, parts[:depth]) if last else set()
                if part in accepted:
                    return
                near = suggest_name(part, {*node, *accepted})
                raise ValueError(f"--cfg-options {key}: {shown} has no '{part}'.{near}")
            node = node[part]
        else:
            raise ValueError(f"--cfg-options {key}: {shown} is {node!r}, which has no '{part}'")


def _untyped_arguments(node: Mapping[str, Any], path: Sequence[str]) -> set[str]:
    """What the known reader of a dict without a type takes besides what it is given."""
    owner = _owner(node, path)
    if owner is None:
        return set()
    own = {'num_batch_per_epoch'} if owner is DataLoader else set()
    return set(inspect.signature(owner).parameters) - {'runner', 'dataloader', 'evaluator', 'self'} | own
