"""An endless order of samples that any number of processes, and any restart, walks in the same way."""
from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from weclip_sam.registry import DATA_SAMPLERS


class SampleIndex(int):
    """An index that knows its place in the run.

    Attributes:
        seed: the sampler's seed.
        position: how many samples, over all processes, come before it.
    """

    seed: int
    position: int

    def __new__(cls, index: int, seed: int = 0, position: int = 0) -> SampleIndex:
        self = super().__new__(cls, index)
        self.seed, self.position = seed, position
        return self

    def __reduce__(self) -> tuple[type, tuple[int, int, int]]:
        return type(self), (int(self), self.seed, self.position)


def sample_generator(index: int) -> np.random.Generator:
    """The generator that all random transforms of one sample draw from.

    It depends on the sampler's seed and the sample's position; for a plain integer on that integer alone.
    """
    seed, position = (index.seed, index.position) if isinstance(index, SampleIndex) else (0, int(index))
    return np.random.default_rng([seed, position])


@DATA_SAMPLERS.register_module()
class InfiniteSeededSampler(Sampler):
    """Shuffles anew for every pass over the data, for ever.

    The order of pass ``e`` follows from ``seed`` and ``e`` alone. Process r of R takes the samples at positions r,
    r + R, r + 2R, ...: with batch size b, the R batches of a step together are the single-process batch of size
    R * b. A run that was interrupted continues at any position without walking the earlier ones: see
    :class:`weclip_sam.engine.ResumeDataHook`.

    Args:
        dataset: anything with a length.
        seed: the same in all processes; None draws one and shares it. A runner gives its own (``--seed``) to samplers
            whose config names none.
        shuffle: whether to shuffle at all.

    Attributes:
        start: how many samples of this process to pass over; read whenever an iteration begins.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True) -> None:
        self.size = len(dataset)
        if self.size == 0:
            raise ValueError('InfiniteSeededSampler: the data set is empty')
        if seed is not None and seed < 0:
            raise ValueError(f'InfiniteSeededSampler seed: expected a number >= 0, or None, got {seed}')
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.shuffle = shuffle
        self.start = 0

    def order(self, epoch: int) -> list[int]:
        """The indices of one pass."""
        if not self.shuffle:
            return list(range(self.size))
        # Hashing the pair keeps (seed 0, pass 1) and (seed 1, pass 0) apart, which adding them would not.
        mixed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0]) >> 1
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(mixed)).tolist()

    def __iter__(self) -> Iterator[SampleIndex]:
        position = self.rank + self.start * self.world_size
        epoch, order = -1, []
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = self.order(epoch)
            yield SampleIndex(order[position % self.size], self.seed, position)
            position += self.world_size

    def __len__(self) -> int:
        """The size of one pass, over all processes."""
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: passes follow from positions. Kept because mmengine calls it."""
