"""Sheets of a training: each image with its given names, in the colours of its data set, and what the numbers are."""
import numpy as np
import pytest
import torch

from weclip_sam.datasets import ImageLabelDataset
from weclip_sam.engine.hooks import sheet as module
from weclip_sam.engine.hooks.sheet import draw_image


class Model:
    """Says label 1 in the left half of any image."""

    def explain(self, batch):
        height, width = batch['data_samples'][0].ori_shape
        labels = torch.zeros(height, width, dtype=torch.int64)
        labels[:, :width // 2] = 1
        return dict(prediction=labels)


@pytest.fixture(scope='module')
def dataset():
    return ImageLabelDataset(dict(type='ShapesReader', split='val', num_images=2, size=48), [dict(type='PackSample')],
                             with_masks=True)


def test_a_row_says_which_names_were_given(dataset):
    row = draw_image(Model(), dataset, 0, np.zeros((11, 3), np.uint8), 100)
    classes = [dataset.metainfo['classes'][index] for index in dataset.image_labels[0].nonzero()[:, 0]]
    assert classes and row.caption == f'{dataset.image_ids[0]} · given names: {", ".join(classes)}'
    assert [panel.title for panel in row.panels] == ['image', 'ground truth', 'prediction']
    assert row.panels[2].note.isdigit() and not row.panels[1].note


def test_nothing_is_said_of_names_that_nobody_gave(dataset, monkeypatch):
    sample = dataset[1]['data_samples']
    sample.image_labels = torch.zeros_like(sample.image_labels)
    assert module._caption(sample, dataset) == f'{dataset.image_ids[1]} · given names: none'
    del sample.image_labels
    assert module._caption(sample, dataset) == dataset.image_ids[1]


def test_the_sheet_of_a_training_explains_itself(trained_run, monkeypatch):
    """The hook gives what draw_sheet needs: colours of the data set, and the sentences."""
    from weclip_sam.engine import SheetHook
    given = {}

    class Runner:
        iter, work_dir = 3, trained_run
        model = Model()

        class visualizer:
            _vis_backends = {}

    def draw(rows, colors, names, title, notes):
        given.update(rows=rows, colors=colors, names=names, title=title, notes=notes)
        return np.zeros((2, 2, 3), np.uint8)
    monkeypatch.setattr(module, 'draw_sheet', draw)
    monkeypatch.setattr(module, 'atomic_open', lambda path: open('/dev/null', 'wb'))
    dataset = ImageLabelDataset(dict(type='ShapesReader', split='val', num_images=2, size=48),
                                [dict(type='PackSample')], with_masks=True)
    dataset.metainfo = dict(dataset.metainfo, palette=[(0, 0, 0), (1, 2, 3)])
    SheetHook(images=2, height=64)._draw(Runner(), dataset, dict(mIoU=51.239))
    assert given['colors'][1].tolist() == [1, 2, 3] and given['colors'].shape == (11, 3)
    assert given['title'] == 'iteration 3 · mIoU 51.24 on all validation images' and len(given['rows']) == 2
    assert given['notes'][-1].startswith('number beside a title: mIoU')
