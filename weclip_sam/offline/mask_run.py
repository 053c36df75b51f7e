"""A run of ``tools/make_masks.py``: from the config to a full mask bank and its summary."""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from weclip_sam.engine.progress import announce
from weclip_sam.engine.start.environment import write_settings
from weclip_sam.engine.start.shared_settings import mask_settings
from weclip_sam.io.files import remove_stale_temporaries
from weclip_sam.mask_bank import HEADER, MaskBank, feature_folder
from weclip_sam.offline.features import FeatureKeeper, feature_settings, sam_of
from weclip_sam.offline.mask_import import MaskFolder
from weclip_sam.offline.masks import fill_bank, refuse_imported, take_photos
from weclip_sam.offline.photos import require_own_photos, some
from weclip_sam.offline.precision import take_precision, tell_whether_it_pays
from weclip_sam.offline.splits import split_images
from weclip_sam.offline.summary import SECONDS, SUMMARY, WorkTime, print_summary, write_summary
from weclip_sam.offline.work import WorkReport
from weclip_sam.registry import DATASETS, MODELS
from weclip_sam.words import counted


def run_masks(config: Config, split: str, out: str | None, device: torch.device, batch_size: int | None = None,
              source: str | None = None, amp: bool | None = None, features: bool | None = None) -> WorkReport:
    """Fill the bank of a split in all processes; the main one writes ``summary.json`` into it and prints.

    Args:
        config: see :func:`weclip_sam.engine.start.shared_settings.mask_settings`.
        split: see :func:`weclip_sam.offline.splits.split_images`.
        out: folder of the bank; None takes the config's.
        device: of this process.
        batch_size: see :func:`weclip_sam.offline.masks.fill_bank`.
        source: folder of masks to import, see :mod:`weclip_sam.offline.mask_import`; None makes them.
        amp: see :func:`weclip_sam.offline.precision.take_precision`.
        features: whether what SAM's encoder sees is kept, too; None: if the config's training set reads it.

    Returns:
        The report of all processes together.

    Raises:
        ValueError: the config says neither where the bank is nor who makes masks, or the bank is of other images or
            another generator, or of imported masks whose photos were replaced.
        FileNotFoundError: ``source`` holds no masks of these images.
    """
    began = time.monotonic()
    settings = mask_settings(config, split)
    out = out or settings['bank']
    if out is None or (source is None and settings['generator'] is None):
        what, key = ('folder for the masks', 'mask_bank') if out is None else ('mask generator', 'mask_generator')
        raise ValueError(f'the config names no {what}: give {key} at its top level (see configs/_base_)')
    kept = None if features is False else feature_settings(config, out) or ({} if features else None)
    announce(f'masks of the split {split} into {out}: reading the list of images'
             + (' and loading SAM' if source is None or kept is not None else ''))
    dataset, keeper, precision = DATASETS.build(split_images(config, split)), None, 'fp32'
    if source is None or kept is not None:
        if settings['generator'] is None:
            raise ValueError('--features: the config names no mask generator, whose SAM would look at the images: give '
                             'mask_generator at its top level (see configs/_base_)')
        generator = MODELS.build(settings['generator']).to(device)
        precision = take_precision(generator, out, amp, device)
    if source is None:
        opened = MaskBank(out, fingerprint=generator.fingerprint(), dataset=settings['dataset'], mode='a',
                          image_folder=dataset.image_folder, moved=True)
        require_own_photos(opened, dataset)
        unasked = device.type == 'cpu' and amp is None and precision == 'fp32'
        announce(tell_whether_it_pays(generator) if unasked else f'computing in {precision}')
    else:
        folder = MaskFolder(source)
        opened = folder.open_bank(out, settings['dataset'], dataset)
    with opened as bank:
        changed = take_photos(bank, dataset)
        if source is not None:
            refuse_imported(bank, changed, len(dataset))
        elif changed and is_main_process():
            print(f'{out}: the photos of {some(changed, len(dataset))} are others than when their masks were made; '
                  'these are made anew')
        about = dict(split=split, dataset=settings['dataset'], generator=bank.header['generator'])
        with WorkTime(out, json.dumps(about), about, began) as clock:
            if kept is not None:
                root = kept.get('bank') if (split, out) == ('train', settings['bank']) else None
                keeper = FeatureKeeper(root or feature_folder(out), sam_of(generator), dataset, settings['dataset'],
                                       kept.get('block', -1), kept.get('pool', 1))
                keeper.tell_room()
            report = folder.fill(bank, dataset, clock.tick) if source is not None else fill_bank(
                bank, generator, dataset, batch_size, device, clock.tick, changed, keeper)
            seen = WorkReport() if keeper is None else keeper.fill(batch_size or 1, device, clock.tick)
            report, seen = report.gather(), seen.gather()
            report.failed.update(seen.failed)
        bank.refresh()
        masks = sum(name in bank for name in dataset.image_ids)
    if is_main_process():
        # What kills left. Only now: at the start another launcher may be just about to name its header.
        for name in (HEADER, SUMMARY, SECONDS):
            remove_stale_temporaries(out, name)
        write_settings(out, config)
        about.update(images=len(dataset), in_bank=masks)
        origin: dict[str, Any] = {} if source is None else dict(imported_from=str(Path(source).resolve()))
        if keeper is not None:
            origin['features'] = dict(folder=str(keeper.bank.root), in_bank=len(dataset) - len(keeper.lacking),
                                      made_alone=len(seen.made), block=keeper.block, pool=keeper.pool)
        # Nobody may have timed those that were found.
        summary = write_summary(report, clock, device, about, bool(report.made or clock.earlier), **origin)
        done = 'made' if source is None else 'imported'
        print_summary(f'masks of {counted(len(report.made), "image")} {done}', summary)
        print(f'mask bank and {SUMMARY}: {out}')
        if keeper is not None:
            print(f"SAM's features of {counted(origin['features']['in_bank'], 'image')}: {keeper.bank.root}")
    return report
