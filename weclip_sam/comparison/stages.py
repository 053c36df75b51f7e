"""Running the stages of a comparison: each is a command of its own, done once, continued after a kill."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from weclip_sam.commands import tool
from weclip_sam.comparison.experiment import Experiment, Stage
from weclip_sam.engine.memory import wait_and_measure
from weclip_sam.engine.progress import format_seconds
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.io.files import write_json
from weclip_sam.io.text import read_json as read_json_file

_WEIGHTS = Path(__file__).resolve().parents[1] / 'foundation' / 'weights'
_REMEDY = 'Remove the folder, or compare in another --root.'
_TAIL = 15
# Commands of before a config said its mask bank once named it in every place of its own.
_SAID_AGAIN = re.compile(r'(?:train_dataloader\.dataset\.mask_|custom_hooks\.\d+\.(?:dataset\.mask_)?)bank=')


@dataclass
class RunReport:
    """What :func:`run_experiment` did: stages run now, found finished, failed (folder to reason) and not reached."""

    ran: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def is_finished(stage: Stage) -> bool:
    """Whether a stage has run to its end here, and what it left is still what it would leave now.

    Raises:
        ValueError: its folder holds the results of something else, see :func:`why_stale`.
    """
    if reason := why_stale(stage):
        raise ValueError(reason)
    record = read_json(stage.record)
    # Without a record it is a run of somebody's own, which is taken as it is and never begun again in its folder.
    return (record is None or bool(record.get('finished'))) and stage.summary.is_file()


def why_stale(stage: Stage) -> str:
    """Why the stage in this folder is not the one the experiment means; empty if it is, or if none is there.

    It may come from another command, from a config that has been edited since (or other bundled weights), or from an
    earlier run of a stage that it reads. A training that was stopped counts, too: it would be resumed.
    """
    record = read_json(stage.record)
    if record is None:
        return ''
    same = _command(record) == _command(dict(arguments=stage.arguments))
    if not record.get('finished') and not (same and stage.tool == 'train' and any(stage.folder.glob('iter_*.pth'))):
        return ''  # it will be made from the beginning, or by a tool that knows what it may go on with
    if not same:
        before, now = (' '.join(map(str, (tool(str(name)), *(arguments or ())))) for name, arguments in (
            (record.get('tool'), record.get('arguments')), (stage.tool, stage.arguments)))
        return (f'{stage.folder}: was made by another command ({before}); the experiment now says {now}. {_REMEDY}')
    if record.get('settings') not in (None, _settings(stage.arguments[0])):
        return (f'{stage.folder}: {stage.arguments[0]}, a file it builds on, or the bundled weights have changed since '
                f'it was made. {_REMEDY}')
    for folder, when in (record.get('after') or {}).items():
        if when != _finished_at(Path(folder)):
            return f'{stage.folder}: was made from an earlier run of {folder}. {_REMEDY}'
    return ''


@cache
def _settings(config: str) -> str | None:
    """A digest of a config with all it builds on, and of the bundled weights; None where it cannot be read.

    It is taken of the config as a run has it, so that where a config says a thing makes no difference. Records of
    before a model brought its curriculum hook along count that hook among those that the config lists: so does this.
    """
    try:
        filled = load_config(config)
        fill_shared_settings(filled)
    except (OSError, ValueError):
        return None
    settings = filled.to_dict()
    hooks, model = settings.get('custom_hooks') or [], settings['model']
    kinds = [hook.get('type') for hook in hooks]
    if hooks and model.get('type') == 'WeClip' and 'CurriculumHook' not in kinds:
        hooks.insert(int(kinds[0] == 'MaskBankHook'), dict(type='CurriculumHook'))
    digest = sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in sorted(_WEIGHTS.glob('*.safetensors')):
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _command(record: dict[str, Any]) -> tuple[str, ...]:
    """A stage's arguments, without options that say ``mask_bank`` a second time."""
    arguments = tuple(record.get('arguments') or ())
    banks = [argument.removeprefix('mask_bank=') for argument in arguments if argument.startswith('mask_bank=')]
    return tuple(argument for argument in arguments
                 if not (_SAID_AGAIN.match(argument) and _SAID_AGAIN.sub('', argument, count=1) in banks))


def _finished_at(folder: Path) -> str | None:
    return (read_json(folder / 'stage.json') or {}).get('finished_at')


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, or None where there is none that can be read."""
    try:
        value = read_json_file(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def run_experiment(experiment: Experiment, tools: Path | None = None) -> RunReport:
    """Run what is missing, one stage after another.

    A stage that fails ends its method for that seed; all others go on. Output goes to ``stage.log`` in its folder,
    progress to stderr.

    Args:
        experiment: see :func:`load_experiment`.
        tools: a folder of scripts in the place of ``weclip_sam.cli``.
    """
    report = RunReport()
    planned = list(dict.fromkeys(stage for run in experiment.runs for stage in run.stages))
    if stale := [reason for stage in planned if (reason := why_stale(stage))]:  # said before hours are spent
        raise ValueError('\n  '.join(stale))
    number = {stage: place for place, stage in enumerate(planned, start=1)}
    for run in experiment.runs:
        broken = None
        for stage in run.stages:
            where = str(stage.folder)
            if where in report.failed:
                broken = stage
            if where in report.ran or where in report.found or where in report.failed:
                continue
            if broken is not None:
                report.skipped.append(where)
                continue
            if is_finished(stage):
                report.found.append(where)
                continue
            title = f'[{number[stage]}/{len(planned)}] {run.method}' + ('' if stage.once else f', seed {run.seed}')
            print(f'{title}: {stage.name}  (log: {stage.folder}/stage.log)', file=sys.stderr, flush=True)
            reason = run_stage(stage, tools)
            record = read_json(stage.record) or {}
            print(f'{title}: {stage.name} {"failed: " + reason if reason else "done"} after '
                  f'{format_seconds(record.get("seconds", 0.0))}', file=sys.stderr, flush=True)
            if reason:
                report.failed[where], broken = reason, stage
            else:
                report.ran.append(where)
    report.skipped = [where for where in dict.fromkeys(report.skipped) if where not in report.ran]
    return report


def run_stage(stage: Stage, tools: Path | None = None) -> str:
    """Run one stage as a process and write its ``stage.json`` (command, seconds of all attempts, peak memory,
    and the CPU time of all its processes if one attempt was enough).

    Returns:
        Why it failed, or an empty string.
    """
    earlier = read_json(stage.record) or {}
    same = _command(earlier) == _command(dict(arguments=stage.arguments))
    before = _seconds_before(stage, earlier) if same else 0.0
    try:
        arguments = [_checkpoint(argument) if stage.tool == 'test' and place == 1 else argument
                     for place, argument in enumerate(stage.arguments)]
    except FileNotFoundError as error:
        return str(error)
    if stage.tool == 'train' and (before or earlier):
        # A training of another command that did not end has nothing to go on with, see why_stale.
        arguments.append('--resume' if before else '--overwrite')
    elif stage.tool == 'test' and earlier:
        arguments.append('--overwrite')  # predictions of an attempt that did not end
    attempts = 1 + int(earlier.get('attempts') or 1) if before else 1
    record = dict(name=stage.name, tool=stage.tool, arguments=stage.arguments, finished=False, seconds=before,
                  attempts=attempts, started=time.strftime('%Y-%m-%d %H:%M:%S'), began=time.time(),
                  python=sys.version.split()[0], settings=_settings(stage.arguments[0]),
                  after={str(folder): _finished_at(folder) for folder in stage.after})
    # Written first with a little time on it: whatever happens, the next attempt knows that there was one.
    write_json(stage.record, dict(record, seconds=before + 1e-3))
    began = time.monotonic()
    program = ['-m', f'weclip_sam.cli.{stage.tool}'] if tools is None else [str(tools / f'{stage.tool}.py')]
    code, memory, cpu = _run([sys.executable, *program, *arguments], stage.folder / 'stage.log')
    record.update(seconds=before + time.monotonic() - began, exit_code=code, peak_memory_gb=memory,
                  cpu_seconds=cpu if attempts == 1 else None)
    reason = ''
    if code != 0:
        reason = f'exit code {code}. {_tail(stage.folder / "stage.log")}'
    elif not stage.summary.is_file():
        reason = f'it ended without {stage.summary.name}'
    write_json(stage.record, dict(record, finished=not reason, finished_at=None if reason else str(time.time_ns())))
    return reason


def _seconds_before(stage: Stage, earlier: dict[str, Any]) -> float:
    """Seconds of the attempts so far; one that a kill ended lasted as long as it wrote into its log."""
    seconds = float(earlier.get('seconds') or 0)
    log = stage.folder / 'stage.log'
    if 'exit_code' not in earlier and earlier.get('began') and log.is_file():
        seconds += max(0.0, log.stat().st_mtime - float(earlier['began']))
    return seconds


def _run(command: list[str], log: Path) -> tuple[int, float | None, float | None]:
    """Run a command with its output in ``log``; returns exit code, peak memory (GB) of its largest process, and CPU
    seconds of it and its workers (None where the system does not count them).

    Linux counts the memory this process has when it starts the command as the command's, so nothing below it shows:
    the tools need more than this process does.
    """
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[2])
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, [package, environment.get('PYTHONPATH', '')]))
    with open(log, 'ab') as output:
        output.write(f'$ {" ".join(command)}\n'.encode())
        output.flush()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            return wait_and_measure(process)
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen) -> None:
    """Ask a command to end, and after a minute do not ask any more."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _checkpoint(path: str) -> str:
    """A checkpoint file; of a training's folder the last one, never the best one on the validation set."""
    if not os.path.isdir(path):
        return path
    pointer = Path(path) / 'last_checkpoint'
    if pointer.is_file() and (Path(path) / Path(pointer.read_text(encoding='utf-8').strip()).name).is_file():
        return str(Path(path) / Path(pointer.read_text(encoding='utf-8').strip()).name)
    numbered = [(int(match.group(1)), p) for p in Path(path).glob('iter_*.pth')
                if (match := re.fullmatch(r'iter_(\d+)\.pth', p.name))]
    if not numbered:
        raise FileNotFoundError(f'{path}: no iter_*.pth in this folder; the training stage left no checkpoint')
    return str(max(numbered)[1])


def _tail(log: Path) -> str:
    """The line that says most: the last that begins with ``error:``, else the last one."""
    lines = [line.strip() for line in log.read_text(encoding='utf-8', errors='replace').splitlines()[-_TAIL:]
             if line.strip()]
    errors = [line for line in lines if line.startswith('error:')]
    return (errors or lines or ['no output'])[-1][:400]
