"""From images to a folder of results, whatever makes them: what ``predict.py`` and ``make_labels.py`` share."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import is_main_process

from weclip_sam.engine.start.environment import write_environment
from weclip_sam.engine.start.errors import explain
from weclip_sam.io.identity import FileIdentity
from weclip_sam.io.names import printable
from weclip_sam.offline.result_folder import ResultFolder
from weclip_sam.offline.work import StageClock, WorkReport, work_through
from weclip_sam.result import SegmentationResult
from weclip_sam.words import counted

_SHOWN = 5  # failures that are printed; all are in the record

Make = Callable[[list[Any], StageClock], Sequence[SegmentationResult | Exception]]


@dataclass(frozen=True)
class _Loaded:
    """An image before the model sees it, and what its file was then."""

    item: Any
    photo: FileIdentity | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Images of one shape go through the model together."""
        return tuple(self.item.shape)


def run_results(title: str, folder: ResultFolder, load: Callable[[int], Any], make: Make, *, done: str,
                palette: Sequence[Sequence[int]] | None = None, batch_size: int = 1,
                device: torch.device | str = 'cpu') -> WorkReport:
    """Make what a folder lacks and print what came of it; every process calls it and takes its share.

    Args:
        title: of the progress bar.
        folder: claimed, with the images that are asked for.
        load: what the model needs of the image of an index; with ``shape``.
        make: results of some loaded images of one shape, or the error of one in its place.
        done: what has been done to an image, for the last line.
        palette: RGB triples by label, for the record.
        batch_size: images that are loaded at a time.
        device: of the model.

    Returns:
        The report of all processes together.

    Raises:
        ValueError: nothing can be written.
        OSError: the disk is full or not writable.
    """
    began = time.monotonic()

    def load_one(index: int) -> _Loaded:
        photo = folder.identify(index)
        try:
            return _Loaded(load(index), photo)
        except MemoryError:
            raise ValueError(f'{folder.asked[index].image}: does not fit into memory') from None

    def make_all(loaded: list[_Loaded], clock: StageClock) -> list[Any]:
        made = make([each.item for each in loaded], clock)
        return [ValueError(explain(one) or str(one)) if isinstance(one, Exception) else (one, each.photo)
                for one, each in zip(made, loaded, strict=True)]

    def write(name: str, made: tuple[SegmentationResult, FileIdentity | None]) -> None:
        folder.write(name, *made)

    report = work_through(title, [one.name for one in folder.asked], is_done=folder.is_done, load=load_one,
                          make=make_all, write=write, batch_size=batch_size, device=device).gather()
    seconds = time.monotonic() - began
    used = folder.finish(report, seconds, palette)
    if is_main_process():
        write_environment(folder.out, goes_on=bool(report.found))
        _print(folder, report, done, seconds)
        if used is not None:
            print(used.text())
    return report


def _print(folder: ResultFolder, report: WorkReport, done: str, seconds: float) -> None:
    for name, reason in list(report.failed.items())[:_SHOWN]:
        print(printable(f'failed: {reason if str(folder.file(name)) in reason else f"{folder.file(name)}: {reason}"}'))
    shallow = folder.suspected_bits()
    if shallow:
        first, bits = next(iter(shallow.items()))
        print(f'files of 16 bits whose values seem to have fewer: {counted(len(shallow), "image")}, for example '
              f'{printable(first)} ({bits}); they were looked at as dark as they are: scale the values to 16 bits, '
              'or state their depth (PNG sBIT, TIFF SMaxSampleValue)')
    found = f', {len(report.found)} found' if report.found else ''
    print(f'{len(report.made)} of {counted(len(folder.asked), "image")} {done} in {seconds:.1f} s{found}, '
          f'{len(report.failed)} failed; written to {folder.out} (scores, areas and failures: predictions.json)')
