"""How much of a disk a bank will take, told before it is filled and again when the first images have told more."""
from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from typing import Any

from weclip_sam.engine.progress import announce
from weclip_sam.io.files import size_text
from weclip_sam.mask_bank import MaskBank

SAMPLED = 200  # images whose size tells how much room all need
SPARE = 1.02  # of a disk's room: what files take beside their content
FIRST = 16  # images after which what they took is told
# Of masks there are about so many per point along a side of the grid, and as many more per layer of crops; each takes
# about so many bytes per pixel of height and width together. Measured: 8 masks of 185 bytes on drawn scenes of 112 x
# 112 and 12 of 930 on photos of 500 x 338 (10 points, the tiny SAM), 89 of 330 with 32 points and a layer of crops. So
# the estimate is one and a half to three times what was needed; of a large SAM it was measured by nobody here.
MASKS_A_POINT, BYTES_A_PIXEL = 2, 0.9


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """What is free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def mean_size(dataset: Any, indices: Sequence[int]) -> tuple[float, float] | None:
    """Mean (height, width) of some images, by a sample of them; None where none can be read."""
    sizes = []
    for index in indices[::max(1, len(indices) // SAMPLED)]:
        try:
            sizes.append(dataset.image_size(index))
        except (ValueError, OSError):
            continue  # of a file that cannot be read: whoever needs its pixels says so
    return (sum(h for h, _ in sizes) / len(sizes), sum(w for _, w in sizes) / len(sizes)) if sizes else None


class MaskRoom:
    """Tells how much room the masks of a data set will take in a bank, and warns where there is less.

    Args:
        bank: that they go to.
        generator: of the masks; nothing is estimated of one without a ``MaskGenerator``'s settings.
        dataset: an ``ImageLabelDataset``.
        anew: ids of images whose masks are made once more.
    """

    def __init__(self, bank: MaskBank, generator: Any, dataset: Any, anew: Collection[str] = ()) -> None:
        self._bank, self._generator, self._dataset = bank, generator, dataset
        self._lacking = [index for index, name in enumerate(dataset.image_ids) if name not in bank or name in anew]
        self._count = self._bytes = 0

    def tell(self) -> None:
        """Before any is made: by those that are in the bank, or else by a guess that is rather too high."""
        if not self._lacking:
            return
        known = [size for name in self._dataset.image_ids if (size := self._bank.bytes_of(name))]
        if known:
            self._say(sum(known) / len(known), len(self._lacking), f'as the {len(known)} images that are there')
        elif (guess := self._guess()) is not None:
            self._say(guess, len(self._lacking), 'a guess that is rather too high')

    def note(self, image_id: str) -> None:
        """The masks of an image are written. After the first ones tell what they took, if there are many to come."""
        self._count, self._bytes = self._count + 1, self._bytes + self._bank.bytes_of(image_id)
        if self._count == FIRST and len(self._lacking) >= 2 * FIRST:
            self._say(self._bytes / FIRST, len(self._lacking), f'as the first {FIRST}', done=FIRST)

    def _guess(self) -> float | None:
        settings = getattr(self._generator, 'settings', {})
        size = mean_size(self._dataset, self._lacking) if 'points_per_side' in settings else None
        if size is None:
            return None
        masks = settings['points_per_side'] * (MASKS_A_POINT + settings['crop_n_layers'])
        return masks * BYTES_A_PIXEL * sum(size)

    def _say(self, each: float, count: int, why: str, done: int = 0) -> None:
        free = free_bytes(self._bank.root)
        said = (f'masks of {count} images take about {size_text(each * count)} ({size_text(each)} an image, '
                f'{why}) in {self._bank.root}')
        if each * (count - done) * SPARE > free:
            announce(f'warning: {said}, but only {size_text(free)} are free there. If the disk is full before the '
                     'end, what is made is kept and the same command goes on; or put the bank (mask_bank, --out) on a '
                     'larger disk now')
        else:
            announce(f'{said}; {size_text(free)} are free')
