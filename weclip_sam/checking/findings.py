"""What a check of the data finds, for people and for programs."""
from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from weclip_sam.io.names import printable
from weclip_sam.words import counted

LEVELS = ('error', 'warning', 'note')
MAX_NAMES = 40  # classes that the text lists


@dataclass(frozen=True)
class Finding:
    """One thing worth telling.

    Attributes:
        level: ``'error'`` (the run would fail, or its results would be wrong), ``'warning'`` or ``'note'``.
        check: which check found it, e.g. ``'image'``, ``'mask'``, ``'duplicate'``, ``'checkpoint'``.
        where: the data set or the part of the config it belongs to.
        message: what is wrong, naming the file.
    """

    level: str
    check: str
    where: str
    message: str


@dataclass
class Report:
    """All findings, and a summary of each data set."""

    findings: list[Finding] = field(default_factory=list)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, level: str, check: str, where: str, message: str) -> None:
        """Note one finding.

        Raises:
            ValueError: on a level that does not exist.
        """
        if level not in LEVELS:
            raise ValueError(f'level must be one of {LEVELS}, got {level!r}')
        self.findings.append(Finding(level, check, where, printable(message)))

    @property
    def errors(self) -> list[Finding]:
        """The findings that keep a run from starting."""
        return [finding for finding in self.findings if finding.level == 'error']

    @property
    def ok(self) -> bool:
        """Whether there is no such finding."""
        return not self.errors

    def told_once(self) -> list[Finding]:
        """The findings, where several places have the same one, as one with all of them."""
        places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for finding in self.findings:
            found = places[finding.level, finding.check, finding.message]
            found += [finding.where] if finding.where not in found else []
        return [Finding(level, check, ' and '.join(where), message)
                for (level, check, message), where in places.items()]

    def text(self, limit: int = 10) -> str:
        """A readable report; of each kind of finding the first ``limit`` are shown."""
        return '\n'.join(self._lines(limit))

    def _lines(self, limit: int) -> Iterator[str]:
        for name, summary in self.datasets.items():
            yield f'{name}: ' + ', '.join(f'{key} {value}' for key, value in summary.items()
                                          if key != 'images_of_class')
            if 'images_of_class' in summary:
                yield _class_line(summary['images_of_class'])
        findings = self.told_once()
        for level in LEVELS:
            groups: dict[tuple[str, str], list[str]] = defaultdict(list)
            for finding in findings:
                if finding.level == level:
                    groups[finding.where, finding.check].append(finding.message)
            for (where, check), messages in groups.items():
                yield f'{level.upper()} {check}, {where}: {len(messages)}'
                yield from (f'  {message}' for message in messages[:limit])
                if len(messages) > limit:
                    yield f'  ... and {len(messages) - limit} more (--json has them all)'
        counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
        yield ('OK: ' if self.ok else 'NOT OK: ') + ', '.join(counted(n, level) for level, n in counts.items())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(ok=self.ok, datasets=self.datasets, findings=[asdict(finding) for finding in self.told_once()])


def _class_line(counts: Mapping[str, int]) -> str:
    """The images of every class, most first; of many classes the rarest, rarest first."""
    title, names = 'classes', sorted(counts, key=lambda name: -counts[name])
    if len(names) > MAX_NAMES:
        title, names = f'the {MAX_NAMES} rarest of {len(names)} classes', names[:-MAX_NAMES - 1:-1]
    items = (f'{name} {counts[name]}'.replace(' ', '\xa0') for name in names)  # lines break between classes only
    return textwrap.fill(f'{title}: ' + ', '.join(items), 110, initial_indent='  ', subsequent_indent='    ',
                         break_long_words=False, break_on_hyphens=False).replace('\xa0', ' ')
