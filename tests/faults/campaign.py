"""Strike, start again, compare."""
from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from faults.kinds import Fault
from faults.runs import exit_code, expect_success, start, wait_until
from faults.works import Work

MOMENTS = ('anywhere', 'at work', 'while writing')
LOSSES = ('lost', 'doubled', 'torn', 'left over', 'different', 'failed starts', 'unclear ends')
NOISE = ('Traceback (most recent', 'Logging error', 'Exception in thread', 'Exception ignored')


def _wait_for_moment(process: Any, work: Work, moment: str, began: int, seconds: dict[str, float],
                     rng: random.Random) -> bool:
    """True when it is time to kill, False if the run ended before."""
    # What is done already takes no time again; yet some runs should come to their end.
    delay = seconds['work'] * max(0.3, 1 - work.share_done())
    if moment == 'anywhere':
        delay += seconds['all'] - seconds['work']
    delay *= rng.random()
    if moment != 'anywhere' and not wait_until(process, lambda: work.progress(work.out) > began, 0.05):
        return False
    end = time.monotonic() + delay
    if not wait_until(process, lambda: time.monotonic() >= end, 0.005):
        return False
    return moment != 'while writing' or wait_until(process, lambda: work.writing(work.out), 0.0005)


def _run_reference(work: Work) -> dict[str, float]:
    began = time.monotonic()
    log = work.home / 'reference.log'
    process = start(work.command(work.reference), log)
    wait_until(process, lambda: work.progress(work.reference) > 0, 0.05)
    first = time.monotonic()
    expect_success(process, log, work.name)
    end = time.monotonic()
    return dict(all=end - began, work=end - first)


def _check_end(process: Any, work: Work, fault: Fault, log: Path, said: int) -> None:
    """The run must have ended by itself, with one clear error."""
    code = exit_code(process)
    text = log.read_bytes()[said:].decode(errors='replace')
    told = [line for line in text.replace('\r', '\n').split('\n') if line.startswith('error: ')]
    if code != 2 or len(told) != 1 or fault.names(work) not in told[0] or any(noise in text for noise in NOISE):
        work.fault('unclear ends', f'{fault.name}: exit code {code}: {text[-3000:]}')


def campaign(work: Work, fault: Fault, tries: int, rng: random.Random) -> dict[str, Any]:
    """Strike ``work`` so many times, and let it end; the report says what that did."""
    began = time.monotonic()
    seconds = work.seconds = work.seconds or _run_reference(work)
    work.faults = []
    fault.prepare(work)
    try:
        work.begin_again()
        counts = _campaign(work, fault, tries, rng, seconds)
    finally:
        fault.close(work)
    losses = {kind: sum(each == kind for each, _ in work.faults) for kind in LOSSES}
    return dict(fault=fault.name, tries=tries, **counts, **losses, reference_seconds=seconds,
                seconds=time.monotonic() - began, details=[f'{kind}: {what}' for kind, what in work.faults])


def _campaign(work: Work, fault: Fault, tries: int, rng: random.Random, seconds: dict[str, float]) -> dict[str, Any]:
    moments = [MOMENTS[0]] * (tries - tries // 2)
    moments += [MOMENTS[1 + i % 2] for i in range(tries // 2)]
    rng.shuffle(moments)
    made, survived, runs, equal, starts = dict.fromkeys(MOMENTS, 0), 0, 0, 0, 0
    log, clean = work.home / f'{fault.name}.log', True
    faults_before_run = pending = 0  # pending: faults whose next start has not shown yet that it can go on
    while True:
        left, said = len(moments), log.stat().st_size if log.is_file() else 0
        process = start(work.command(work.out), log, not moments or moments[-1] == 'anywhere',
                        fault.in_child)
        starts += 1
        seen = work.progress(work.out)
        struck = bool(left) and _wait_for_moment(process, work, moments[-1], seen, seconds, rng) \
            and fault.strike(process, work)
        code = exit_code(process)
        if struck and fault.ends_itself and code == 0:  # it had nothing more to write
            fault.mend(work)
            struck = False
        if struck:
            moment = moments.pop()
            made[moment] += 1
            before = len(work.faults)
            if fault.ends_itself:
                _check_end(process, work, fault, log, said)
            work.check_after_fault()
            if fault.lasts:
                said = log.stat().st_size
                _check_end(start(work.command(work.out), log, False, fault.in_child), work, fault, log, said)
                work.check_after_fault()
                fault.mend(work)
            survived += pending and clean
            pending, clean = 1, len(work.faults) == before
            print(f'  {work.name}, {fault.name}: {tries - len(moments)} of {tries}, {moment}, '
                  f'{work.share_done():.0%} done', flush=True)
            continue
        if code != 0:
            work.fault('failed starts', f'exit code {code}: {log.read_text(errors="replace")[-1500:]}')
            clean = False
        else:
            work.check_at_end()
            work.check_leftovers()
        survived += pending and clean
        runs += 1
        equal += code == 0 and not any(kind in ('different', 'lost', 'torn')
                                       for kind, _ in work.faults[faults_before_run:])
        pending, clean, faults_before_run = 0, True, len(work.faults)
        if not moments:
            break
        work.begin_again()
    return dict(moments=made, survived=survived, starts=starts, runs_to_the_end=runs, bit_equal_runs=equal)


def format_table(reports: dict[str, dict[str, Any]]) -> str:
    """One line a kind of work and fault."""
    rows = [('work, fault', 'tries', *MOMENTS, 'survived', *LOSSES, 'bit-equal runs')]
    for name, report in reports.items():
        rows.append((name, report['tries'], *(report['moments'][moment] for moment in MOMENTS), report['survived'],
                     *(report[kind] for kind in LOSSES), f'{report["bit_equal_runs"]} of {report["runs_to_the_end"]}'))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join('  '.join(str(cell).rjust(width) if column else str(cell).ljust(width)
                               for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows)
