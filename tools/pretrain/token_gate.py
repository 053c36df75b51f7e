"""What patch tokens know: a linear probe and nearest neighbours, on *tune* scenes with their ground truth.

The same measure for every encoder, whatever its patch: scenes ``0 .. fit-1`` of *tune* teach the probe, the next
``test`` scenes judge it, and neither is trained on nor reported on anywhere else.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.datasets.shapes.reader import shapes_scene
from weclip_sam.datasets.shapes.scenes import CLASSES, Scene
from weclip_sam.evaluation.iou import confusion_matrix, iou_from_confusion

LABELS = len(CLASSES) + 1
# B 3 H W uint8 -> B P D and the grid (h, w).
Tokens = Callable[[Tensor], tuple[Tensor, tuple[int, int]]]


@dataclass(frozen=True)
class GateScenes:
    """Scenes with their ground truth.

    Attributes:
        images: N 3 S S uint8.
        labels: N S S int64, 0 background, 1 + class elsewhere.
        parts: N S S int64, 0 background, elsewhere 1 + 2 * class, one more on the part that tells the class.
    """

    images: Tensor
    labels: Tensor
    parts: Tensor

    @classmethod
    def of(cls, scenes: list[Scene]) -> GateScenes:
        """Of rendered scenes."""
        labels = np.stack([scene.label_map() for scene in scenes]).astype(np.int64)
        parts = np.where(labels > 0, 2 * labels - 1, 0)
        for scene, part in zip(scenes, parts, strict=True):
            for instance in scene.instances:
                part[instance.parts[-1][1]] += 1
        images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).contiguous()
        return cls(images, torch.from_numpy(labels), torch.from_numpy(parts))

    @classmethod
    def tune(cls, start: int, count: int, size: int = 112, seed: int = 0) -> GateScenes:
        """Scenes ``start .. start+count-1`` of shapes tune."""
        return cls.of([shapes_scene('tune', i, size, seed) for i in range(start, start + count)])


@torch.no_grad()
def tokens_of(tokens: Tokens, images: Tensor, batch: int = 25) -> tuple[Tensor, tuple[int, int]]:
    """N P D float32 of N 3 H W uint8 images, and the grid."""
    parts = [tokens(some) for some in images.split(batch)]
    return torch.cat([part.float() for part, _ in parts]), parts[0][1]


def shares(labels: Tensor, count: int, grid: tuple[int, int]) -> Tensor:
    """N P count: how much of each patch every label (N S S int64) covers."""
    planes = F.one_hot(labels, count).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(planes, grid).flatten(2).transpose(1, 2)


def fit_probe(x: Tensor, target: Tensor, weight_decay: float = 1e-5, steps: int = 60) -> Tensor:
    """1+D C weights of multinomial logistic regression (the bias first) of N D features on N C shares, by LBFGS."""
    x = F.pad(x, (1, 0), value=1.0)
    weights = torch.zeros(x.shape[1], target.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=steps, history_size=20, line_search_fn='strong_wolfe')

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weights, target) + weight_decay * weights[1:].square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weights.detach()


def probe_miou(fit: GateScenes, test: GateScenes, tokens: Tokens) -> float:
    """mIoU in percent, at pixels, of a linear probe on frozen tokens: learnt on ``fit``, measured on ``test``."""
    x, grid = tokens_of(tokens, fit.images)
    mean, std = x.mean((0, 1)), x.std((0, 1)).clamp(min=1e-6)
    weights = fit_probe(((x - mean) / std).flatten(0, 1), shares(fit.labels, LABELS, grid).flatten(0, 1))
    y, _ = tokens_of(tokens, test.images)
    logits = ((y - mean) / std) @ weights[1:] + weights[0]
    planes = logits.transpose(1, 2).unflatten(2, grid)
    guess = F.interpolate(planes, test.labels.shape[1:], mode='bilinear', align_corners=False).argmax(1)
    return 100 * float(iou_from_confusion(confusion_matrix(guess, test.labels, LABELS)).nanmean())


def neighbour_purity(scenes: GateScenes, tokens: Tokens, seed: int = 0, queries: int = 1500) -> dict[str, float]:
    """How often the nearest token of *another* image has the same class and the same part, in percent.

    Counted over patches that one thing covers to at least 90 %, every label weighing the same among the queries:
    ``class`` and ``part`` on objects alone, ``object`` (object or background) on all.
    """
    x, grid = tokens_of(tokens, scenes.images)
    pure = shares(scenes.parts, 2 * LABELS - 1, grid).flatten(0, 1)
    label = torch.where(pure.amax(1) >= 0.9, pure.argmax(1), -1)
    image = torch.arange(len(x)).repeat_interleave(x.shape[1])
    x = F.normalize((x - x.mean((0, 1))).flatten(0, 1), dim=1)
    rng = torch.Generator().manual_seed(seed)
    per_label = -(-queries // (2 * LABELS - 1))
    picks = []
    for each in range(2 * LABELS - 1):
        where = (label == each).nonzero().flatten()
        picks.append(where[torch.randperm(len(where), generator=rng)[:per_label]])
    pick, keys = torch.cat(picks), (label >= 0).nonzero().flatten()
    similar = (x[pick] @ x[keys].T).masked_fill(image[pick][:, None] == image[keys], -2)
    mine, found = label[pick], label[keys[similar.argmax(1)]]
    objects = mine > 0
    same_class = (mine + 1) // 2 == (found + 1) // 2
    rows = dict(object=(mine > 0) == (found > 0), **{'class': same_class[objects], 'part': (mine == found)[objects]})
    return {name: 100 * float(row.float().mean()) for name, row in rows.items()}


def gate(tokens: Tokens, fit: int = 240, test: int = 160) -> dict[str, float]:
    """Probe mIoU and purities of an encoder on tune scenes; one flat dict of rounded percentages."""
    learn, judge = GateScenes.tune(0, fit), GateScenes.tune(fit, test)
    row = dict(probe_miou=probe_miou(learn, judge, tokens))
    row |= {f'nn_{name}': value for name, value in neighbour_purity(judge, tokens).items()}
    return {name: round(value, 2) for name, value in row.items()}
