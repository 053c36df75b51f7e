"""``review.csv``: what the page shows, one image a line, for spreadsheets and programs."""
from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from weclip_sam.datasets.readers.labels import join_names
from weclip_sam.io.files import atomic_open
from weclip_sam.review.entries import Entry

COLUMNS = ('rank', 'name', 'image', 'problems', 'badness', 'worst_class', 'worst_score', 'names', 'areas', 'scores',
           'clip', 'doubts', 'ignored', 'fault', 'corrected')


def write_table(path: Path, entries: Sequence[Entry]) -> None:
    """Write the entries in their order, atomically.

    Columns: ``problems`` and ``names`` are separated by ``;`` as in ``labels.csv``; ``areas``, ``scores``, ``clip`` and
    ``doubts`` are JSON objects (classes, or what disagrees, to shares in [0, 1]); what is not known is empty;
    ``corrected`` is ``yes`` where the label was changed since it was made.
    """
    with atomic_open(path, 'w') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(COLUMNS)
        for rank, entry in enumerate(entries, start=1):
            facts = entry.facts
            least = facts.least_sure
            writer.writerow([
                rank, entry.name, entry.photo or '', ';'.join(entry.problems), f'{entry.badness["worst"]:.4f}',
                '' if least is None else least[0], '' if least is None else f'{least[1]:.4f}',
                join_names(facts.names or ()), *map(_json, (facts.areas, facts.scores, facts.named, facts.doubts)),
                f'{facts.ignored:.4f}', facts.fault, 'yes' * entry.corrected])


def _json(values: Mapping[str, float]) -> str:
    rounded = {name: round(value, 4) for name, value in values.items()}
    return json.dumps(rounded, ensure_ascii=False) if values else ''
