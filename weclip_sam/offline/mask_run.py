"""A run of ``tools/make_masks.py``: from the config to a full mask bank and its summary."""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process

from weclip_sam.engine.memory import peak_memory
from weclip_sam.engine.progress import format_seconds
from weclip_sam.io.files import remove_stale_temporaries, write_json
from weclip_sam.mask_bank import HEADER, MaskBank
from weclip_sam.offline.mask_import import MaskFolder
from weclip_sam.offline.masks import FillReport, fill_bank
from weclip_sam.offline.shards import SECONDS, WorkTime
from weclip_sam.offline.splits import mask_settings, split_images
from weclip_sam.registry import DATASETS, MODELS

SUMMARY = 'summary.json'


def run_masks(config: Config, split: str, out: str | None, device: torch.device, batch_size: int = 8,
              source: str | None = None) -> FillReport:
    """Fill the bank of a split in all processes; the main one writes ``summary.json`` into it and prints.

    Args:
        config: see :func:`weclip_sam.offline.splits.mask_settings`.
        split: see :func:`weclip_sam.offline.splits.split_images`.
        out: folder of the bank; None takes the config's.
        device: of this process.
        batch_size: images at a time.
        source: folder of masks to import, see :mod:`weclip_sam.offline.mask_import`; None makes them.

    Returns:
        The report of all processes together.

    Raises:
        ValueError: the config says neither where the bank is nor who makes masks, or the bank is of other images or
            another generator.
        FileNotFoundError: ``source`` holds no masks of these images.
    """
    began = time.monotonic()
    settings = mask_settings(config, split)
    out = out or settings['bank']
    if out is None or (source is None and settings['generator'] is None):
        what, key = ('folder for the masks', 'mask_bank') if out is None else ('mask generator', 'mask_generator')
        raise ValueError(f'the config names no {what}: give {key} at its top level (see configs/_base_)')
    dataset = DATASETS.build(split_images(config, split))
    if source is None:
        generator = MODELS.build(settings['generator']).to(device)
        opened = MaskBank(out, fingerprint=generator.fingerprint(), dataset=settings['dataset'], mode='a',
                          image_folder=dataset.image_folder)
    else:
        folder = MaskFolder(source)
        opened = folder.open_bank(out, settings['dataset'], dataset)
    with opened as bank:
        about = dict(split=split, dataset=settings['dataset'], generator=bank.header['generator'])
        with WorkTime(out, json.dumps(about), _earlier(out, about), began) as clock:
            report = folder.fill(bank, dataset, clock.tick) if source is not None else fill_bank(
                bank, generator, dataset, batch_size, get_rank(), get_world_size(), device, clock.tick)
            report = FillReport.join(all_gather_object(report))
        bank.refresh()
        masks = sum(name in bank for name in dataset.image_ids)
    if is_main_process():
        # What kills left. Only now: at the start another launcher may be just about to name its header.
        for name in (HEADER, SUMMARY, SECONDS):
            remove_stale_temporaries(out, name)
        summary = dict(
            about, images=len(dataset), in_bank=masks, made=report.made, found=report.found,
            failed=dict(sorted(report.failed.items())), **clock.read(),
            seconds_per_image={k: v / report.made for k, v in report.seconds.items() if report.made},
            processes=get_world_size(), device=str(device), peak_memory_gb=peak_memory())
        if not report.made and not clock.earlier:
            del summary['wall_seconds_of_all_runs']  # nobody timed those that were found
        if source is not None:
            summary['imported_from'] = str(Path(source).resolve())
        write_json(Path(out) / SUMMARY, summary)
        clock.finish()
        _print(summary, out)
    return report


def _earlier(out: str, about: dict[str, Any]) -> float:
    """Wall seconds of the runs before this one that made masks for the same split."""
    try:
        before = json.loads((Path(out) / SUMMARY).read_text(encoding='utf-8'))
        if any(before[key] != value for key, value in about.items()):
            return 0.0
        # Summaries of before all runs were counted know the last one only, which may have made nothing.
        last = before['wall_seconds'] if before['made'] else 0.0
        return float(before.get('wall_seconds_of_all_runs', last))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0.0


def _print(summary: dict[str, Any], out: str) -> None:
    stages = ', '.join(f'{stage} {1000 * seconds:.0f}' for stage, seconds in summary['seconds_per_image'].items())
    made = 'imported' if 'imported_from' in summary else 'made'
    print(f'masks of {summary["made"]} images {made}, {summary["found"]} found, {len(summary["failed"])} failed in '
          f'{format_seconds(summary["wall_seconds"])}' + (f'; ms per image: {stages}' if stages else ''))
    for image_id, reason in list(summary['failed'].items())[:5]:
        print(f'  failed: {image_id}: {reason}')
    print(f'mask bank and {SUMMARY}: {out}')
