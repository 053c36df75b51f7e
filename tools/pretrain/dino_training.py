"""Self-distillation of patch tokens: views of a scene, the teacher's assignments, the losses.

A teacher, the running average of the student, sees a large view of a scene and assigns its class token, each of its
patches, and what surrounds each patch and looks alike, to prototypes. The student sees small views of the same scene,
other colours, some patches masked, and predicts the assignment of the image and, patch by patch, those of the place in
the scene where the patch lies (as DINO, iBOT and SwAV do; the patches here meet by place across views). No names and no
masks take part.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Chroma axes (YIQ): a rotation in their plane turns the hue.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)


# Views ---------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class View:
    """Crops of N images, all of one size.

    Attributes:
        images: N 3 S S float32 in 0..255.
        boxes: N 4 float32 (left, top, right, bottom) in the scene's pixels; left > right where the view is mirrored.
    """

    images: Tensor
    boxes: Tensor

    def places(self, grid: int) -> Tensor:
        """N G G 2 float32 (x, y): where the centres of a G x G grid of patches lie in the scene."""
        step = (torch.arange(grid) + 0.5) / grid
        left, top, right, bottom = (edge[:, None, None] for edge in self.boxes.T)
        x = left + (right - left) * step[None, None, :]
        y = top + (bottom - top) * step[None, :, None]
        return torch.stack(torch.broadcast_tensors(x, y), -1)


def colour_matrix(rng: np.random.Generator, hue: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """3 3 and 3: a random change of hue (in turns), saturation, contrast and brightness of RGB in 0..255."""
    turn, saturation = rng.uniform(-hue, hue) * 2 * np.pi, rng.uniform(0.4, 1.5)
    if rng.random() < 0.1:
        saturation = 0.0
    c, s = np.cos(turn) * saturation, np.sin(turn) * saturation
    chroma = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
    matrix = np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ * rng.uniform(0.65, 1.35)
    shift = 128 * (1 - matrix.sum(1)) + rng.uniform(-35, 35)
    return matrix.astype(np.float32), shift.astype(np.float32)


def draw_view(scenes: np.ndarray, size: int, area: tuple[float, float], rng: np.random.Generator) -> View:
    """One random crop (share ``area`` of the scene), mirrored or not, recoloured, of each N S S 3 uint8 scene."""
    side = scenes.shape[1]
    images, boxes = np.empty((len(scenes), size, size, 3), np.float32), np.empty((len(scenes), 4), np.float32)
    for i, scene in enumerate(scenes):
        edge = np.sqrt(rng.uniform(*area))
        stretch = np.exp(rng.uniform(-0.2, 0.2))
        width, height = (max(8, min(side, round(side * edge * f))) for f in (stretch, 1 / stretch))
        x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
        crop = cv2.resize(scene[y:y + height, x:x + width], (size, size),
                          interpolation=cv2.INTER_AREA if width > size else cv2.INTER_LINEAR)
        if rng.random() < 0.3:
            crop = cv2.GaussianBlur(crop, (3, 3), rng.uniform(0.3, 1.0))
        boxes[i] = x, y, x + width, y + height
        if rng.random() < 0.5:
            crop, boxes[i, [0, 2]] = crop[:, ::-1], boxes[i, [2, 0]]
        matrix, shift = colour_matrix(rng)
        images[i] = crop @ matrix.T + shift
    return View(torch.from_numpy(images).permute(0, 3, 1, 2).clamp(0, 255).contiguous(), torch.from_numpy(boxes))


def draw_mask(count: int, grid: int, rng: np.random.Generator, share: tuple[float, float] = (0.1, 0.6)) -> Tensor:
    """N G*G bool: one half of the images has a random share of its patches masked, in 2 x 2 blocks."""
    half = -(-grid // 2)
    score = rng.random((count, half, half)).repeat(2, 1).repeat(2, 2)[:, :grid, :grid].reshape(count, -1)
    wanted = np.where(rng.random(count) < 0.5, rng.uniform(*share, count), 0.0)
    return torch.from_numpy(score < wanted[:, None])


def look_up(values: Tensor, view: View, places: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's patch under each place.

    Args:
        values: N T K of the patches of a square grid of ``view``.
        places: N G G 2 in the scene.

    Returns:
        N G*G K, and N G*G bool: the place lies inside the view.
    """
    grid = round(values.shape[1] ** 0.5)
    left, top, right, bottom = (edge[:, None, None] for edge in view.boxes.T)
    x, y = (places[..., 0] - left) / (right - left), (places[..., 1] - top) / (bottom - top)
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    column, row = ((v * grid).long().clamp(0, grid - 1) for v in (x, y))
    index = (row * grid + column).flatten(1)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2])), inside.flatten(1)


# Networks ------------------------------------------------------------------------------------------------------------

class Head(nn.Module):
    """Tokens to cosines with K prototypes."""

    def __init__(self, width: int, prototypes: int, hidden: int = 384, bottleneck: int = 64) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


class Distiller(nn.Module):
    """A vision transformer with a mask token, and one head each for the image, its patches and their surroundings."""

    def __init__(self, card: dict, image_prototypes: int, patch_prototypes: int) -> None:
        super().__init__()
        self.vit = VisionTransformer(**card)
        for block in self.vit.blocks:
            block.attn.fused_attn = False  # on a CPU, plain products train some sixty tokens 1.3 times faster
        self.mask_token = nn.Parameter(torch.zeros(self.vit.embed_dim))
        nn.init.normal_(self.mask_token, std=0.02)
        self.image_head = Head(self.vit.embed_dim, image_prototypes)
        self.patch_head = Head(self.vit.embed_dim, patch_prototypes)
        self.thing_head = Head(self.vit.embed_dim, patch_prototypes)

    def tokens(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Class token N D and patches N P D of the last block, normed; masked patches (N P bool) are not seen."""
        x = self.vit.patch_embed(images)
        if mask is not None:
            x = torch.where(mask.view(*x.shape[:3], 1), self.mask_token.to(x.dtype), x)
        x = self.vit.norm_pre(self.vit._pos_embed(x))
        for block in self.vit.blocks:
            x = block(x)
        x = self.vit.norm(x)
        return x[:, 0], x[:, 1:]


def surroundings(patches: Tensor, temperature: float = 0.25, reach: float = 0.2) -> Tensor:
    """Every patch's mean over patches that are near and look alike: of its object, more or less.

    A patch of a body and one of the head that tells whose body it is get nearly the same mean, so what is predicted
    from either is what they have in common.

    Args:
        patches: N P D of a square grid.
        temperature: of the cosines, after the image's mean token is subtracted.
        reach: standard deviation of the distance, of the grid's side.

    Returns:
        N P D.
    """
    grid = round(patches.shape[1] ** 0.5)
    line = torch.arange(grid, device=patches.device) / (grid * reach)
    place = torch.cartesian_prod(line, line)
    centred = F.normalize(patches - patches.mean(1, keepdim=True), dim=-1)
    alike = centred @ centred.transpose(1, 2) / temperature - torch.cdist(place, place).square() / 2
    return alike.softmax(-1) @ patches


# Losses --------------------------------------------------------------------------------------------------------------

@torch.no_grad()
def assign(cosines: Tensor, sharpness: float = 5.0, steps: int = 3) -> Tensor:
    """N K soft assignments of which every prototype gets the same share (Sinkhorn-Knopp, as SwAV).

    Each prototype's cosines are centred and all are scaled to a deviation of 1 first: with a fixed temperature, tokens
    that have come close to one another are assigned to everything a little, pull the student closer still, and
    collapse.
    """
    cosines = cosines.float()
    centred = cosines - cosines.mean(0)
    q = (sharpness * centred / centred.std().clamp(min=1e-6)).clamp(max=60).exp()
    for _ in range(steps):
        q = q / q.sum(0).clamp(min=1e-12)
        q = q / q.sum(1, keepdim=True).clamp(min=1e-12)
    return q


def cross_entropy(cosines: Tensor, target: Tensor, temperature: float, weight: Tensor | None = None) -> Tensor:
    """Mean over rows (weighted) of the cross-entropy between ``target`` and the softmax of ``cosines``."""
    loss = -(target * F.log_softmax(cosines.float() / temperature, dim=-1)).sum(-1)
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum().clamp(min=1)
