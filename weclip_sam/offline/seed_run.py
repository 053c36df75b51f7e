"""A run of ``tools/make_seeds.py``: from the config to labels, summary and table."""
from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process

from weclip_sam.commands import tool
from weclip_sam.datasets.features import LoadFeatures
from weclip_sam.datasets.packing import SEEDS_HEADER, LoadMasks, LoadPixelLabels
from weclip_sam.datasets.readers.labels import join_names
from weclip_sam.engine.hooks.predictions import label_path
from weclip_sam.engine.progress import announce
from weclip_sam.engine.start.environment import write_settings
from weclip_sam.engine.start.shared_settings import fill_shared_settings, mask_settings
from weclip_sam.io.files import remove_stale_temporaries
from weclip_sam.io.identity import FileIdentity
from weclip_sam.io.names import check_apart
from weclip_sam.io.text import read_json
from weclip_sam.mask_bank import FeatureBank, MaskBank
from weclip_sam.offline.features import require_own_encoder
from weclip_sam.offline.photos import gather_ids, identify_photos, look_at_bank, require_own_photos, share_of, some
from weclip_sam.offline.seed_folder import (
    claim_folder,
    clear_folder,
    count_pixels,
    photos_of,
    score_path,
    score_report,
)
from weclip_sam.offline.seed_making import make_seeds
from weclip_sam.offline.shards import digest_files
from weclip_sam.offline.splits import scored_images, seed_images
from weclip_sam.offline.summary import SECONDS, SUMMARY, WorkTime, print_summary, write_summary
from weclip_sam.registry import DATASETS, MODELS
from weclip_sam.seeds.pipeline import steps_need
from weclip_sam.words import counted


def run_seeds(config: Config, name: str, split: str, out: str, device: torch.device, labels: str | None = None,
              scores: bool = False, evaluate: bool = False, overwrite: bool = False, workers: int = 0) -> int:
    """Make the seeds of a split in all processes; the main one writes ``summary.json`` and prints.

    Args:
        config: with a :class:`SeedMaker` as model.
        name: of the config.
        split, out, labels, scores, evaluate, overwrite, workers: as on the command line.
        device: of this process.

    Returns:
        How many images failed; 1 if all labels are there, but their scoring broke off. Why labels were not scored is
        said and kept in the summary. That there are no masks to score them by is no failure.
    """
    began = time.monotonic()
    fill_shared_settings(config)
    announce(f'labels of the split {split} into {out}: reading the list of images and loading the models')
    dataset = DATASETS.build(_images(config, split, labels))
    _check_labels(dataset)
    # Opened now: says at once, not once an image, that there is no bank, or one of other images.
    banks = [step.open() for step in dataset.pipeline if isinstance(step, (LoadMasks, LoadFeatures))]
    model = _build_model(config, dataset).to(device).eval()
    require_own_encoder(dataset, model.encoders)
    settings = [model.fingerprint(), dataset_card(config, split, labels),
                [bank.header['generator'] for bank in banks if isinstance(bank, (MaskBank, FeatureBank))]]
    card = dict(config=name, split=split, classes=list(dataset.metainfo['classes']), images=len(dataset),
                image_folder=dataset.image_folder,
                fingerprint=hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:32])
    check_apart(out, dataset.image_ids)
    photos, inputs = _photos(dataset, banks, out), _inputs(dataset)
    if is_main_process():
        if overwrite:
            clear_folder(out, dataset.image_ids)
            for file in (SUMMARY, SECONDS):  # they tell of the labels that were there
                (Path(out) / file).unlink(missing_ok=True)
        for what, changed in claim_folder(out, card, _names(dataset), inputs, photos).items():
            print(f'{out}: the {what} of {len(changed)} images, for example {changed[0]}, are others than when their '
                  'labels were made; these are made anew')
        _remove_what_kills_left(out, dataset.image_ids)
        write_settings(out, config)
    barrier()
    with WorkTime(out, card['fingerprint'], dict(fingerprint=card['fingerprint']), began) as clock:
        report = make_seeds(model, dataset, out, scores=scores, workers=workers, device=device, tick=clock.tick)
        report = report.gather()
    about, table, broken = dict(card, out=str(out)), None, False
    summary = write_summary(report, clock, device, about)  # whatever comes of the scoring, what was made is on record
    if evaluate:
        table, scored, broken = _evaluate(config, split, out)
        summary = write_summary(report, clock, device, about, **scored)
    if is_main_process():
        _print(summary, table)
    return len(report.failed) or int(broken)


def _remove_what_kills_left(out: str, image_ids: Sequence[str]) -> None:
    # Ids may hold folders, so files appear in more places than one.
    written = {path(out, image_id).parent for path in (label_path, score_path) for image_id in image_ids}
    for folder in written | {Path(out)}:
        remove_stale_temporaries(folder)


def _images(config: Config, split: str, labels: str | None) -> dict[str, Any]:
    masks = 'masks' in steps_need(config.model.get('seeds') or [])
    live = config.model.get('mask_generator') is not None
    if masks and not live:
        bank = mask_settings(config, split)['bank']
        if bank is None:
            raise ValueError('this pipeline reads SAM masks, but the config names no mask_bank; give '
                             "mask_bank='DIR' or model.mask_generator")
    if labels is None and config.get('input_labels'):
        labels = config.input_labels.format(split=split)
    return seed_images(config, split, labels, masks, masks_needed=not live)


def _check_labels(dataset: Any) -> None:
    """Say once, not once an image, that there are no labels to start from."""
    for step in dataset.pipeline:
        if isinstance(step, LoadPixelLabels) and not any(
                os.path.isfile(label_path(step.folder, image_id)) for image_id in dataset.image_ids):
            what = 'holds no label PNG of these images' if step.folder.is_dir() else 'no such folder of label PNGs'
            raise FileNotFoundError(f'{step.folder}: {what} to start from; make the labels first with '
                                    f'{tool("make_seeds")} configs/clip_es/..., or give --labels DIR')


def dataset_card(config: Config, split: str, labels: str | None) -> list[Any]:
    """What the data set contributes to the identity of its seeds: reader, transforms, and the labels started from."""
    dataset = seed_images(config, split)
    # How many images there are changes no label; where they lie and their classes stand beside the fingerprint.
    reader = {key: value for key, value in dataset['reader'].items() if key not in ('data_root', 'num_images')}
    labels = labels or config.get('input_labels')
    made_by = None
    if labels and (header := Path(str(labels).format(split=split)) / SEEDS_HEADER).is_file():
        made_by = read_json(header).get('fingerprint')
    return [split, reader, dataset['pipeline'], labels, made_by]


def _names(dataset: Any) -> dict[str, str] | None:
    """The classes of each image where they come from files that people correct."""
    if dataset.image_folder is None:
        return None
    classes = dataset.metainfo['classes']
    return {record.image_id: join_names(classes[i] for i in record.classes) for record in dataset.records}


def _photos(dataset: Any, banks: Sequence[Any], out: str) -> dict[str, FileIdentity] | None:
    """What photos the labels will be made of; every process calls it.

    Raises:
        ValueError: the masks or labels that would be read are of photos that were replaced since.
    """
    for bank in banks:
        if isinstance(bank, MaskBank):
            require_own_photos(bank, dataset)
            changed = gather_ids(look_at_bank(bank, dataset, share_of(len(dataset))).changed)
            if changed:
                raise ValueError(f'mask bank {bank.root}: the photos of {some(changed, len(dataset))} are others than '
                                 'when their masks were made. ' + ('Import masks of these' if bank.imported else
                                 f'Make them anew: run {tool("make_masks")} with this config'))
    photos = identify_photos(dataset, photos_of(out))
    for step in dataset.pipeline:
        if isinstance(step, LoadPixelLabels) and photos is not None:
            made_of = photos_of(step.folder)
            changed = sorted(image_id for image_id, photo in photos.items()
                             if made_of.get(image_id, photo).digest != photo.digest)
            if changed:
                raise ValueError(f'{step.folder}: the photos of {some(changed, len(dataset))} are others than when '
                                 f'these labels were made; run the {tool("make_seeds")} that made them again')
    return photos


def _inputs(dataset: Any) -> dict[str, str] | None:
    """A digest of the label PNG that each image starts from: nobody knows what made it, and it may be replaced."""
    folders = [step.folder for step in dataset.pipeline if isinstance(step, LoadPixelLabels)]
    if not folders:
        return None
    return digest_files(dataset.image_ids, lambda image_id: label_path(folders[0], image_id), 'look at labels')


def _build_model(config: Config, dataset: Any) -> Any:
    settings = dict(config.model)
    if settings.get('type') != 'SeedMaker':
        raise ValueError(f"{tool('make_seeds')}: model.type is {settings.get('type')!r}, expected 'SeedMaker' "
                         '(configs/clip_es, configs/excel, configs/sepl, configs/fma)')
    keys = ('classes', 'prompt_names', 'background_nouns')
    settings.setdefault('vocabulary', {key: list(dataset.metainfo[key]) for key in keys})
    model = MODELS.build(settings)
    if model.starts_from_labels and not any(isinstance(t, LoadPixelLabels) for t in dataset.pipeline):
        raise ValueError('this pipeline improves labels that are there: give their folder with --labels')
    return model


def _evaluate(config: Config, split: str, out: str) -> tuple[Any, dict[str, Any], bool]:
    """Every process scores its share; the sums are the same everywhere.

    Returns:
        The table or None; what the summary says: ``evaluation``, or the reason as ``not_scored``; and whether there was
        ground truth, but a file of it or a label could not be used.
    """
    dataset: Any = None
    counts, reason, broken = None, '', False
    try:
        dataset = DATASETS.build(scored_images(config, split))
        broken = True
        counts = count_pixels(out, dataset, range(get_rank(), len(dataset), get_world_size()))
    except (ValueError, OSError) as error:
        reason = str(error)
    parts = all_gather_object((counts, reason, broken))
    if reasons := [each for _, each, _ in parts if each]:
        return None, dict(not_scored=reasons[0]), any(each for *_, each in parts)
    total, kept, images, missing = (sum(each[i] for each, *_ in parts) for i in range(4))
    table, scores = score_report(total, kept, images, missing, dataset.metainfo['classes'])
    return table, dict(evaluation=scores), False


def _print(summary: dict[str, Any], table: Any) -> None:
    if table is not None:
        print(table.format(f'{summary["out"]}: IoU by class, percent'))
        scored = summary['evaluation']
        if scored['ignored_share']:
            print(f'{100 * scored["ignored_share"]:.1f} % of the pixels are ignored (255) and count as background '
                  f'above; without them mIoU {scored["mIoU_without_ignored"]:.2f}')
    print_summary(f'{counted(summary["made"], "label")} made', summary)
    if summary.get('not_scored'):
        print(f'not scored: {summary["not_scored"]}')
    print(f'labels and {SUMMARY}: {summary["out"]}')
