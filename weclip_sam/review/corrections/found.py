"""What a file of corrections holds, whatever its form."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from weclip_sam.checks import suggest_name
from weclip_sam.datasets.vocabulary import is_background, is_ignored
from weclip_sam.io.names import normal
from weclip_sam.structures import BACKGROUND_LABEL, IGNORE_LABEL


@dataclass(frozen=True)
class Correction:
    """The label of one image.

    Attributes:
        name: of the image, as the source has it: a path without suffix, ``/`` between the parts.
        where: the file, and what in it, for messages.
        paint: makes the labels, H W uint8. ValueError where that cannot be.
        empty: whether nothing is marked in the image: all of it is background, or nobody has looked at it.
        file: its path with suffix, if the source has it: of images that differ in their suffix alone, labels keep it.
        left_out: gets a sentence for each region that ``paint`` could not use.
    """

    name: str
    where: str
    paint: Callable[[], np.ndarray]
    empty: bool = False
    file: str = ''
    left_out: list[str] = field(default_factory=list)


@dataclass
class Corrections:
    """All of a source.

    Attributes:
        images: in the order of the source.
        failed: by name of the image, why it cannot be used.
        notes: what else of the source is passed over: a sentence for each.
    """

    images: list[Correction] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class ClassLabels:
    """The label of each class, by its name.

    Args:
        classes: C+1 names by label, the background first.
        renamed: other names that a source has for classes.
    """

    def __init__(self, classes: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
        self.classes = tuple(map(normal, classes))
        self._labels = {name: label for label, name in enumerate(self.classes) if label}
        self._unknown: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        for old, new in (renamed or {}).items():
            if normal(new) not in self._labels and not is_background(new) and not is_ignored(new):
                raise ValueError(f'--rename {old}={new}: {new!r} is none of the classes.'
                                 f'{suggest_name(new, self._labels)}')
            self._renamed[normal(old.strip())] = normal(new)

    def get(self, name: str, where: str) -> int | None:
        """0 for a name of the background, 255 for one of what does not count; None for what is no class, which
        :meth:`check` will tell."""
        name = normal(name.strip())
        name = self._renamed.get(name, name)
        if name in self._labels:
            return self._labels[name]
        if is_background(name):
            return BACKGROUND_LABEL
        if is_ignored(name):
            return IGNORE_LABEL
        self._unknown[name] += 1
        self._first.setdefault(name, where)
        return None

    def check(self) -> None:
        """Call it when all names of a source were looked up.

        Raises:
            ValueError: a line for every name that is no class.
        """
        if self._unknown:
            raise ValueError('\n'.join(
                f'{self._first[name]}: {name!r} is none of the {len(self._labels)} classes.'
                f'{suggest_name(name, self._labels)} Give --rename {_quoted(name)}=CLASS, or rename it there'
                + (f' ({count} times)' if count > 1 else '') for name, count in self._unknown.most_common(20)))


def _quoted(name: str) -> str:
    return f"'{name}'" if ' ' in name else name
