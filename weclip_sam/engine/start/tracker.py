"""``--track``: one word in a config that has a training watched elsewhere."""
from __future__ import annotations

import importlib.util
from pathlib import Path

from mmengine.config import Config

from weclip_sam.checks import suggest_name
from weclip_sam.choices import TRACKERS


def fill_tracker(config: Config) -> None:
    """Add the backend that the config's ``tracker`` means to its visualizer, under the config's name.

    Args:
        config: with ``work_dir``; changed in place. ``tracker`` is one of ``TRACKERS``, or None for no more than the
            visualizer lists itself.

    Raises:
        ValueError: another word, or its package is not installed.
    """
    word = config.get('tracker')
    if word is None:
        return
    if word not in TRACKERS:
        raise ValueError(f'tracker: expected one of {", ".join(TRACKERS)} or None, got {word!r}.'
                         f'{suggest_name(str(word), TRACKERS)}')
    if not _is_installed(word):
        raise ValueError(f"tracker {word!r}: the package {word} is not installed; pip install {word}, or train without "
                         '--track')
    visualizer = dict(config.get('visualizer') or dict(type='Visualizer'))
    backends = list(visualizer.get('vis_backends') or [])
    backend = next((each for each in backends if each.get('type') == TRACKERS[word]), None)
    if backend is None:
        backend = dict(type=TRACKERS[word])
        backends.append(backend)
    if word != 'tensorboard':
        backend.setdefault('run_name', _run_name(config))
        backend.update(work_dir=str(config.work_dir), goes_on=bool(config.get('resume')))
    config.visualizer = dict(visualizer, vis_backends=backends)


def _run_name(config: Config) -> str:
    file = config.filename
    return Path(file).stem if file else config.get('experiment_name') or Path(config.work_dir).name


def _is_installed(package: str) -> bool:
    """A folder of that name, as trackers leave in the current one, is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
