"""SAM when the model is used, by prompts: each connected component of a prediction is asked for.

A mask of a whole class is no prompt that SAM understands; one component at a time is: its box, points within it, and
the model's own log-odds as a rough mask. SAM's answer takes the component's place only where the two agree.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.labels import background_of_maps, in_one_piece
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import BACKGROUND_LABEL, SeedState

PROMPTS = ('box', 'points', 'rough')
TOGETHER = 16   # components that SAM is asked for at once
MOST_ODDS = 8.0  # log-odds of a rough mask are cut off there
CERTAIN = 1e-6   # what all other classes together may have where one counts as certain


class Prompter(Protocol):
    """A SAM that has an image before it, see :class:`weclip_sam.foundation.sam_prompts.PromptedImage`."""

    frame: tuple[int, int]
    prompts: tuple[str, ...]

    def ask(self, points: Tensor | None = None, boxes: Tensor | None = None, rough: Tensor | None = None) -> Tensor:
        """N prompts (points N k 2, boxes N 4, rough N rows columns) to logits N A h w, A answers to each."""

    def enlarge(self, logits: Tensor) -> Tensor:
        """M h w logits to masks M H W bool."""


class Components(NamedTuple):
    """Connected components of a label map, the background's left out.

    Attributes:
        number: H W int32, the component of each pixel; -1 where there is none (or a small one).
        label: N int, the class label of each.
        box: N 4 int, (left, top, right, bottom), right and bottom exclusive.
        area: N int, in pixels.
    """

    number: np.ndarray
    label: np.ndarray
    box: np.ndarray
    area: np.ndarray


def label_components(labels: np.ndarray, min_area: int = 1) -> Components:
    """The 8-connected components of each class in a label map (H W), those of at least ``min_area`` pixels."""
    number = np.full(labels.shape, -1, np.int32)
    found: list[np.ndarray] = [np.zeros((0, 6), np.int64)]
    for label in np.unique(labels):
        if label == BACKGROUND_LABEL:
            continue
        count, own, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=8)
        large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= min_area)
        large = large[large > 0]
        place = np.full(count, -1, np.int32)
        place[large] = np.arange(len(large), dtype=np.int32) + sum(map(len, found))
        np.maximum(number, place[own], out=number)
        left, top, width, height, area = stats[large].astype(np.int64).T
        found.append(np.stack([np.full(len(large), label), left, top, left + width, top + height, area], axis=1))
    table = np.concatenate(found)
    return Components(number, table[:, 0], table[:, 1:5], table[:, 5])


def inner_points(component: np.ndarray, count: int) -> np.ndarray:
    """Points deep inside a component: the farthest from its edge, then the farthest from the edge and those chosen.

    Args:
        component: H W bool, not empty.
        count: of points; where no pixel is left, the last one is repeated.

    Returns:
        count 2 float, (x, y).
    """
    room = np.pad(component, 1).astype(np.uint8)
    points = np.zeros((count, 2))
    for i in range(count):
        distance = cv2.distanceTransform(room, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        if not distance.any():
            points[i:] = points[max(0, i - 1)]
            break
        y, x = np.unravel_index(distance.argmax(), distance.shape)
        points[i] = x - 1, y - 1
        room[y, x] = 0
    return points


@SEED_STEPS.register_module()
class PromptedSam:
    """Refinement step of predictions (``model.test.refine``): SAM redraws each connected component of each class.

    Of SAM's answers to a component the one that overlaps it most is taken, if the two agree. Its pixels then get the
    component's class, those that the component had besides lose it to what else was probable there; without agreement
    the component stays. Where answers meet, the one of higher agreement is painted last.

    Args:
        prompts: what is asked together: ``box`` around the component, ``points`` inside, ``rough``: the log-odds of its
            class as a rough mask. None: whatever the SAM has learnt from (the bundled one: points alone).
        points: how many.
        min_iou: IoU of answer and component from which on they agree.
        min_area: smaller components stay; in shares of the image.
        weight: of the answer against the model's own probabilities, in [0, 1].
    """

    needs, gives = frozenset({'maps', 'prompter'}), frozenset({'maps'})

    def __init__(self, prompts: Sequence[str] | None = None, points: int = 1, min_iou: float = 0.5,
                 min_area: float = 0.001, weight: float = 1.0) -> None:
        for name in prompts or ():
            if name not in PROMPTS:
                raise ValueError(f'PromptedSam prompts: expected some of {PROMPTS}, got {name!r}.'
                                 f'{suggest_name(str(name), PROMPTS)}')
        if isinstance(prompts, str) or prompts is not None and not prompts or points < 1:
            raise ValueError(f'PromptedSam: expected a list of prompts, at least one, and at least one point, got '
                             f'prompts={prompts!r}, points={points}')
        for name, value in (('min_iou', min_iou), ('min_area', min_area), ('weight', weight)):
            if not 0 <= value <= 1:
                raise ValueError(f'PromptedSam {name}: expected a number in [0, 1], got {value}')
        self.prompts, self.points = None if prompts is None else tuple(prompts), points
        self.min_iou, self.min_area, self.weight = min_iou, min_area, weight

    def __call__(self, state: SeedState) -> SeedState:
        """Reads ``maps``, ``background`` and ``prompter`` of one image; writes the first two. Works on the host."""
        if len(state.image_labels) != 1:
            raise ValueError(f'PromptedSam refines one image at a time, got {len(state.image_labels)}')
        scores = state.maps.scores
        together = in_one_piece(background_of_maps(state, scores), scores)
        parts = label_components(together.argmax(0).cpu().numpy(), max(1, round(self.min_area * together[0].numel())))
        redrawn = together if state.owned else together.clone()
        answers = self._answers(parts, together, state.prompter)
        for _, place, small in sorted(answers, key=lambda answer: (answer[0], answer[1])):
            mask = state.prompter.enlarge(small[None])[0].to(redrawn.device)
            own = torch.from_numpy(parts.number == place).to(redrawn.device)
            _redraw(redrawn, own, mask, int(parts.label[place]), self.weight)
        return state.with_maps('prompted', state.maps.with_scores(redrawn[1:]), background=redrawn[:1])

    def _answers(self, parts: Components, probabilities: Tensor, prompter: Prompter) -> list[tuple[float, int, Tensor]]:
        """(agreement, component, small logits h w) of the components with an answer that agrees."""
        rows, columns = prompter.frame
        # Where components are told apart at the size of SAM's own masks.
        small = cv2.resize(parts.number, (columns, rows), interpolation=cv2.INTER_NEAREST)
        odds = torch.logit(resize_maps(probabilities, prompter.frame).clamp(0, 1)).clamp(-MOST_ODDS, MOST_ODDS)
        agreed = []
        for first in range(0, len(parts.label), TOGETHER):
            chosen = range(first, min(first + TOGETHER, len(parts.label)))
            asked = self.prompts or prompter.prompts
            logits = prompter.ask(**self._prompts(asked, parts, chosen, odds, small))
            for place, own in zip(chosen, logits, strict=True):
                component = torch.from_numpy(small == place).to(own.device)
                masks = own[:, :rows, :columns] > 0
                overlap = (masks & component).flatten(1).sum(1) / (masks | component).flatten(1).sum(1).clamp(min=1)
                best = int(overlap.argmax())
                if overlap[best] > 0 and overlap[best] >= self.min_iou:
                    agreed.append((float(overlap[best]), place, own[best]))
        return agreed

    def _prompts(self, asked: Sequence[str], parts: Components, chosen: Sequence[int], odds: Tensor,
                 small: np.ndarray) -> dict[str, Any]:
        prompts: dict[str, Any] = {}
        if 'box' in asked:
            prompts['boxes'] = torch.from_numpy(parts.box[list(chosen)])
        if 'points' in asked:
            prompts['points'] = torch.from_numpy(np.stack([_points(parts, place, self.points) for place in chosen]))
        if 'rough' in asked:
            others = torch.from_numpy(np.stack([(small >= 0) & (small != place) for place in chosen])).to(odds.device)
            prompts['rough'] = odds[parts.label[list(chosen)]].masked_fill(others, -MOST_ODDS)
        return prompts


def _points(parts: Components, place: int, count: int) -> np.ndarray:
    left, top, right, bottom = parts.box[place]
    return inner_points(parts.number[top:bottom, left:right] == place, count) + [left, top]


def _redraw(probabilities: Tensor, component: Tensor, answer: Tensor, label: int, weight: float) -> None:
    """Write into probabilities C+1 H W that ``answer`` (H W bool), and no more of ``component``, is ``label``.

    A plane after the other: of a large image there is to be no copy. What the others have is added up: near one,
    ``1 - own`` has hardly a digit left.
    """
    lost, own = component & ~answer, probabilities[label].clone()
    others = torch.zeros_like(own)
    for place, plane in enumerate(probabilities):
        if place != label:
            others += plane
    certain = lost & (others < CERTAIN)  # nothing else was possible
    factor = torch.ones_like(own).masked_fill_(answer | certain, 1 - weight)
    factor = torch.where(lost & ~certain, 1 - weight + weight / others.clamp(min=CERTAIN), factor)
    for plane in probabilities:
        plane.mul_(factor)
    probabilities[BACKGROUND_LABEL] += weight * certain
    probabilities[label] = torch.where(component | answer, (1 - weight) * own + weight * answer, own)
