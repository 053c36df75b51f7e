"""Ground truth compared with the names of the images: what tells that label numbers mean other classes than thought."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

VERY_PROBABLY_WRONG = 0.5  # share of the images that disagree, from which it is no matter of a few slips
WORST = 5  # images that are told
MUCH_IGNORED = 0.2  # share of the pixels, from which it is told


@dataclass(frozen=True)
class TruthRecord:
    """One image.

    Attributes:
        image_id: the image.
        named: labels (1..C) of the classes that it is named for.
        pixels: pixels by label in its mask; labels without pixels need not be there, 255 counts for nothing.
    """

    image_id: str
    named: frozenset[int]
    pixels: dict[int, int]

    @property
    def unnamed(self) -> dict[int, float]:
        """Share of the pixels of every class that the mask holds and the image is not named for."""
        total = sum(self.pixels.values())
        return {label: count / total for label, count in sorted(self.pixels.items())
                if count and label and label not in self.named}

    @property
    def none_of_the_named(self) -> bool:
        """Whether the image is named for classes, and the mask holds none of them."""
        return bool(self.named) and sum(self.pixels.values()) > 0 and not any(map(self.pixels.get, self.named))


@dataclass(frozen=True)
class TruthCheck:
    """What the comparison of a set found; see :func:`compare_truth`.

    Attributes:
        images: how many were compared: those with a name, or with something in the mask.
        unnamed: of them, how many hold a class that they are not named for.
        none_of_the_named: and how many none of those that they are named for.
        disagreeing: how many do either.
        worst: a phrase for each of the worst, by the share of wrong pixels.
        shift: the number that, added to all labels, would make the masks fit the names far better, or 0.
    """

    images: int
    unnamed: int
    none_of_the_named: int
    disagreeing: int
    worst: tuple[str, ...]
    shift: int = 0

    @property
    def very_probably_wrong(self) -> bool:
        """Whether so many disagree that the order of the classes, or the masks, must be wrong."""
        return self.disagreeing > 0 and self.disagreeing >= VERY_PROBABLY_WRONG * self.images

    def message(self) -> str:
        """One line for people; nothing where all agree."""
        if not self.disagreeing:
            return ''
        found = [f'{self.unnamed} hold classes that the image is not named for'] * bool(self.unnamed)
        found += [f'{self.none_of_the_named} none of those that it is named for'] * bool(self.none_of_the_named)
        text = (f'{self.disagreeing} of {self.images} ground-truth masks disagree with the names of their images: '
                f'{", ".join(found)}; the worst: {"; ".join(self.worst)}')
        if self.very_probably_wrong:
            moved = f' (they would fit with every label moved by {self.shift:+d})' if self.shift else ''
            text += f'. The order of the classes or the masks are very probably wrong{moved}, and so is every score'
        return text

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return dict(images=self.images, disagreeing=self.disagreeing, unnamed=self.unnamed,
                    none_of_the_named=self.none_of_the_named, worst=list(self.worst),
                    very_probably_wrong=self.very_probably_wrong)


def compare_truth(records: Iterable[TruthRecord], classes: Sequence[str]) -> TruthCheck:
    """Compare masks with names.

    A mask need not hold all that an image is named for (what is seen may be tiny, or ignored), but some of it, and
    nothing else.

    Args:
        records: the images of one set. Where none of them has a name, names are not known, and nothing is compared.
        classes: the C names; label = position + 1.
    """
    records = list(records)
    if not any(record.named for record in records):
        return TruthCheck(0, 0, 0, 0, ())
    records = [r for r in records if r.named or any(count for label, count in r.pixels.items() if label)]
    wrong = [r for r in records if r.unnamed or r.none_of_the_named]
    wrong.sort(key=lambda r: (-sum(r.unnamed.values()), r.image_id))
    worst = tuple(_phrase(record, classes) for record in wrong[:WORST])
    return TruthCheck(len(records), sum(bool(r.unnamed) for r in records), sum(r.none_of_the_named for r in records),
                      len(wrong), worst, _shift(records, len(wrong)))


def no_class_in_truth(pixels: Sequence[int], ignored: int) -> str:
    """What is wrong with the ground truth of a set that holds no class, but 255: masks that draw an object as white.

    Args:
        pixels: of the set by label, background first.
        ignored: pixels that are 255.

    Returns:
        One line, or nothing where a class is there or nothing is ignored: photos of background alone are no mistake.
    """
    if not ignored or any(pixels[1:]):
        return ''
    held = f'0 and 255 alone (255 on {_percent(pixels, ignored)})' if pixels[0] else '255 alone'
    return (f'the masks hold {held} and no class: 255 means ignore here, so nothing but background is scored; write '
            f'labels 1..{max(len(pixels) - 1, 1)} for the classes (1 for an object of a binary mask) and keep 255 for '
            'pixels that do not count')


def much_ignored(pixels: Sequence[int], ignored: int) -> str:
    """One line on the share of the pixels that do not count, or nothing where it is usual; arguments as above."""
    if ignored <= MUCH_IGNORED * (sum(pixels) + ignored):
        return ''
    return f'{_percent(pixels, ignored)} of the ground truth are 255, which means ignore, and were not scored'


def _percent(pixels: Sequence[int], ignored: int) -> str:
    return f'{100 * ignored / (sum(pixels) + ignored):.3g} % of the pixels'


def _phrase(record: TruthRecord, classes: Sequence[str]) -> str:
    names = ', '.join(classes[label - 1] for label in sorted(record.named)) or 'nothing'
    shares = ', '.join(f'{classes[label - 1]} on {100 * share:.3g} %' for label, share in record.unnamed.items())
    return f'{record.image_id} (named {names}; its mask has {shares or "none of it"})'


def _shift(records: Sequence[TruthRecord], wrong: int) -> int:
    def disagreeing(by: int) -> int:
        moved = (TruthRecord(r.image_id, r.named, {label + by if label else 0: n for label, n in r.pixels.items()})
                 for r in records)
        return sum(bool(r.unnamed) or r.none_of_the_named for r in moved)
    return next((by for by in (-1, 1) if wrong and 4 * disagreeing(by) <= wrong), 0)
