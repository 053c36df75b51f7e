"""ExCEL's attribute bank: what sentences say of the classes, clustered, moves the text of every class a little.

The sentences are written by people, or by whatever they like; nothing here writes any. A file of them is either JSON::

    {"bird": ["a clean origami bird. It has a beak.", "a clean origami bird. It has feathers."], "cat": [...]}

or, under any other name than ``*.json``, plain text with one sentence a line behind its class and a colon; blank lines
and those that begin with ``#`` are passed over (a class with a colon in its name needs JSON)::

    bird: a clean origami bird. It has a beak.

Sentences are encoded as they stand, so they name the class where they shall. Not every class needs one: the bank is
common to all.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.io.names import normal
from weclip_sam.io.text import read_json, read_text

ROUNDS = 100  # of K-means, at most
DROPPED = 10  # of so many attributes the one that is least like a class is left out


def load_attributes(path: str | Path, clip: FrozenClip, classes: Sequence[str], centres: int = 112) -> Tensor:
    """The bank of a file of sentences.

    Args:
        path: see the top of this module.
        clip: the frozen encoder.
        classes: the C class names of the data set.
        centres: n, to which the sentences are clustered. Published: 112 on VOC, 224 on COCO.

    Returns:
        n E, centres of unit vectors and therefore shorter ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown class, a class without a sentence, something else than sentences, fewer of them than
            ``centres``, or one that is too long for the text tower.
    """
    if centres < 1:
        raise ValueError(f'attribute_centres: expected at least 1, got {centres}')
    sentences = read_sentences(path, classes)
    if len(sentences) < centres:
        raise ValueError(f'{path}: {len(sentences)} different sentences make no bank of {centres} attributes: write '
                         f'more, or set attribute_centres to {len(sentences)} or less')
    try:
        encoded = text_features(clip, sentences, ('{}',))
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    return cluster(encoded.cpu(), centres).to(encoded.device)


def read_sentences(path: str | Path, classes: Sequence[str]) -> list[str]:
    """All sentences of a file, each once, in its order; see :func:`load_attributes`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'attributes {path}: no such file; expected JSON {{"class": ["sentence", ...]}} or '
                                'lines of text "class: sentence"')
    known = {normal(name) for name in classes}
    found: dict[str, None] = {}
    for where, name, said in _json_entries(path) if path.suffix.lower() == '.json' else _text_entries(path):
        if normal(name) not in known:
            raise ValueError(f'{where}: the data set has no class {name!r}.{suggest_name(normal(name), known)} It has: '
                             f'{", ".join(classes)}')
        if not isinstance(said, list):
            raise ValueError(f'{where}: class {name!r}: expected a list of sentences, got {type(said).__name__}')
        if not said:
            raise ValueError(f'{where}: class {name!r} has an empty list: give it sentences, or take the class out')
        found.update(dict.fromkeys(_sentences(said, f'{where}: class {name!r}')))
    if not found:
        raise ValueError(f'{path}: holds no sentence')
    return list(found)


def _json_entries(path: Path) -> Iterable[tuple[str, str, Any]]:
    content = read_json(path, 'attributes')
    if not isinstance(content, dict):
        raise ValueError(f'attributes {path}: expected an object {{"class": ["sentence", ...]}}, got '
                         f'{type(content).__name__}')
    return [(f'attributes {path}', name, said) for name, said in content.items()]


def _text_entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip() and not line.lstrip().startswith('#'):
            name, colon, sentence = line.partition(':')
            where = f'attributes {path}, line {number}'
            if not colon:
                raise ValueError(f'{where}: expected "class: sentence", got {line.strip()!r:.80}')
            yield where, name.strip(), [sentence]


def _sentences(said: list[Any], where: str) -> Iterator[str]:
    for sentence in said:
        if not isinstance(sentence, str) or not sentence.strip():
            raise ValueError(f'{where}: expected sentences, got {sentence!r:.80}')
        yield sentence.strip()


def cluster(points: Tensor, centres: int, seed: int = 0) -> Tensor:
    """K-means from one start that spreads (k-means++); the same points give the same centres, in the same order.

    Args:
        points: N E, on the CPU.
        centres: at most N.
        seed: of the start.

    Returns:
        centres E, the means of their points.
    """
    check_shape('points: N E', points=points)
    generator, values = torch.Generator().manual_seed(seed), points.double()
    chosen = [int(torch.randint(len(values), (), generator=generator))]
    nearest = torch.full((len(values),), torch.inf, dtype=torch.double)
    while len(chosen) < centres:
        nearest = torch.minimum(nearest, (values - values[chosen[-1]]).square().sum(1))
        odds = nearest if nearest.sum() > 0 else torch.ones_like(nearest)
        chosen.append(int(odds.multinomial(1, generator=generator)))
    means, before = values[chosen], torch.empty(0, dtype=torch.long)
    for _ in range(ROUNDS):
        own = torch.cdist(values, means).argmin(1)
        if torch.equal(own, before):
            break
        before, count = own, torch.bincount(own, minlength=centres)[:, None]
        total = torch.zeros_like(means).index_add_(0, own, values)
        means = torch.where(count > 0, total / count.clamp(min=1), means)
    return means.to(points.dtype)


def attribute_weights(text: Tensor, bank: Tensor, drop: int | None = None) -> Tensor:
    """How much each attribute says of each class: a softmax (no temperature) over those that are kept.

    Args:
        text: C E, unit rows.
        bank: n E.
        drop: how many attributes each class leaves out, the least like it. None: a tenth, rounded down; the public code
            takes ``int((1 - 0.9) * n)``, which is one fewer where n is a multiple of ten.

    Returns:
        C n, rows sum to one; zero where an attribute is left out.
    """
    check_shape('text: C E; bank: n E', text=text, bank=bank)
    logits = text.float() @ bank.float().T
    keep = logits.topk(len(bank) - (len(bank) // DROPPED if drop is None else drop), dim=1)
    return torch.zeros_like(logits).scatter(1, keep.indices, keep.values.softmax(1))


def with_attributes(text: Tensor, bank: Tensor, drop: int | None = None) -> Tensor:
    """C E unit rows: each class's text with the mean of its attributes added; arguments as above."""
    return F.normalize(text.float() + attribute_weights(text, bank, drop) @ bank.float(), dim=-1)
