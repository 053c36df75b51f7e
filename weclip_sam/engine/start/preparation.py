"""How a config's data sets prepare an image before the model sees it; no data set is opened."""
from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from weclip_sam.registry import READERS

_LOADERS = ('test_dataloader', 'val_dataloader', 'train_dataloader')
# Steps that would need a data set, steps left to chance, and the end, which is added anyway.
_SKIPPED = ('Load', 'Use', 'Random', 'Color', 'PackSample')


def preparation(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Transforms (configs) before the model sees an image: as in testing, else the fixed part of training."""
    for loader in _LOADERS:
        pipeline = ((config.get(loader) or {}).get('dataset') or {}).get('pipeline')
        if pipeline:
            return [step for step in pipeline if not str(step['type']).startswith(_SKIPPED)]
    return []


def read_side(config: Mapping[str, Any]) -> int | None:
    """The long side to which the readers of a config's data sets shrink what they read; None: they keep all pixels."""
    for loader in _LOADERS:
        reader = dict(((config.get(loader) or {}).get('dataset') or {}).get('reader') or {})
        kind = READERS.get(reader['type']) if isinstance(reader.get('type'), str) else None
        if kind is not None:
            default = inspect.signature(kind).parameters.get('max_side')
            return reader.get('max_side', default.default if default is not None else None)
    return None
