import json

import pytest
import torch
import torch.nn.functional as F

from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features


@pytest.fixture(scope='module')
def clip(clip_card, tmp_path_factory):
    path = tmp_path_factory.mktemp('card') / 'card.json'
    path.write_text(json.dumps(clip_card))
    return FrozenClip(str(path), 'random')


def test_one_template_is_the_normalised_sentence(clip):
    features = text_features(clip, ['cat', 'dog'])
    expected = clip.encode_text(clip.tokenize(['a clean origami cat.', 'a clean origami dog.']))
    torch.testing.assert_close(features, F.normalize(expected, dim=-1))


def test_templates_are_averaged_after_normalising_and_the_mean_is_normalised(clip):
    features = text_features(clip, ['cat', 'dog'], ['{}', 'a photo of a {}.'], chunk=3)
    for row, name in enumerate(['cat', 'dog']):
        sentences = F.normalize(clip.encode_text(clip.tokenize([name, f'a photo of a {name}.'])), dim=-1)
        torch.testing.assert_close(features[row], F.normalize(sentences.mean(0), dim=0))
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2))


def test_other_braces_of_a_template_stand_as_they_are(clip):
    for template, sentence in (('a {{}}.', 'a {cat}.'), ('a {} of {size}', 'a cat of {size}')):
        expected = F.normalize(clip.encode_text(clip.tokenize([sentence])), dim=-1)
        torch.testing.assert_close(text_features(clip, ['cat'], [template]), expected)


@pytest.mark.parametrize('names, templates, message', [
    ([], ['{}'], 'got 0 and 1'), (['cat'], [], 'got 1 and 0'), (['cat'], ['a photo'], 'exactly one'),
    ('cat', ['{}'], 'not one string'),
])
def test_errors(clip, names, templates, message):
    with pytest.raises(ValueError, match=message):
        text_features(clip, names, templates)
