"""The tools' work as functions, for scripts and notebooks: they return what came of it, or raise; nothing exits.

>>> import weclip_sam
>>> weclip_sam.train('configs/weclip_sam/weclip-sam_tiny_400_folder.py', options={'data_root': 'data/photos'})
>>> weclip_sam.make_seeds('configs/clip_es/clip-es_tiny_free_shapes.py', evaluate=True)
"""
from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from weclip_sam.checking.configs import log_warnings, require_sound
from weclip_sam.checking.findings import Report
from weclip_sam.engine import (
    build_runner,
    explain,
    prepare_work_dir,
    safe_load,
    start_distributed,
    unwrapped,
    use_resume,
)
from weclip_sam.engine.start.config import change_config, load_config, use_amp, use_randomness
from weclip_sam.engine.start.launch import asked_to_resume
from weclip_sam.engine.start.restore import changed_settings, refuse_kept
from weclip_sam.engine.start.warm_start import match_classes, use_start
from weclip_sam.engine.start.work_dir import check_outside_images, own_folder, own_work_dir
from weclip_sam.engine.tracking import end_trackers
from weclip_sam.io.new_folders import unused_folders_removed
from weclip_sam.io.text import read_json
from weclip_sam.offline.seed_run import run_seeds
from weclip_sam.offline.shards import start_sharing, stop_sharing
from weclip_sam.offline.summary import SUMMARY

Source: TypeAlias = str | os.PathLike | Config
Options: TypeAlias = Mapping[str, Any] | Sequence[str]


def train(config: Source, work_dir: str | os.PathLike | None = None, *, options: Options | None = None,
          resume: str | os.PathLike | None = None, overwrite: bool = False, amp: bool = False, seed: int | None = None,
          deterministic: bool = False, track: str | None = None,
          start: str | os.PathLike | None = None) -> dict[str, Any]:
    """Train a model in this process, as ``tools/train.py`` does.

    Args:
        config: a config file, or a :class:`Config`, which is left as it is.
        work_dir: where everything is written; ``work_dirs/<name of the config>`` by default.
        options: changes of the config, ``{'train_cfg.max_iters': 100}`` or ``['train_cfg.max_iters=100']``.
        resume: ``'auto'`` goes on from the newest checkpoint of the work dir, a path from that checkpoint.
        overwrite: begin anew in a work dir that holds a run.
        amp, seed, deterministic, track: as on the command line.
        start: a checkpoint to start from, perhaps of other classes (``--from``).

    Returns:
        What stands in the work dir's ``summary.json`` (scores, seconds, memory), with ``work_dir``. Of a training that
        had ended before, that one's.

    Raises:
        ValueError: what is wrong with the config, the data, a checkpoint or the work dir.
        FileNotFoundError, OSError: a file is missing or cannot be written.
        KeyboardInterrupt: it was stopped; ``resume='auto'`` goes on.
    """
    if resume is not None and overwrite:
        raise ValueError('train: give resume or overwrite, not both')
    with plain_errors(), _own_kernels():
        settings, name = load(config, options)
        folder = run_training(settings, name, None if work_dir is None else os.fspath(work_dir),
                              resume=None if resume is None else os.fspath(resume), overwrite=overwrite, amp=amp,
                              seed=seed, deterministic=deterministic, seed_named=_names_randomness(options),
                              track=track, start=None if start is None else os.fspath(start))
    summary = Path(folder) / 'summary.json'
    return dict(read_json(summary) if summary.is_file() else {}, work_dir=folder)


def make_seeds(config: Source, split: str = 'train', out: str | os.PathLike | None = None, *,
               options: Options | None = None, labels: str | os.PathLike | None = None, scores: bool = False,
               evaluate: bool = False, overwrite: bool = False, workers: int = 0) -> dict[str, Any]:
    """Make pseudo labels for a split in this process, as ``tools/make_seeds.py`` does. Stopped, the same call goes on.

    Args:
        config: a config file, or a :class:`Config`, which is left as it is; its model is a ``SeedMaker``.
        split: which images.
        out: folder of the PNGs; ``work_dirs/<name of the config>/seeds/<split>`` by default.
        options: changes of the config, as for :func:`train`.
        labels, scores, evaluate, overwrite, workers: as on the command line.

    Returns:
        What stands in the folder's ``summary.json``: ``made``, ``failed`` (images that no labels could be made of, with
        the reasons), ``evaluation`` and so on, with ``out``.

    Raises:
        ValueError, FileNotFoundError, OSError: as :func:`train`.
    """
    with plain_errors():
        settings, name = load(config, options)
        folder = run_making_seeds(settings, name, split, None if out is None else os.fspath(out),
                                  labels=None if labels is None else os.fspath(labels), scores=scores,
                                  evaluate=evaluate, overwrite=overwrite, workers=workers)[0]
    return dict(read_json(Path(folder) / SUMMARY), out=folder)


def load(config: Source, options: Options | None = None) -> tuple[Config, str | None]:
    """A config of one's own to change, and what it is called; None if it was read from no file.

    Raises:
        ValueError, FileNotFoundError: as :func:`load_config`.
    """
    given: Any = dict(options) if isinstance(options, Mapping) else list(options or ())
    if not isinstance(config, Config):
        return load_config(config, given), Path(config).stem
    name = Path(config.filename).stem if config.filename else None
    return change_config(copy.deepcopy(config), given, name or 'the config'), name


def run_training(config: Config, name: str | None, work_dir: str | None = None, *, resume: str | None = None,
                 overwrite: bool = False, amp: bool = False, seed: int | None = None, deterministic: bool = False,
                 launcher: str = 'none', seed_named: bool = False, track: str | None = None, start: str | None = None,
                 state: dict[str, str] | None = None) -> str:
    """What :func:`train` and the tool do.

    Args:
        config: changed in place.
        name: of the config.
        launcher: how the processes were started.
        seed_named: whether the options of the config name the seed.
        track, start: as for :func:`train`.
        state: gets ``work_dir`` when errors may be written there, and ``begun`` when there is something to go on from.

    Returns:
        The work dir.
    """
    state = {} if state is None else state
    work_dir = work_dir or config.get('work_dir') or _default(name, 'work_dir')
    check_outside_images(config, work_dir)
    config.work_dir = prepare_work_dir(work_dir)
    if amp:
        use_amp(config)
    use_randomness(config, seed, deterministic)
    if track:
        config.tracker = track
    if start:
        use_start(config, start, bool(resume))
    start_distributed(launcher, config)
    checked = require_sound(config)
    resume = resume or asked_to_resume(config)
    with own_work_dir(config, resume, overwrite, config.randomness['seed'] if seed_named else seed) as owned:
        if owned.finished:
            if is_main_process():
                print(owned.finished)
        else:
            state['work_dir'] = config.work_dir  # from here on it is ours: errors may be written there
            resumed = use_resume(config, resume, owned.classes)
            runner = build_runner(config)
            try:
                if start and not resumed and owned.classes:  # tells what does not fit before it is too late
                    match_classes(unwrapped(runner.model), safe_load(start, kind='weights'), owned.classes, start,
                                  config.model)
                changed = changed_settings(resumed, runner.cfg) if resumed else []
                refuse_kept(resumed or '', changed)
                owned.begin()
                state['begun'] = config.work_dir
                _train(runner, resume, resumed, changed, checked)
                owned.finish()
            finally:
                end_trackers(runner.visualizer, failed=True)  # those that have not ended with the training
            del runner
    stop_sharing()
    return config.work_dir


def _train(runner: Runner, resume: str | None, resumed: str | None, changed: Sequence[str],
           checked: Report) -> None:
    """Train, and say first what of the data and of a resumed run is not as it should be."""
    log_warnings(checked, runner.logger)
    if resume:
        runner.logger.info(f'Resuming from {resumed}' if resumed else
                           f'Nothing to resume in {runner.work_dir}: starting from the beginning')
    if changed:
        runner.logger.warning('The run goes on with other settings than it began with: ' + '; '.join(changed[:8])
                              + ('' if len(changed) <= 8 else f' and {len(changed) - 8} more'))
    runner.train()


def run_making_seeds(config: Config, name: str | None, split: str, out: str | None = None, launcher: str = 'none',
                     **choices: Any) -> tuple[str, int]:
    """What :func:`make_seeds` and the tool do; ``choices`` of :func:`run_seeds`.

    Returns:
        The folder, and how many images failed.
    """
    folder = prepare_work_dir(out or f'{_default(name, "out")}/seeds/{split}', '--out')
    device = start_sharing(launcher)
    try:
        with own_folder(folder, 'seed making', launcher, '--out'):
            return folder, run_seeds(config, name or 'config', split, folder, device, **choices)
    finally:
        stop_sharing()


def _default(name: str | None, argument: str) -> str:
    if name is None:
        raise ValueError(f'{argument}: the config was read from no file, so nothing says what to call the folder; give '
                         f'{argument}')
    return f'work_dirs/{name}'


def _names_randomness(options: Options | None) -> bool:
    return any(str(option).startswith('randomness') for option in options or ())


@contextmanager
def _own_kernels() -> Iterator[None]:
    """What a training asks of torch's kernels (``deterministic``) ends with it: the next one may want others."""
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    of_cudnn = cudnn.deterministic, cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = of_cudnn


@contextmanager
def plain_errors() -> Iterator[None]:
    """What users can mend, but libraries say in their own words, as a ValueError in this package's words."""
    try:
        with unused_folders_removed():
            yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        raise ValueError(line) from error
