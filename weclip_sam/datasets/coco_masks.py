"""An instances JSON in COCO's form, checked, and the semantic masks that are painted of it.

A mask says what it was made of, outlines and label numbers: it is made anew when that has changed, and one that people
changed by hand is kept and told.
"""
from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weclip_sam.datasets.prepare import Preparation
from weclip_sam.datasets.prepared import Prepared
from weclip_sam.datasets.readers.coco_json import (
    class_of_category,
    has_outline,
    image_table,
    load_instances,
    outline_fault,
    passed_over,
    rasterise,
    vocabulary_from_json,
)
from weclip_sam.datasets.vocabulary import COCO_VOCABULARY, Vocabulary
from weclip_sam.io.files import remove_stale_temporaries
from weclip_sam.io.images import labels_made_of, pixels_digest, read_labels, write_labels
from weclip_sam.io.names import real_path
from weclip_sam.io.parallel import Progress, parallel_map
from weclip_sam.words import counted

TOOL = 'tools/prepare_coco.py'


@dataclass(frozen=True)
class Instances:
    """An instances JSON, read and checked."""

    path: Path
    coco: Any
    vocabulary: Vocabulary
    categories: Mapping[Any, int]
    named: Mapping[str, Sequence[str]]  # classes by image file

    @classmethod
    def load(cls, path: Path, classes: str) -> Instances:
        """Read a file; ``classes`` is ``'coco'``, or ``'json'`` for its own categories.

        Raises:
            ValueError: naming the file and what is wrong with it.
        """
        coco = load_instances(path)
        try:
            vocabulary = COCO_VOCABULARY if classes == 'coco' else vocabulary_from_json(coco)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        categories = class_of_category(coco, vocabulary, str(path))
        table = image_table(coco, categories)
        return cls(path, coco, vocabulary, categories,
                   {name: [vocabulary.classes[i] for i in found] for name, found in table.items()})

    def tell(self, masks: bool, report: Preparation) -> bool:
        """Say what of the file is passed over; returns whether masks can be painted from it."""
        report.hints.extend(f'{self.path}: {told}' for told in passed_over(self.coco, self.categories))
        instances = [each for each in self.coco.dataset['annotations'] if each['category_id'] in self.categories]
        bare = bool(instances) and not any(map(has_outline, instances))
        if masks and bare:
            report.missing.append(f'{self.path}: none of its {len(instances)} annotations has an outline: no masks '
                                  'were made, since their objects would count as background. Image labels are all '
                                  'that training needs: --no-masks')
        return masks and not bare


def paint_masks(source: Instances, images: Sequence[tuple[Mapping[str, Any], str]], name: str, overwrite: bool,
                workers: int | None, progress: Progress, record: Prepared, report: Preparation) -> None:
    """Paint the masks of images into files below the folder ``name`` of the data folder."""
    folder = record.root / name
    images = sorted(images, key=lambda item: item[1])
    targets = [real_path(folder, target) for _, target in images]
    tasks = ((target, source.coco.imgToAnns[image['id']], source.categories, image['height'], image['width'],
              overwrite) for (image, _), target in zip(images, targets, strict=True))
    for below in {target.parent for target in targets}:
        remove_stale_temporaries(below, '*.png')  # what a killed worker left half written
    counts: Counter[str] = Counter()
    left_out: list[str] = []
    refused = 0
    results = parallel_map(paint, tasks, len(images), workers, f'masks of {folder.name}', progress)
    for target, result in zip(targets, results, strict=True):
        counts[result.state] += 1
        left_out += result.left_out
        if result.error:
            report.failed[str(target)] = result.error
            refused += result.state == 'refused'
    anew = f', {counts["anew"]} made anew since {source.path.name} or the classes changed' if counts['anew'] else ''
    report.done.append(f'{folder}: {counted(counts["made"], "mask")} made, {counts["there"]} were there already{anew}')
    if left_out:
        report.hints.append(f'{source.path}: {len(left_out)} objects that cannot be painted were left out of the '
                            'masks: ' + '; '.join(left_out[:5]) + ('; ...' if len(left_out) > 5 else ''))
    if not refused:
        record.put(name, TOOL, [source.path], classes=list(source.vocabulary.classes))


@dataclass(frozen=True)
class Painted:
    """What became of one mask."""

    state: str  # 'made', 'anew', 'there', 'refused', 'failed'
    error: str = ''
    left_out: tuple[str, ...] = ()


def paint(task: tuple[Path, Sequence[Mapping[str, Any]], Mapping[Any, int], int, int, bool]) -> Painted:
    """Paint one mask: its file, annotations, classes by category, height, width, and whether to overwrite."""
    target, annotations, categories, height, width, overwrite = task
    annotations = [annotation for annotation in annotations if annotation['category_id'] in categories]
    drawn = [(categories[a['category_id']], bool(a.get('iscrowd', 0)), a.get('segmentation')) for a in annotations]
    source = hashlib.blake2b(json.dumps([height, width, drawn], sort_keys=True).encode(), digest_size=16).hexdigest()
    left_out: list[str] = []
    try:
        exists = target.is_file() and not overwrite
        # "SOURCE PIXELS": digests of what it was made of, and of what it then showed
        was = (labels_made_of(target) or '').split() if exists else []
        if was[:1] == [source]:
            faults = ((a, outline_fault(a.get('segmentation'), height, width)) for a in annotations)
            return Painted('there', left_out=tuple(f'{target.stem}, annotation {a.get("id")!r:.40}: {fault}'
                                                    for a, fault in faults if fault))
        labels = rasterise(annotations, categories, height, width, target.stem, left_out)
        state = 'made'
        if exists:
            shown = read_labels(target)
            same = np.array_equal(shown, labels)
            if not same and was[1:] != [pixels_digest(shown)]:
                how = 'was changed by hand since it was made' if was else 'shows something else than the JSON'
                return Painted('refused', f'{how}; it is kept, --overwrite writes it anew', tuple(left_out))
            state = 'there' if same else 'anew'
        write_labels(target, labels, made_of=f'{source} {pixels_digest(labels)}')
    except ValueError as error:
        return Painted('failed', str(error))
    return Painted(state, left_out=tuple(left_out))
