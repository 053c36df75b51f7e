"""SAM's features of a data set on disk: made in the pass that makes its masks, or alone for what has masks already."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weclip_sam.commands import tool
from weclip_sam.datasets.features import LoadFeatures
from weclip_sam.engine.progress import announce
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.foundation.sam_eye import feature_block, feature_bytes, feature_fingerprint, feature_map
from weclip_sam.io.files import size_text
from weclip_sam.io.identity import FileIdentity, identify
from weclip_sam.mask_bank import FeatureBank, FeatureMap, feature_folder
from weclip_sam.offline.photos import gather_ids, look_at_bank, note_photos, require_own_photos, share_of, some
from weclip_sam.offline.room import SAMPLED, SPARE, free_bytes
from weclip_sam.offline.work import StageClock, WorkReport, work_through


class FeatureKeeper:
    """Makes and keeps what a bank of features lacks for the images of a data set.

    Args:
        root: folder of the bank.
        sam: whose features they are.
        dataset: an ``ImageLabelDataset``.
        name: of the data set, kept in the bank.
        block, pool: see :class:`LoadFeatures`.

    Raises:
        ValueError: the bank belongs to other images or another encoder or block.
    """

    def __init__(self, root: str | os.PathLike[str], sam: FrozenSam, dataset: Any, name: str | None = None,
                 block: int = -1, pool: int = 1) -> None:
        self.sam, self.dataset, self.block, self.pool = sam, dataset, feature_block(sam, block), pool
        self.bank = FeatureBank(root, feature_fingerprint(sam, block, pool), name, 'a', dataset.image_folder,
                                moved=True, block=self.block, pool=pool)
        require_own_photos(self.bank, dataset)
        found = look_at_bank(self.bank, dataset, share_of(len(dataset)))
        note_photos(self.bank, found)
        self.changed = set(gather_ids(found.changed))

    @property
    def lacking(self) -> list[int]:
        """The images without features of their photo."""
        return [index for index, name in enumerate(self.dataset.image_ids) if self.lacks(name)]

    def lacks(self, image_id: str) -> bool:
        """Whether an image has no features, or those of a photo that was replaced."""
        return image_id in self.changed or image_id not in self.bank

    def tell_room(self) -> None:
        """Say how much room what is lacking will need, before any of it is made.

        Raises:
            ValueError: there is less on the disk.
        """
        lacking = self.lacking
        if not lacking:
            return
        looked = lacking[::max(1, len(lacking) // SAMPLED)]
        each = sum(feature_bytes(self.sam, self.dataset.image_size(index), self.pool) for index in looked) / len(looked)
        needed, free = each * len(lacking), free_bytes(self.bank.root)
        said = (f"SAM's features of {len(lacking)} images take about {size_text(needed)} ({size_text(each)} an image "
                f'in float16) in {self.bank.root}')
        if needed * SPARE > free:
            raise ValueError(f'{said}, but only {size_text(free)} are free there. Average tokens before they are kept '
                             '(feature_bank.pool=2 takes a quarter, in a new bank), put mask_bank on a larger disk, or '
                             'leave feature_bank out: the encoder then looks at every crop')
        announce(f'{said}; {size_text(free)} are free')

    def of(self, tokens: Tensor, size: Sequence[int]) -> FeatureMap:
        """What is kept of the encoder's tokens h w D of an image of (H, W)."""
        found = feature_map(self.sam, tokens, (int(size[0]), int(size[1])), self.pool)
        return FeatureMap(found.tokens.cpu(), found.size, found.extent)

    def put(self, image_id: str, found: FeatureMap, photo: FileIdentity | None) -> None:
        """Keep the features of an image, unless they are there."""
        if self.lacks(image_id):
            self.bank.put(image_id, found, photo, self.dataset.reader.max_side)
            self.changed.discard(image_id)

    def fill(self, batch_size: int = 1, device: torch.device | str = 'cpu', tick: Callable[[], None] = lambda: None
             ) -> WorkReport:
        """Make the features that are lacking, by the encoder alone; the report is of this process."""
        photos, records = dict[str, FileIdentity](), self.dataset.records
        lacking = set(self.lacking)  # asked once: what another process makes meanwhile is made twice, and equal

        def load(index: int) -> np.ndarray:
            if (path := records[index].image_path) is not None:
                photos[self.dataset.image_ids[index]] = identify(path)
            return np.array(self.dataset.load_image(index))

        def encode(images: list[np.ndarray], clock: StageClock) -> list[FeatureMap]:
            with clock('encode'):
                pixels = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
                _, seen = self.sam.see(torch.stack([self.sam.preprocess(each) for each in pixels]), (self.block,))
                return [self.of(tokens, image.shape[:2])
                        for tokens, image in zip(seen[self.block], images, strict=True)]

        return work_through(
            'SAM features', self.dataset.image_ids, load=load, make=encode, aside=True, batch_size=batch_size,
            write=lambda name, found: self.put(name, found, photos.pop(name, None)), device=device, tick=tick,
            is_done=lambda index: index not in lacking)


def feature_settings(config: Mapping[str, Any], root: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the training set of a config says of its ``feature_bank``, with the folder beside a mask bank in ``root``
    unless it names another one; None where it has none.

    Args:
        config: as it was loaded, or with its shared settings filled in.
        root: folder of the mask bank.
    """
    said = ((config.get('train_dataloader') or {}).get('dataset') or {}).get('feature_bank')
    if said is None or said is False:
        return None
    given = dict(said) if isinstance(said, Mapping) else dict(bank=said)
    if given.get('bank', True) is True:
        given['bank'] = feature_folder(root)
    return given


def keeper_of(dataset: Any, generator: Any, name: str | None = None) -> FeatureKeeper | None:
    """The keeper for a data set that loads features, None for one that does not; see :class:`FeatureKeeper`.

    Args:
        dataset: an ``ImageLabelDataset``.
        generator: of masks, whose SAM sees the images.
        name: of the data set.
    """
    loader = feature_loader(dataset)
    if loader is None:
        return None
    return FeatureKeeper(loader.bank, sam_of(generator), dataset, name, loader.block, loader.pool)


def sam_of(generator: Any) -> FrozenSam:
    """The SAM of a mask generator.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(getattr(generator, 'sam', None), FrozenSam):
        raise ValueError(f'{type(generator).__name__} has no SAM whose features could be kept: leave out the '
                         'feature_bank, or take a MaskGenerator')
    return generator.sam


def feature_loader(dataset: Any) -> LoadFeatures | None:
    """The step of a data set that loads features, or None."""
    return next((step for step in getattr(dataset, 'pipeline', ()) if isinstance(step, LoadFeatures)), None)


def require_own_encoder(dataset: Any, encoders: Any) -> None:
    """Whether the features that a data set brings are those of the encoder whose place they take.

    Args:
        dataset: an ``ImageLabelDataset``.
        encoders: of the model, by name.

    Raises:
        ValueError: the bank is of another encoder, or of photos that were replaced; or no encoder has that name.
    """
    loader = feature_loader(dataset)
    bank = None if loader is None else loader.open()
    if loader is None or bank is None:
        return
    if loader.encoder not in encoders:
        raise ValueError(f'feature_bank of the data set: its features are for the encoder {loader.encoder!r}, but the '
                         f'model has {sorted(encoders)}')
    sam = getattr(encoders[loader.encoder], 'sam', None)
    own = None if sam is None else feature_fingerprint(sam, bank.header['block'], bank.header['pool'])
    if own is None or own.split()[0] != str(bank.header['generator']).split()[0]:
        raise ValueError(f'{bank.root}: these features are not those of the encoder {loader.encoder!r} of the model: '
                         "give it the mask_generator's sam, or make others (another mask_bank)")
    require_own_photos(bank, dataset)
    changed = gather_ids(look_at_bank(bank, dataset, share_of(len(dataset)), show=False).changed)
    if changed:
        raise ValueError(f'feature bank {bank.root}: the photos of {some(changed, len(dataset))} are others than when '
                         f'their features were made; run {tool("make_masks")} with this config')
