"""The published figures as a table for a terminal: whose they are, by what networks, and how they came here."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weclip_sam.comparison.tables import DASH
from weclip_sam.comparison.values import published_figures

HEAD = ('method', 'stages', 'backbone', 'extra model', 'multi-scale', 'CRF', 'VOC val', 'VOC test', 'COCO val',
        'source')
INTRODUCTION = (
    'Published figures, percent mIoU on PASCAL VOC 2012 and COCO 2014. None was measured here, and none compares with',
    'what this package measures on its drawn scenes. source: "published" and the paper, or "told by third parties",',
    f'where the paper itself was not at hand. {DASH}: no figure. ?: the source at hand does not say.')


def published_listing() -> list[str]:
    """Lines: what the table is, one row a figure in the order of ``published.json``, then pseudo labels and notes."""
    figures = published_figures()
    rows = [HEAD, *map(_row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, '-' * max(map(len, lines)))
    return [*INTRODUCTION, '', *lines, '', 'mIoU of pseudo labels, and notes:',
            *(f'  {figure["method"]}: {remark}' for figure in figures if (remark := _remark(figure)))]


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    said = {None: '?', True: 'yes', False: 'no'}
    return (figure['method'], figure['stages'],
            *(str(said.get(figure[key], figure[key])) for key in ('backbone', 'extra', 'multi_scale', 'crf')),
            *(figure[key] or DASH for key in ('voc_val', 'voc_test', 'coco_val')),
            f'published: {figure["paper"]}' if figure['paper'] else 'told by third parties')


def _remark(figure: Mapping[str, Any]) -> str:
    labels = figure['seeds'] and figure['seeds'].removeprefix('labels: ')
    return '; '.join(filter(None, (labels, figure['note'])))
