"""Sentences about the classes: read with care, clustered, added to the texts."""
import json

import pytest
import torch
import torch.nn.functional as F

from weclip_sam.foundation.attributes import (
    attribute_weights,
    cluster,
    load_attributes,
    read_sentences,
    with_attributes,
)
from weclip_sam.foundation.clip import FrozenClip

CLASSES = ['cat', 'dog', 'café']
SAID = {'cat': ['a cat. It purrs.', 'a cat. It has fur.'], 'dog': ['a dog. It barks.', 'a dog. It has fur.']}


def written(tmp_path, content, name='said.json'):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding='utf-8')
    return path


def test_json_and_text_say_the_same(tmp_path):
    lines = '\n'.join(['# about animals', '', *(f'{name}:  {one} ' for name, all_ in SAID.items() for one in all_)])
    expected = [one for all_ in SAID.values() for one in all_]
    assert read_sentences(written(tmp_path, SAID), CLASSES) == expected
    assert read_sentences(written(tmp_path, lines, 'said.txt'), CLASSES) == expected
    twice = {'cat': ['It has fur.'], 'dog': ['It has fur.', 'a dog: it barks.'], 'cafe\u0301': ['a café.']}
    assert read_sentences(written(tmp_path, twice), CLASSES) == ['It has fur.', 'a dog: it barks.', 'a café.']


@pytest.mark.parametrize('content, name, message', [
    ({'cats': ['a']}, 'said.json', "no class 'cats'. Did you mean 'cat'? It has: cat, dog"),
    ({'cat': []}, 'said.json', "class 'cat' has an empty list"), ({'cat': 'a cat.'}, 'said.json', 'got str'),
    ({'cat': ['a', 3]}, 'said.json', 'expected sentences, got 3'), ({'cat': [' ']}, 'said.json', "got ' '"),
    (['a cat.'], 'said.json', 'expected an object'), ({}, 'said.json', 'holds no sentence'),
    ('{"cat": ', 'said.json', 'line 1: not valid JSON'), ('cat: a\n\na dog', 'said.txt', 'line 3: expected "class'),
    ('cat: a\ncow: a', 'said.txt', "line 2: the data set has no class 'cow'"), ('cat:', 'said.txt', 'line 1'),
    (SAID, 'said.json', '4 different sentences make no bank of 5'),
    ({'cat': ['word ' * 20, *'abcd']}, 'said.json', "said.json: prompt 'word word")])
def test_what_is_wrong_with_a_file_is_said(tmp_path, clip_card, content, name, message):
    card = written(tmp_path, clip_card, 'card.json')
    with pytest.raises(ValueError) as error:
        load_attributes(written(tmp_path, content, name), FrozenClip(str(card), 'random'), CLASSES, centres=5)
    assert message in str(error.value)
    with pytest.raises(FileNotFoundError, match='nowhere.json: no such file'):
        read_sentences(tmp_path / 'nowhere.json', CLASSES)


def test_clusters_are_means_of_what_lies_together():
    generator = torch.Generator().manual_seed(1)
    middles = 10 * torch.randn(4, 6, generator=generator)
    points = middles.repeat(25, 1) + 0.1 * torch.randn(100, 6, generator=generator)
    found = cluster(points, 4)
    assert torch.equal(found, cluster(points, 4))
    order = torch.cdist(middles, found).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(found[order], points.view(25, 4, 6).mean(0))
    # As many centres as points are the points; equal points leave centres to spare.
    assert torch.cdist(points[:7], cluster(points[:7], 7)).amin(1).max() < 1e-6
    assert torch.equal(cluster(torch.ones(5, 2), 3), torch.ones(3, 2))


def test_attributes_that_are_least_like_a_class_are_left_out():
    text = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
    bank = torch.stack([torch.arange(20.0), -torch.arange(20.0)], 1) / 20
    weights = attribute_weights(text, bank)
    assert (weights == 0).nonzero().tolist() == [[0, 0], [0, 1], [1, 18], [1, 19]]  # a tenth of them
    torch.testing.assert_close(weights[0, 2:], (bank[2:, 0]).softmax(0))
    assert (attribute_weights(text, bank[:9]) > 0).all()
    torch.testing.assert_close(with_attributes(text, bank), F.normalize(text + weights @ bank, dim=1))
