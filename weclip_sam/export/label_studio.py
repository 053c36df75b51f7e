"""Label Studio: tasks with predictions, one brush region for each class, and the labelling config they belong to."""
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from weclip_sam.export.brush import brush_rle
from weclip_sam.export.checks import check_class_names, check_known, check_meeting, has_controls
from weclip_sam.export.job import Item, Job
from weclip_sam.visualization.regions import present_labels

TASKS, CONFIG = 'tasks.json', 'config.xml'
IMAGE, BRUSH = 'image', 'label'  # names of the tags in the config


class LabelStudio:
    """Regions of one class in an image are one region there: its brush knows no connected pieces."""

    line = f'{TASKS}: predictions as brush masks with scores, and {CONFIG}, the labelling config of the project'
    opens = 'Label Studio (Import), label-studio-sdk'

    def check(self, job: Job) -> None:
        if job.options.photos is not None:
            job.notes.append('Label Studio serves its images from where they are: none are put beside the labels')
        check_known(job)
        check_class_names(job, _unfit)
        check_meeting(job, (_url(job, item) for item in job.items), False, 'rename one of them')

    def write(self, job: Job, out: Path) -> None:
        ElementTree.ElementTree(_config(job)).write(out / CONFIG, encoding='utf-8')
        with open(out / TASKS, 'w', encoding='utf-8') as file:
            file.write('[')
            for number, (item, labels) in enumerate(job.labels()):
                file.write((',\n' if number else '\n') + json.dumps(_task(job, item, labels), allow_nan=False))
            file.write(']\n')


def _config(job: Job) -> ElementTree.Element:
    view = ElementTree.Element('View')
    ElementTree.SubElement(view, 'Image', name=IMAGE, value=f'${IMAGE}', zoom='true', zoomControl='true')
    brush = ElementTree.SubElement(view, 'BrushLabels', name=BRUSH, toName=IMAGE)
    for label, name in enumerate(job.folder.classes):
        if label:
            ElementTree.SubElement(brush, 'Label', value=name,
                                   background='#{:02x}{:02x}{:02x}'.format(*job.colours[label]))
    ElementTree.indent(view)
    return view


def _task(job: Job, item: Item, labels: np.ndarray) -> dict[str, Any]:
    height, width = labels.shape
    sure = job.folder.read_confidence(item.source)
    result, scores = [], []
    for label in present_labels(labels):
        mask = labels == label
        score = job.score(item, label, None if sure is None else float(sure[mask].mean()))
        scores += [] if score is None else [score]
        name = job.folder.classes[label]
        result.append(dict(
            id=hashlib.blake2b(f'{item.name}\0{name}'.encode('utf-8', 'surrogateescape'), digest_size=5).hexdigest(),
            type='brushlabels', from_name=BRUSH, to_name=IMAGE, origin='prediction', original_width=width,
            original_height=height, image_rotation=0, **({} if score is None else dict(score=score)),
            value=dict(format='rle', rle=brush_rle(mask), brushlabels=[name])))
    prediction = dict(model_version=_version(job), result=result)
    return dict(data={IMAGE: _url(job, item)}, predictions=[
        dict(prediction, score=round(float(np.mean(scores)), 4)) if scores else prediction])


def _version(job: Job) -> str:
    if job.options.model_version is not None:
        return job.options.model_version
    checkpoint = Path(str(job.folder.made_by.get('checkpoint') or ''))
    return '/'.join(('weclip_sam', *checkpoint.parts[-2:]))


def _url(job: Job, item: Item) -> str:
    return job.options.url_prefix + quote(os.fsencode(item.own or ''))


def _unfit(name: str) -> str:
    if name.startswith('$'):
        return 'begins with $, which stands for a field of the task in Label Studio'
    return 'has control characters, or blanks at an end' if has_controls(name) or name != name.strip() else ''
