"""Making a review: looking at every image of a folder of labels, and writing the page and the table."""
from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weclip_sam.io.files import atomic_open
from weclip_sam.io.parallel import Progress, no_progress
from weclip_sam.offline.results import LabelFolder, told_of_corrected
from weclip_sam.review import INLINE, SIDE
from weclip_sam.review.entries import THUMBS, Entry, look_at_all
from weclip_sam.review.page import to_html
from weclip_sam.review.problems import KINDS, Facts, unknown_to_clip
from weclip_sam.review.table import write_table
from weclip_sam.visualization import class_colors
from weclip_sam.words import counted

PAGE, TABLE = 'review.html', 'review.csv'
MOST_INLINE = 2000


@dataclass(frozen=True)
class Review:
    """What was made.

    Attributes:
        page, table: the files.
        entries: all that are on the page, in its order.
        left_out: images that ``limit`` left out.
        inline: whether the pictures are in the page.
        notes: what is to be known of the folder, and of all.
    """

    page: Path
    table: Path
    entries: Sequence[Entry]
    left_out: int
    inline: bool
    notes: Sequence[str] = ()

    @property
    def unreadable(self) -> list[Entry]:
        """Those whose photo or label cannot be read, or that have no label since making it failed."""
        return [entry for entry in self.entries if 'unreadable' in entry.problems]

    @property
    def lost(self) -> list[Entry]:
        """Those whose photo is not where it should be."""
        return [entry for entry in self.entries if entry.lost]

    def text(self) -> str:
        """What to tell: how many images have which problem, and where the page is."""
        counts = Counter(kind for entry in self.entries for kind in entry.problems)
        fine = sum(not entry.problems for entry in self.entries)
        lines = ['; '.join([f'{counted(len(self.entries), "image")}, {fine} without a problem that shows', *(
            f'{words}: {counts[kind]}' for kind, words in KINDS.items() if counts[kind])])]
        lines += self.notes
        if self.lost:
            lines.append(f'{counted(len(self.lost), "photo")} cannot be found, for example {self.lost[0].photo}; '
                         '--images DIR says where photos are now')
        if self.left_out:
            lines.append(f'(the {self.left_out} least suspicious were left out: --limit)')
        where = 'in one file' if self.inline else f'its pictures in {self.page.parent / THUMBS}'
        return '\n'.join([*lines, f'page: {self.page} ({where}); table: {self.table}'])


def make_review(folder: LabelFolder, out: Path, order: str = 'worst', limit: int | None = None,
                inline: bool | None = None, workers: int | None = None, side: int = SIDE,
                progress: Progress = no_progress) -> Review:
    """Write ``review.html`` and ``review.csv``, and, unless ``inline``, pictures below ``thumbs``.

    Of every image only figures stay in memory (and its small pictures with ``inline``). The page is written last; those
    pictures of an earlier review that it does not show are removed then.

    Args:
        folder: of labels.
        out: an existing folder.
        order: a key of :data:`weclip_sam.choices.ORDERS`.
        limit: only so many images, the first in this order.
        inline: whether pictures go into the page; None does so for up to :data:`INLINE` images.
        workers: processes; None for all cores.
        side: long side of the pictures in pixels.
        progress: see :mod:`weclip_sam.io.parallel`.

    Raises:
        ValueError: two images of one name, far too many images for one file, or a ``limit`` or ``side`` that shows
            nothing.
        OSError: a file cannot be written.
    """
    _check_names(folder)
    for name, value, least in (('limit', limit, 1), ('side', side, 32)):
        if value is not None and value < least:
            raise ValueError(f'--{name}: expected at least {least}, got {value}')
    known = len(folder) + len(folder.failed)
    shown = known if limit is None else min(limit, known)
    inline = shown <= INLINE if inline is None else inline
    if inline and shown > MOST_INLINE:
        raise ValueError(f'--inline: the pictures of {shown} images make a page that no browser opens; '
                         f'{MOST_INLINE} are the most: leave --inline out, or show fewer with --limit')
    if len(folder.palette) < len(folder.classes):
        colours = [(int(r), int(g), int(b)) for r, g, b in class_colors(len(folder.classes))]
        folder = replace(folder, palette=tuple(colours))
    note = unknown_to_clip(Facts(names=image.names, named=dict(image.named)) for image in folder)
    looked = look_at_all(folder, None if inline else out, workers, side, progress, clip_counts=not note)
    entries = sorted(_bounded(looked, order, shown, inline), key=lambda entry: _place(entry, order))[:shown]
    write_table(out / TABLE, entries)
    html = to_html(entries, folder.classes, folder.palette, out, f'Review of {_title(folder.root)}', _about(folder),
                   _key(folder.root), order, note)
    with atomic_open(out / PAGE, 'w') as file:
        file.write(html)
    if not inline:
        _remove_others(out, entries)
    corrected = sum(entry.corrected for entry in entries)
    failed = f'NOTE {folder.told_of_failed}' * bool(folder.failed)
    notes = [words for words in (folder.told, failed, told_of_corrected(corrected), note) if words]
    return Review(out / PAGE, out / TABLE, entries, known - len(entries), inline, notes)


def _place(entry: Entry, order: str) -> tuple[float, int, str]:
    return -entry.badness[order], -len(entry.problems), entry.name


def _bounded(looked: Iterable[Entry], order: str, shown: int, inline: bool) -> list[Entry]:
    """All entries; of pictures that are in memory only those that may be shown."""
    kept: list[Entry] = []
    for entry in looked:
        kept.append(entry)
        if inline and len(kept) >= 2 * shown:
            kept = sorted(kept, key=lambda each: _place(each, order))[:shown]
    return kept


def _check_names(folder: LabelFolder) -> None:
    counts = Counter(image.name for image in (*folder.images, *folder.failed))
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise ValueError(f'{folder.root}: {count} images are called {name!r} there; its record lists one twice')


def _title(root: Path) -> str:
    return root.name or str(root.resolve())


def _about(folder: LabelFolder) -> str:
    made = folder.made_by
    known = [str(made[key]) for key in ('checkpoint', 'config', 'split') if made.get(key)]
    failed = [f'{len(folder.failed)} more without a label'] * bool(folder.failed)
    classes = counted(len(folder.classes) - 1, 'class', 'classes')
    return ' · '.join([counted(len(folder), 'image'), *failed, classes, *known])


def _key(root: Path) -> str:
    """The browser keeps the marks of all pages on a disk in one place: one key for each folder."""
    path = os.fsencode(root.resolve())
    return f'weclip_sam review {hashlib.blake2b(path, digest_size=8).hexdigest()}'


def _remove_others(out: Path, entries: Sequence[Entry]) -> None:
    """Remove pictures that an earlier review wrote and this one does not show."""
    shown = {str(path) for entry in entries for path in entry.layers.values()}
    for path in sorted((out / THUMBS).glob('*_*')):
        if path.suffix in ('.jpg', '.webp') and f'{THUMBS}/{path.name}' not in shown:
            path.unlink(missing_ok=True)
