"""From a checkpoint alone back to the model: its config and class names travel in it, and nothing is executed."""
from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.config import RESERVED_KEYS
from mmengine.registry import Registry
from torch import nn

from weclip_sam.checks import suggest_name
from weclip_sam.commands import tool
from weclip_sam.engine.start.class_names import require_same_classes
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.errors import registered_names
from weclip_sam.engine.start.old_configs import parse_literal_config
from weclip_sam.engine.start.options import apply_options, parse_options
from weclip_sam.engine.start.vocabulary import VOCABULARY_KEYS, fill_vocabulary, names_of_data
from weclip_sam.io.checkpoints import check_covers, require_finite, safe_load
from weclip_sam.io.plain import plain
from weclip_sam.registry import MODELS, SCOPE, SEED_STEPS

# What a trained model needs while it learns, and not to predict: SAM, and texts whose features the labels came from.
_FOR_SAM = ('mask_generator',)
_FOR_TRAINING = (*_FOR_SAM, 'prompts', 'attributes')
# What a checkpoint's own state sets when a training is resumed, whatever the config says.
_KEPT = re.compile(r'param_scheduler\b'
                   r'|optim_wrapper\.(paramwise_cfg|optimizer\.(lr|weight_decay|betas|eps|momentum))\b')


def checkpoint_config(path: str | os.PathLike, content: Mapping[str, Any]) -> Config:
    """The config a checkpoint was trained with: from the checkpoint, or else from the config dumped beside it.

    Args:
        path: of the checkpoint.
        content: what :func:`safe_load` gave for it.

    Returns:
        Plain values, without ``custom_imports``: code that a config asks to import is code all the same.

    Raises:
        ValueError: no config in the checkpoint and not exactly one beside it, or one that is not plain.
    """
    meta = _meta(content)
    if isinstance(meta.get('settings'), Mapping):  # mmengine runs a text that it finds as ``config``
        return _as_config(meta['settings'], str(path))
    text = meta.get('cfg')
    if isinstance(text, str) and text.strip():
        return _as_config(parse_literal_config(text, str(path)), str(path))
    beside = sorted(Path(path).expanduser().resolve().parent.glob('*.py'))
    if len(beside) != 1:
        found = f'{len(beside)} configs lie beside it' if beside else 'none lies beside it'
        raise ValueError(f'{path}: holds no config, and {found}. Name the config it was trained with.')
    return _as_config(parse_literal_config(beside[0].read_bytes(), str(beside[0])), str(beside[0]))


def _meta(content: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = content.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def _as_config(values: Mapping[str, Any], source: str) -> Config:
    values = plain({key: value for key, value in values.items() if key != 'custom_imports'}, source)
    if wrong := sorted(str(key) for key in values if not isinstance(key, str) or key in RESERVED_KEYS):
        raise ValueError(f'{source}: the config in it has an entry {wrong[0]!r}, which no config can have')
    return Config(values)


def only_registered(node: Any, registries: Sequence[Registry], source: str, place: str = 'model') -> None:
    """Make sure that building a part of a checkpoint's config imports nothing.

    mmengine imports what a type names that no registry knows, and calls it: ``subprocess.Popen`` as well as a module of
    the current folder. Full names of what is registered, as configs with lazy imports have them, are cut to the last
    part, in place.

    Raises:
        ValueError: a type that none of ``registries`` or their parents knows, or a foreign ``_scope_``.
    """
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, below in items:
        only_registered(below, registries, source, f'{place}.{key}')
    if not isinstance(node, dict):
        return
    known = {name for registry in registries for name in registered_names(registry)}
    kind = node.get('type')
    short = kind.rpartition('.')[2] if isinstance(kind, str) else None
    if node.get('_scope_') not in (None, SCOPE) or ('type' in node and short not in known):
        what = f'scope {node["_scope_"]!r:.80}' if short in known else f'type {kind!r:.80}'
        raise ValueError(f'{source}: refused. Its {place} asks for the {what}, which is not registered, and what a '
                         f'checkpoint names is not imported. Nothing was executed.{suggest_name(short or "", known)} '
                         'If it is your own, give the config that imports it (--config).')
    if 'type' in node:
        node['type'] = short


def leave_out_steps(model: Any, source: str) -> None:
    """Of a model's config, in place: without its seed steps where one of them is registered nowhere here.

    Steps make labels to learn from; predictions do without them, and so without the modules of a user's own steps. What
    a prediction does need (model, encoders, decoder, ``test.refine``) stays as it is.
    """
    kind = str(model.get('type')).rpartition('.')[2]
    if kind not in registered_names(MODELS) or 'labels' not in inspect.signature(MODELS.get(kind)).parameters:
        return
    try:
        only_registered(model.get('seeds') or (), (MODELS, SEED_STEPS), source)
    except ValueError:
        model['seeds'], model['labels'] = None, 'offline'


def restore_model(path: str | os.PathLike, config: str | os.PathLike | None = None,
                  options: Mapping[str, Any] | Sequence[str] | None = None, labels: bool = False
                  ) -> tuple[nn.Module, Config, dict[str, Any]]:
    """Build the model of a checkpoint with its weights, for prediction. No data set is opened.

    Args:
        path: written by ``tools/train.py``.
        config: a config file to use instead of the checkpoint's own; it is executed, as for training.
        options: dotted changes of the config, e.g. where the frozen CLIP's weights are on this machine:
            ``{'model.clip.checkpoint': 'ViT-B-16.pt'}``; or ``key=value`` strings.
        labels: whether the model is to make labels, too, as in training: the texts that they come from are needed then.

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
    if not isinstance(settings.get('model'), Mapping):
        raise ValueError(f'{path}: the config in it has no model')
    if options:
        apply_options(settings, options if isinstance(options, Mapping) else parse_options(options, settings))
    meta = _meta(content).get('dataset_meta')
    meta = plain(meta, f'{path}: dataset_meta') if isinstance(meta, Mapping) else {}
    vocabulary = settings.model.get('vocabulary') or {}
    if not meta.get('classes'):
        meta['classes'] = tuple(vocabulary.get('classes') or ())
    if not meta['classes']:
        raise ValueError(f'{path}: does not say which classes it knows (neither dataset_meta nor model.vocabulary); it '
                         f'was not written by {tool("train")}')
    if config is not None:
        require_same_classes(str(path), dict(meta=dict(dataset_meta=meta)), _classes_of(settings),
                             'Use the config that it was trained with; without --config its own is used')
    if all(meta.get(key) for key in VOCABULARY_KEYS):
        fill_vocabulary(settings, meta)
    for key in _FOR_SAM if labels else _FOR_TRAINING:
        if settings.model.get(key) is not None:
            settings.model[key] = None
    if (settings.model.get('backbone') or {}).get('weights') is not None:
        settings.model.backbone['weights'] = None  # the checkpoint has the trained ones
    if config is None:
        if not labels:  # which the steps make
            leave_out_steps(settings.model, str(path))
        only_registered(settings.model, (MODELS, SEED_STEPS), str(path))
    model = MODELS.build(settings.model)
    check_covers(model, content['state_dict'], str(path))
    require_finite(content['state_dict'], str(path))
    model.load_state_dict(content['state_dict'], strict=False)
    return model.eval(), settings, meta


def _classes_of(settings: Config) -> Sequence[str] | None:
    """Of a config's vocabulary, or else of its data where they can be read; None where neither says."""
    if vocabulary := settings.model.get('vocabulary'):
        return vocabulary.get('classes')
    with suppress(ValueError, OSError):  # prediction needs no data, and they may lie elsewhere
        names = names_of_data(settings)
        return names['classes'] if names else None
    return None


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
    old, new = ({name: value for key in keys for name, value in leaves(settings.get(key), key)}
                for settings in (before, plain(config.to_dict(), 'the config')))
    none = object()
    return [f'{name}: {old.get(name, "not set")} -> {new.get(name, "not set")}' for name in sorted({*old, *new})
            if old.get(name, none) != new.get(name, none)]


def refuse_kept(path: str | os.PathLike, changed: Sequence[str]) -> None:
    """Resuming takes learning rates, their schedules, weight decay and momenta from the checkpoint.

    Args:
        path: of the checkpoint.
        changed: of :func:`changed_settings`.

    Raises:
        ValueError: the config says otherwise than the checkpoint, which would have no effect.
    """
    kept = [line for line in changed if _KEPT.match(line)]
    if kept:
        raise ValueError(f'{path}: a resumed training goes on with the learning rates it began with, so this would '
                         f'change nothing: {"; ".join(kept[:4])}{"; ..." * (len(kept) > 4)}. Resume it with the '
                         'options that it was begun with, or begin a new training from its weights: --from instead of '
                         '--resume, and another --work-dir')


def leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and values at and below a node; an empty container counts as a value."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    if not items:
        yield name, node
    for key, value in items:
        yield from leaves(value, f'{name}.{key}')
