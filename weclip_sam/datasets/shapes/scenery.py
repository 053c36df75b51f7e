"""Named backgrounds and nameless clutter of the ``shapes`` scenes."""
from __future__ import annotations

import numpy as np

from weclip_sam.datasets.shapes.draw import Canvas, Colour, box, ellipse, limb, wobble


def _streaks(canvas: Canvas, colour: Colour, count: int, y0: float, length: float, width: float, slant: float) -> None:
    rng, size = canvas.rng, canvas.size
    for _ in range(count):
        x, y = rng.uniform(0, size), rng.uniform(y0, size)
        dx, dy = length * np.cos(slant), length * np.sin(slant)
        canvas.paint(limb(x, y, x + dx + rng.normal(0, 1), y + dy + rng.normal(0, 1), width), colour, fine=4, coarse=4)


def _horizon(canvas: Canvas, low: float = 0.15, high: float = 0.45) -> int:
    return int(canvas.rng.uniform(low, high) * canvas.size)


def _grass(canvas: Canvas) -> None:
    y = _horizon(canvas)
    canvas.fill((168, 204, 236), 3, 8, slice(0, y))
    canvas.fill((84, 146, 58), 16, 10, slice(y, None))
    _streaks(canvas, (58, 116, 40), 14, y, 5, 1.3, -1.4)


def _water(canvas: Canvas) -> None:
    y = _horizon(canvas, 0.1, 0.4)
    canvas.fill((196, 216, 232), 3, 8, slice(0, y))
    canvas.fill((34, 104, 140), 6, 10, slice(y, None))
    _streaks(canvas, (150, 200, 214), 14, y, 13, 1.4, 0.0)


def _road(canvas: Canvas) -> None:
    y = _horizon(canvas)
    canvas.fill((150, 156, 150), 8, 14, slice(0, y))
    canvas.fill((86, 86, 90), 9, 5, slice(y, None))
    _streaks(canvas, (222, 220, 206), 4, y + 0.3 * canvas.size, 14, 2.5, 0.0)


def _snow(canvas: Canvas) -> None:
    y = _horizon(canvas)
    canvas.fill((176, 190, 206), 4, 8, slice(0, y))
    canvas.fill((236, 240, 246), 5, 7, slice(y, None))


def _sand(canvas: Canvas) -> None:
    y = _horizon(canvas)
    canvas.fill((150, 196, 222), 3, 6, slice(0, y))
    canvas.fill((220, 194, 140), 10, 8, slice(y, None))


def _forest(canvas: Canvas) -> None:
    canvas.fill((34, 70, 36), 15, 22)
    rng, size = canvas.rng, canvas.size
    for _ in range(6):
        x = rng.uniform(0, size)
        canvas.paint(limb(x, 0, x + rng.normal(0, 4), size * rng.uniform(0.5, 0.8), rng.uniform(3, 7)), (70, 48, 30))


def _wall(canvas: Canvas) -> None:
    canvas.fill((158, 92, 74), 7, 9)
    step, size = int(canvas.rng.integers(9, 15)), canvas.size
    for k, y in enumerate(range(0, size, step)):
        canvas.paint(box(0, y, size, y + 1.4), (196, 184, 170), fine=3, coarse=3)
        for x in range((k % 2) * step, size, 2 * step):
            canvas.paint(box(x, y, x + 1.4, y + step), (196, 184, 170), fine=3, coarse=3)


def _sky(canvas: Canvas) -> None:
    canvas.fill((104, 162, 220), 3, 8)
    rng, size = canvas.rng, canvas.size
    for _ in range(4):
        cloud = ellipse(rng.uniform(0, size), rng.uniform(0, size), rng.uniform(10, 24), rng.uniform(4, 9))
        canvas.paint(wobble(cloud, rng, 1.5), (232, 238, 246), fine=3, coarse=5)


BACKGROUNDS = {'forest': _forest, 'grass': _grass, 'road': _road, 'sand': _sand, 'sky': _sky, 'snow': _snow,
               'wall': _wall, 'water': _water}
CLUTTER = ('ball', 'box', 'bush', 'rock')


def draw_clutter(canvas: Canvas, kind: str, part: int, height: float) -> None:
    """One piece of clutter of about ``height`` pixels somewhere on the canvas."""
    rng, size = canvas.rng, canvas.size
    x, y = rng.uniform(0, size), rng.uniform(0.25 * size, size)
    if kind == 'ball':
        colour = rng.uniform(40, 235, 3)
        canvas.paint(ellipse(x, y, height / 2, height / 2), tuple(colour), part)
        canvas.paint(ellipse(x, y, height / 2, height / 6, rng.uniform(0, 3)), tuple(255 - colour), part)
    elif kind == 'box':
        canvas.paint(wobble(box(x, y, x + height * rng.uniform(0.7, 1.4), y + height), rng, 0.6), (176, 130, 76), part)
        canvas.paint(box(x, y + height * 0.4, x + height * 0.7, y + height * 0.5), (120, 84, 44), part)
    elif kind == 'bush':
        for _ in range(4):
            leaf = ellipse(x + rng.normal(0, height / 4), y + rng.normal(0, height / 6), height / 3, height / 3)
            canvas.paint(wobble(leaf, rng, 1.2), (46, rng.uniform(92, 130), 40), part, fine=16)
    else:
        stone = wobble(ellipse(x, y, height * 0.7, height * 0.45), rng, height * 0.08)
        canvas.paint(stone, (122, 118, 112), part, fine=10, coarse=16)
