"""What to type after a training."""
from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from weclip_sam.commands import command_line
from weclip_sam.models.segmentor import Segmentor
from weclip_sam.models.weclip import WeClip


def next_steps(model: nn.Module, config: Mapping[str, Any], checkpoint: str | os.PathLike) -> dict[str, str]:
    """Commands that use what was learnt, by what they make; those alone that take this checkpoint as it is.

    Args:
        model: that was trained.
        config: of the training.
        checkpoint: its last one.

    Returns:
        Nothing where a config brings modules of its own, which no command imports for a checkpoint. Learnt prompts are
        a part of other configs and no model. Drawn scenes are all that a model of the embedded data set knows, so it is
        not asked for the photos of anybody.
    """
    if config.get('custom_imports') or not isinstance(model, (WeClip, Segmentor)):
        return {}
    checkpoint = _short(Path(checkpoint))
    folder, steps = checkpoint.parent, dict[str, str]()
    if isinstance(model, WeClip) and model.seeds is not None:
        steps['labels of the training images'] = command_line('make_labels', checkpoint, '--out', folder / 'labels')
    if _reader(config) != 'ShapesReader':
        steps['predictions of other photos'] = command_line('predict', checkpoint, 'PHOTOS', '--out',
                                                            folder / 'predictions')
    elif steps:
        steps['a page to look through them'] = command_line('review', folder / 'labels')
    return steps


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _reader(config: Mapping[str, Any]) -> str:
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    return str((dataset.get('reader') or {}).get('type'))
