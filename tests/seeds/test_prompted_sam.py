"""SAM redraws the components of a prediction where its answer agrees with them."""
import numpy as np
import pytest
import torch

from weclip_sam.models.predict import prediction_settings
from weclip_sam.models.refine import refine_prediction, refinement
from weclip_sam.seeds.prompted_sam import inner_points, label_components
from weclip_sam.structures import SegSample

# Two cats (one of them a single pixel) and a dog; 0.8 for the winner, 0.1 for each of the others.
LABELS = torch.tensor([[1, 1, 0, 0, 0, 2], [1, 1, 0, 0, 2, 2], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
PROBABILITIES = torch.full((3, 4, 6), .1).scatter_(0, LABELS[None], .8)


class Answering:
    """A SAM that gives these answers (N A h w logits) and remembers what it was asked."""

    prompts = ('points',)

    def __init__(self, answers, frame=(4, 6)):
        self.answers, self.frame, self.asked = answers, frame, []

    def ask(self, **given):
        self.asked.append(given)
        count = len(next(iter(given.values())))
        answers, self.answers = self.answers[:count], self.answers[count:]
        return answers

    def enlarge(self, logits):
        return logits > 0


class Source:
    config = {}

    def __init__(self, prompter):
        self.prompter = lambda rgb: prompter


def run(prompter, **settings):
    steps = refinement(dict(refine=[dict(type='PromptedSam', **settings)], crf=None))
    return refine_prediction(steps, PROBABILITIES, torch.zeros(3, 4, 6), SegSample(), Source(prompter))


def as_logits(*masks):
    """N masks as N answers, beside one that covers nothing."""
    drawn = torch.stack([torch.as_tensor(mask).float() for mask in masks]) * 2 - 1
    return torch.stack([-torch.ones_like(drawn), drawn], 1)


def test_components_of_every_class():
    parts = label_components(LABELS.numpy())
    assert parts.label.tolist() == [1, 1, 2] and parts.area.tolist() == [4, 1, 3]
    assert parts.box.tolist() == [[0, 0, 2, 2], [1, 3, 2, 4], [4, 0, 6, 2]]
    assert np.array_equal(parts.number >= 0, LABELS.numpy() > 0) and parts.number[3, 1] == 1
    large = label_components(LABELS.numpy(), min_area=3)
    assert large.label.tolist() == [1, 2] and large.number[3, 1] == -1
    assert len(label_components(np.zeros((3, 3), int)).label) == 0


def test_points_lie_deep_inside_and_apart():
    ring = np.ones((9, 21), bool)
    ring[2:7, 2:16] = False
    x, y = inner_points(ring, 1)[0]
    assert x == 18 and 2 <= y <= 6  # the middle of the broad side
    (x, y), (other_x, other_y) = inner_points(np.ones((5, 25), bool), 2)
    assert y == other_y == 2 and abs(x - other_x) >= 3
    assert inner_points(np.ones((1, 1), bool), 3).tolist() == [[0, 0]] * 3


def test_an_answer_that_agrees_takes_the_component_s_place():
    cat, dog = LABELS == 1, LABELS == 2
    cat[3, 1] = False
    cat[:2, 2], cat[0, 0] = True, False  # more on the right, less at the corner
    far = torch.zeros_like(dog)
    far[2, :] = True
    prompter = Answering(as_logits(cat, far))
    labels, refined, use = run(prompter, min_area=2 / 24)
    expected = LABELS.clone()
    expected[:2, 2], expected[0, 0] = 1, 0
    assert labels.tolist() == expected.tolist() and use.masks is None and use.seconds > 0
    torch.testing.assert_close(refined.sum(0), torch.ones(4, 6))
    torch.testing.assert_close(refined[:, 0, 0], torch.tensor([.5, 0, .5]))  # what else was probable there
    assert torch.equal(refined[:, :, 3:], PROBABILITIES[:, :, 3:])  # the dog stays: SAM speaks of something else
    assert len(prompter.asked) == 1 and prompter.asked[0]['points'].tolist() == [[[0, 0]], [[5, 0]]]
    assert torch.equal(run(Answering(as_logits(cat, far)), min_area=2 / 24, min_iou=.8)[1], PROBABILITIES)
    half = run(Answering(as_logits(cat, far)), min_area=2 / 24, weight=.5)[1]
    torch.testing.assert_close(half, (refined + PROBABILITIES) / 2)


def test_what_is_asked():
    prompter = Answering(as_logits(*[LABELS > 9] * 3))
    run(prompter, prompts=['box', 'points', 'rough'], points=2, min_area=0)
    asked = prompter.asked[0]
    assert asked['boxes'].tolist() == [[0, 0, 2, 2], [1, 3, 2, 4], [4, 0, 6, 2]] and asked['points'].shape == (3, 2, 2)
    first = asked['rough'][0]
    assert first[0, 0] > 0 > first[2, 2] and first[3, 1] == first[0, 5] == -8  # other components are none of its own


def test_two_components_meet_and_a_certain_prediction_gives_way():
    certain = torch.zeros(2, 1, 4)
    certain[1, 0, :2], certain[0, 0, 2:] = 1, 1
    steps = refinement(dict(refine=[dict(type='PromptedSam', min_area=0)], crf=None))
    prompter = Answering(as_logits([[1, 0, 0, 0]]), (1, 4))
    labels, refined, _ = refine_prediction(steps, certain, torch.zeros(3, 1, 4), SegSample(), Source(prompter))
    assert labels.tolist() == [[1, 0, 0, 0]] and torch.equal(refined.sum(0), torch.ones(1, 4))


def test_what_a_nearly_certain_component_loses_goes_to_the_others_in_full():
    logits = torch.zeros(3, 4, 6, dtype=torch.double)
    logits[1] = 12.0  # the others have 1e-5 together
    logits[2] = torch.linspace(-2, 2, 24).view(4, 6)
    probabilities = logits.softmax(0).float()
    answer = torch.zeros(4, 6, dtype=torch.bool)
    answer[:, :4] = True
    steps = refinement(dict(refine=[dict(type='PromptedSam')], crf=None))
    _, refined, _ = refine_prediction(steps, probabilities, torch.zeros(3, 4, 6), SegSample(),
                                      Source(Answering(as_logits(answer))))
    rest = logits[[0, 2]].softmax(0).float()
    assert torch.allclose(refined.sum(0), torch.ones(4, 6), atol=1e-6)
    assert torch.allclose(refined[[0, 2]][..., 4:], rest[..., 4:], atol=1e-5)


def test_nothing_to_ask_and_nobody_to_ask():
    steps = refinement(dict(refine=[dict(type='PromptedSam')], crf=None))
    empty = torch.tensor([.9, .1])[:, None, None].expand(2, 3, 3)
    labels, refined, _ = refine_prediction(steps, empty, torch.zeros(3, 3, 3), SegSample(), Source(Answering([])))
    assert not labels.any() and torch.equal(refined, empty)
    alone = refine_prediction(steps, torch.ones(1, 3, 3), torch.zeros(3, 3, 3), SegSample(), Source(Answering([])))
    assert not alone[0].any() and torch.equal(alone[1], torch.ones(1, 3, 3))  # no class
    with pytest.raises(ValueError, match='PromptedSam needs a SAM that answers prompts.*model.test.mask_generator'):
        refine_prediction(steps, empty, torch.zeros(3, 3, 3), SegSample())


@pytest.mark.parametrize('settings, message', [
    (dict(prompts=['boxes']), "Did you mean 'box'"), (dict(prompts=[]), 'at least one'), (dict(points=0), 'points=0'),
    (dict(min_iou=2), 'min_iou')])
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        prediction_settings(dict(refine=[dict(type='PromptedSam', **settings)]))
