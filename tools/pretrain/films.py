"""Films that the tiny DINO learns from: frames of the same individuals, and views of them.

A frame shows the individuals of a film, elsewhere, in other light and before another background than its other frames
(``tiny.film_frames``). A view is a crop of a frame with its colours changed a little, of which some patches are read.
"""
from __future__ import annotations

import cv2
import numpy as np
import torch
from tiny import film_frames
from torch import Tensor

# First word of the seed sequences: no other part of the project uses it.
STREAM = 0x44_49_4E_4F
CHUNK, FRAMES, SIDE = 2048, 4, 112
# Chroma axes (YIQ): a rotation in their plane turns the hue.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)


class Films:
    """Batches of rendered films by iteration: a chunk is drawn, visited a few times in new orders, and dropped."""

    def __init__(self, seed: int, batch: int, visits: int, chunk: int) -> None:
        self.seed, self.batch, self.visits, self.chunk = seed, batch, visits, chunk
        self.number = -1

    def __call__(self, iteration: int) -> np.ndarray:
        """B F S S 3 uint8, a pure function of the iteration."""
        visit, step = divmod(iteration, self.chunk // self.batch)
        if self.number != visit // self.visits:
            self.number = visit // self.visits
            self.frames = np.stack([self._film(i) for i in range(self.chunk)])
        order = np.random.default_rng([STREAM, self.seed, 1, visit]).permutation(self.chunk)
        return self.frames[order[step * self.batch:(step + 1) * self.batch]]

    def _film(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([STREAM, self.seed, 0, self.number * self.chunk + index])
        return np.stack([frame.image for frame in film_frames(rng, SIDE, FRAMES)])


def colour_matrix(rng: np.random.Generator, hue: float = 0.04) -> tuple[np.ndarray, np.ndarray]:
    """3 3 and 3: a random change of hue (in turns), saturation, contrast and brightness of RGB in 0..255."""
    turn, saturation = rng.uniform(-hue, hue) * 2 * np.pi, rng.uniform(0.4, 1.5)
    if rng.random() < 0.1:
        saturation = 0.0
    c, s = np.cos(turn) * saturation, np.sin(turn) * saturation
    chroma = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
    matrix = np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ * rng.uniform(0.65, 1.35)
    shift = 128 * (1 - matrix.sum(1)) + rng.uniform(-35, 35)
    return matrix.astype(np.float32), shift.astype(np.float32)


def draw_views(frames: np.ndarray, size: int, area: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """One random crop (share ``area`` of the frame), mirrored or not, recoloured, of each N S S 3 uint8 frame.

    Returns:
        N 3 size size float32 in 0..255.
    """
    side = frames.shape[1]
    views = np.empty((len(frames), size, size, 3), np.float32)
    for view, frame in zip(views, frames, strict=True):
        edge = np.sqrt(rng.uniform(*area))
        stretch = np.exp(rng.uniform(-0.2, 0.2))
        width, height = (max(8, min(side, round(side * edge * f))) for f in (stretch, 1 / stretch))
        x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
        crop = cv2.resize(frame[y:y + height, x:x + width], (size, size),
                          interpolation=cv2.INTER_AREA if width > size else cv2.INTER_LINEAR)
        if rng.random() < 0.3:
            crop = cv2.GaussianBlur(crop, (3, 3), rng.uniform(0.3, 1.0))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        matrix, shift = colour_matrix(rng)
        view[:] = crop @ matrix.T + shift
    return torch.from_numpy(views).permute(0, 3, 1, 2).clamp(0, 255).contiguous()


def draw_patches(count: int, patches: int, share: float, generator: torch.Generator) -> Tensor:
    """count P' int64: the patches that each view keeps, ``share`` of them, in their order (patch dropout, as FLIP)."""
    score = torch.rand(count, patches, generator=generator)
    return score.topk(max(1, round(share * patches)), dim=1).indices.sort(dim=1).values
