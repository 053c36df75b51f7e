"""Filling a mask bank: SAM sees every image once, whoever asks first."""
from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor

from weclip_sam.commands import tool
from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.io.identity import FileIdentity, identify
from weclip_sam.io.threads import each_on_one_core
from weclip_sam.mask_bank import FeatureMap, MaskBank, holds_imported
from weclip_sam.offline.features import FeatureKeeper, feature_loader, keeper_of, require_own_encoder
from weclip_sam.offline.photos import (
    PhotoReader,
    gather_ids,
    look_at_bank,
    note_photos,
    require_own_photos,
    share_of,
    some,
)
from weclip_sam.offline.precision import take_precision
from weclip_sam.offline.room import MaskRoom
from weclip_sam.offline.work import IMAGE_ERRORS, StageClock, WorkReport, work_through
from weclip_sam.registry import HOOKS, MODELS

SMALL_SAM = 256  # pixels of SAM's input up to which images are segmented side by side on a CPU


def take_photos(bank: MaskBank, dataset: Any) -> list[str]:
    """Compare the photos of a data set with those that a bank's masks were made of; every process calls it.

    A bank made before photos were noted is believed where it can be, and they are noted now.

    Args:
        bank: opened with mode ``'a'`` and up to date.
        dataset: an ``ImageLabelDataset``.

    Returns:
        Ids of the images whose masks are of other photos than are there now, the same in all processes, sorted.
    """
    found = look_at_bank(bank, dataset, share_of(len(dataset)))
    note_photos(bank, found)
    return gather_ids(found.changed)


def fill_bank(bank: MaskBank, generator: Any, dataset: Any, batch_size: int | None = None,
              device: torch.device | str = 'cpu', tick: Callable[[], None] = lambda: None,
              changed: Collection[str] = (), features: FeatureKeeper | None = None) -> WorkReport:
    """Make the masks that ``bank`` lacks for the images of ``dataset``; reads no label and no ground truth.

    How much room they take is told before, and again after the first ones (:mod:`weclip_sam.offline.room`).

    Args:
        bank: opened with mode ``'a'``.
        generator: a :class:`MaskGenerator`, or whatever has its ``generate_batch``.
        dataset: has ``image_ids`` and ``load_image(index)``.
        batch_size: images per pass through SAM's encoder, if they are of one size; None leaves it to the generator
            (``encode_batch``, by default 1). It may move the last bits of masks.
        device: of the generator; its seconds are counted apart from loading and writing.
        tick: called now and then.
        changed: ids of images whose masks are made anew, see :func:`take_photos`.
        features: also keeps what SAM's encoder saw of these images; ``generator`` is a :class:`MaskGenerator` then.

    Returns:
        The report of this process, see :func:`weclip_sam.offline.work.work_through`.
    """
    photos, records, max_side, anew = dict[str, FileIdentity](), dataset.records, dataset.reader.max_side, set(changed)

    def load(index: int) -> np.ndarray:
        if (path := records[index].image_path) is not None:
            photos[dataset.image_ids[index]] = identify(path)  # before it is read: replaced meanwhile, it shows
        return np.array(dataset.load_image(index))

    def write(name: str, result: tuple[Any, FeatureMap | None]) -> None:
        (found, seen), photo = result, photos.pop(name, None)
        bank.put(name, found.to('cpu'), photo=photo, max_side=max_side, replace=name in anew)
        room.note(name)
        if features is not None and seen is not None:
            features.put(name, seen, photo)

    def segment(images: list[np.ndarray], clock: StageClock) -> list[Any]:
        with clock('segment'):
            if side_by_side:
                return list(each_on_one_core(segment_one, images))
            return look_at(images, clock.pulse)

    def segment_one(image: np.ndarray) -> Any:
        try:
            return look_at([image], lambda share: None)[0]
        except IMAGE_ERRORS as error:  # of this image alone
            return error

    def look_at(images: list[np.ndarray], pulse: Callable[[float], None]) -> list[tuple[Any, FeatureMap | None]]:
        if features is None:
            return [(found, None) for found in search(images, pulse)]
        seen: dict[int, FeatureMap] = {}

        def keep(index: int, tokens: Tensor) -> None:
            seen[index] = features.of(tokens, images[index].shape[:2])
        return [(found, seen[i]) for i, found in enumerate(search(images, pulse, (features.block, keep)))]

    # A generator of one's own may do everything in one call.
    search = getattr(generator, 'search', None) or generator.generate_batch
    finish = getattr(generator, 'finish', lambda made: made)
    if batch_size is None:
        batch_size = getattr(generator, 'encode_batch', 1)
    generator.encode_batch = batch_size
    # A small SAM's operators are too small to share: each core takes an image.
    side_by_side = batch_size == 1 and torch.device(device).type == 'cpu' and torch.get_num_threads() > 1 and \
        getattr(getattr(generator, 'sam', None), 'image_size', SMALL_SAM + 1) <= SMALL_SAM
    bank.refresh()
    room = MaskRoom(bank, generator, dataset, anew)
    room.tell()
    return work_through(
        'SAM masks', dataset.image_ids, load=load, make=segment, write=write, aside=True,
        finish=lambda result: (finish(result[0]), result[1]),
        batch_size=4 * torch.get_num_threads() if side_by_side else batch_size, device=device, tick=tick,
        is_done=lambda index: dataset.image_ids[index] in bank and dataset.image_ids[index] not in anew)


def refuse_imported(bank: MaskBank, changed: list[str], total: int) -> None:
    """Nobody here can make imported masks of replaced photos.

    Raises:
        ValueError: there are ``changed`` ones.
    """
    if changed:
        raise ValueError(f'mask bank {bank.root}: it holds imported masks, and the photos of {some(changed, total)} '
                         'are others now than those that their masks are of: make the masks of these with the same '
                         f'program, delete that folder (or choose another mask_bank), and run {tool("make_masks")} '
                         'CONFIG --from DIR')


def check_imported(root: str | os.PathLike, name: str | None, dataset: Any, reader: PhotoReader | None = None) -> None:
    """Whether a bank of imported masks is of these images, as they are now, and has those of all of them.

    Args:
        root: folder of the bank.
        name: of the data set; None accepts any.
        dataset: an ``ImageLabelDataset``.
        reader: how much of the photos is read; None: whatever must be.

    Raises:
        ValueError: the bank is of other images or of photos that were replaced, or lacks the masks of some.
    """
    bank = MaskBank(root, dataset=name, mode='r', image_folder=dataset.image_folder, moved=True)
    require_own_photos(bank, dataset, reader)
    if missing := [image_id for image_id in dataset.image_ids if image_id not in bank]:
        raise ValueError(f'mask bank {root}: it holds imported masks, and those of {len(missing)} of the '
                         f'{len(dataset.image_ids)} training images are missing, for example {missing[0]}. Generated '
                         'masks are never added to imported ones: make the missing ones with the same program and run '
                         f'{tool("make_masks")} CONFIG --from DIR again, or choose another mask_bank')
    refuse_imported(bank, look_at_bank(bank, dataset, range(len(dataset)), reader, show=False).changed, len(dataset))


@HOOKS.register_module()
class MaskBankHook(Hook):
    """Before training starts, make the SAM masks that the training set's bank lacks. All processes share the work.

    Masks of photos that have been replaced or cropped since are made anew.

    A bank of imported masks (``tools/make_masks.py --from``) is taken as it is: nothing is made, and the generator is
    not even built.

    Where the training set has a ``feature_bank``, what it lacks is made in the same pass, or by the encoder alone for
    images that have masks; how much room it takes is said before.

    Bank, generator and name are the config's own (``mask_bank``, ``mask_generator``, ``mask_dataset``) unless given.

    Args:
        bank: folder of the bank; the data set's ``mask_bank`` should name the same one.
        generator: config of a :class:`MaskGenerator`; a bank of imported masks needs none.
        dataset: name of the data set, kept in the bank so that it is not used for another one.
        batch_size: see :func:`fill_bank`.

    Raises:
        ValueError: neither hook nor config names a bank, or a generator to fill it; an image could not be segmented
            (all others are in the bank by then), or the bank belongs to other images or another generator, or holds
            imported masks, but not those of all images.
    """

    priority = 'VERY_HIGH'

    def __init__(self, bank: str | None = None, generator: dict | None = None, dataset: str | None = None,
                 batch_size: int | None = None) -> None:
        if bank is None:
            raise ValueError("MaskBankHook: there is no folder for the masks; give the config mask_bank='DIR'")
        self.bank, self.generator, self.dataset, self.batch_size = bank, generator, dataset, batch_size

    def before_train(self, runner: Any) -> None:
        """Fill; a full bank costs no more than building the generator, whose weights tell whether the bank is its own,
        and a look at the time of every photo.
        """
        data = runner.train_dataloader.dataset
        if holds_imported(self.bank):
            check_imported(self.bank, self.dataset, data)
            with MaskBank(self.bank, mode='a') as bank:
                take_photos(bank, data)
            self._check_features(runner, data)
            return
        if self.generator is None:
            raise ValueError(f'MaskBankHook: nothing makes the masks of {self.bank}; give the config a mask_generator '
                             "(configs/_base_/models/sam_vit-h.py), or import another program's masks with "
                             f'{tool("make_masks")} CONFIG --from DIR')
        generator = MODELS.build(self.generator)
        take_precision(generator, self.bank)
        with MaskBank(self.bank, fingerprint=generator.fingerprint(), dataset=self.dataset, mode='a',
                      image_folder=data.image_folder, moved=True) as bank:
            require_own_photos(bank, data)
            report, changed = WorkReport(), take_photos(bank, data)
            features = keeper_of(data, generator, self.dataset)
            if features is not None:
                features.tell_room()
            if changed:
                runner.logger.warning(f'{self.bank}: the photos of {some(changed, len(data))} are others than when '
                                      'their masks were made; these are made anew')
            # Another process may have put masks since this one opened the bank: whatever it sees, all meet below.
            device = next(runner.model.parameters()).device
            if changed or not all(name in bank for name in data.image_ids):
                report = fill_bank(bank, generator.to(device), data, self.batch_size, device, changed=changed,
                                   features=features)
            seen = WorkReport()
            if features is not None and features.lacking:
                generator.to(device)
                seen = features.fill(self.batch_size or 1, device)
            report, seen = report.gather(), seen.gather()
        for made, what in ((report, 'masks'), (seen, 'features')):
            if made.made or made.failed:
                found = len(data.image_ids) - len(made.made) - len(made.failed)
                runner.logger.info(f'SAM {what}: {len(made.made)} made, {found} found in {self.bank}')
            if made.failed:
                name, reason = next(iter(made.failed.items()))
                raise ValueError(f'SAM {what} of {len(made.failed)} images could not be made, for example {name}: '
                                 f'{reason}')
        self._check_features(runner, data)

    @staticmethod
    def _check_features(runner: Any, data: Any) -> None:
        if feature_loader(data) is not None:
            require_own_encoder(data, getattr(unwrapped(runner.model), 'encoders', {}))
