"""From a folder of labels to folders of other forms: all is checked first, each is written whole or not at all."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.engine.start.work_dir import own_folder
from weclip_sam.export.checks import check_classes
from weclip_sam.export.coco import Coco
from weclip_sam.export.fiftyone import FiftyOne
from weclip_sam.export.job import RECORD_FORMAT, Exporter, Job
from weclip_sam.export.label_studio import LabelStudio
from weclip_sam.export.options import Options
from weclip_sam.export.voc import Cvat, Voc
from weclip_sam.export.yolo import YoloSegmentation, YoloSemantic
from weclip_sam.io.names import printable
from weclip_sam.io.new_folders import make_folder
from weclip_sam.io.text import read_json
from weclip_sam.io.whole_folder import whole_folder
from weclip_sam.offline.results import EXPORT_RECORD, LabelFolder

# By what they are called on a command line, which has the names from :data:`weclip_sam.choices.EXPORTS`.
EXPORTS: dict[str, Exporter] = {
    'coco': Coco(), 'yolo-seg': YoloSegmentation(), 'yolo-semantic': YoloSemantic(), 'voc': Voc(), 'cvat': Cvat(),
    'label-studio': LabelStudio(), 'fiftyone': FiftyOne()}


def check_exports(names: Sequence[str]) -> list[str]:
    """The names, each once; call it before long work whose labels are to be exported.

    Raises:
        ValueError: no format is called so.
    """
    for name in names:
        if name not in EXPORTS:
            raise ValueError(f'no export is called {name!r}; there are {", ".join(EXPORTS)}.'
                             f'{suggest_name(name, EXPORTS)}')
    return list(dict.fromkeys(names))


def export_folder(folder: LabelFolder, names: Sequence[str], out: str | os.PathLike[str] | None = None, *,
                  told: Callable[[str], None] = lambda line: None,
                  progress: Callable[[str, int, int], None] = lambda name, done, total: None,
                  **options: Any) -> dict[str, Path]:
    """Write a folder of labels in the forms of other tools, one image after another.

    What cannot be written in one of them (unfit or meeting names, missing photos) is found before the first byte of
    any. An export that is there of before is replaced when the new one is whole; anything else of its name is refused.

    Args:
        folder: see :func:`weclip_sam.offline.results.open_labels`.
        names: of :data:`EXPORTS`.
        out: where each gets a folder of its name; ``export`` below the folder of labels where it is None.
        told: gets lines for people: what was written, and what was lost on the way.
        progress: see :class:`weclip_sam.export.job.Job`.
        **options: see :class:`weclip_sam.export.options.Options`.

    Returns:
        The folders, by name.

    Raises:
        ValueError: an unknown form, unfit names, an image or label that cannot be read, or another export at work
            there.
        FileNotFoundError: a photo is missing.
        OSError: the folder cannot be written.
    """
    names, chosen = check_exports(names), Options(**options)
    if folder.failed:
        told(printable(f'NOTE {folder.told_of_failed}'))
    target = folder.root / 'export' if out is None else Path(out).expanduser()
    check_classes(folder)
    jobs = [Job(name, folder, chosen, progress) for name in names]
    for job in jobs:
        _check_free(target / job.name)
        EXPORTS[job.name].check(job)
    make_folder(target)
    with own_folder(target, 'export', option='--out'):
        for job in jobs:
            with whole_folder(target / job.name) as place:
                EXPORTS[job.name].write(job, place)
                job.record(place)
            for line in job.told(target / job.name):
                told(line)
    return {name: target / name for name in names}


def _check_free(place: Path) -> None:
    """Raise ValueError where something lies that is no export of before."""
    if not os.path.lexists(place) or place.is_dir() and not any(place.iterdir()):
        return
    try:
        ours = read_json(place / EXPORT_RECORD)['format'] == RECORD_FORMAT
    except (OSError, ValueError, TypeError, KeyError):
        ours = False
    if not ours:
        raise ValueError(f'{place}: is there already and no export of before; choose another --out, or move it away')
