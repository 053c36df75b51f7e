"""Tiny files and in-memory readers for the data tests."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.datasets import Reader, Record, Vocabulary

SHARED = Path(__file__).resolve().parents[3] / 'shared'


class MemoryReader(Reader):
    """Images made on the spot: image i has value i everywhere; labels and masks follow from i."""

    def __init__(self, count: int = 10, size: tuple[int, int] = (20, 30), classes: int = 3) -> None:
        self.shape = size
        names = [f'class{i}' for i in range(classes)]
        # Image 0 has no label at all.
        records = [Record(f'image{i:03d}', (i % classes,) if i else ()) for i in range(count)]
        super().__init__(Vocabulary.build(names), records)

    def load_image(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((*self.shape, 3), index, np.uint8))

    def load_ground_truth(self, index: int) -> np.ndarray:
        return np.full(self.shape, index % 3 + 1, np.uint8)

    def check_masks(self) -> None:
        pass


@pytest.fixture
def memory_reader() -> Callable[..., MemoryReader]:
    return MemoryReader


@pytest.fixture
def shared() -> Path:
    """The optional sibling folder with real data."""
    if not SHARED.is_dir():
        pytest.skip('no ../shared folder beside the repository')
    return SHARED


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a small random RGB image; returns its path."""
    def write(path: Path, size: tuple[int, int] = (12, 16), seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path
    return write
