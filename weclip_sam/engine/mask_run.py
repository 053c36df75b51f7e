"""A run of ``tools/make_masks.py``: from the config to a full mask bank and its summary."""
from __future__ import annotations

import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process

from weclip_sam.engine.masks import FillReport, fill_bank
from weclip_sam.engine.memory import peak_memory
from weclip_sam.engine.progress import format_seconds
from weclip_sam.engine.splits import mask_settings, split_images
from weclip_sam.files import remove_stale_temporaries, write_json
from weclip_sam.mask_bank import HEADER, MaskBank
from weclip_sam.registry import DATASETS, MODELS

SUMMARY = 'summary.json'


def run_masks(config: Config, split: str, out: str | None, device: torch.device, batch_size: int = 8) -> FillReport:
    """Fill the bank of a split in all processes; the main one writes ``summary.json`` into it and prints.

    Args:
        config: see :func:`weclip_sam.engine.splits.mask_settings`.
        split: see :func:`weclip_sam.engine.splits.split_images`.
        out: folder of the bank; None takes the config's.
        device: of this process.
        batch_size: images at a time.

    Returns:
        The report of all processes together.

    Raises:
        ValueError: the config says neither where the bank is nor who makes masks, or the bank is of other images or
            another generator.
    """
    began = time.monotonic()
    settings = mask_settings(config, split)
    out = out or settings['bank']
    if out is None or settings['generator'] is None:
        what, key = ('folder for the masks', 'mask_bank') if out is None else ('mask generator', 'mask_generator')
        raise ValueError(f'the config names no {what}: give {key} at its top level (see configs/_base_)')
    dataset = DATASETS.build(split_images(config, split))
    generator = MODELS.build(settings['generator']).to(device)
    with MaskBank(out, fingerprint=generator.fingerprint(), dataset=settings['dataset'], mode='a',
                  image_folder=dataset.image_folder) as bank:
        report = fill_bank(bank, generator, dataset, batch_size, get_rank(), get_world_size())
        report = FillReport.join(all_gather_object(report))
        bank.refresh()
        masks = sum(name in bank for name in dataset.image_ids)
    if is_main_process():
        seconds = time.monotonic() - began
        # What kills left. Only now: at the start another launcher may be just about to name its header.
        for name in (HEADER, SUMMARY):
            remove_stale_temporaries(out, name)
        write_json(Path(out) / SUMMARY, dict(
            split=split, dataset=settings['dataset'], generator=bank.header['generator'], images=len(dataset),
            in_bank=masks, made=report.made, found=report.found, failed=dict(sorted(report.failed.items())),
            wall_seconds=seconds, seconds_per_image=seconds * get_world_size() / report.made if report.made else None,
            processes=get_world_size(), device=str(device), peak_memory_gb=peak_memory()))
        print(f'masks of {report.made} images made, {report.found} found, {len(report.failed)} failed in '
              f'{format_seconds(seconds)}')
        for image_id, reason in list(report.failed.items())[:5]:
            print(f'  failed: {image_id}: {reason}')
        print(f'mask bank and {SUMMARY}: {out}')
    return report
