"""Sheets: rows of pictures with titles, a legend and what is to be known about them, as one image."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization.explained import in_words
from weclip_sam.visualization.legend import FAINT, INK, PAPER, draw_legend
from weclip_sam.visualization.overlays import enlarge, overlay_class_maps, overlay_labels
from weclip_sam.visualization.text import shortened, wrapped, write_across, written

_GAP, _MARGIN, _TEXT, _LINE = 8, 14, 14, 23
# What the panels of explained_row are, by title.
_MEANS = {
    'ground truth': 'ground truth: what the numbers compare with; striped pixels do not count',
    'CAM': 'CAM: where the network looks for the given names, each pixel in the colour of its strongest one, as bright '
           'as its score',
    'seed': 'seed: the labels that are taught at this point, made from the given names; striped pixels are left out',
    'prediction': 'prediction: what the network says without being told any name, at a single scale'}
_NUMBER = ('number beside a title: mIoU in percent with the ground truth of this one image, over background and the '
           'classes that are in it; what a seed leaves out counts as background')


@dataclass(frozen=True)
class Panel:
    """One picture of a row: ``image`` H W 3 uint8, a ``title``, and a ``note`` in grey beside it (a score, say)."""

    title: str
    image: np.ndarray
    note: str = ''


@dataclass(frozen=True)
class Row:
    """Panels of one height, a ``caption`` above them (an image id and its names, say), the labels that occur."""

    panels: tuple[Panel, ...]
    caption: str = ''
    labels: tuple[int, ...] = ()


def explained_row(rgb: np.ndarray, ground_truth: np.ndarray | None, cam: np.ndarray | None,
                  cam_classes: Sequence[int], seed: np.ndarray | None, prediction: np.ndarray, colors: np.ndarray,
                  caption: str = '', height: int = 224) -> Row:
    """Image, ground truth, CAM, seed and prediction of one image, with each label map's mIoU on this image.

    Labels without any class say so in words.

    Args:
        rgb: H W 3 uint8.
        ground_truth: H W labels with 255 for ignore, or None.
        cam: K h w in [0, 1]; any size. None, as for the seed, where a model has none.
        cam_classes: K classes, 0-based.
        seed, prediction: H W labels; 255 in a seed is ignored.
        colors: C+1 3 uint8.
        caption: shown above the row.
        height: of the pictures; they are drawn at that size, so that outlines stay thin on small images.
    """
    size = (height, max(round(rgb.shape[1] * height / rgb.shape[0]), 1))
    photo = enlarge(rgb, size)
    panels = [Panel('image', photo)]
    shown = [('ground truth', ground_truth), ('seed', seed), ('prediction', prediction)]
    for title, labels in shown:
        if labels is None:
            continue
        note = '' if labels is ground_truth or ground_truth is None else _score(labels, ground_truth, len(colors))
        picture = overlay_labels(photo, enlarge(labels.astype(np.int64), size, smooth=False), colors)
        panels.append(Panel(title, _said(picture, in_words(labels)), note))
    if cam is not None:
        maps = np.stack([enlarge(m.astype(np.float32), size) for m in cam]) if len(cam) else np.zeros((0, *size))
        at = 1 if ground_truth is None else 2
        picture = overlay_class_maps(photo, maps, cam_classes, colors)
        panels.insert(at, Panel('CAM', _said(picture, '' if len(cam) else 'no names were given')))
    occurring = {int(label) for _, labels in shown if labels is not None for label in np.unique(labels)}
    occurring |= {int(c) + 1 for c in cam_classes}
    return Row(tuple(panels), caption, tuple(sorted(occurring - {0})))


def _said(picture: np.ndarray, words: str) -> np.ndarray:
    if not words:
        return picture
    image = Image.fromarray(picture)
    write_across(image, words, _TEXT)
    return np.asarray(image)


def _score(labels: np.ndarray, truth: np.ndarray, count: int) -> str:
    """mIoU of one image over its true classes; ignored seed pixels count as background."""
    counted = truth != IGNORE_LABEL
    guess = np.where(labels == IGNORE_LABEL, 0, labels)[counted]
    truth = truth[counted]
    scores = [((guess == label) & (truth == label)).sum() / ((guess == label) | (truth == label)).sum()
              for label in range(count) if (truth == label).any()]
    return f'{100 * float(np.mean(scores)):.0f}' if scores else ''


def meanings(rows: Sequence[Row]) -> list[str]:
    """Sentences on what the panels of rows by :func:`explained_row` are, and their numbers; for what is there."""
    panels = [panel for row in rows for panel in row.panels]
    titles = {panel.title for panel in panels}
    number = [_NUMBER] if any(panel.note for panel in panels) else []
    return [*(text for title, text in _MEANS.items() if title in titles), *number]


def draw_sheet(rows: Sequence[Row], colors: np.ndarray, names: Sequence[str], title: str = '',
               notes: Sequence[str] = ()) -> np.ndarray:
    """All rows below each other, one legend for the sheet.

    Args:
        rows: at least one; panels stand in columns when their widths agree.
        colors: C+1 3 uint8.
        names: C+1 label names, background first.
        title: above everything.
        notes: sentences below everything: what the panels and their numbers are (:func:`meanings`).

    Returns:
        H W 3 uint8.
    """
    if not rows:
        raise ValueError('draw_sheet: a sheet needs at least one row')
    columns = max(len(row.panels) for row in rows)
    widths = [max((row.panels[i].image.shape[1] for row in rows if i < len(row.panels)), default=0)
              for i in range(columns)]
    inner = sum(widths) + _GAP * (columns - 1)
    captions = [wrapped(row.caption, _TEXT, inner) for row in rows]
    legend = draw_legend(sorted({label for row in rows for label in row.labels}), colors, names, inner, _TEXT, notes)
    heights = [_LINE * (1 + len(caption)) + max(panel.image.shape[0] for panel in row.panels) + _GAP + 4
               for row, caption in zip(rows, captions, strict=True)]
    top = _MARGIN + (34 if title else 0)
    sheet = Image.new('RGB', (2 * _MARGIN + inner, top + sum(heights) + len(legend) + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        text, font = written(title, _TEXT + 4, bold=True)
        draw.text((_MARGIN, _MARGIN - 2), shortened(text, font, inner), fill=INK, font=font)
    for row, caption, row_height in zip(rows, captions, heights, strict=True):
        _draw_row(sheet, draw, row, caption, widths, top)
        top += row_height
    sheet.paste(Image.fromarray(legend), (_MARGIN, top))
    return np.asarray(sheet)


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, caption: Sequence[str], widths: Sequence[int],
              top: int) -> None:
    for line in caption:
        line, font = written(line, _TEXT)
        draw.text((_MARGIN, top), line, fill=FAINT, font=font)
        top += _LINE
    left = _MARGIN
    for panel, width in zip(row.panels, widths, strict=False):
        note, font = written(panel.note, _TEXT)
        right = left + panel.image.shape[1]
        draw.text((right, top), note, fill=FAINT, font=font, anchor='ra')
        title, font = written(panel.title, _TEXT)
        room = panel.image.shape[1] - (font.getlength(note) + _GAP if note else 0)
        draw.text((left, top), shortened(title, font, room), fill=INK, font=font, anchor='la')
        sheet.paste(Image.fromarray(panel.image), (left, top + _LINE))
        left += width + _GAP
