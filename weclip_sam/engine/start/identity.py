"""What makes a training this one and no other: its settings, its data and the weights that it starts from."""
from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config

from weclip_sam.datasets.packing import SEEDS_HEADER
from weclip_sam.engine.start.restore import leaves
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.engine.start.vocabulary import fill_vocabulary
from weclip_sam.io.plain import plain
from weclip_sam.registry import READERS

# What changes neither what is learnt nor its scores.
_OF_NO_MATTER = {'work_dir', 'resume', 'launcher', 'env_cfg', 'log_level', 'log_processor', 'visualizer',
                 'experiment_name', 'default_hooks', 'default_scope', 'model_wrapper_cfg', 'test_dataloader',
                 'test_evaluator', 'test_cfg', 'tracker'}
_OF_NO_MATTER_IN_LOADERS = {'num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'timeout',
                            'multiprocessing_context'}
_PLACES = {'data_root', 'mask_bank', 'bank', 'pixel_labels', 'labels', 'input_labels', 'folder', 'checkpoint',
           'weights', 'prompts', 'attributes', 'start', 'load_from'}
_SAMPLED, _BLOCK = 16, 1 << 16


def run_identity(config: Config, processes: int = 1) -> dict[str, Any]:
    """What two trainings must have in common to be the same one.

    Args:
        config: a whole config, as it is before ``--resume`` changes it; ``model.vocabulary`` is filled in, in place.
        processes: how many share the work: what a step sees depends on it.

    Returns:
        Plain values as JSON has them: ``settings``, by dotted name, without those that change nothing; ``data``:
        ``images``, ``classes`` and digests of their ``labels`` and of the ``seeds`` they are taught; ``files``: digests
        of the weights and prompts that are named; ``processes``.
    """
    data = _data(config)
    settings = copy.deepcopy(config)
    fill_shared_settings(settings)
    settings = {name: value for name, value in plain(settings.to_dict(), 'the config').items()
                if name not in _OF_NO_MATTER}
    return _as_json(dict(settings=flat_settings(settings), data=data, files=dict(sorted(_files(settings))),
                         processes=processes))


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that matter, by dotted name; paths are absolute, the names of the data are left to ``data``."""
    found = {}
    for key, node in settings.items():
        if key in _OF_NO_MATTER:
            continue
        for name, value in leaves(node, key):
            last = name.rpartition('.')[2]
            loader = key.endswith('_dataloader') and name.count('.') == 1 and last in _OF_NO_MATTER_IN_LOADERS
            if not loader and not name.startswith('model.vocabulary'):
                found[name] = _absolute(last, value)
    return _as_json(found)


def _absolute(key: str, value: Any) -> Any:
    if key in _PLACES and isinstance(value, str) and (os.sep in value or key in ('data_root', 'mask_bank', 'bank')):
        return os.path.abspath(os.path.expanduser(value))
    return value


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _data(config: Config) -> dict[str, Any]:
    """Of the training images: how many, their classes, and digests of their names and labels; empty where no reader can
    tell."""
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    found: dict[str, Any] = {}
    if not dataset.get('reader'):
        return found
    with suppress(ValueError, OSError):  # the check of the data says what is wrong with them
        reader = READERS.build(dataset['reader'])
        names = reader.vocabulary.metainfo()
        fill_vocabulary(config, names)
        text = hashlib.blake2b(digest_size=16)
        for record in reader.records:
            text.update(f'{record.image_id}\t{";".join(names["classes"][i] for i in record.classes)}\n'.encode(
                'utf-8', 'surrogateescape'))
        found.update(images=len(reader.records), classes=list(names['classes']), labels=text.hexdigest())
    if isinstance(labels := dataset.get('pixel_labels'), str):
        with suppress(OSError, ValueError, TypeError, RecursionError):
            header = json.loads((Path(labels) / SEEDS_HEADER).read_text(encoding='utf-8'))
            found['seeds'] = header.get('fingerprint')
    return found


def _files(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in leaves(settings, ''):
        if name.rpartition('.')[2] in _PLACES and isinstance(value, str):
            path = Path(value).expanduser()
            with suppress(OSError):
                if path.is_file():
                    yield name.lstrip('.'), quick_digest(path)


def quick_digest(path: Path) -> str:
    """A digest of a file's size and of blocks spread over it: tells other weights without reading gigabytes."""
    size = path.stat().st_size
    text = hashlib.blake2b(str(size).encode(), digest_size=16)
    with open(path, 'rb') as file:
        # The last block as well: an archive, as torch writes it, has there a checksum of each of its members.
        last = max(size - _BLOCK, 0)
        for place in sorted({last * step // (_SAMPLED - 1) for step in range(_SAMPLED)}):
            file.seek(place)
            text.update(file.read(_BLOCK))
    return text.hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What two identities differ in: (their data, anything else), each as ``what: before -> now``.

    What one of them does not know (a run of before this was kept) is no difference.
    """
    data: list[str] = []
    was, is_now = before.get('data') or {}, now.get('data') or {}
    for key in ('classes', 'images', 'labels', 'seeds'):
        first, second = was.get(key), is_now.get(key)
        if first is None or second is None or first == second:
            continue
        if key == 'classes':
            data.append(f'classes: {", ".join(first)} -> {", ".join(second)}')
        elif key == 'images':
            data.append(f'{first} images -> {second}')
        elif not data:
            data.append('the labels that the images have' if key == 'labels' else 'the seeds that are taught')
    others = []
    for kind in ('settings', 'files'):
        first, second = before.get(kind), now.get(kind)
        if first is None or second is None:
            continue
        for name in sorted({*first, *second}):
            if kind == 'files' and name in first and name in second and first[name] != second[name]:
                others.append(f'the content of {name}')
            elif kind == 'settings' and (first.get(name), name in first) != (second.get(name), name in second):
                others.append(f'{name}: {first.get(name, "not set")} -> {second.get(name, "not set")}')
    if before.get('processes') and now.get('processes') and before['processes'] != now['processes']:
        others.append(f'processes: {before["processes"]} -> {now["processes"]}')
    return data, others
