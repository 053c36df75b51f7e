"""The names a model is asked for come from the data set, so that no config lists them twice."""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from weclip_sam.io.plain import plain
from weclip_sam.registry import MODELS, READERS

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
VOCABULARY_KEYS = ('classes', 'prompt_names', 'background_nouns')


def fill_vocabulary(config: Config, known: Mapping[str, Sequence[str]] | None = None) -> None:
    """Give ``config.model`` the data set's names if it wants a ``vocabulary`` and has none.

    The first of the training, validation and test data sets decides. Nothing happens where no data set has a reader:
    the model itself then says that the names are missing.

    Args:
        config: changed in place.
        known: the names (``classes``, ``prompt_names``, ``background_nouns``), where a checkpoint brought them: no
            data set is looked at then.
    """
    model = config.get('model') or {}
    cls = MODELS.get(model.get('type')) if isinstance(model.get('type'), str) else model.get('type')
    if model.get('vocabulary') or cls is None or 'vocabulary' not in inspect.signature(cls.__init__).parameters:
        return
    names = known or names_of_data(config)
    if names is not None:
        model['vocabulary'] = {key: list(names[key]) for key in VOCABULARY_KEYS}


def known_names(content: Mapping[str, Any]) -> Mapping[str, Sequence[str]] | None:
    """The names that a checkpoint (what :func:`safe_load` gave for it) brings, or None where it is of before it did."""
    meta = content.get('meta')
    names = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    names = plain(names, 'dataset_meta') if isinstance(names, Mapping) else {}
    return names if names.get('classes') and all(key in names for key in VOCABULARY_KEYS) else None


def names_of_data(config: Config) -> Mapping[str, Sequence[str]] | None:
    """``classes``, ``prompt_names`` and ``background_nouns`` of the first data set that has a reader, or None."""
    for name in _LOADERS:
        reader = ((config.get(name) or {}).get('dataset') or {}).get('reader')
        if reader:
            return READERS.build(reader).vocabulary.metainfo()
    return None
