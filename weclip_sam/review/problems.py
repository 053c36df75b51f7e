"""What may be wrong with an image's label, and how wrong: the words of the review page and its order.

Worst first means: by the sum of three parts, each in [0, 1], of which those that a folder does not know are left out:
how far the label contradicts the photo's given names, how unsure its least sure class is, and how much of it SAM or the
decoder would label otherwise.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weclip_sam.choices import ORDERS
from weclip_sam.evaluation.truth import MUCH_IGNORED
from weclip_sam.words import counted

SPECK = 0.0005  # of the image: a class on less than that counts as not there
UNSURE = 0.5  # a class is unsure whose mean confidence is below
DOUBTED = 0.1  # of the pixels, from which a disagreement of SAM or the decoder is told
# Where CLIP disagrees with that share of the photos, it knows no such names; of fewer than so many nobody can tell.
MOSTLY, FEW = 0.9, 10
UNSEEN = 0.8  # CLIP disagrees with a given name that it scores below; one that fits no better than others has 0.5
# The CAM draws no outlines and disputes all of them, a fifth of the pixels as a rule: it is shown, but judges nothing.
JUDGES = {'sam': 'SAM', 'decoder': 'the decoder'}

KINDS = {
    'unreadable': 'cannot be read',
    'missing': 'named, not labelled',
    'extra': 'labelled, not named',
    'clip': 'CLIP disagrees',
    'unsure': 'low confidence',
    'doubted': 'much disagreement',
    'empty': 'all background',
    'ignored': 'much ignored',
}


@dataclass(frozen=True)
class Facts:
    """What is known of one image and its label.

    Attributes:
        areas: share of the pixels in (0, 1] of every class that occurs, without the background.
        ignored: share of the pixels that are 255.
        scores: mean confidence in [0, 1] of classes that occur; empty if unknown.
        names: the classes that were given for the photo; None if nobody named any.
        named: CLIP's score in [0, 1] of classes for the whole photo; empty if unknown.
        doubts: by what disagrees with the label, the share of the pixels in [0, 1].
        fault: why photo or label cannot be read, or nothing.
        clip_counts: whether what CLIP says of names is a problem, see :func:`unknown_to_clip`.
    """

    areas: Mapping[str, float] = field(default_factory=dict)
    ignored: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    named: Mapping[str, float] = field(default_factory=dict)
    doubts: Mapping[str, float] = field(default_factory=dict)
    fault: str = ''
    clip_counts: bool = True

    @property
    def found(self) -> tuple[str, ...]:
        """The classes that are there, specks aside."""
        return tuple(name for name, area in self.areas.items() if area >= SPECK)

    @property
    def missing(self) -> tuple[str, ...]:
        """Given names that are not labelled."""
        found = self.found
        return tuple(name for name in self.names or () if name not in found)

    @property
    def extra(self) -> tuple[str, ...]:
        """Labelled classes that were not given; none where nobody named any."""
        return () if self.names is None else tuple(name for name in self.found if name not in self.names)

    @property
    def least_sure(self) -> tuple[str, float] | None:
        """The class with the lowest confidence of those that are there, and its score."""
        known = [(name, self.scores[name]) for name in self.found if name in self.scores]
        return min(known, key=lambda item: item[1], default=None)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Given names that CLIP does not see in the photo; none where its word counts for nothing."""
        if not self.clip_counts:
            return ()
        return tuple(name for name in self.names or () if self.named.get(name, 1.0) < UNSEEN)


def unknown_to_clip(photos: Iterable[Facts]) -> str:
    """A sentence if CLIP disagrees with the names of nearly all photos: then it does not know what is meant (the tiny
    one knows drawn scenes alone), and its word on a single photo tells nothing; or if it disagrees, and there are too
    few photos to find that out. Else nothing.

    Args:
        photos: of which :attr:`Facts.names` and :attr:`Facts.named` are read.
    """
    asked = [facts for facts in photos if any(name in facts.named for name in facts.names or ())]
    disputed = sum(bool(facts.unseen) for facts in asked)
    few = len(asked) < FEW
    if not disputed or not few and disputed < MOSTLY * len(asked):
        return ''
    why = f'of fewer than {FEW} nobody can tell whether this CLIP knows these names' if few else \
        'this CLIP does not know these names'
    return (f'CLIP disagrees with the names of {disputed} of {counted(len(asked), "photo")}: {why}, so that its word '
            'says nothing here and does not count')


def find_problems(facts: Facts) -> dict[str, str]:
    """By the kind of problem (a key of ``KINDS``, in that order) a sentence on it."""
    if facts.fault:
        return dict(unreadable=facts.fault)
    told: dict[str, str] = {}
    if facts.missing:
        told['missing'] = f'named, but nowhere labelled: {_listed(facts.missing)}'
    if facts.extra:
        told['extra'] = 'labelled, but not named: ' + _listed(
            f'{name} ({_percent(facts.areas[name])})' for name in facts.extra)
    if facts.unseen:
        told['clip'] = 'CLIP hardly sees ' + _listed(f'{name} ({facts.named[name]:.2f})' for name in facts.unseen)
    least = facts.least_sure
    if least is not None and least[1] < UNSURE:
        unsure = [name for name in facts.found if facts.scores.get(name, 1.0) < UNSURE]
        told['unsure'] = 'unsure of ' + _listed(f'{name} ({facts.scores[name]:.2f})' for name in unsure)
    doubted = [f'{words} disagrees on {_percent(facts.doubts[who])}' for who, words in JUDGES.items()
               if facts.doubts.get(who, 0.0) >= DOUBTED]
    if doubted:
        told['doubted'] = _listed(doubted)
    if not facts.found and facts.names != () and facts.ignored < 1 - SPECK:
        told['empty'] = 'all background'
    if facts.ignored > MUCH_IGNORED:
        told['ignored'] = f'{_percent(facts.ignored)} ignored'
    return told


def badness(facts: Facts) -> dict[str, float]:
    """By order (a key of ``ORDERS``) how far in front an image stands; what cannot be read stands before all others.

    ``names`` is the share of those classes, given or found, that are not both, or that CLIP does not see;
    ``confidence`` is 1 minus the lowest score of a class; ``doubts`` is the larger share of the pixels that SAM or the
    decoder disputes; each is 0 where nothing is known. ``worst`` is their sum.
    """
    if facts.fault:
        return dict.fromkeys(ORDERS, 4.0)
    given, found = set(facts.names or ()), set(facts.found)
    wrong = given ^ found | set(facts.unseen) if facts.names is not None else set()
    least = facts.least_sure
    parts = dict(confidence=0.0 if least is None else 1 - least[1],
                 doubts=max(facts.doubts.get(who, 0.0) for who in JUDGES),
                 names=len(wrong) / max(1, len(given | found)))
    return dict(worst=sum(parts.values()), **parts)


def _listed(names: Iterable[str]) -> str:
    return ', '.join(names)


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share >= 0.1 else f'{100 * share:.2g} %'
