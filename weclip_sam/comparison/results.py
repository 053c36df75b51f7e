"""From the folders that stages left to the values of a report."""
from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config

from weclip_sam.comparison.experiment import TESTS, Experiment, Run, Stage
from weclip_sam.comparison.pictures import draw_pictures
from weclip_sam.comparison.stages import read_json, why_stale
from weclip_sam.comparison.values import Comparison, MethodResult, RunResult, StageCost
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.shared_settings import mask_settings
from weclip_sam.words import counted

_SCORING = ('train_seeds', 'val_protocol')  # parts of a training's summary that measure and do not make


def collect(experiment: Experiment, command: str = '', pictures: bool = True) -> Comparison:
    """Read everything that is finished; runs nothing.

    Args:
        experiment: see :func:`load_experiment`.
        command: how the report was made, for its head.
        pictures: whether to draw images (opens the ground truth of the evaluation set).
    """
    methods = []
    for name, settings in experiment.methods.items():
        runs = [read_run(run) for run in experiment.runs if run.method == name]
        fixed = all(stage.once for run in experiment.runs if run.method == name for stage in run.stages)
        methods.append(MethodResult(name, tuple(runs[:1] if fixed else runs), settings.get('note', ''),
                                    bool(settings.get('reference', False))))
    about = dict(made=time.strftime('%Y-%m-%d %H:%M'), torch=torch.__version__, machine=_machine(experiment))
    if command:
        about['command'] = command
    groups, legend = draw_pictures(experiment) if pictures and experiment.pictures else ({}, [])
    return Comparison(
        experiment.title, tuple(methods), experiment.seeds, pictures=groups, legend=legend,
        tuning=experiment.tuning, terms=experiment.terms, checked_terms=check_terms(experiment),
        notes=experiment.notes, about=about)


def _machine(experiment: Experiment) -> str:
    """Where the runs were made, as their summaries say; this machine, where none does."""
    found: dict[str, None] = {}
    for run in experiment.runs:
        for stage in run.stages:
            summary = read_json(stage.summary) or {}
            if stage.tool == 'train' and summary.get('device'):
                found[str(summary['device'])] = None
    return ', '.join(found) or f'{platform.machine()}, {os.cpu_count()} CPUs'


def read_run(run: Run) -> RunResult:
    """One method with one seed."""
    steps: dict[str, float] = {}
    val: dict[str, float] = {}
    classes: dict[str, dict[str, float | None]] = {}
    parameters: int | None = 0
    costs, missing, scored = [], [], True
    for stage in run.stages:
        summary, record, stale = read_json(stage.summary), read_json(stage.record), why_stale(stage)
        if summary is None or stale or (record is not None and not record.get('finished')):
            state = 'has not run' if record is None else f'failed or was stopped (see {stage.folder}/stage.log)'
            missing.append(f'{stage.name}: {stale}' if stale else f'{stage.name} {state}')
            costs.append(StageCost(stage.name, stage.tool, None, None, stage.shared, stage.once))
            parameters = None if stage.tool == 'train' else parameters
            continue
        costs.append(StageCost(stage.name, stage.tool, _seconds(stage, summary, record or {}),
                               _memory(summary, record or {}), stage.shared, stage.once,
                               _cpu_seconds(stage, summary, record or {})))
        if stage.tool == 'train':
            count = summary.get('trained_parameters')
            parameters = None if count is None or parameters is None else parameters + int(count)
        found = _label_scores(stage, summary)
        steps.update(found)
        if found or stage.tool == 'make_seeds':
            scored = bool(found)
        if stage.tool == 'make_seeds' and not found:
            missing.append(f'{stage.name}: its labels are not scored. {summary.get("not_scored", "")}'.rstrip())
        scores = summary.get('test') if stage.tool == 'test' else summary.get('val')
        if isinstance(scores, Mapping) and isinstance(scores.get('mIoU'), (int, float)):
            kind = (stage.measure or 'single') if stage.tool == 'test' else 'single'
            val[kind] = float(scores['mIoU'])
            classes[kind] = {name: row.get('IoU') for name, row in (scores.get('classes') or {}).items()}
        if failures := summary.get('failed'):
            missing.append(f'{stage.name}: {counted(len(failures), "image")} failed')
    chosen = next((classes[kind] for kind in TESTS if kind in classes), {})
    last = list(steps.values())[-1] if steps and scored else None  # never an earlier stage's for a later one
    return RunResult(run.seed, last, steps, val, chosen, parameters, tuple(costs), tuple(missing))


def _seconds(stage: Stage, summary: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """The tool's own count, scoring of training images left out.

    The tools count what all attempts added to the result. One that does not is timed from outside, where what a killed
    attempt lost counts as well.
    """
    if _untimed(stage, summary):
        return None
    seconds = summary.get('wall_seconds_of_all_runs')
    if seconds is None and (stage.tool == 'train' or int(record.get('attempts') or 1) == 1):
        seconds = summary.get('wall_seconds')
    if seconds is None:
        seconds = record.get('seconds')
    if not isinstance(seconds, (int, float)):
        return None
    scoring = [float((summary.get(key) or {}).get('seconds', 0.0)) for key in _SCORING]
    return max(float(seconds) - sum(scoring), 0.0)


def _cpu_seconds(stage: Stage, summary: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """CPU time of a stage, from the start of its process on, scoring left out; None where a GPU did the work, or where
    it took several attempts."""
    seconds = record.get('cpu_seconds')
    scoring = [(summary.get(key) or {}) for key in _SCORING]
    if (_untimed(stage, summary) or not isinstance(seconds, (int, float)) or (summary.get('peak_memory_gb') or {}).get(
            'cuda') or any('seconds' in part and 'cpu_seconds' not in part for part in scoring)):
        return None
    return max(float(seconds) - sum(float(part.get('cpu_seconds', 0.0)) for part in scoring), 0.0)


def _untimed(stage: Stage, summary: Mapping[str, Any]) -> bool:
    """Whether all was there before the stage began."""
    return stage.tool == 'make_masks' and not summary.get('made') and bool(summary.get('found')) and \
        not summary.get('wall_seconds_of_all_runs')


def _memory(summary: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """On a GPU its memory, else that of the largest process."""
    peak = summary.get('peak_memory_gb') or {}
    if peak.get('cuda'):
        return float(peak['cuda'])
    # The tool's own figure first: what was measured from outside counts this process's memory too.
    known = [value for value in (peak.values() or [record.get('peak_memory_gb')]) if isinstance(value, (int, float))]
    return float(max(known)) if known else None


def _label_scores(stage: Stage, summary: Mapping[str, Any]) -> dict[str, float]:
    """mIoU of pseudo labels on train, by step, in the order they are made."""
    if stage.tool == 'make_seeds':
        score = (summary.get('evaluation') or {}).get('mIoU')
        return {} if score is None else {stage.name: float(score)}
    seeds = summary.get('train_seeds') or {}
    if stage.tool != 'train' or 'pseudo labels' not in seeds:
        return {}
    return {**{name: float(score) for name, score in (seeds.get('stages') or {}).items()},
            'labels taught': float(seeds['pseudo labels'])}


def check_terms(experiment: Experiment) -> list[tuple[str, dict[str, str]]]:
    """What the configs of the methods say about images, encoder and masks: (what, method to value)."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    configs: dict[tuple[str, ...], Config | None] = {}  # tests of a training read the same one
    for run in experiment.runs:
        if run.seed:
            continue
        for stage in run.stages:
            for what, value in _terms_of(stage, configs).items():
                found.setdefault(what, {}).setdefault(run.method, {})[value] = None
    return [(what, {method: ' / '.join(values) for method, values in by_method.items()})
            for what, by_method in found.items()]


def _terms_of(stage: Stage, configs: dict[tuple[str, ...], Config | None]) -> dict[str, str]:
    arguments = list(stage.arguments)
    options = arguments[arguments.index('--cfg-options') + 1:] if '--cfg-options' in arguments else []
    given = (arguments[0], *options)
    if given not in configs:
        try:
            configs[given] = load_config(arguments[0], options)
        except (ValueError, OSError):
            configs[given] = None
    config = configs[given]
    if config is None:
        return {}  # it was collected from elsewhere: nothing can be said
    terms = {}
    train = ((config.get('train_dataloader') or {}).get('dataset') or {}).get('reader')
    tested = ((config.get('test_dataloader') or {}).get('dataset') or {}).get('reader')
    if train and stage.tool != 'test':
        terms['training images'] = _said(train)
    if tested and stage.tool == 'test':
        terms['evaluated images'] = _said(tested)
    clip = config.model.get('clip')
    if clip:
        terms['frozen CLIP (where used)'] = _said({k: clip[k] for k in ('arch', 'checkpoint') if k in clip})
    sam = (mask_settings(config)['generator'] or {}).get('sam')
    if sam:
        terms['frozen SAM (where used)'] = _said({k: sam[k] for k in ('arch', 'checkpoint') if k in sam})
    return terms


def _said(settings: Mapping[str, Any]) -> str:
    return ', '.join(f'{value}' if key == 'type' else f'{key} {value}' for key, value in settings.items())
