"""A work dir has an owner: one training, which nothing else writes over and which nothing else is taken for."""
from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import Config

from weclip_sam.engine.start.identity import differences, flat_settings, run_identity
from weclip_sam.engine.start.kinds import walk_dicts
from weclip_sam.engine.start.restore import checkpoint_config
from weclip_sam.engine.tracking.base import RECORD as TRACKED
from weclip_sam.io.checkpoints import find_resumable, safe_load
from weclip_sam.io.files import atomic_open, remove_stale_temporaries
from weclip_sam.io.locks import FolderLock, launch_id, living_owner
from weclip_sam.io.plain import plain

RECORD = 'run.json'
FORMAT = 'weclip_sam run 1'
# What a training leaves in its work dir, and --overwrite removes. The first are worth refusing another training for.
_WORTH = ('iter_*.pth', 'best_*.pth', 'last_checkpoint', 'summary.json', 'prompts.safetensors')
_RESULTS = (*_WORTH, 'iou_val*.json', 'iou_train_seeds.json', 'sheets/iter_*.png', 'error.txt', TRACKED,
            RECORD)
_SHOWN = 3  # differences


class WorkDir:
    """A work dir that this training owns.

    Attributes:
        finished: what to tell if this very training has ended there before; then nothing is to be done.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], overwrite: bool, main: bool) -> None:
        self.folder, self.identity, self._overwrite, self._main = folder, identity, overwrite, main
        self.finished = ''

    @property
    def classes(self) -> list[str] | None:
        """Of the training data, where they can be told."""
        return self.identity['data'].get('classes')

    def begin(self) -> None:
        """Call it when everything is built, before training: removes what ``--overwrite`` replaces, and says whose the
        folder is now."""
        if not self._main:
            return
        if self._overwrite:
            clear_work_dir(self.folder)
        else:  # of an attempt that this one goes on from
            (self.folder / 'error.txt').unlink(missing_ok=True)
            if 'failed' in _summary(self.folder):
                (self.folder / 'summary.json').unlink(missing_ok=True)
        self._write('begun')

    def finish(self) -> None:
        """Call it when everything is written."""
        if self._main:
            self._write('finished')

    def _write(self, state: str) -> None:
        record = dict(format=FORMAT, state=state, **{state: time.strftime('%Y-%m-%d %H:%M:%S')}, **self.identity)
        before = _read_record(self.folder) or {}
        if state == 'finished' and 'begun' in before:
            record['begun'] = before['begun']
        elif {**before, 'begun': None} == {**record, 'begun': None}:
            return  # it goes on
        with atomic_open(self.folder / RECORD, 'w') as file:
            json.dump(record, file, indent=1)
            file.write('\n')


@contextmanager
def own_work_dir(config: Config, resume: str | None = None, overwrite: bool = False, seed: int | None = None
                 ) -> Iterator[WorkDir]:
    """Own ``config.work_dir`` for a training: a lock while it goes on, and nothing of another run in it.

    Only the main process of a launch locks; the others pass where it has.

    Args:
        config: a whole and sound config with ``work_dir``, before :func:`use_resume`.
        resume: ``--resume``.
        overwrite: ``--overwrite``.
        seed: ``--seed``, see :func:`keep_seed`.

    Raises:
        FolderTaken: another training is writing there.
        ValueError: the folder holds another run, or one that was stopped and ``--resume`` was not given, see
            :func:`check_work_dir`. Nothing was written.
    """
    if resume not in (None, 'auto') and not Path(str(resume)).expanduser().exists():
        safe_load(str(resume), kind='training')  # says so, and which file may be meant
    folder = Path(config.work_dir)
    distributed = config.get('launcher', 'none') != 'none'
    main = not distributed or int(os.environ.get('RANK', 0)) == 0
    launch = launch_id() if distributed else None
    lock = FolderLock(folder, 'training', 'Wait for its end, or choose another --work-dir', launch)
    with lock if main else nullcontext():
        if resume is not None and not overwrite:
            keep_seed(config, resume, seed)
        processes = int(os.environ.get('WORLD_SIZE', 1)) if distributed else 1
        work_dir = WorkDir(folder, run_identity(config, processes), overwrite, main)
        owner = None if main else living_owner(folder)
        if overwrite:
            _keep_start(config, folder)
        elif owner is None or launch is None or owner.get('launch') != launch:
            max_iters = (config.get('train_cfg') or {}).get('max_iters')
            work_dir.finished = check_work_dir(folder, work_dir.identity, resume, max_iters)
        yield work_dir


def keep_seed(config: Config, resume: str, seed: int | None = None) -> None:
    """Give a resumed training the seed that it began with: a checkpoint restores the states of all random generators,
    so that another one would have no effect, and the logs would tell what is not so.

    Args:
        config: changed in place; with ``work_dir``.
        resume: ``'auto'`` or a checkpoint.
        seed: asked for by name (``--seed``); None leaves it to the run.

    Raises:
        ValueError: the run began with another seed than ``seed``.
    """
    path = find_resumable(config.work_dir) if resume == 'auto' else Path(resume).expanduser()
    if path is None:
        return
    content = safe_load(path, kind='training')
    try:
        began = (checkpoint_config(path, content).get('randomness') or {}).get('seed')
    except (ValueError, AttributeError):
        return  # does not say how it was trained
    if not isinstance(began, int):
        return
    if seed is not None and seed != began:
        raise ValueError(f'--seed {seed}: the run of {path} began with seed {began}, and its random generators go on '
                         'where they were; leave --seed out, or start anew in another --work-dir')
    config.randomness = {**(config.get('randomness') or {}), 'seed': began}


def check_outside_images(config: Config, folder: str | os.PathLike, option: str = '--work-dir') -> None:
    """Make sure that a training writes no pictures among those that it reads.

    Args:
        config: a whole config; readers without ``data_root`` are passed over.
        folder: the work dir; need not exist.
        option: what the user chose it with.

    Raises:
        ValueError: it is a data folder, or lies in its folder of images.
    """
    target = Path(folder).expanduser().resolve()
    for _, node in walk_dicts(dict(config.items())):
        reader = node.get('reader')
        if not isinstance(reader, Mapping) or not isinstance(reader.get('data_root'), (str, os.PathLike)):
            continue
        root = Path(reader['data_root']).expanduser()
        names = [reader['image_dir']] if reader.get('image_dir') else ['images', 'JPEGImages', reader.get('split')]
        images = next((root / name for name in names if isinstance(name, str) and (root / name).is_dir()), root)
        if target == root.resolve() or target.is_relative_to(images.resolve()):
            place = root if target == root.resolve() else images
            raise ValueError(f'{option} {folder}: lies in the image folder {place}, where its pictures would be '
                             'taken for images of the data; give a folder outside of it')


def own_folder(folder: str | os.PathLike, what: str, launcher: str = 'none', option: str = '--work-dir'
               ) -> AbstractContextManager:
    """A lock on a folder of results while they are made; the main process of a launch takes it, the others pass.

    Args:
        folder: must exist.
        what: the work, and what a second one should choose another folder with (``option``).
        launcher: how the processes were started.

    Raises:
        FolderTaken: on entering, when another run is writing there.
    """
    if launcher != 'none' and int(os.environ.get('RANK', 0)) != 0:
        return nullcontext()
    return FolderLock(folder, what, f'Wait for its end, or choose another {option}')


def check_work_dir(folder: str | os.PathLike, identity: Mapping[str, Any], resume: str | None = None,
                   max_iters: int | None = None) -> str:
    """Whether a training may write into a folder.

    Args:
        folder: the work dir, nobody else writing in it.
        identity: see :func:`run_identity`.
        resume: ``--resume``: None, ``'auto'`` or a checkpoint.
        max_iters: where the training will end.

    Returns:
        What to tell if there is nothing to do, because this very training has ended there; else nothing.

    Raises:
        ValueError: results of another run lie there; results of this one, and it is not resumed; one to be resumed has
            other data, or is at its end and has other settings; it would be resumed from elsewhere.
    """
    folder = Path(folder)
    if not _worth(folder):
        return ''
    record = _read_record(folder)
    before = record or _earlier_identity(folder, identity)
    iteration = _newest(folder)
    said = _said(folder, record, iteration)
    finished = _is_finished(folder, record, max_iters)
    choose = 'Choose another --work-dir, or add --overwrite to remove its results and begin anew'
    if before is None and resume is None:
        raise ValueError(f'{folder}: holds the results of a run that cannot be told ({said}). Nothing was changed. '
                         f'{choose}')
    data, others = differences(before or {}, identity)
    changed = data + others
    what = '; '.join(changed[:_SHOWN]) + (f' and {len(changed) - _SHOWN} more' if len(changed) > _SHOWN else '')
    if resume is None and changed:
        go_on = '' if data or finished else ', or --resume to go on with it all the same'
        raise ValueError(f'{folder}: holds another run ({said}), which differs in {what}. Nothing was changed. '
                         f'{choose}{go_on}')
    outside = resume not in (None, 'auto') and Path(str(resume)).expanduser().resolve().parent != folder.resolve()
    if outside:
        raise ValueError(f'{folder}: holds the results of a run already ({said}), and --resume {resume} would write '
                         f'over them. Nothing was changed. Give --resume alone to go on with it. {choose}')
    if finished and not changed and resume in (None, 'auto'):
        return (f'{folder}: this training is finished already ({said}). Its results: '
                f'{", ".join(path.name for path in _found(folder, _WORTH))}. To run it anew add --overwrite, which '
                'removes them, or choose another --work-dir.')
    if resume is None:
        raise ValueError(f'{folder}: holds this very training, stopped before its end ({said}). Nothing was changed. '
                         f'Add --resume to go on with it. {choose}')
    if resume == 'auto' and data:
        raise ValueError(f'{folder}: holds a run on other data ({said}), which differs in {what}. Nothing was changed. '
                         f'{choose}')
    at = re.fullmatch(r'iter_(\d+)\.pth', Path(resume).name)
    reached = int(at.group(1)) if at else iteration
    if changed and max_iters is not None and reached is not None and reached >= max_iters:
        raise ValueError(f'{folder}: holds another run that is at its end ({said}), so that nothing is left to train; '
                         f'it differs in {what}. Nothing was changed. {choose}')
    return ''


def clear_work_dir(folder: str | os.PathLike) -> list[str]:
    """Remove the results of a training, and only those: logs, tests and files of other making stay.

    Returns:
        What was removed, relative to the folder, sorted.
    """
    folder = Path(folder)
    found = _found(folder, _RESULTS)
    # The pointer and the scores first: stopped halfway, what is left is not taken for a run.
    for path in sorted(found, key=lambda path: (path.suffix == '.pth', path.name)):
        path.unlink(missing_ok=True)
    for pattern in ('*.pth', 'last_checkpoint', '*.json', '*.txt'):
        remove_stale_temporaries(folder, pattern)
    return [str(path.relative_to(folder)) for path in found]


def _found(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _worth(folder: Path) -> list[Path]:
    """What would be lost; the summary of a training that failed before its first checkpoint is nothing of the kind."""
    found = _found(folder, _WORTH)
    return [] if [path.name for path in found] == ['summary.json'] and 'failed' in _summary(folder) else found


def _keep_start(config: Config, folder: Path) -> None:
    start = config.get('load_from')
    if start and Path(start).expanduser().resolve() in [path.resolve() for path in _found(folder, _RESULTS)]:
        raise ValueError(f'--overwrite would remove {start}, which load_from starts from; choose another --work-dir')


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding='utf-8'))
        return record if record['format'] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _earlier_identity(folder: Path, now: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a run of before ``run.json`` was kept: what its newest checkpoint says. Where that started from is not
    known: ``--resume`` changes ``load_from``."""
    newest = find_resumable(folder)
    try:
        content = safe_load(newest, kind='training') if newest else {}
        settings = plain(checkpoint_config(newest or folder, content).to_dict(), str(newest))
        meta = content['meta'].get('dataset_meta') or {}
        classes = [str(name) for name in meta.get('classes') or ()] or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    known = flat_settings(settings)
    known.pop('load_from', None)
    if 'load_from' in now['settings']:
        known['load_from'] = now['settings']['load_from']
    return dict(settings=known, data=dict(classes=classes))


def _newest(folder: Path) -> int | None:
    numbers = [int(match.group(1)) for path in folder.glob('iter_*.pth')
               if (match := re.fullmatch(r'iter_(\d+)\.pth', path.name))]
    return max(numbers, default=None)


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
        return summary if isinstance(summary, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _is_finished(folder: Path, record: Mapping[str, Any] | None, max_iters: int | None) -> bool:
    if record is not None:
        return record.get('state') == 'finished'
    iterations = _summary(folder).get('iterations')
    return isinstance(iterations, int) and max_iters is not None and iterations >= max_iters


def _said(folder: Path, record: Mapping[str, Any] | None, iteration: int | None) -> str:
    """In a few words, what lies there."""
    record, summary = record or {}, _summary(folder)
    state = next((f'{state} {record[state]}' for state in ('finished', 'begun') if record.get(state)), 'of earlier')
    at = '' if iteration is None else f', {iteration} iterations saved'
    score = (summary.get('val') or {}).get('mIoU') if isinstance(summary.get('val'), dict) else None
    return state + at + (f', mIoU {score:.2f}' if isinstance(score, (int, float)) else '')
