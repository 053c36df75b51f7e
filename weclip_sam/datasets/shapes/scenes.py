"""``shapes``: the embedded procedural data set, and the scenes the tiny foundation models are trained on.

A scene is one named textured background, one to three objects and nameless clutter. What makes weakly supervised
segmentation hard on photographs is built in on purpose: objects of a family share their body and differ in a small
part (four quadrupeds, three vehicles), classes keep company with backgrounds (boats with water), objects vary in size,
cover each other, are covered by clutter and are cut by the border, and their outlines are irregular and crisp.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from weclip_sam.datasets.shapes.draw import DRAW, Canvas, Pen
from weclip_sam.datasets.shapes.scenery import BACKGROUNDS, CLUTTER, draw_clutter

CLASSES: tuple[str, ...] = tuple(sorted(DRAW))
BACKGROUND_NOUNS: tuple[str, ...] = tuple(sorted(BACKGROUNDS)) + CLUTTER
SYNONYMS: dict[str, tuple[str, ...]] = {
    'bird': ('bird', 'birdie'), 'boat': ('boat', 'ship'), 'bus': ('bus', 'coach'), 'car': ('car', 'automobile'),
    'cat': ('cat', 'kitty'), 'cow': ('cow', 'bull'), 'dog': ('dog', 'puppy'), 'horse': ('horse', 'pony'),
    'person': ('person', 'human'), 'train': ('train', 'locomotive')}
# Where a class is usually met in the data set; pretraining scenes ignore this.
HABITATS = {'boat': 'water', 'bird': 'sky', 'cow': 'grass', 'car': 'road', 'train': 'sand', 'horse': 'grass',
            'person': 'wall', 'bus': 'road'}
HABITAT_PROBABILITY = 0.7
# Arguments of ``render_scene`` for the data set: how hard it is. About a third of the pixels are objects.
DATA_SET_SCENES: dict[str, Any] = dict(scale=(0.66, 1.0), counts=(0.72, 0.24, 0.04), shrink=(1.0, 0.64, 0.48),
                                       spread=0.04, cooccurrence=True)
# Counts changes of the drawing itself, so that masks and labels of scenes drawn otherwise are not taken for these.
SCENES_VERSION = 2
_ASPECT = {'bird': 1.3, 'boat': 1.3, 'bus': 1.5, 'car': 1.5, 'cat': 1.25, 'cow': 1.25, 'dog': 1.25, 'horse': 1.25,
           'person': 0.6, 'train': 1.5}


@dataclass(frozen=True)
class Instance:
    """One object of a scene.

    Attributes:
        name: class name.
        colour: name of its main colour.
        mask: S S bool, its visible pixels.
        parts: (name, S S bool) of its visible parts, biggest body first.
    """

    name: str
    colour: str
    mask: NDArray[np.bool_]
    parts: list[tuple[str, NDArray[np.bool_]]]


@dataclass(frozen=True)
class Scene:
    """One rendered scene.

    Attributes:
        image: S S 3 uint8, RGB.
        instances: objects that can be seen, back to front.
        regions: S S bool masks of the clutter that can be seen.
        background: name of the background.
    """

    image: NDArray[np.uint8]
    instances: list[Instance]
    regions: list[NDArray[np.bool_]]
    background: str

    def label_map(self) -> NDArray[np.uint8]:
        """S S uint8: 0 background, 1 + index of the class elsewhere."""
        labels = np.zeros(self.image.shape[:2], np.uint8)
        for instance in self.instances:
            labels[instance.mask] = 1 + CLASSES.index(instance.name)
        return labels


def render_scene(rng: np.random.Generator, size: int = 112, *, names: Sequence[str] | None = None,
                 background: str | None = None, scale: tuple[float, float] = (0.42, 0.8), max_objects: int = 3,
                 counts: Sequence[float] = (0.5, 0.35, 0.15), shrink: Sequence[float] = (1.0, 0.82, 0.72),
                 spread: float = 0.07, cooccurrence: bool = False, min_visible: float = 0.012,
                 looks: Sequence[int] | None = None) -> Scene:
    """Draw one scene.

    Args:
        rng: source of all randomness.
        size: side of the square image in pixels.
        names: classes to draw (default: one to ``max_objects`` drawn at random, mostly one or two).
        background: name of the background (default: at random).
        scale: range of the object height relative to ``size`` (geometric mean of height and width).
        counts: probabilities of one, two and three objects when ``names`` is not given.
        shrink: factor on the scale in scenes of one, two and three objects.
        spread: standard deviation of an object's place along x around its even share, relative to ``size``; the
            larger it is and the less objects shrink, the more they cover each other.
        max_objects: most objects when ``names`` is not given.
        cooccurrence: let the first object's class prefer its habitat.
        min_visible: objects that show fewer than this share of the image's pixels, or less than a third of their
            telling part, are not listed: nobody would name them.
        looks: one seed for each of ``names``: the same class and seed are the same individual in every scene, its
            colours, proportions and outline, wherever it stands (default: drawn at random).

    Raises:
        ValueError: a class or background that does not exist, or not one of ``looks`` for each of ``names``.
    """
    from weclip_sam.checks import suggest_name
    for name in names or ():
        if name not in CLASSES:
            raise ValueError(f"shapes has no class '{name}'; it has {', '.join(CLASSES)}.{suggest_name(name, CLASSES)}")
    if looks is not None and len(looks) != len(names or ()):
        raise ValueError(f'looks: expected one seed for each of names ({len(names or ())}), got {len(looks)}')
    canvas = Canvas(size, rng)
    if names is None:
        count = min(int(rng.choice([1, 2, 3], p=counts)), max_objects)
        names = [CLASSES[i] for i in rng.choice(len(CLASSES), count, replace=False)]
    if background is None:
        background = sorted(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
        if cooccurrence and rng.random() < HABITAT_PROBABILITY:
            background = HABITATS.get(names[0], background)
    if background not in BACKGROUNDS:
        raise ValueError(f"shapes has no background '{background}'; it has {', '.join(sorted(BACKGROUNDS))}")
    BACKGROUNDS[background](canvas)
    part, clutter_ids = 1, []
    for _ in range(int(rng.integers(0, 4))):
        draw_clutter(canvas, CLUTTER[rng.integers(len(CLUTTER))], part, rng.uniform(0.08, 0.2) * size)
        clutter_ids.append(part)
        part += 1
    smaller = shrink[min(len(names), len(shrink)) - 1]
    drawn: list[tuple[str, str, dict[int, str], int]] = []
    own = [rng] * len(names) if looks is None else [np.random.default_rng(seed) for seed in looks]
    for centre, name, look in zip(_places(rng, len(names), size, spread), names, own, strict=True):
        # A scale is the geometric mean of height and width, so that no family is systematically larger.
        height = rng.uniform(*scale) * size * smaller / np.sqrt(_ASPECT[name])
        pen = Pen(canvas, centre, height, rng.normal(0, 0.12), bool(rng.random() < 0.5), part, look)
        colour = DRAW[name](pen, name, look)
        telling = max(pen.names)
        drawn.append((name, colour, pen.names, int((canvas.parts == telling).sum())))
        part = pen.next_part
    for _ in range(int(rng.integers(0, 3))):
        draw_clutter(canvas, CLUTTER[rng.integers(len(CLUTTER))], part, rng.uniform(0.06, 0.15) * size)
        clutter_ids.append(part)
        part += 1
    instances = [seen for seen in (_visible(canvas.parts, *d, min_visible) for d in drawn) if seen is not None]
    regions = [m for m in (canvas.parts == i for i in clutter_ids) if m.sum() >= 0.004 * size * size]
    return Scene(_camera(canvas.image, rng), instances, regions, background)


def _places(rng: np.random.Generator, count: int, size: int, spread: float) -> list[tuple[float, float]]:
    """Centres of the objects, spread along x, nearer ones (lower) last."""
    slots = (np.arange(count) + 0.5) / count
    x = slots[rng.permutation(count)] + rng.normal(0, spread, count)
    y = np.sort(rng.uniform(0.38, 0.68, count))
    return [(float(a) * size, float(b) * size) for a, b in zip(x, y, strict=True)]


def _visible(parts: NDArray[np.int32], name: str, colour: str, names: dict[int, str], telling_area: int,
             min_visible: float) -> Instance | None:
    masks = [(label, parts == number) for number, label in names.items()]
    whole = np.any([m for _, m in masks], axis=0)
    telling = masks[-1][1].sum()
    if whole.sum() < min_visible * parts.size or telling < max(telling_area / 3, 0.002 * parts.size):
        return None
    return Instance(name, colour, whole, masks)


def _camera(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light, lens and sensor: gain, tint, a light fall-off, slight blur and noise."""
    size = image.shape[0]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + rng.normal(0, 0.06) * ramp[:, None] + rng.normal(0, 0.06) * ramp[None, :]
    gain = rng.normal(1, 0.1) * (1 + rng.normal(0, 0.03, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.7)).astype(np.float32)
    noise = rng.standard_normal((size, size, 1), dtype=np.float32) * rng.uniform(1, 4)
    return np.clip(soft * (light[..., None] * gain) + noise, 0, 255).astype(np.uint8)
