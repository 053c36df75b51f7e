"""Drawing of the procedural ``shapes`` scenes: textures, backgrounds, objects made of parts, clutter.

Everything is drawn with OpenCV polygons on one canvas that also keeps, per pixel, the number of the part that was
painted last. So the visible mask of an object is exact whatever covers it. All randomness comes from the generator
that the caller passes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Colour = tuple[float, float, float]

FUR = {'brown': (112, 72, 40), 'black': (42, 40, 44), 'white': (226, 222, 214), 'grey': (128, 126, 130),
       'tan': (194, 154, 104), 'ginger': (196, 112, 46)}
PAINT = {'red': (186, 44, 40), 'blue': (44, 74, 168), 'white': (228, 228, 226), 'green': (46, 128, 70),
         'grey': (122, 126, 132), 'purple': (122, 62, 142)}
SKIN = ((236, 196, 164), (198, 144, 106), (128, 84, 58))
GLASS, RUBBER, STEEL = (142, 206, 232), (28, 28, 30), (92, 94, 100)


class Canvas:
    """An RGB image and a map of part numbers, painted together.

    Attributes:
        image: S S 3 uint8.
        parts: S S int32, the number of the part painted last (0: background).
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.rng = rng
        self.image = np.zeros((size, size, 3), np.uint8)
        self.parts = np.zeros((size, size), np.int32)
        self.fine = rng.standard_normal((size, size), dtype=np.float32)
        coarse = rng.standard_normal((size // 8 + 2, size // 8 + 2), dtype=np.float32)
        self.coarse = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)

    def fill(self, colour: Colour, fine: float = 8.0, coarse: float = 10.0, rows: slice = slice(None)) -> None:
        """Cover whole rows with a textured colour."""
        noise = fine * self.fine[rows] + coarse * self.coarse[rows]
        self.image[rows] = np.clip(np.asarray(colour, np.float32) + noise[..., None], 0, 255)

    def paint(self, polygon: Points, colour: Colour, part: int = 0, fine: float = 5.0, coarse: float = 8.0,
              spots: Colour | None = None) -> None:
        """Paint one polygon (N 2, pixels, x then y); ``spots`` puts blotches of a second colour on it."""
        low = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, self.size)
        if (high <= low).any():
            return
        x, y = slice(low[0], high[0]), slice(low[1], high[1])
        inside = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(inside, [np.round((polygon - low) * 16).astype(np.int32)], 1, shift=4)
        where = inside.astype(bool)
        base = np.asarray(colour, np.float32)
        texture = base + (fine * self.fine[y, x] + coarse * self.coarse[y, x])[..., None]
        if spots is not None:
            texture = np.where((self.coarse[y, x] > 0.5)[..., None], np.asarray(spots, np.float32), texture)
        self.image[y, x][where] = np.clip(texture, 0, 255)[where].astype(np.uint8)
        self.parts[y, x][where] = part


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, n: int = 20) -> Points:
    """A polygon of an ellipse, N 2; the angle in radians."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = rx * np.cos(t), ry * np.sin(t)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], 1)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """A rectangle with points on its edges, so that it can be made irregular."""
    t = np.linspace(0, 1, 5)[:-1]
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)
    ahead = np.roll(corners, -1, 0)
    return (corners[:, None] + t[None, :, None] * (ahead - corners)[:, None]).reshape(-1, 2)


def limb(x0: float, y0: float, x1: float, y1: float, width: float) -> Points:
    """A bar of the given width between two points."""
    d = np.array([x1 - x0, y1 - y0], float)
    n = np.array([-d[1], d[0]]) / max(float(np.hypot(*d)), 1e-6) * width / 2
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a + n, b + n, b - n, a - n])


def wobble(polygon: Points, rng: np.random.Generator, amount: float = 0.02) -> Points:
    """Make an outline irregular: smooth displacements of the given size along it."""
    n = len(polygon)
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    shift = np.zeros((n, 2))
    for k in (2, 3, 5):
        phase, size = rng.uniform(0, 2 * np.pi, 2), rng.normal(0, amount / k ** 0.5, 2)
        shift += size * np.sin(k * t[:, None] + phase)
    return polygon + shift


class Pen:
    """Draws parts given in an object's own frame (unit height, x to its front, y down) onto a canvas.

    ``rng`` makes its outlines irregular; the canvas's own unless given.
    """

    def __init__(self, canvas: Canvas, centre: tuple[float, float], scale: float, angle: float, flip: bool,
                 next_part: int, rng: np.random.Generator | None = None) -> None:
        self.canvas, self.centre, self.scale = canvas, np.asarray(centre, float), scale
        self.rng = canvas.rng if rng is None else rng
        c, s = np.cos(angle), np.sin(angle)
        self.matrix = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if flip else 1.0, 1.0])
        self.next_part = next_part
        self.names: dict[int, str] = {}

    def part(self, name: str) -> int:
        """Open a new part of the object; polygons are painted into the part opened last."""
        number = self.next_part
        self.next_part += 1
        self.names[number] = name
        return number

    def draw(self, polygon: Points, colour: Colour, part: int, rough: float = 0.012, **texture: Any) -> None:
        """Paint a polygon that belongs to a part; what is painted later covers it."""
        polygon = wobble(polygon, self.rng, rough) if rough else polygon
        self.canvas.paint(polygon @ self.matrix.T * self.scale + self.centre, colour, part, **texture)


def shade(colour: Colour, factor: float) -> Colour:
    """A lighter (>1) or darker (<1) version of a colour."""
    red, green, blue = (min(255.0, c * factor) for c in colour)
    return red, green, blue


def _vary(colour: Colour, rng: np.random.Generator, amount: float = 14.0) -> Colour:
    return tuple(np.clip(np.asarray(colour, float) + rng.normal(0, amount, 3), 0, 255))


def draw_quadruped(pen: Pen, kind: str, rng: np.random.Generator) -> str:
    """Cat, cow, dog or horse: one shared body, legs and tail; only the head tells which."""
    name = sorted(FUR)[rng.integers(len(FUR))]
    fur = _vary(FUR[name], rng)
    spots = _vary(FUR[sorted(FUR)[rng.integers(len(FUR))]], rng) if rng.random() < 0.35 else None
    body, length = pen.part('body'), rng.uniform(0.36, 0.46)
    for x in (-0.8, -0.5, 0.45, 0.75):
        step = rng.uniform(-0.05, 0.05)
        pen.draw(limb(x * length, 0.05, x * length + step, 0.5, rng.uniform(0.08, 0.12)), shade(fur, 0.86), body)
    pen.draw(limb(-0.9 * length, -0.05, -length - 0.16, rng.uniform(-0.3, 0.1), 0.055), shade(fur, 0.8), body)
    pen.draw(ellipse(0, 0, length, rng.uniform(0.19, 0.25)), fur, body, 0.02, spots=spots)
    x, y = length + 0.06, rng.uniform(-0.34, -0.24)
    pen.draw(limb(length * 0.6, -0.02, x, y, 0.17), fur, body)
    head = pen.part('head')
    _HEADS[kind](pen, x, y, fur, head)
    return name


def _cat_head(pen: Pen, x: float, y: float, fur: Colour, part: int) -> None:
    for side in (-1, 1):
        ear = np.array([[x + side * 0.16, y - 0.27], [x + side * 0.17, y - 0.02], [x + side * 0.01, y - 0.12]])
        pen.draw(ear, fur, part, 0.0)
        pen.draw(ear * 0.55 + 0.45 * ear.mean(0), (240, 130, 150), part, 0.0)
    pen.draw(ellipse(x, y, 0.17, 0.15), shade(fur, 1.1), part)
    for side in (-1, 1):
        pen.draw(ellipse(x + side * 0.065, y - 0.03, 0.04, 0.045), (120, 220, 70), part, 0.0, fine=0, coarse=0)
    pen.draw(ellipse(x, y + 0.06, 0.035, 0.025), (240, 110, 140), part, 0.0)


def _dog_head(pen: Pen, x: float, y: float, fur: Colour, part: int) -> None:
    pen.draw(limb(x - 0.12, y + 0.2, x + 0.05, y + 0.1, 0.07), (210, 30, 40), part, 0.0)
    pen.draw(ellipse(x, y, 0.15, 0.14), shade(fur, 1.1), part)
    pen.draw(box(x + 0.06, y - 0.03, x + 0.26, y + 0.1), shade(fur, 1.25), part)
    pen.draw(ellipse(x + 0.25, y - 0.01, 0.045, 0.04), (20, 20, 22), part, 0.0)
    pen.draw(ellipse(x - 0.1, y + 0.06, 0.065, 0.17, 0.2), shade(fur, 0.5), part)
    pen.draw(box(x + 0.14, y + 0.1, x + 0.2, y + 0.2), (236, 90, 110), part, 0.0)


def _horse_head(pen: Pen, x: float, y: float, fur: Colour, part: int) -> None:
    pen.draw(limb(x - 0.1, y + 0.12, x + 0.02, y - 0.2, 0.18), fur, part)
    pen.draw(ellipse(x + 0.1, y - 0.14, 0.22, 0.095, 0.6), shade(fur, 1.05), part)
    mane = (30, 22, 60)
    pen.draw(np.array([[x + 0.04, y - 0.36], [x - 0.06, y - 0.3], [x - 0.2, y - 0.05], [x - 0.28, y + 0.2],
                       [x - 0.14, y + 0.14], [x - 0.04, y - 0.1]]), mane, part, 0.015)
    pen.draw(limb(x + 0.1, y - 0.02, x + 0.24, y - 0.13, 0.04), (40, 190, 200), part, 0.0)


def _cow_head(pen: Pen, x: float, y: float, fur: Colour, part: int) -> None:
    for side in (-1, 1):
        horn = np.array([[x + side * 0.08, y - 0.08], [x + side * 0.24, y - 0.14], [x + side * 0.2, y - 0.32],
                         [x + side * 0.16, y - 0.19], [x + side * 0.05, y - 0.15]])
        pen.draw(horn, (244, 226, 150), part, 0.0)
    pen.draw(box(x - 0.13, y - 0.15, x + 0.13, y + 0.14), fur, part)
    pen.draw(box(x - 0.035, y - 0.15, x + 0.035, y + 0.06), (250, 250, 248), part, 0.0)
    pen.draw(ellipse(x, y + 0.13, 0.14, 0.075), (232, 160, 150), part)


_HEADS: dict[str, Callable[[Pen, float, float, Colour, int], None]] = {
    'cat': _cat_head, 'dog': _dog_head, 'horse': _horse_head, 'cow': _cow_head}


def draw_vehicle(pen: Pen, kind: str, rng: np.random.Generator) -> str:
    """Bus, car or train: one shared chassis with wheels; cabin, windows and front tell which."""
    name = sorted(PAINT)[rng.integers(len(PAINT))]
    paint = _vary(PAINT[name], rng)
    length, top = rng.uniform(0.6, 0.78), rng.uniform(-0.22, -0.14)
    body = pen.part('body')
    pen.draw(box(-length, top, length, 0.28), paint, body, 0.015)
    pen.draw(box(-length, 0.2, length, 0.3), shade(paint, 0.6), body, 0.0)
    for x in (-0.62, 0.6):
        pen.draw(ellipse(x * length, 0.3, 0.14, 0.14), RUBBER, body, 0.0)
        pen.draw(ellipse(x * length, 0.3, 0.06, 0.06), STEEL, body, 0.0)
    mark = pen.part('mark')
    if kind == 'car':
        cabin = np.array([[-0.36, top], [-0.2, top - 0.25], [0.16, top - 0.25], [0.36, top]])
        pen.draw(cabin, paint, mark, 0.0)
        pen.draw(cabin * [0.78, 0.8] + [0, top * 0.2 - 0.01], GLASS, mark, 0.0, fine=2, coarse=3)
        pen.draw(ellipse(length - 0.05, 0.02, 0.06, 0.06), (255, 244, 170), mark, 0.0)
    elif kind == 'bus':
        pen.draw(box(-length, top - 0.3, length, top), paint, mark, 0.0)
        for x in np.linspace(-0.82, 0.82, 5):
            pen.draw(box(x * length - 0.085, top - 0.23, x * length + 0.085, top - 0.02), (255, 214, 60), mark, 0.0,
                     fine=2, coarse=3)
    else:
        x = length * 0.72
        pen.draw(box(x - 0.08, top - 0.32, x + 0.06, top), (40, 36, 40), mark, 0.0)
        pen.draw(ellipse(x - 0.14, top - 0.4, 0.17, 0.09), (214, 214, 220), mark)
        pen.draw(box(length * 0.45, top, length, 0.2), (48, 44, 50), mark, 0.0)
        for k in range(3):
            pen.draw(box(length * 0.5, top + 0.06 + 0.11 * k, length, top + 0.11 + 0.11 * k), (240, 150, 30), mark, 0.0)
    return name


def draw_bird(pen: Pen, kind: str, rng: np.random.Generator) -> str:
    """Draw one; returns the name of its colour."""
    name = sorted(PAINT)[rng.integers(len(PAINT))]
    plumage = _vary(PAINT[name], rng)
    body = pen.part('body')
    pen.draw(np.array([[-0.3, -0.02], [-0.62, -0.12], [-0.66, 0.1], [-0.3, 0.12]]), shade(plumage, 0.7), body)
    for x in (-0.02, 0.1):
        pen.draw(limb(x, 0.2, x + 0.04, 0.48, 0.035), (220, 150, 40), body, 0.0)
    pen.draw(ellipse(0, 0.05, 0.4, 0.24), plumage, body, 0.02)
    lift = rng.uniform(-0.5, 0.3)
    pen.draw(np.array([[0.1, -0.02], [-0.1, 0.1], [-0.42, lift], [-0.2, lift - 0.1]]), shade(plumage, 0.75), body)
    head = pen.part('head')
    pen.draw(ellipse(0.36, -0.2, 0.17, 0.16), shade(plumage, 1.15), head)
    pen.draw(np.array([[0.48, -0.3], [0.76, -0.17], [0.48, -0.08]]), (255, 160, 20), head, 0.0)
    pen.draw(ellipse(0.4, -0.24, 0.045, 0.05), (250, 250, 250), head, 0.0, fine=0, coarse=0)
    pen.draw(ellipse(0.41, -0.24, 0.02, 0.025), (10, 10, 10), head, 0.0, fine=0, coarse=0)
    return name


def draw_boat(pen: Pen, kind: str, rng: np.random.Generator) -> str:
    """Draw one; returns the name of its colour."""
    name = sorted(PAINT)[rng.integers(len(PAINT))]
    paint = _vary(PAINT[name], rng)
    body, length = pen.part('body'), rng.uniform(0.55, 0.72)
    hull = np.array([[-length, 0.12], [length, 0.12], [length * 0.66, 0.46], [-length * 0.7, 0.46]])
    pen.draw(hull, paint, body, 0.012)
    pen.draw(box(-length * 0.9, 0.12, length * 0.9, 0.19), shade(paint, 1.35), body, 0.0)
    sail = pen.part('sail')
    pen.draw(limb(0, 0.14, 0, -0.54, 0.05), (96, 62, 34), sail, 0.0)
    pen.draw(np.array([[0.05, -0.5], [0.05, 0.04], [0.46, 0.04]]), (246, 240, 222), sail, 0.01, spots=(236, 120, 60))
    pen.draw(np.array([[-0.05, -0.36], [-0.05, 0.04], [-0.34, 0.04]]), (246, 240, 222), sail, 0.01)
    return name


def draw_person(pen: Pen, kind: str, rng: np.random.Generator) -> str:
    """Draw one; returns the name of its colour."""
    name = sorted(PAINT)[rng.integers(len(PAINT))]
    shirt, trousers = _vary(PAINT[name], rng), _vary(FUR[sorted(FUR)[rng.integers(len(FUR))]], rng)
    skin = SKIN[rng.integers(len(SKIN))]
    body = pen.part('body')
    for side in (-1, 1):
        pen.draw(limb(side * 0.06, 0.1, side * rng.uniform(0.07, 0.15), 0.52, 0.12), trousers, body)
        pen.draw(limb(side * 0.14, -0.2, side * rng.uniform(0.22, 0.3), rng.uniform(-0.05, 0.15), 0.085), shirt, body)
    pen.draw(box(-0.17, -0.25, 0.17, 0.16), shirt, body, 0.015)
    head = pen.part('head')
    pen.draw(ellipse(0, -0.42, 0.135, 0.15), (60, 36, 24), head)
    pen.draw(ellipse(0, -0.38, 0.11, 0.12), skin, head, 0.004, fine=2, coarse=2)
    for side in (-1, 1):
        pen.draw(ellipse(side * 0.045, -0.4, 0.02, 0.02), (20, 20, 30), head, 0.0, fine=0, coarse=0)
    pen.draw(box(-0.04, -0.33, 0.04, -0.31), (180, 50, 60), head, 0.0)
    return name


DRAW: dict[str, Callable[[Pen, str, np.random.Generator], str]] = {
    'bird': draw_bird, 'boat': draw_boat, 'bus': draw_vehicle, 'car': draw_vehicle, 'cat': draw_quadruped,
    'cow': draw_quadruped, 'dog': draw_quadruped, 'horse': draw_quadruped, 'person': draw_person,
    'train': draw_vehicle}
