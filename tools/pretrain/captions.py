"""Captions of ``shapes`` scenes, and which captions are true of which scene.

The tiny CLIP learns from image-caption pairs alone. Because the scenes are procedural, it is also known which *other*
captions of a batch happen to be true of an image ("a cat" is true of every image with a cat), and such pairs are not
treated as negatives. A caption only ever speaks of names, colours and backgrounds: no mask is involved.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weclip_sam.datasets.shapes.draw import FUR, PAINT
from weclip_sam.datasets.shapes.scenery import BACKGROUNDS
from weclip_sam.datasets.shapes.scenes import BACKGROUND_NOUNS, CLASSES, SYNONYMS, Scene

COLOURS: tuple[str, ...] = tuple(sorted({*FUR, *PAINT}))
# One bit per fact: classes, (class, colour) pairs, backgrounds and clutter.
FACTS: tuple[str, ...] = (*CLASSES, *(f'{colour} {name}' for name in CLASSES for colour in COLOURS), *BACKGROUND_NOUNS)
_INDEX = {fact: i for i, fact in enumerate(FACTS)}
# The facts that can be pointed at in an image: classes, then backgrounds.
NAMES: tuple[int, ...] = tuple(_INDEX[name] for name in (*CLASSES, *sorted(BACKGROUNDS)))
_OPENINGS = ('a photo of {}', 'a picture of {}', '{}', 'an image of {}', 'a drawing of {}', 'there is {}')
_PLACES = {'forest': 'in the forest', 'grass': 'on grass', 'road': 'on the road', 'sand': 'on sand',
           'sky': 'in the sky', 'snow': 'in snow', 'wall': 'by a wall', 'water': 'on water'}


@dataclass(frozen=True)
class Caption:
    """A sentence and the facts it states (indices into :data:`FACTS`)."""

    text: str
    states: tuple[int, ...]


def scene_facts(scene: Scene) -> tuple[int, ...]:
    """Everything a caption may truthfully say of the scene."""
    facts = {_INDEX[scene.background]}
    for seen in scene.instances:
        facts |= {_INDEX[seen.name], _INDEX[f'{seen.colour} {seen.name}']}
    return tuple(sorted(facts))


def write_caption(scene: Scene, rng: np.random.Generator, colour_rate: float = 0.2,
                  place_rate: float = 0.25) -> Caption:
    """One caption: the objects (all, or one of them), sometimes their colour, sometimes the place."""
    seen = list(scene.instances)
    rng.shuffle(seen)
    if len(seen) > 1 and rng.random() < 0.3:
        seen = seen[:1]
    states, nouns = set(), []
    for instance in seen:
        word = SYNONYMS[instance.name][int(rng.random() < 0.25)]
        states.add(_INDEX[instance.name])
        if rng.random() < colour_rate:
            states.add(_INDEX[f'{instance.colour} {instance.name}'])
            word = f'{instance.colour} {word}'
        nouns.append(f'a {word}')
    text = ' and '.join(nouns)
    if not nouns or rng.random() < place_rate:
        states.add(_INDEX[scene.background])
        text = f'{text} {_PLACES[scene.background]}' if nouns and rng.random() < 0.8 else (
            ' and '.join([*nouns, scene.background]))
    return Caption(_OPENINGS[rng.integers(len(_OPENINGS))].format(text), tuple(sorted(states)))


def name_sentence(fact: int, rng: np.random.Generator) -> str:
    """A sentence about one of :data:`NAMES` alone."""
    name = FACTS[fact]
    if name in SYNONYMS:
        name = f'a {SYNONYMS[name][int(rng.random() < 0.25)]}'
    return _OPENINGS[rng.integers(len(_OPENINGS))].format(name)


def truth(facts: list[tuple[int, ...]], states: list[tuple[int, ...]]) -> np.ndarray:
    """N M bool: caption j states nothing that image i does not have."""
    have = np.zeros((len(facts), len(FACTS)), np.float32)
    said = np.zeros((len(states), len(FACTS)), np.float32)
    for row, items in zip(have, facts, strict=True):
        row[list(items)] = 1
    for row, items in zip(said, states, strict=True):
        row[list(items)] = 1
    return have @ said.T == said.sum(1)
