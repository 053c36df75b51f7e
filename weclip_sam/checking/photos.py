"""Whether masks and labels are of the photos that are there now."""
from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from weclip_sam.checking.findings import Report
from weclip_sam.commands import command_line, tool
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.packing import LoadMasks, LoadPixelLabels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline.photos import PhotoReader, changed_photos, look_at_bank, require_own_photos, some
from weclip_sam.offline.seed_folder import photos_of

QUICK_BYTES = 200_000_000  # of photos that the quick check reads: a second or two


def photo_reader(full: bool) -> PhotoReader:
    """For the full check or the quick one."""
    return PhotoReader(None if full else QUICK_BYTES)


@dataclass
class _Folder:
    """A bank or a folder of labels, of whatever data sets read it."""

    names: list[str] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    imported: bool = False

    def take(self, name: str, dataset: ImageLabelDataset, changed: list[str]) -> None:
        self.names.append(name)
        self.images.update(dataset.image_ids)
        self.changed.update(changed)


def check_photos(datasets: Mapping[str, ImageLabelDataset], renewed: set[str], report: Report, full: bool) -> None:
    """Tell of each mask bank and each folder of labels, once, which of its photos were replaced or cropped since.

    Args:
        datasets: by name.
        renewed: folders of the banks whose masks a hook makes anew before training.
        report: gets the findings.
        full: read all photos whose time has changed and whose size in bytes has not, not only the first.
    """
    reader = photo_reader(full)
    banks: dict[str, _Folder] = {}
    labels: dict[str, _Folder] = {}
    for name, dataset in datasets.items():
        for step in dataset.pipeline:
            if isinstance(step, LoadMasks) and isinstance(step.bank, (str, Path)):
                with suppress(ValueError, OSError):  # told where banks are looked for
                    bank = MaskBank(step.bank, fingerprint=step.fingerprint, mode='r', image_folder=step.image_folder,
                                    moved=True)
                    require_own_photos(bank, dataset, reader)
                    found = look_at_bank(bank, dataset, range(len(dataset)), reader, show=False)
                    banks.setdefault(str(step.bank), _Folder(imported=bank.imported)).take(name, dataset, found.changed)
            elif isinstance(step, LoadPixelLabels):
                labels.setdefault(str(step.folder), _Folder()).take(
                    name, dataset, changed_photos(dataset, photos_of(step.folder), reader))
    for place, folder in banks.items():
        _tell_bank(place, folder, place in renewed, report)
    for place, folder in labels.items():
        if folder.changed:
            report.add('error', 'photos', ' and '.join(folder.names), f'{place}: the photos of '
                       f'{some(sorted(folder.changed), len(folder.images))} are others than when these labels were '
                       f'made; run the {tool("make_seeds")} that made them again: it makes those anew')


def _tell_bank(place: str, folder: _Folder, renewed: bool, report: Report) -> None:
    if not folder.changed or (folder.imported and renewed):  # the hook's own check tells of imported ones
        return
    what = (f'{place}: the photos of {some(sorted(folder.changed), len(folder.images))} are others than when their '
            'masks were made')
    where = ' and '.join(folder.names)
    if folder.imported:
        report.add('error', 'photos', where, f'{what}, and these were imported: make the masks of these with the same '
                   f'program, delete that folder, and run {command_line("make_masks", "CONFIG", "--from", "DIR")}')
    elif renewed:
        report.add('warning', 'photos', where, f'{what}; they are made anew before training, or by '
                                              f'{tool("make_masks")}')
    else:
        report.add('error', 'photos', where, f'{what}; run {tool("make_masks")} with this config: it makes them '
                                            'anew')
