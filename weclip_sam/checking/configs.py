"""Finding out before a long run what would stop it: the data sets of a config, and its checkpoints."""
from __future__ import annotations

import copy
import gc
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from logging import Logger
from pathlib import Path
from typing import Any

from mmengine.registry import Registry

from weclip_sam.checking.built_datasets import DATA_ERRORS, walk_config
from weclip_sam.checking.data import check_datasets
from weclip_sam.checking.findings import Report
from weclip_sam.checking.photos import photo_reader
from weclip_sam.checks import suggest_name
from weclip_sam.commands import tool
from weclip_sam.engine.start.errors import explain
from weclip_sam.engine.start.launch import _check_optimizer
from weclip_sam.engine.start.sam_at_test import fill_sam_at_test
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.engine.start.vocabulary import fill_vocabulary
from weclip_sam.foundation.clip_weights import find_weights
from weclip_sam.foundation.dino import find_dino_weights
from weclip_sam.foundation.sam_weights import how_to_get
from weclip_sam.foundation.timm_weights import find_timm_weights
from weclip_sam.io.checkpoints import safe_load
from weclip_sam.io.names import is_utf8
from weclip_sam.io.parallel import Progress, no_progress
from weclip_sam.mask_bank import HEADER, MaskBank, holds_imported
from weclip_sam.offline.masks import check_imported
from weclip_sam.offline.precision import take_precision
from weclip_sam.registry import DATASETS, MODELS, OPTIMIZERS, SEED_STEPS

BUILT_IN = ('random', 'tiny')


def quick_check(config: Mapping[str, Any]) -> Report:
    """What can be found in seconds: lists, labels, a few images of each data set, whether checkpoints are there.

    Args:
        config: a whole config.

    Returns:
        The report; a run should not start unless it is ``ok``.
    """
    report = Report()
    config = as_run(config, report)
    _check_names(config, report)
    _check_texts(config, report)
    _check_schedule(config, report)
    _check_sam_at_test(config, report)
    for place, node in find_foundation(config):
        try:
            _find_checkpoint(node)
        except (ValueError, OSError) as error:
            report.add('error', 'checkpoint', place, str(error))
    _check_prompts(config, report, full=False)
    _check_banks(config, report, full=False)
    check_datasets(config, report, full=False, explain=explain)
    return report


def as_run(config: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """A copy of a config as a run would have it, each part with what the config says once; a fault is reported."""
    filled: Any = copy.deepcopy(config)
    try:
        fill_shared_settings(filled)
    except ValueError as error:
        report.add('error', 'config', 'mask_bank', str(error))
        return config
    return filled


def _check_names(config: Mapping[str, Any], report: Report) -> None:
    """Types and arguments of the model, its parts and steps, and the optimizer; building them would need every file."""
    for place, node in walk_config(config.get('model') or {}, 'model'):
        steps = place.startswith(('model.seeds.', 'model.test.refine.'))
        _check_node(place, SEED_STEPS if steps else MODELS, node, report)
    try:
        _check_optimizer(config)
    except ValueError as error:
        report.add('error', 'config', 'optim_wrapper.optimizer', str(error))
    else:
        optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
        _check_node('optim_wrapper.optimizer', OPTIMIZERS, optimizer, report)


def _check_texts(config: Mapping[str, Any], report: Report) -> None:
    """Whether paths and names can be written into logs and checkpoints at all."""
    for place, node in walk_config(config):
        for key, value in node.items():
            if isinstance(value, str) and not is_utf8(value):
                report.add('error', 'config', f'{place}.{key}'.lstrip('.'), f'{value}: a name that is no UTF-8, which '
                           'no log and no checkpoint can hold; rename that file or folder')


def _check_sam_at_test(config: Any, report: Report) -> None:
    """Whether there is a SAM for a refinement of predictions that looks at one; it is filled in."""
    if report.ok:  # the steps are there
        try:
            fill_sam_at_test(config)
        except ValueError as error:
            report.add('error', 'config', 'model.test.refine', str(error))


def _check_schedule(config: Mapping[str, Any], report: Report) -> None:
    """What a training that was cut short by ``train_cfg.max_iters`` alone would never come to."""
    length = (config.get('train_cfg') or {}).get('max_iters')
    start = (config.get('model') or {}).get('rfm_start')
    if not isinstance(length, int):
        return
    if isinstance(start, int) and start >= length:
        report.add('warning', 'schedule', 'model.rfm_start', f'the decoder is heard from iteration {start} on, but the '
                   f'training ends at {length}, so that labels never listen to it; for a shorter training give '
                   f'model.rfm_start={length // 2} or so')
    for number, step in enumerate(config.get('param_scheduler') or []):
        if not isinstance(step, Mapping) or step.get('by_epoch', True):
            continue
        place, end, begin = f'param_scheduler.{number}', step.get('end', length), step.get('begin', 0)
        warmup = step.get('warmup_iters', 0)
        if not all(isinstance(value, int) for value in (end, begin, warmup)):
            continue
        if end > length:
            shorter = f' {place}.warmup_iters={length // 10}' * (warmup > length)
            report.add('warning', 'schedule', f'{place}.end', f'the learning rate falls until iteration {end}, but the '
                       f'training ends at {length}; give {place}.end={length}{shorter}')
        elif warmup > end - begin:  # said now, not by the schedule, which is built when the masks have been made
            report.add('error', 'schedule', f'{place}.warmup_iters', f'the warm-up takes {warmup} iterations, but the '
                       f'schedule has {end - begin}; give {place}.warmup_iters={(end - begin) // 10}')


def _check_node(place: str, registry: Registry, node: Mapping[str, Any], report: Report) -> None:
    kind = node.get('type')
    target = registry.get(kind) if isinstance(kind, str) else kind
    if target is None:
        if kind is not None:
            near = suggest_name(kind, sorted(registry.module_dict))
            report.add('error', 'config', place, f"unknown type '{kind}'.{near}")
        return
    known = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for name in sorted(set(node) - set(known) - {'type', '_scope_'}):
        hint = suggest_name(name, known) or f' It takes: {", ".join(known) or "no settings besides its type"}.'
        report.add('error', 'config', place, f"{target.__name__} takes no argument '{name}'.{hint}")


def _check_prompts(config: Mapping[str, Any], report: Report, full: bool) -> None:
    """Whether the learnt prompts and attributes that a model uses or starts from are there and (``full``) are for its
    CLIP and names.
    """
    model = dict(config.get('model') or {})
    files = {key: model[key] for key in ('prompts', 'start', 'attributes') if isinstance(model.get(key), (str, Path))}
    for key, file in files.items():
        if not Path(file).is_file():
            report.add('error', 'checkpoint', f'model.{key}', f'attributes {file}: no such file' if key == 'attributes'
                       else f'learnt prompts {file} do not exist: train a PromptTuner with {tool("train")} first, or '
                            f'name the file of one: model.{key}=FILE')
    if not files or not full or any(finding.where.split('.')[0] == 'model' for finding in report.errors):
        return
    model.pop('mask_generator', None)  # has been loaded by itself
    try:
        fill_vocabulary({**dict(config.items()), 'model': model})
    except DATA_ERRORS:
        return  # the check of the data sets says why there are no names to compare with
    try:
        MODELS.build(model)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        report.add('error', 'checkpoint', 'model', message)
    gc.collect()


def _check_banks(config: Mapping[str, Any], report: Report, full: bool) -> None:
    """Whether the masks that are there were made by the generator that the config names (large SAMs only if ``full``),
    or were imported for all training images.
    """
    for place, node in walk_config(config):
        generator, bank = node.get('generator'), node.get('bank')
        if node.get('type') != 'MaskBankHook' or not isinstance(generator, Mapping) or bank is None or \
                not (Path(bank) / HEADER).is_file() or not report.ok:
            continue
        try:
            if holds_imported(bank):
                if (data := _training_set(config)) is not None:
                    check_imported(bank, node.get('dataset'), data, photo_reader(full))
            elif full or (generator.get('sam') or {}).get('arch') == 'tiny':
                made = MODELS.build(dict(generator))
                take_precision(made, bank)
                MaskBank(bank, made.fingerprint(), node.get('dataset'), mode='r')
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            report.add('error', 'mask bank', place, message)
        gc.collect()


def _training_set(config: Mapping[str, Any]) -> Any:
    """The data set, or None where it cannot be built: the check of the data sets says why."""
    try:
        return DATASETS.build((config.get('train_dataloader') or {}).get('dataset'))
    except Exception:
        return None


def require_sound(config: Mapping[str, Any]) -> Report:
    """Run :func:`quick_check` and stop if it finds an error.

    Returns:
        The report, for :func:`log_warnings`.

    Raises:
        ValueError: with the report as its text.
    """
    report = quick_check(config)
    if not report.ok:
        raise ValueError(f'this config is not ready to run:\n{report.text()}')
    return report


def log_warnings(report: Report, logger: Logger, limit: int = 10) -> None:
    """Log the first ``limit`` warnings of a report, and how many more there are; its notes change no result."""
    warnings = [finding for finding in report.told_once() if finding.level == 'warning']
    for finding in warnings[:limit]:
        logger.warning(f'{finding.check}, {finding.where}: {finding.message}')
    if len(warnings) > limit:
        logger.warning(f'... and {len(warnings) - limit} more warnings; {tool("check_data")} shows them')


def full_check(config: Mapping[str, Any], workers: int | None = None, progress: Progress = no_progress) -> Report:
    """Read every file the config will touch; checkpoints are loaded into the models they are for.

    Args:
        config: a whole config.
        workers: processes that read images.
        progress: called with (what is being done, steps behind, steps in all).
    """
    report = Report()
    config = as_run(config, report)
    _check_names(config, report)
    _check_texts(config, report)
    _check_schedule(config, report)
    _check_sam_at_test(config, report)
    nodes = list(find_foundation(config))
    wrong = {finding.where for finding in report.errors}
    for number, (place, node) in enumerate(nodes):
        if place in wrong:
            continue
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
    _check_prompts(config, report, full=True)
    _check_banks(config, report, full=True)
    check_datasets(config, report, full=True, workers=workers, progress=progress, explain=explain)
    return report


def find_foundation(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, config) of every model in a config that comes with weights; equal ones once.

    A mask generator is left out where its bank holds imported masks: it is not built.
    """
    seen: list[Any] = []
    idle = tuple(_idle_generators(config))
    for place, node in walk_config(config):
        if node.get('type') in ('FrozenClip', 'FrozenDino', 'FrozenSam', 'TimmBackbone') and node not in seen and \
                not place.startswith(idle):
            seen.append(node)
            yield place, dict(node)


def _idle_generators(config: Mapping[str, Any]) -> Iterator[str]:
    """Places, each with a dot after it, of the generators of hooks whose banks hold imported masks."""
    for place, node in walk_config(config):
        with suppress(ValueError):  # a damaged header: the check of the banks says so
            if node.get('type') == 'MaskBankHook' and node.get('bank') and holds_imported(node['bank']):
                yield f'{place}.generator.'
                if config.get('mask_generator') == node.get('generator'):
                    yield 'mask_generator.'  # where the hook took its own from


def foundation_checkpoint(node: Mapping[str, Any]) -> tuple[str, Any]:
    """(architecture, checkpoint) of a part that comes with weights, as its class fills them in where they are not said;
    the checkpoint of a backbone is its ``weights``.
    """
    arguments = inspect.signature(MODELS.get(node['type'])).parameters
    given = {**{name: argument.default for name, argument in arguments.items()}, **node}
    if node['type'] == 'TimmBackbone':
        return given['name'], given['weights']
    return given['arch'], given['checkpoint']


def _find_checkpoint(node: Mapping[str, Any]) -> None:
    arch, checkpoint = foundation_checkpoint(node)
    if checkpoint is None or checkpoint in BUILT_IN:
        return
    if node['type'] == 'TimmBackbone':
        find_timm_weights(arch, checkpoint)
    elif node['type'] == 'FrozenDino':
        find_dino_weights(arch, checkpoint)
    elif node['type'] == 'FrozenClip':
        find_weights(arch, checkpoint)
    elif not Path(checkpoint).expanduser().is_file():
        raise FileNotFoundError(f'SAM checkpoint {checkpoint} does not exist. '
                                f'{how_to_get(arch, Path(checkpoint).expanduser())}')
