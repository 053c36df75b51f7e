"""What a run that goes image by image keeps and tells: ``seconds.json`` while it works, ``summary.json`` at its end."""
from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process

from weclip_sam.engine.memory import peak_memory
from weclip_sam.engine.progress import format_seconds
from weclip_sam.engine.start.environment import write_environment
from weclip_sam.io.files import write_json
from weclip_sam.io.text import read_json
from weclip_sam.offline.work import WorkReport

SECONDS, SUMMARY = 'seconds.json', 'summary.json'


class WorkTime:
    """Wall seconds that went into a folder, over all runs: those that were stopped or killed count, too.

    While a run goes on, the main process keeps them in ``seconds.json``; at the end they go to the summary.

    Args:
        folder: of the results.
        work: what is made, as one text; seconds spent on anything else there do not count.
        about: entries of the summary of the last complete run by which the same work is known.
        began: ``time.monotonic()`` when this run began; None: now.
    """

    interval = 10.0  # seconds between two writes: what a kill takes away at most

    def __init__(self, folder: str | os.PathLike, work: str, about: Mapping[str, Any],
                 began: float | None = None) -> None:
        self.folder, self.work = Path(folder), work
        self.began = time.monotonic() if began is None else began
        self._kept_at, self.earlier = self.began, _seconds_of(self.folder / SUMMARY, about)
        with suppress(OSError, ValueError, KeyError, TypeError):
            stopped = read_json(self.folder / SECONDS)
            if stopped['work'] == work:
                self.earlier = max(self.earlier, float(stopped['wall_seconds_of_all_runs']))

    def __enter__(self) -> WorkTime:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._keep()

    def read(self) -> dict[str, float]:
        """``wall_seconds`` of this run so far, and ``wall_seconds_of_all_runs``."""
        seconds = time.monotonic() - self.began
        return dict(wall_seconds=seconds, wall_seconds_of_all_runs=self.earlier + seconds)

    def tick(self) -> None:
        """Call it often."""
        if time.monotonic() - self._kept_at >= self.interval:
            self._keep()

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        if is_main_process():
            with suppress(OSError):  # a full disk shall be reported by whoever has something to lose
                write_json(self.folder / SECONDS, dict(work=self.work, **self.read()))


def _seconds_of(path: Path, about: Mapping[str, Any]) -> float:
    try:
        before = read_json(path)
        if any(before[key] != value for key, value in about.items()):
            return 0.0
        if 'wall_seconds_of_all_runs' in before:
            return float(before['wall_seconds_of_all_runs'])
        # Summaries of before all runs were counted know the last one only, which may have made nothing.
        return float(before['wall_seconds']) if before['made'] else 0.0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0.0


def write_summary(report: WorkReport, clock: WorkTime, device: torch.device, about: Mapping[str, Any],
                  all_timed: bool = True, **results: Any) -> dict[str, Any]:
    """Put ``summary.json`` and ``environment.json`` into the clock's folder (the main process does); ``seconds.json``
    is no longer needed.

    Args:
        report: of all processes together.
        clock: still running.
        device: of this process.
        about: what was worked on; comes first.
        all_timed: whether anybody timed the runs that made what was found.
        results: further entries; come last.

    Returns:
        The summary.
    """
    summary = dict(
        about, made=len(report.made), found=len(report.found), failed=dict(sorted(report.failed.items())),
        seconds_per_image={k: v / len(report.made) for k, v in report.seconds.items() if report.made},
        processes=get_world_size(), device=str(device), **clock.read(), peak_memory_gb=peak_memory(), **results)
    if not all_timed:
        del summary['wall_seconds_of_all_runs']
    if is_main_process():
        write_json(clock.folder / SUMMARY, summary)
        write_environment(clock.folder, goes_on=bool(report.found))
        (clock.folder / SECONDS).unlink(missing_ok=True)
    return summary


def print_summary(made: str, summary: Mapping[str, Any]) -> None:
    """How many images were ``made``, found and failed, how long it took, and the first five failures."""
    stages = ', '.join(f'{stage} {1000 * seconds:.0f}' for stage, seconds in summary['seconds_per_image'].items())
    print(f'{made}, {summary["found"]} found, {len(summary["failed"])} failed in '
          f'{format_seconds(summary["wall_seconds"])}' + (f'; ms per image: {stages}' if stages else ''))
    for image_id, reason in list(summary['failed'].items())[:5]:
        print(f'  failed: {image_id}: {reason}')
