"""The data set class: contract of a sample, labels, no masks in training."""
import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from weclip_sam.datasets import ImageLabelDataset, SampleIndex
from weclip_sam.registry import DATASETS
from weclip_sam.structures import SegSample

PACK = [dict(type='PackSample')]


def test_item_has_uint8_image_and_sample(memory_reader):
    dataset = DATASETS.build(dict(type='ImageLabelDataset', reader=memory_reader(), pipeline=PACK))
    item = dataset[2]
    assert item['inputs'].dtype == torch.uint8 and item['inputs'].shape == (3, 20, 30)
    assert torch.all(item['inputs'] == 2)
    sample = item['data_samples']
    assert isinstance(sample, SegSample)
    assert sample.image_labels.tolist() == [False, False, True]
    assert (sample.image_id, sample.image_path, sample.ori_shape, sample.img_shape) == (
        'image002', None, (20, 30), (20, 30))
    assert sample.content_box == (0, 0, 20, 30) and not sample.padding_mask.any()
    assert 'ground_truth' not in sample and 'mask_set' not in sample


def test_labels_ids_and_metainfo(memory_reader):
    dataset = ImageLabelDataset(memory_reader(4))
    assert dataset.image_ids == ['image000', 'image001', 'image002', 'image003']
    assert dataset.image_labels.tolist() == [[False] * 3, [False, True, False], [False, False, True],
                                             [True, False, False]]
    assert dataset.metainfo['classes'] == ('class0', 'class1', 'class2')
    assert len(dataset.metainfo['palette']) == 4 and len(dataset.metainfo['background_nouns']) == 23
    pickle.dumps(dataset.metainfo)


def test_unlabelled_images_are_kept_or_skipped(memory_reader):
    assert len(ImageLabelDataset(memory_reader(4))) == 4
    skipped = ImageLabelDataset(memory_reader(4), unlabelled='skip', pipeline=PACK)
    assert skipped.image_ids[0] == 'image001' and len(skipped) == 3
    assert torch.all(skipped[0]['inputs'] == 1)
    with pytest.raises(ValueError, match='keep'):
        ImageLabelDataset(memory_reader(4), unlabelled='drop')
    with pytest.raises(ValueError, match='no image is left'):
        ImageLabelDataset(memory_reader(1), unlabelled='skip')


def test_limit_takes_the_first(memory_reader):
    assert ImageLabelDataset(memory_reader(9), limit=2).image_ids == ['image000', 'image001']
    with pytest.raises(ValueError, match='limit: expected how many images to use, or None for all, got -2'):
        ImageLabelDataset(memory_reader(9), limit=-2)


def test_indices_from_the_end_are_those_of_a_list(memory_reader):
    dataset = ImageLabelDataset(memory_reader(3), PACK)
    assert torch.equal(dataset[-1]['inputs'], dataset[2]['inputs'])
    assert dataset[-3]['data_samples'].image_id == 'image000'
    with pytest.raises(IndexError):
        dataset[-4]


def test_ground_truth_only_with_masks(memory_reader):
    dataset = ImageLabelDataset(memory_reader(), PACK, with_masks=True)
    truth = dataset[1]['data_samples'].ground_truth
    assert truth.dtype == torch.int64 and torch.all(truth == 2)
    with pytest.raises(ValueError, match='with_masks=True'):
        ImageLabelDataset(memory_reader()).load_ground_truth(0)


def test_training_never_asks_for_ground_truth(memory_reader, monkeypatch):
    reader = memory_reader()
    monkeypatch.setattr(reader, 'load_ground_truth', lambda index: pytest.fail('a mask was opened'))
    monkeypatch.setattr(reader, 'check_masks', lambda: pytest.fail('masks were looked for'))
    dataset = ImageLabelDataset(reader, [dict(type='RandomCrop', size=16), *PACK])
    assert len([dataset[i] for i in range(len(dataset))]) == 10


def test_sample_randomness_follows_position_not_index(memory_reader):
    dataset = ImageLabelDataset(memory_reader(), [lambda results: results['rng'].random(4)])
    one, again = dataset[SampleIndex(3, seed=1, position=7)], dataset[SampleIndex(3, seed=1, position=7)]
    other, seed = dataset[SampleIndex(3, seed=1, position=8)], dataset[SampleIndex(3, seed=2, position=7)]
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other) and not np.array_equal(one, seed)
    assert np.array_equal(dataset[3], dataset[3])


def test_samples_collate_as_mmengine_expects(memory_reader):
    dataset = ImageLabelDataset(memory_reader(), PACK)
    batch = pseudo_collate([dataset[0], dataset[1]])
    assert [tuple(image.shape) for image in batch['inputs']] == [(3, 20, 30)] * 2
    assert [sample.image_id for sample in batch['data_samples']] == ['image000', 'image001']


def test_unknown_transform_and_reader_are_errors():
    with pytest.raises(KeyError, match='NoSuchReader'):
        ImageLabelDataset(dict(type='NoSuchReader'))
