"""Whether CLIP agrees with given names: by hand, and on scenes with one wrong name each."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weclip_sam.datasets.shapes.reader import ShapesReader, shapes_vocabulary
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.models.name_scores import name_scores


def test_it_is_the_mean_chance_against_all_other_texts():
    image = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    clip = SimpleNamespace(encode_image=lambda images: 5 * image[:len(images)], normalize=lambda images: images,
                           logit_scale=torch.tensor(10.0))
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]])  # three classes and a noun
    first, second = name_scores(clip, texts, torch.zeros(2, 3, 8, 8), torch.tensor([[True, True, False], [False] * 3]))
    cosines = (image @ texts.T)[0].tolist()
    for c in (0, 1):
        chances = [1 / (1 + np.exp(10 * (cosines[j] - cosines[c]))) for j in (2, 3)]
        assert first[c] == pytest.approx(np.mean(chances), abs=1e-6)
    assert set(first) == {0, 1} and second == {}
    (alone,) = name_scores(clip, texts[:1], torch.zeros(1, 3, 8, 8), torch.tensor([[True]]))[:1]
    assert alone == {0: 1.0}


def test_wrong_names_fit_worse_than_right_ones():
    clip, reader, names = FrozenClip('tiny', 'tiny'), ShapesReader('tune', 20), shapes_vocabulary()
    texts = text_features(clip, [*names.prompt_names, *names.background_nouns], ['a photo of a {}.'])
    wins = []
    for index, record in enumerate(reader.records):
        given = torch.zeros(1, names.num_classes, dtype=torch.bool)
        wrong = next(c for c in range(names.num_classes) if c not in record.classes)
        given[0, [*record.classes, wrong]] = True
        inputs = torch.from_numpy(np.array(reader.load_image(index))).permute(2, 0, 1)[None].float()
        (scores,) = name_scores(clip, texts, inputs, given)
        wins += [scores[c] > scores[wrong] for c in record.classes]
    assert np.mean(wins) > 0.95
