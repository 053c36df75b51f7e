"""Which images a tool works on: the splits of a config, without the training's random transforms."""
from __future__ import annotations

from typing import Any

from mmengine.config import Config

from weclip_sam.checks import suggest_name
from weclip_sam.choices import SPLITS
from weclip_sam.engine.start.shared_settings import mask_settings
from weclip_sam.mask_bank import feature_folder
from weclip_sam.offline.features import feature_settings

_KEPT = ('reader', 'unlabelled', 'limit')
_DEFAULT_PIPELINE: list[dict[str, Any]] = [dict(type='ResizeToMultiple', divisor=16), dict(type='PackSample')]


def split_images(config: Config, split: str) -> dict[str, Any]:
    """Config of the images of a split: an ``ImageLabelDataset`` without masks, labels or transforms.

    Raises:
        ValueError: as :func:`split_dataset`.
    """
    node = split_dataset(config, split)
    return dict(type='ImageLabelDataset', **{key: node[key] for key in _KEPT if key in node})


def split_dataset(config: Config, split: str) -> dict[str, Any]:
    """Config of the data set of a split, as it stands.

    ``train`` and ``val`` are those of the data loaders; ``tune``, the top-level ``tune_dataset``, is for choosing
    settings by ground truth: neither trained on nor reported on.

    Raises:
        ValueError: no such split, in general or in this config.
    """
    if split not in SPLITS:
        raise ValueError(f"--split: expected one of {tuple(SPLITS)}, got '{split}'.{suggest_name(split, SPLITS)}")
    node: Any = config
    for key in SPLITS[split].split('.'):
        node = (node or {}).get(key)
    if not node:
        has = [name for name, place in SPLITS.items() if (config.get(place.split('.')[0]) or {})]
        raise ValueError(f"--split {split}: the config has no {SPLITS[split]} (its splits: {', '.join(has) or 'none'})")
    return dict(node)


def seed_images(config: Config, split: str, labels: str | None = None, masks: bool = False,
                masks_needed: bool = True) -> dict[str, Any]:
    """Config of the data set that seeds are made of: the split's images, resized as ``seed_dataset`` says.

    Features that the training set reads from a bank are read here, too; where there are none, encoders look themselves.

    Args:
        config: its ``seed_dataset.pipeline`` is used (by default each side is rounded up to a multiple of 16), with
            ``PackSample(original=True)`` at its end.
        split: see :func:`split_images`.
        labels: folder of label PNGs to start from.
        masks: load SAM masks from the config's bank.
        masks_needed: whether an image without masks in the bank is an error.
    """
    dataset = split_images(config, split)
    dataset['pipeline'] = seed_pipeline(config)
    if labels is not None:
        dataset['pixel_labels'] = labels
    if masks:
        bank = mask_settings(config, split)['bank']
        if bank is not None:
            dataset['mask_bank'] = dict(bank=bank, missing='error' if masks_needed else 'none')
    bank = mask_settings(config, split)['bank']
    kept = feature_settings(config, bank or '')
    if kept is not None:
        if split != 'train' and bank is not None:
            kept['bank'] = feature_folder(bank)
        dataset['feature_bank'] = dict(kept, missing='none')
    return dataset


def seed_pipeline(config: Config) -> list[dict[str, Any]]:
    """How an image is prepared that labels are made of, see :func:`seed_images`."""
    pipeline = [dict(step) for step in (config.get('seed_dataset') or {}).get('pipeline') or _DEFAULT_PIPELINE]
    return [dict(step, original=True) if step['type'] == 'PackSample' else step for step in pipeline]


def scored_images(config: Config, split: str) -> dict[str, Any]:
    """Config of the images whose ground truth scores the seeds of a split.

    For ``train`` those of ``seed_dataset``, if there is one: papers score on VOC's 1,464 images of ``train`` and teach
    with the 10,582 of ``train_aug``.
    """
    dataset = split_images(config, split)
    if split == 'train' and config.get('seed_dataset'):
        dataset.update({key: config.seed_dataset[key] for key in _KEPT if key in config.seed_dataset})
    return dict(dataset, with_masks=True)
