"""Label Studio's tasks and config."""
import json
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from export_scene import CLASSES, PHOTOS, confidence, scenes

from weclip_sam.export import export_folder
from weclip_sam.export.brush import brush_rle


def test_tasks(hard):
    place = export_folder(hard, ['label-studio'])['label-studio']
    tasks = json.loads((place / 'tasks.json').read_text())
    names, ids = sorted(scenes()), []
    assert [unquote(task['data']['image']) for task in tasks] == [
        f'/data/local-files/?d={PHOTOS[name]}' for name in names]
    assert all(task['data']['image'].isascii() for task in tasks)
    for name, task in zip(names, tasks, strict=True):
        labels, (prediction,) = scenes()[name], task['predictions']
        present = [label for label in range(1, 5) if (labels == label).any()]
        assert prediction['model_version'] == 'weclip_sam/run/iter_400.pth'
        found = [each['value']['brushlabels'] for each in prediction['result']]
        assert found == [[CLASSES[label]] for label in present]
        for label, each in zip(present, prediction['result'], strict=True):
            assert each['value']['rle'] == brush_rle(labels == label) and each['value']['format'] == 'rle'
            assert (each['original_height'], each['original_width']) == labels.shape and each['type'] == 'brushlabels'
            assert each['score'] == pytest.approx(confidence(labels)[labels == label].mean() / 255, abs=1e-4)
            ids.append(each['id'])
        if present:
            mean = np.mean([each['score'] for each in prediction['result']])
            assert prediction['score'] == pytest.approx(mean, abs=1e-4)
        else:
            assert 'score' not in prediction
    assert len(set(ids)) == len(ids)


def test_the_config_fits(hard):
    options = dict(url_prefix='https://host/photos/', model_version='mine')
    place = export_folder(hard, ['label-studio'], **options)['label-studio']
    view = ElementTree.parse(place / 'config.xml').getroot()
    assert [label.get('value') for label in view.iter('Label')] == list(CLASSES[1:])
    assert next(view.iter('Label')).get('background') == '#c81e1e'
    brush, task = view.find('BrushLabels'), json.loads((place / 'tasks.json').read_text())[0]
    first = task['predictions'][0]['result'][0]
    assert (first['from_name'], first['to_name']) == (brush.get('name'), brush.get('toName'))
    assert view.find('Image').get('name') == brush.get('toName') and view.find('Image').get('value') == '$image'
    assert task['data']['image'] == 'https://host/photos/a%20b.jpg'
    assert task['predictions'][0]['model_version'] == 'mine'


@pytest.mark.parametrize('name, reason', [('$image', 'a field of the task'), ('a\nb', 'control'), ('a ', 'blanks')])
def test_names_that_do_not_fit(labelled, name, reason):
    folder = labelled({'one': np.ones((2, 3), np.uint8)}, classes=('background', name))
    with pytest.raises(ValueError, match=reason):
        export_folder(folder, ['label-studio'])
