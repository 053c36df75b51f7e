"""What a config says once, at its top, for every part that needs it: the mask bank, its generator, the seed images.

``mask_bank`` (folder), ``mask_generator`` (config of a :class:`MaskGenerator`), ``mask_dataset`` (name of the data set)
and ``seed_dataset`` (training images, labelled for evaluation) are variables; here they reach data sets and hooks.
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from weclip_sam.mask_bank import feature_folder

# What a hook takes from the config unless it says otherwise: its argument to the config's variable.
_OF_HOOKS = {
    'MaskBankHook': dict(bank='mask_bank', generator='mask_generator', dataset='mask_dataset'),
    'SeedEvalHook': dict(dataset='seed_dataset')}


def fill_shared_settings(config: MutableMapping[str, Any]) -> None:
    """Give each part of a config what the config says once; what a part says itself stays.

    - ``mask_bank=True`` in a data set, wherever it stands, becomes the config's ``mask_bank``.
    - ``feature_bank=True`` in a data set, or one without a folder, becomes the folder of features in ``mask_bank``.
    - ``SamEye`` takes the ``sam`` of the config's ``mask_generator``.
    - ``MaskBankHook`` takes the config's ``mask_bank``, ``mask_generator`` and ``mask_dataset``.
    - ``SeedEvalHook`` takes ``seed_dataset``.
    - ``SheetHook`` takes ``mask_generator`` where a ``MaskBankHook`` makes the masks of training and the sheets show
      images of validation, which have none.

    Args:
        config: a whole config, changed in place. Filling it again changes nothing.

    Raises:
        ValueError: a data set has ``mask_bank=True`` or such a ``feature_bank``, and the config no ``mask_bank``.
    """
    for key, value in config.items():
        for place, node in _dicts(value, str(key)):
            if node.get('mask_bank') is True:
                if config.get('mask_bank', True) is True:
                    raise ValueError(f"{place}.mask_bank=True means the config's own mask bank, but the config names "
                                     "none: give it mask_bank='DIR' at its top")
                node['mask_bank'] = config['mask_bank']
            _fill_features(place, node, config)
            if _kind(node) == 'SamEye' and node.get('sam') is None and config.get('mask_generator'):
                node['sam'] = copy.deepcopy(config['mask_generator']['sam'])
    # Afterwards: what is copied from here on, such as seed_dataset, names its bank already.
    own, default = config.get('custom_hooks') or [], config.get('default_hooks') or {}
    hooks = [hook for hook in (*default.values(), *own) if isinstance(hook, MutableMapping)]
    for hook in hooks:
        for argument, variable in _OF_HOOKS.get(_kind(hook) or '', {}).items():
            _take(hook, argument, config, variable)
    makes_masks = any(_kind(hook) == 'MaskBankHook' for hook in hooks)
    for hook in hooks:
        if _kind(hook) == 'SheetHook' and makes_masks and config.get('val_dataloader'):
            _take(hook, 'mask_generator', config, 'mask_generator')


def fill_scenes_seed(config: MutableMapping[str, Any]) -> None:
    """Give every ``ShapesReader`` that names no seed the config's ``scenes_seed``: another one is another data set of
    the same kind, for training, validation and tune alike.

    Args:
        config: changed in place.

    Raises:
        ValueError: a seed that is no number from 0 on.
    """
    seed = config.get('scenes_seed')
    if seed is None:
        return
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f'scenes_seed: expected a whole number from 0 on, got {seed!r}')
    for key, value in config.items():
        for _, node in _dicts(value, str(key)):
            if _kind(node) == 'ShapesReader':
                node.setdefault('seed', seed)


def mask_settings(config: Mapping[str, Any], split: str = 'train') -> dict[str, Any]:
    """Where the SAM masks of a split are, who makes them, and the name of their data set.

    They are the config's top-level ``mask_bank``, ``mask_generator`` and ``mask_dataset``; what is missing there is
    taken from a :class:`MaskBankHook` or from ``model.mask_generator``. The bank of another split than ``train`` lies
    beside it: ``shapes_train`` becomes ``shapes_val``.

    Returns:
        ``bank`` (str or None), ``generator`` (dict or None), ``dataset`` (str or None).
    """
    hooks = [hook for hook in config.get('custom_hooks') or [] if hook.get('type') == 'MaskBankHook']
    hook: Mapping[str, Any] = hooks[0] if hooks else {}
    bank = config.get('mask_bank') or hook.get('bank')
    if bank is not None and split != 'train':
        path = Path(bank)
        bank = str(path.with_name(f'{path.name.removesuffix("_train")}_{split}'))
    generator = config.get('mask_generator') or hook.get('generator') or \
        (config.get('model') or {}).get('mask_generator')
    return dict(bank=bank, generator=generator, dataset=config.get('mask_dataset') or hook.get('dataset'))


def _fill_features(place: str, node: MutableMapping[str, Any], config: Mapping[str, Any]) -> None:
    said = node.get('feature_bank')
    given = said if isinstance(said, MutableMapping) else {'bank': said}
    if said is None or given.get('bank', True) is not True:
        return
    if not isinstance(config.get('mask_bank'), str):
        raise ValueError(f"{place}.feature_bank means the features beside the config's mask bank, but the config names "
                         "none: give it mask_bank='DIR' at its top, or feature_bank a folder")
    node['feature_bank'] = {**given, 'bank': feature_folder(config['mask_bank'])}


def _take(hook: MutableMapping[str, Any], argument: str, config: Mapping[str, Any], variable: str) -> None:
    if argument not in hook and config.get(variable) is not None:
        hook[argument] = copy.deepcopy(config[variable])


def _kind(node: Mapping[str, Any]) -> str | None:
    kind = node.get('type')
    return kind if isinstance(kind, str) or kind is None else getattr(kind, '__name__', None)


def _dicts(node: Any, place: str) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """(dotted place, dict) of every dict at and below a node."""
    if isinstance(node, MutableMapping):
        yield place, node
    items = list(node.items()) if isinstance(node, Mapping) else \
        enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, below in items:
        yield from _dicts(below, f'{place}.{key}')
