"""FiftyOne's ImageSegmentationDirectory: photos in ``data``, grey masks of their names in ``labels``."""
from __future__ import annotations

from pathlib import Path

from weclip_sam.export.checks import check_meeting, check_photos
from weclip_sam.export.job import Job
from weclip_sam.export.pngs import write_grey
from weclip_sam.io.files import write_json

PHOTOS, LABELS, TARGETS = 'data', 'labels', 'mask_targets.json'


class FiftyOne:
    """255 stays in the masks and has no name in ``mask_targets.json``: FiftyOne then leaves it out of an evaluation."""

    line = 'data, labels (grey PNGs) and mask_targets.json: FiftyOne\'s ImageSegmentationDirectory'
    opens = 'FiftyOne'

    def check(self, job: Job) -> None:
        check_photos(job)
        check_meeting(job, (item.file for item in job.items), True, 'rename one of them')

    def write(self, job: Job, out: Path) -> None:
        for item, labels in job.labels():
            job.put_photo(item, out / PHOTOS)
            write_grey(out / LABELS / f'{item.name}.png', labels)
        write_json(out / TARGETS, dict(enumerate(job.folder.classes)))
