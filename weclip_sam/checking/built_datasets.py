"""The data sets that a config names: found, and built as far as their files allow."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from weclip_sam.checking.findings import Report
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.readers.faults import ListError, MissingImages
from weclip_sam.datasets.readers.folder import FolderReader
from weclip_sam.registry import DATASETS

MAX_MISSING = 1000  # image files that are named one by one
# What building a data set raises on data or configs that are wrong.
DATA_ERRORS = (ValueError, OSError, KeyError, TypeError)
Explain = Callable[[BaseException], str | None]


def find_datasets(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every :class:`ImageLabelDataset` in a config by its place, such as ``'train_dataloader'``; equal ones once."""
    found: dict[str, dict[str, Any]] = {}
    for place, node in walk_config(config):
        if node.get('type') in ('ImageLabelDataset', ImageLabelDataset) and node not in found.values():
            found[place.removesuffix('.dataset')] = dict(node)
    return found


def walk_config(node: Any, place: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted place, dict) of every dict in a config, outer ones first."""
    node = dict(node.items()) if isinstance(node, Config) else node
    if isinstance(node, Mapping):
        yield place, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from walk_config(value, f'{place}.{key}' if place else str(key))


def is_for_scoring_seeds(name: str, node: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a data set is one of training images and masks that only ``tools/make_seeds.py --evaluate`` opens."""
    hooks = [config.get('custom_hooks'), config.get('default_hooks')]
    return bool(name == 'seed_dataset' and node.get('with_masks') and config.get('train_cfg')
                and all(dict(used) != node for _, used in walk_config(hooks)))


def with_input_labels(node: dict[str, Any], labels: str, report: Report) -> dict[str, Any]:
    """The training set with the labels that its seeds start from, as ``tools/make_seeds.py`` reads it."""
    try:
        return {**node, 'pixel_labels': labels.format(split='train')}
    except (ValueError, LookupError, AttributeError):
        report.add('error', 'config', 'input_labels', f'{labels!r}: expected a folder; {{split}} is all that may stand '
                   'in braces (a brace of the name is doubled)')
        return node


def build_dataset(name: str, node: dict[str, Any], report: Report, explain: Explain,
                  missing: dict[Path, list[str]]) -> ImageLabelDataset | None:
    """The data set as far as it can be built; ``missing`` gets the data sets by image file that is not there."""
    try:
        return DATASETS.build(node)
    except DATA_ERRORS as error:
        for message in error.faults if isinstance(error, ListError) else [explain(error) or in_words(error)]:
            report.add('error', 'data set', name, message)
        if isinstance(error, MissingImages):
            for path in error.paths:
                missing[path].append(name)
            if not is_of_folder(node) or len(error.paths) == error.total or node['reader'].get('missing') == 'skip':
                return None
            there = {**node, 'reader': {**node['reader'], 'missing': 'skip'}}  # those can be checked
            return build_dataset(name, there, report, explain, missing)
    # Perhaps only masks or labels are at fault: then the images can be checked.
    for without in ({'with_masks': False}, {'pixel_labels': None}, {'with_masks': False, 'pixel_labels': None}):
        if all(node.get(key) for key in without):
            try:
                return DATASETS.build({**node, **without})
            except DATA_ERRORS:
                pass
    return None


def is_of_folder(node: Mapping[str, Any]) -> bool:
    """Whether a data set is a folder of photos with a label file."""
    reader = node.get('reader')
    return isinstance(reader, Mapping) and reader.get('type') in ('FolderReader', FolderReader)


def tell_missing(missing: Mapping[Path, list[str]], report: Report) -> None:
    """Name the image files that are not there, each once, with the data sets that list it."""
    for path, names in list(missing.items())[:MAX_MISSING]:
        report.add('error', 'image', ' and '.join(sorted(names)), f'{path}: no such file')
    if len(missing) > MAX_MISSING:
        names = sorted({name for each in missing.values() for name in each})
        report.add('error', 'image', ' and '.join(names), f'... and {len(missing) - MAX_MISSING} more missing files')


def in_words(error: BaseException) -> str:
    """An error's message, without the quotes that Python puts around a KeyError's."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
