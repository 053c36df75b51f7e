"""From a checkpoint alone back to the model: its config and class names travel in it, and nothing is executed.

mmengine writes the whole config into a checkpoint as Python text. Executing that text would give a stranger's file the
user's rights, so it is parsed instead: assignments of numbers, strings, lists, tuples and ``dict(...)``, nothing else.
"""
from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from weclip_sam.engine.start.config import apply_options, load_config, parse_options
from weclip_sam.engine.start.errors import explain
from weclip_sam.engine.start.vocabulary import VOCABULARY_KEYS, fill_vocabulary
from weclip_sam.io.checkpoints import check_covers, safe_load
from weclip_sam.registry import MODELS

# What a trained model needs while it learns, and not to predict: SAM, and prompts whose features the labels came from.
_FOR_TRAINING = ('mask_generator', 'prompts')


def parse_literal_config(text: str, source: str) -> Config:
    """Read a dumped config (``name = value`` lines of plain values) without executing it.

    Args:
        text: as ``Config.pretty_text`` gives it.
        source: where it came from, for errors.

    Raises:
        ValueError: no Python text, or something other than plain values in it.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f'{source}: the config in it cannot be read ({error})') from None
    values = {}
    for statement in body:
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                and isinstance(statement.targets[0], ast.Name)):
            raise _not_plain(source, statement)
        values[statement.targets[0].id] = _value(statement.value, source)
    # Code that a config asks to import is code all the same.
    values.pop('custom_imports', None)
    return Config(values)


def _not_plain(source: str, node: ast.AST) -> ValueError:
    return ValueError(f'{source}: refused. Line {getattr(node, "lineno", "?")} of the config in it is no plain value '
                      f'(`{ast.unparse(node)[:80]}`), and running it could do anything. Nothing was executed; give the '
                      'config file yourself if you trust it.')


def _value(node: ast.expr, source: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        values = [_value(item, source) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values) if isinstance(node, ast.Tuple) else set(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key, source): _value(value, source) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        if node.func.id == 'set' and not node.keywords:
            return set()
        if node.func.id == 'dict' and all(keyword.arg is not None for keyword in node.keywords):
            return {keyword.arg: _value(keyword.value, source) for keyword in node.keywords}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand, source)
        if isinstance(inner, (int, float)):
            return -inner
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    raise _not_plain(source, node)


def checkpoint_config(path: str | os.PathLike, content: Mapping[str, Any]) -> Config:
    """The config a checkpoint was trained with: from the checkpoint, or else from the config dumped beside it.

    Args:
        path: of the checkpoint.
        content: what :func:`safe_load` gave for it.

    Raises:
        ValueError: no config in the checkpoint and not exactly one beside it, or one that is not plain.
    """
    text = (content.get('meta') or {}).get('cfg')
    if isinstance(text, str) and text.strip():
        return parse_literal_config(text, str(path))
    beside = sorted(Path(path).resolve().parent.glob('*.py'))
    if len(beside) != 1:
        found = f'{len(beside)} configs lie beside it' if beside else 'none lies beside it'
        raise ValueError(f'{path}: holds no config, and {found}. Name the config it was trained with.')
    return parse_literal_config(beside[0].read_text(encoding='utf-8'), str(beside[0]))


def restore_model(path: str | os.PathLike, config: str | os.PathLike | None = None,
                  options: Mapping[str, Any] | Sequence[str] | None = None
                  ) -> tuple[nn.Module, Config, dict[str, Any]]:
    """Build the model of a checkpoint with its weights, for prediction. No data set is opened.

    Args:
        path: written by ``tools/train.py``.
        config: a config file to use instead of the checkpoint's own; it is executed, as for training.
        options: dotted changes of the config, e.g. where the frozen CLIP's weights are on this machine:
            ``{'model.clip.checkpoint': 'ViT-B-16.pt'}``; or ``key=value`` strings.

    Returns:
        The model in evaluation mode on the CPU, its config, and the data set's ``metainfo`` (``classes``, ``palette``).

    Raises:
        FileNotFoundError, ValueError: as :func:`safe_load`; a config that cannot be read; a checkpoint that does not
            fit, or that has no class names.
    """
    content = safe_load(path, kind='weights')
    if config is not None:
        settings = load_config(config)
    else:
        settings = checkpoint_config(path, content)
    if not settings.get('model'):
        raise ValueError(f'{path}: the config in it has no model')
    if options:
        apply_options(settings, dict(options) if isinstance(options, Mapping) else parse_options(options))
    meta = dict((content.get('meta') or {}).get('dataset_meta') or {})
    vocabulary = settings.model.get('vocabulary') or {}
    if not meta.get('classes'):
        meta['classes'] = tuple(vocabulary.get('classes') or ())
    if not meta['classes']:
        raise ValueError(f'{path}: does not say which classes it knows (neither dataset_meta nor model.vocabulary); it '
                         'was not written by tools/train.py')
    if all(meta.get(key) for key in VOCABULARY_KEYS):
        fill_vocabulary(settings, meta)
    for key in _FOR_TRAINING:
        if settings.model.get(key) is not None:
            settings.model[key] = None
    if (settings.model.get('backbone') or {}).get('weights') is not None:
        settings.model.backbone['weights'] = None  # the checkpoint has the trained ones
    try:
        model = MODELS.build(settings.model)
    except (KeyError, ValueError) as error:
        unknown = isinstance(error, KeyError) or 'unknown seed step' in str(error)
        if config is not None or not unknown:
            raise
        raise ValueError(f'{path}: {explain(error) or error} A checkpoint imports no code: where its model has parts '
                         'of your own, give the config that imports them (--config)') from None
    check_covers(model, content['state_dict'], str(path))
    model.load_state_dict(content['state_dict'], strict=False)
    return model.eval(), settings, meta



def changed_settings(path: str | os.PathLike, config: Config) -> list[str]:
    """What ``config`` says otherwise than the config a checkpoint was trained with, as ``key: before -> now``.

    Only settings that change what is learnt: model, training data, optimizer, schedules, length and seed. Empty if
    the checkpoint does not say how it was trained.
    """
    try:
        before = checkpoint_config(path, safe_load(path, kind='training'))
    except ValueError:
        return []
    keys = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'randomness')
    old, new = ({name: value for key in keys for name, value in _leaves(settings.get(key), key)}
                for settings in (before, config))
    none = object()
    return [f'{name}: {old.get(name, "not set")} -> {new.get(name, "not set")}' for name in sorted({*old, *new})
            if old.get(name, none) != new.get(name, none)]


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; an empty container counts as a value."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    if not items:
        yield name, node
    for key, value in items:
        yield from _leaves(value, f'{name}.{key}')
