"""Sheets: rows of pictures with titles and a legend, as one image."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from weclip_sam.structures import IGNORE_LABEL
from weclip_sam.visualization.overlays import enlarge, overlay_class_maps, overlay_labels, stripes

_PAPER, _INK, _FAINT = (250, 250, 250), (25, 25, 25), (120, 120, 120)
_GAP, _MARGIN, _TEXT = 8, 14, 15
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Panel:
    """One picture of a row: ``image`` H W 3 uint8, a ``title``, and a ``note`` in grey beside it (a score, say)."""

    title: str
    image: np.ndarray
    note: str = ''


@dataclass(frozen=True)
class Row:
    """Panels of one height, a ``caption`` above them (an image id, say) and the labels that occur in them."""

    panels: tuple[Panel, ...]
    caption: str = ''
    labels: tuple[int, ...] = ()


def explained_row(rgb: np.ndarray, ground_truth: np.ndarray | None, cam: np.ndarray | None,
                  cam_classes: Sequence[int], seed: np.ndarray | None, prediction: np.ndarray, colors: np.ndarray,
                  caption: str = '', height: int = 224) -> Row:
    """Image, ground truth, CAM, seed and prediction of one image, with each label map's mIoU on this image.

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
        panels.append(Panel(title, picture, note))
    if cam is not None:
        maps = np.stack([enlarge(m.astype(np.float32), size) for m in cam]) if len(cam) else np.zeros((0, *size))
        at = 1 if ground_truth is None else 2
        panels.insert(at, Panel('CAM', overlay_class_maps(photo, maps, cam_classes, colors)))
    occurring = {int(label) for _, labels in shown if labels is not None for label in np.unique(labels)}
    occurring |= {int(c) + 1 for c in cam_classes}
    return Row(tuple(panels), caption, tuple(sorted(occurring - {0})))


def _score(labels: np.ndarray, truth: np.ndarray, count: int) -> str:
    """mIoU of one image over its true classes; ignored seed pixels count as background."""
    counted = truth != IGNORE_LABEL
    guess = np.where(labels == IGNORE_LABEL, 0, labels)[counted]
    truth = truth[counted]
    scores = [((guess == label) & (truth == label)).sum() / ((guess == label) | (truth == label)).sum()
              for label in range(count) if (truth == label).any()]
    return f'{100 * float(np.mean(scores)):.0f}' if scores else ''


def draw_sheet(rows: Sequence[Row], colors: np.ndarray, names: Sequence[str], title: str = '') -> np.ndarray:
    """All rows below each other, one legend for the sheet.

    Args:
        rows: at least one; panels stand in columns when their widths agree.
        colors: C+1 3 uint8.
        names: C+1 label names, background first.
        title: above everything.

    Returns:
        H W 3 uint8.
    """
    if not rows:
        raise ValueError('draw_sheet: a sheet needs at least one row')
    font, bold = ImageFont.load_default(_TEXT), ImageFont.load_default(_TEXT + 5)
    columns = max(len(row.panels) for row in rows)
    widths = [max((row.panels[i].image.shape[1] for row in rows if i < len(row.panels)), default=0)
              for i in range(columns)]
    width = 2 * _MARGIN + sum(widths) + _GAP * (columns - 1)
    labels = sorted({label for row in rows for label in row.labels})
    legend = _legend_lines(labels, names, font, width - 2 * _MARGIN)
    line = _TEXT + 8
    heights = [line * (2 if row.caption else 1) + max(p.image.shape[0] for p in row.panels) + _GAP + 4 for row in rows]
    head = 34 if title else 0
    height = 2 * _MARGIN + head + sum(heights) + len(legend) * (line + 4)
    sheet = Image.new('RGB', (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((_MARGIN, _MARGIN - 2), title, fill=_INK, font=bold)
    top = _MARGIN + head
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(sheet, draw, row, widths, top, line, font)
        top += row_height
    for entries in legend:
        _draw_legend(sheet, draw, entries, colors, top, font)
        top += line + 4
    return np.asarray(sheet)


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, widths: Sequence[int], top: int, line: int,
              font: _Font) -> None:
    if row.caption:
        draw.text((_MARGIN, top), row.caption, fill=_FAINT, font=font)
        top += line
    left = _MARGIN
    for panel, width in zip(row.panels, widths, strict=False):
        draw.text((left, top), panel.title, fill=_INK, font=font)
        if panel.note:
            right = left + panel.image.shape[1] - draw.textlength(panel.note, font=font)
            draw.text((right, top), panel.note, fill=_FAINT, font=font)
        sheet.paste(Image.fromarray(panel.image), (left, top + line))
        left += width + _GAP


def _legend_lines(labels: Sequence[int], names: Sequence[str], font: _Font,
                  width: int) -> list[list[tuple[int, str, int]]]:
    """Break the legend into lines: (label, name, x) each."""
    lines: list[list[tuple[int, str, int]]] = []
    left = 0
    for label in labels:
        name = 'ignored' if label == IGNORE_LABEL else names[label] if label < len(names) else str(label)
        needed = _TEXT + 6 + round(font.getlength(name)) + 18
        if not lines or left + needed > width:
            lines.append([])
            left = 0
        lines[-1].append((label, name, left))
        left += needed
    return lines


def _draw_legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, entries: Sequence[tuple[int, str, int]],
                 colors: np.ndarray, top: int, font: _Font) -> None:
    for label, name, offset in entries:
        left = _MARGIN + offset
        if label == IGNORE_LABEL:
            chip = np.where(stripes(_TEXT, _TEXT, 6)[..., None], 215, 110).astype(np.uint8).repeat(3, -1)
        else:
            chip = np.broadcast_to(colors[min(label, len(colors) - 1)], (_TEXT, _TEXT, 3)).copy()
        sheet.paste(Image.fromarray(chip), (left, top + 3))
        draw.text((left + _TEXT + 6, top), name, fill=_INK, font=font)
