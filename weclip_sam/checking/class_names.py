"""Image labels and names of classes that look like slips."""
from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from weclip_sam.checking.built_datasets import is_of_folder
from weclip_sam.checking.findings import Report
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.readers.names import CLASS_FILE, PROMPT_FILE
from weclip_sam.datasets.vocabulary import is_number

SIMILAR = 0.8  # class names whose difflib ratio reaches it may be one class, written in two ways


def check_image_labels(name: str, dataset: ImageLabelDataset, report: Report) -> None:
    """Training images without a label, classes with no image or one."""
    if not name.startswith('train_dataloader'):
        return
    without = [image_id for image_id, labels in zip(dataset.image_ids, dataset.image_labels, strict=True)
               if not labels.any()]
    if without:
        report.add('warning', 'no label', name, f'{len(without)} of {len(dataset)} images have no label and teach '
                   f"background only (unlabelled='skip' leaves them out: --cfg-options "
                   f"train_dataloader.dataset.unlabelled=skip), for example {', '.join(without[:5])}")
    counts = dataset.image_labels.sum(0).tolist()
    unseen = [c for c, count in zip(dataset.metainfo['classes'], counts, strict=True) if count == 0]
    if unseen:
        report.add('warning', 'classes', name, f'{len(unseen)} classes are in no training image: '
                   f'{", ".join(unseen[:20])}')
    single = [c for c, count in zip(dataset.metainfo['classes'], counts, strict=True) if count == 1]
    if single:
        report.add('warning', 'classes', name, f'{len(single)} classes are in one training image only, too few to '
                   f'learn from (or misspelt?): {", ".join(single[:20])}')


def check_class_names(name: str, node: Mapping[str, Any], dataset: ImageLabelDataset, report: Report) -> None:
    """Names that look like slips of the label file; one that was written down as a class on purpose is no slip."""
    if not name.startswith('train_dataloader'):
        return
    counts = dict(zip(dataset.metainfo['classes'], dataset.image_labels.sum(0).tolist(), strict=True))
    if left_out := dataset.reader.vocabulary.left_out:
        report.add('note', 'class names', name, f'background nouns that name a class are left out: '
                   f'{", ".join(left_out[:20])}')
    for each in (c for c in counts if '|' in c):
        report.add('warning', 'class names', name, f"class {each!r} has a | in its name; if these are several classes, "
                   "separate them by ';' in the label file")
    for each in (c for c in counts if ',' in c):
        report.add('warning', 'class names', name, f'class {each!r} has a comma in its name, which CLIP reads as '
                   "synonyms; if these are several classes, separate them by ';' in the label file")
    for each in counts:
        parts = re.split(r'[\s,/&+]+', each)
        if len(parts) > 1 and counts.keys() >= set(parts):
            report.add('warning', 'class names', name, f'class {each!r} is made of the names of other classes; if '
                       "these are several classes, separate them by ';' in the label file")
    vocabulary = dataset.reader.vocabulary
    if numbers := [c for c, text in zip(vocabulary.classes, vocabulary.prompt_names, strict=True) if is_number(text)]:
        report.add('warning', 'class names', name, f'CLIP is asked for numbers ({", ".join(numbers[:5])}), which name '
                   f'nothing to be seen: write the names of the classes, or a text for each in {PROMPT_FILE}. (The '
                   'label of a class is its place in the list, whatever number it is called)')
    reader = node['reader']
    if not is_of_folder(node) or reader.get('classes') is not None or \
            (Path(reader['data_root']) / CLASS_FILE).is_file():
        return
    for first, other in combinations(counts, 2):
        match = difflib.SequenceMatcher(None, first.casefold(), other.casefold())
        if match.quick_ratio() >= SIMILAR and match.ratio() >= SIMILAR:
            report.add('warning', 'class names', name, f'classes {first!r} (images: {counts[first]}) and {other!r} '
                       f'(images: {counts[other]}) are written almost alike: if they are one class, mend the label '
                       f'file; if not, list all classes in {Path(reader["data_root"]) / CLASS_FILE}, one a line')


def check_same_classes(datasets: Mapping[str, ImageLabelDataset], report: Report) -> None:
    """All data sets of a config name the same classes, in one order."""
    names = list(datasets)
    for name in names[1:]:
        first, other = datasets[names[0]].metainfo['classes'], datasets[name].metainfo['classes']
        if first != other:
            report.add('error', 'classes', name, f'has {len(other)} classes, {names[0]} has {len(first)}; only in one '
                       f'of them: {sorted(set(first) ^ set(other))[:10]} (a shared classes.txt keeps them alike)')
