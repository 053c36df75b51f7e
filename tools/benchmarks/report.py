"""What was measured, as text."""
from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import Measured

WIDTH = 30  # of the longest usual name

def table(rows: Sequence[Measured]) -> str:
    """All rows, by piece of work and place on the curve."""
    lines, heading = [], None
    for row in rows:
        at = ''.join(f', {axis} {value}' for axis, value in row.at.items())
        if heading != (heading := row.case + at):
            lines += ['', heading]
        lines.append('  ' + '  '.join([f'{row.way:<{WIDTH}}', *_cells(row)]).rstrip())
    return '\n'.join(lines).strip('\n')


def _cells(row: Measured) -> list[str]:
    """Time, ratio, memory and floor in columns, then what only some rows have."""
    cells = [f'{1000 * row.seconds:9.2f} ms', f'{1000 * row.per_image:9.2f} ms/image',
             ' ' * 8 if row.speedup is None else f'{row.speedup:6.2f} x',
             ' ' * 9 if row.memory_mb is None else f'{row.memory_mb:6.0f} MB']
    if row.floor is not None:
        cells.append(f'floor {1000 * row.floor.seconds:8.2f} ms by {row.floor.bound:<10} {100 * row.share:5.1f} %')
    if row.difference is not None:
        cells.append(f'differs by {row.difference:.1e}')
    if row.host is not None:
        cells += [f'{value} {name}' for name, value in vars(row.host).items() if value is not None]
    return cells
