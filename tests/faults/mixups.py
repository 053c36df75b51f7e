#!/usr/bin/env python
"""Runs that meet lose nothing and are not taken for each other: ``python tests/faults/mixups.py``.

Each situation runs ``tools/train.py`` on the toy in processes of its own, and looks at every byte that must not have
changed and at what comes out in the end, which must equal an uninterrupted run bit by bit:

``two runs in one folder``
    While one trains, others are started there: anew, with ``--resume``, with ``--overwrite``, with another seed.
``another run in a finished one's folder``
    Other seed, other settings; and the same command again.
``killed, begun again``
    ``kill -9``, then the same command without and with ``--resume``.
``copied folder``
    A stopped run is copied; the copy goes on, and so does a third folder from the original's checkpoint.
``no number``
    The learning rate is absurd: the run ends, its checkpoints are numbers, and it says so.

Exit code: 0 nothing was lost, 1 something was. pytest does not collect this file.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from weclip_sam.io.checkpoints import not_finite, safe_load  # noqa: E402

TOY = ROOT / 'tests' / 'engine' / 'toy'
OPTIONS = ('default_hooks.sheets=None', 'custom_hooks=[]', 'default_hooks.checkpoint.interval=2',
           'default_hooks.checkpoint.max_keep_ckpts=-1', 'train_cfg.val_interval=2')
LIMIT = 600


class Situation:
    """A folder of work, and what went wrong in it."""

    def __init__(self, home: Path, reference: Path) -> None:
        self.home, self.reference, self.wrong = home, reference, []
        home.mkdir(parents=True)

    def start(self, folder: str, *arguments: str, iterations: int = 8, **options: object) -> subprocess.Popen:
        """A training in ``home/folder``."""
        env = dict(os.environ, PYTHONPATH=f'{ROOT}{os.pathsep}{TOY}', OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
        command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(TOY / 'toy_config.py'), '--work-dir',
                   str(self.home / folder), *arguments, '--cfg-options', *OPTIONS, f'train_cfg.max_iters={iterations}',
                   *(f'{key}={value}' for key, value in options.items())]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def expect(self, what: str, process: subprocess.Popen, code: int, *words: str) -> None:
        """It ends with this code and says these words, without a traceback."""
        said, _ = process.communicate(timeout=LIMIT)
        missing = [word for word in words if word not in said]
        if process.returncode != code or missing or 'Traceback (most recent' in said:
            self.wrong.append(f'{what}: exit code {process.returncode}, expected {code}; without {missing}: '
                              f'{said[-900:]}')

    def train(self, what: str, code: int, words: tuple[str, ...], folder: str, *arguments: str, **options: object
              ) -> None:
        self.expect(what, self.start(folder, *arguments, **options), code, *words)

    def contents(self, folder: str) -> dict[str, bytes]:
        root = self.home / folder
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}

    def unchanged(self, what: str, folder: str, before: dict[str, bytes]) -> None:
        after = self.contents(folder)
        if changed := sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
            self.wrong.append(f'{what}: changed {changed}')

    def equals_reference(self, what: str, folder: str) -> None:
        """The last checkpoint is that of the uninterrupted run."""
        path = self.home / folder / 'iter_8.pth'
        if not path.is_file():
            self.wrong.append(f'{what}: {path.name} is missing')
            return
        whole, here = (safe_load(each)['state_dict'] for each in (self.reference / 'iter_8.pth', path))
        if list(whole) != list(here) or not all(torch.equal(whole[key], here[key]) for key in whole):
            self.wrong.append(f'{what}: {path} differs from an uninterrupted run')

    def stop_at_work(self, process: subprocess.Popen, folder: str, number: int) -> None:
        """Halt a training that has taken its folder and saved a checkpoint, or send it another signal."""
        end = time.monotonic() + LIMIT
        while not (self.home / folder / 'iter_2.pth').is_file() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(number)


def two_at_once(case: Situation) -> None:
    first = case.start('run')
    case.stop_at_work(first, 'run', signal.SIGSTOP)
    try:
        for arguments in ([], ['--resume'], ['--overwrite'], ['--seed', '1']):
            case.train(f'second {arguments}', 2, ('another training is writing there',), 'run', *arguments)
    finally:
        first.send_signal(signal.SIGCONT)
    case.expect('the first', first, 0)
    case.equals_reference('the first', 'run')


def another_afterwards(case: Situation) -> None:
    shutil.copytree(case.reference, case.home / 'run')
    before = case.contents('run')
    case.train('the same', 0, ('finished already', '--overwrite'), 'run')
    case.train('another seed', 2, ('holds another run', 'randomness.seed'), 'run', '--seed', '1')
    case.train('another seed resumed', 2, ('began with seed',), 'run', '--seed', '1', '--resume')
    case.train('another length', 2, ('holds another run', 'max_iters'), 'run', iterations=6)
    case.unchanged('after four', 'run', before)
    case.train('overwriting', 0, (), 'run', '--overwrite')
    case.equals_reference('overwriting', 'run')


def killed_and_again(case: Situation) -> None:
    process = case.start('run')
    case.stop_at_work(process, 'run', signal.SIGKILL)
    process.communicate()
    before = case.contents('run')
    case.train('without --resume', 2, ('Add --resume',), 'run')
    before.pop('.weclip_sam.lock', None)  # the dead run's, which the refused one has taken over and given back
    case.unchanged('without --resume', 'run', before)
    case.train('with --resume', 0, (), 'run', '--resume')
    case.equals_reference('with --resume', 'run')


def copied(case: Situation) -> None:
    case.train('the first half', 0, (), 'run', iterations=4)
    before = case.contents('run')
    shutil.copytree(case.home / 'run', case.home / 'copy')
    case.train('the copy', 0, (str(case.home / 'copy' / 'iter_4.pth'),), 'copy', '--resume')
    case.equals_reference('the copy', 'copy')
    case.train('from the original', 0, (), 'third', '--resume', str(case.home / 'run' / 'iter_4.pth'))
    case.equals_reference('from the original', 'third')
    (case.home / 'pointer').mkdir()
    shutil.copy(case.home / 'run' / 'last_checkpoint', case.home / 'pointer')
    case.train('a pointer alone', 0, ('Nothing to resume',), 'pointer', '--resume')
    case.equals_reference('a pointer alone', 'pointer')
    case.unchanged('the original', 'run', before)


def no_number(case: Situation) -> None:
    jump = [dict(type='MultiStepLR', milestones=[5], gamma=1e38, by_epoch=False)]
    for folder in ('run', 'resumed'):
        if folder == 'resumed':
            shutil.copytree(case.home / 'run', case.home / folder)
        case.train(folder, 2, ('the loss is no finite number', 'iter_6.pth'), folder,
                   *(['--resume'] if folder == 'resumed' else []), iterations=20, param_scheduler=jump)
        names = sorted(path.name for path in (case.home / folder).glob('iter_*.pth'))
        if names != ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']:
            case.wrong.append(f'{folder}: checkpoints {names}')
        for path in (case.home / folder).glob('*.pth'):
            if wrong := not_finite(safe_load(path)['state_dict']):
                case.wrong.append(f'{path.name} holds {wrong}')
        summary = case.home / folder / 'summary.json'
        if not summary.is_file() or 'failed' not in json.loads(summary.read_text()):
            case.wrong.append('summary.json says nothing')


SITUATIONS: dict[str, Callable[[Situation], None]] = {
    'two runs in one folder': two_at_once, "another run in a finished one's folder": another_afterwards,
    'killed, begun again': killed_and_again, 'copied folder': copied, 'no number': no_number}


def run_mixups(home: Path) -> dict[str, list[str]]:
    """Each situation once; by its name what went wrong."""
    reference = Situation(home / 'reference', home)
    reference.train('the uninterrupted run', 0, (), 'run')
    found = {'uninterrupted run': reference.wrong}
    for number, (name, situation) in enumerate(SITUATIONS.items()):
        case = Situation(home / str(number), home / 'reference' / 'run')
        situation(case)
        found[name] = case.wrong
        print(f'{name}: {"survived" if not case.wrong else f"lost: {case.wrong}"}', flush=True)
    return found


if __name__ == '__main__':
    with tempfile.TemporaryDirectory(prefix='mixups_') as temporary:
        found = run_mixups(Path(temporary))
    print(f'{len(found)} tried, {sum(not wrong for wrong in found.values())} survived')
    sys.exit(int(any(found.values())))
