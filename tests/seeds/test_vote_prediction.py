"""SAM's masks vote on a prediction."""
import pytest
import torch

from weclip_sam.models.refine import refine_prediction, refinement
from weclip_sam.seeds.vote_prediction import vote_probabilities
from weclip_sam.structures import MaskSet, SegSample

PROBABILITIES = torch.tensor([[[.9, .2, .3, .8]], [[.1, .8, .3, .1]], [[.0, .0, .4, .1]]])  # background, cat, dog


def masks(*rows):
    held = torch.tensor(rows, dtype=torch.bool).view(len(rows), 1, 4)
    none = torch.zeros(len(rows))
    return MaskSet(held, none.long(), none, none, none.long())


@pytest.mark.parametrize('packed', [False, True])
def test_a_pixel_takes_the_mean_of_the_masks_over_it(packed):
    votes = masks([1, 1, 0, 0], [0, 1, 1, 0])
    voted = vote_probabilities(PROBABILITIES, votes.packed() if packed else votes)
    first, second = PROBABILITIES[..., :2].mean(2), PROBABILITIES[..., 1:3].mean(2)
    torch.testing.assert_close(voted[:, 0, 0], first[:, 0])
    torch.testing.assert_close(voted[:, 0, 1], ((first + second) / 2)[:, 0])
    torch.testing.assert_close(voted[:, 0, 2], second[:, 0])
    assert torch.equal(voted[..., 3], PROBABILITIES[..., 3])  # no mask


def test_the_surest_mask_lies_on_top():
    voted = vote_probabilities(PROBABILITIES, masks([1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]), 'surest')
    assert torch.equal(voted[:, 0, 1], PROBABILITIES[:, 0, 1])
    torch.testing.assert_close(voted[:, 0, 2], PROBABILITIES[:, 0, 1:3].mean(1))


def test_without_masks_nothing_changes():
    assert torch.equal(vote_probabilities(PROBABILITIES, MaskSet.empty(1, 4)), PROBABILITIES)


def test_votes_do_not_follow_autocast():
    votes = masks([1, 1, 1, 0], [0, 1, 1, 0])
    plain = vote_probabilities(PROBABILITIES / 3, votes)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(vote_probabilities(PROBABILITIES / 3, votes), plain)


def test_as_a_refinement_step():
    steps = refinement(dict(refine=[dict(type='VotePrediction')], crf=None))
    sample = SegSample()
    sample.mask_set = masks([1, 1, 1, 1])
    labels, refined, _ = refine_prediction(steps, PROBABILITIES, torch.zeros(3, 1, 4), sample)
    torch.testing.assert_close(refined, PROBABILITIES.mean(2, keepdim=True).expand_as(PROBABILITIES))
    assert labels.tolist() == [[0] * 4]
    sample.mask_set = MaskSet.empty(2, 2)
    with pytest.raises(ValueError, match=r'prediction is \(1, 4\), the masks are \(2, 2\)'):
        refine_prediction(steps, PROBABILITIES, torch.zeros(3, 1, 4), sample)
