"""What cannot be exported, found before the first byte is written."""
from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

from weclip_sam.export.job import Job
from weclip_sam.io.images import image_size
from weclip_sam.io.names import is_utf8, meeting, normal, printable
from weclip_sam.offline.results import LabelFolder
from weclip_sam.structures import IGNORE_LABEL

MOST_CLASSES = IGNORE_LABEL - 1  # what a label of one byte can say, beside the background and 'ignored'


def check_classes(folder: LabelFolder) -> None:
    """Raise ValueError where no format can tell the classes."""
    names = list(map(normal, folder.classes))
    if len(names) - 1 > MOST_CLASSES:
        raise ValueError(f'{folder.root}: has {len(names) - 1} classes, but labels of one byte tell {MOST_CLASSES} '
                         'apart; such labels cannot be right')
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f'{folder.root}: two of its classes are called {twice!r}; give every class a name of its own '
                         'with --classes FILE')
    if bad := next((name for name in names if not name.strip() or not is_utf8(name)), None):
        raise ValueError(f'{folder.root}: {printable(repr(bad))} is no name of a class; give the names with '
                         '--classes FILE')


def check_class_names(job: Job, unfit: Callable[[str], str]) -> None:
    """Raise ValueError at the first class for whose name ``unfit`` says why a format cannot hold it."""
    for name in job.folder.classes:
        if reason := unfit(name):
            raise ValueError(f'{job.name}: the class name {name!r} {reason}; give other names with --classes FILE '
                             '(one a line, without the background)')


def has_controls(name: str) -> bool:
    """Whether a name has line breaks or other control characters."""
    return len(name.splitlines()) > 1 or any(unicodedata.category(each) == 'Cc' for each in name)


def check_listed(job: Job, names: Iterable[str]) -> None:
    """Raise ValueError where an image's name cannot stand in a list of one name a line."""
    for name in names:
        if not is_utf8(name) or has_controls(name) or name != name.strip() or name.startswith('#'):
            raise ValueError(f'{job.name}: the name {printable(repr(name))} cannot stand in a list of images, a line '
                             'each (line breaks, blanks at an end, # at the beginning, or no UTF-8); rename the image')


def check_meeting(job: Job, files: Iterable[str], fold: bool, fix: str) -> None:
    """Raise ValueError where two of an export's files would be one."""
    if pair := meeting(files, fold):
        raise ValueError(f'{job.name}: the images {pair[0]!r} and {pair[1]!r} would meet; {fix}')


def check_known(job: Job) -> None:
    """Raise FileNotFoundError where nobody knows a photo."""
    if unknown := next((item for item in job.items if item.own is None), None):
        raise FileNotFoundError(f'{unknown.source.labels}: nothing says which photo it labels, and {job.name} names '
                                'the photos; say where they are with --images DIR')


def check_photos(job: Job) -> None:
    """Raise FileNotFoundError or ValueError where a photo cannot be put beside its labels."""
    check_known(job)
    for item in job.items:
        photo = item.source.image
        if photo is None or not photo.is_file():
            raise FileNotFoundError(f'{photo}: no such photo, but {item.source.labels} labels it and {job.name} needs '
                                    'it; say where the photos are with --images DIR')
        if (seen := image_size(photo)) != (drawn := image_size(item.source.labels)):
            raise ValueError(f'{item.source.labels}: {drawn[1]} x {drawn[0]} pixels, but its photo {photo} has '
                             f'{seen[1]} x {seen[0]}; is it another photo of that name?')
