"""Finding out before a long run what would stop it: the data sets of a config, and its checkpoints."""
from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.parallel import Progress, no_progress
from weclip_sam.datasets.preflight import check_datasets, walk_config
from weclip_sam.datasets.report import Report
from weclip_sam.engine.checkpoint import safe_load
from weclip_sam.engine.errors import explain
from weclip_sam.foundation.clip_weights import find_weights
from weclip_sam.foundation.sam_weights import how_to_get
from weclip_sam.models.backbones import find_backbone_weights
from weclip_sam.registry import MODELS, SEED_STEPS

BUILT_IN = ('random', 'tiny')


def quick_check(config: Mapping[str, Any]) -> Report:
    """What can be found in seconds: lists, labels, a few images of each data set, whether checkpoints are there.

    Args:
        config: a whole config.

    Returns:
        The report; a run should not start unless it is ``ok``.
    """
    report = Report()
    _check_names(config, report)
    for place, node in find_foundation(config):
        try:
            _find_checkpoint(node)
        except (ValueError, OSError) as error:
            report.add('error', 'checkpoint', place, str(error))
    check_datasets(config, report, full=False, explain=explain)
    return report


def _check_names(config: Mapping[str, Any], report: Report) -> None:
    """The model and its seed steps must exist; building them would need every file."""
    model = config.get('model') or {}
    steps = [(f'model.seeds.{i}', SEED_STEPS, step) for i, step in enumerate(model.get('seeds') or ())]
    for place, registry, node in [('model', MODELS, model), *steps]:
        kind = node.get('type')
        if isinstance(kind, str) and registry.get(kind) is None:
            near = suggest_name(kind, sorted(registry.module_dict))
            report.add('error', 'config', place, f"unknown type '{kind}'.{near}")


def require_sound(config: Mapping[str, Any]) -> None:
    """Run :func:`quick_check` and stop if it finds an error.

    Raises:
        ValueError: with the report as its text.
    """
    report = quick_check(config)
    if not report.ok:
        raise ValueError(f'the data of this config are not ready:\n{report.text()}')


def full_check(config: Mapping[str, Any], workers: int | None = None, progress: Progress = no_progress) -> Report:
    """Read every file the config will touch; checkpoints are loaded into the models they are for.

    Args:
        config: a whole config.
        workers: processes that read images.
        progress: called with (what is being done, steps behind, steps in all).
    """
    report = Report()
    _check_names(config, report)
    nodes = list(find_foundation(config))
    for number, (place, node) in enumerate(nodes):
        progress('checkpoints', number, len(nodes))
        try:
            MODELS.build(node)
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            report.add('error', 'checkpoint', place, message)
        gc.collect()  # a SAM ViT-H is 2.5 GB
    if config.get('load_from'):
        try:
            safe_load(config['load_from'], kind='weights')
        except (ValueError, OSError) as error:
            report.add('error', 'checkpoint', 'load_from', str(error))
    check_datasets(config, report, full=True, workers=workers, progress=progress, explain=explain)
    return report


def find_foundation(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, config) of every model in a config that comes with weights; equal ones once."""
    seen: list[Any] = []
    for place, node in walk_config(config):
        if node.get('type') in ('FrozenClip', 'FrozenSam', 'TimmBackbone') and node not in seen:
            seen.append(node)
            yield place, dict(node)


def _find_checkpoint(node: Mapping[str, Any]) -> None:
    if node['type'] == 'TimmBackbone':
        if node.get('weights') is not None:
            find_backbone_weights(node['name'], node['weights'])
        return
    checkpoint, arch = node.get('checkpoint', 'random'), node.get('arch')
    if checkpoint in BUILT_IN:
        return
    if node['type'] == 'FrozenClip':
        find_weights(arch or 'ViT-B-16-quickgelu', checkpoint)
    elif not Path(checkpoint).expanduser().is_file():
        raise FileNotFoundError(f'SAM checkpoint {checkpoint} does not exist. '
                                f'{how_to_get(arch, Path(checkpoint).expanduser())}')
