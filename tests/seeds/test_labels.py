import pytest
import torch

from weclip_sam.seeds.labels import IgnoreDisagreement, PixelLabels, ignore_unsure, label_pixels, label_surely
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.seeds.scores import background_score
from weclip_sam.structures import ClassMaps, SeedState, foreground_label


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def batch():
    """Image 0 names classes 3 and 0 (in this order), image 1 none, image 2 class 1."""
    return ClassMaps(rand(3, 5, 6), torch.tensor([0, 0, 2]), torch.tensor([3, 0, 1]))


def test_labels_equal_argmax_over_stacked_channels():
    maps, background = batch(), rand(3, 5, 6, seed=1)
    labels, confidence, margin = label_pixels(maps, background)
    for sample, names in ((0, [0, 4, 1]), (1, [0]), (2, [0, 2])):
        stacked = torch.cat([background[sample, None], maps.scores[maps.sample_index == sample]])
        assert torch.equal(labels[sample], torch.tensor(names)[stacked.argmax(0)])
        torch.testing.assert_close(confidence[sample], stacked.amax(0))
        ordered = torch.cat([stacked, torch.zeros(1, 5, 6)]).sort(0, descending=True).values
        torch.testing.assert_close(margin[sample], ordered[0] - ordered[1])


def test_ties_go_to_background_then_to_the_first_pair():
    maps = ClassMaps(torch.tensor([[[0.5, 0.5, 0.7]], [[0.5, 0.5, 0.7]]]), torch.tensor([0, 0]), torch.tensor([2, 1]))
    labels, confidence, margin = label_pixels(maps, torch.tensor([[[0.5, 0.6, 0.1]]]))
    assert labels.tolist() == [[[0, 0, 3]]]
    torch.testing.assert_close(confidence, torch.tensor([[[0.5, 0.6, 0.7]]]))
    torch.testing.assert_close(margin, torch.tensor([[[0.0, 0.1, 0.0]]]))


def test_a_batch_without_pairs_is_background():
    maps = ClassMaps(torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    labels, confidence, margin = label_pixels(maps, torch.full((2, 2, 2), 0.9))
    assert labels.sum() == 0 and labels.dtype == torch.int64
    torch.testing.assert_close(confidence, torch.full((2, 2, 2), 0.9))
    torch.testing.assert_close(margin, confidence)


def test_ignore_rules():
    labels = torch.tensor([[[0, 1, 2, 3]]])
    confidence, margin = torch.tensor([[[0.9, 0.4, 0.9, 0.5]]]), torch.tensor([[[0.5, 0.3, 0.05, 0.1]]])
    assert ignore_unsure(labels, confidence, margin).tolist() == labels.tolist()
    assert ignore_unsure(labels, confidence, margin, min_confidence=0.5).tolist() == [[[0, 255, 2, 3]]]
    assert ignore_unsure(labels, confidence, margin, min_margin=0.1).tolist() == [[[0, 1, 255, 3]]]


@pytest.fixture()
def state():
    labels = torch.zeros(3, 5, dtype=torch.bool)
    labels[0, [0, 3]] = labels[2, 1] = True
    return SeedState(images=torch.zeros(3, 3, 20, 24), image_labels=labels,
                     maps=batch())


def test_step_upsamples_and_makes_the_background(state):
    after = PixelLabels(background_power=2, min_margin=0.1)(state)
    scores = torch.nn.functional.interpolate(state.maps.scores[:, None], (20, 24), mode='bilinear')[:, 0]
    background = torch.stack([(1 - scores[:2].amax(0)) ** 2, torch.ones(20, 24), (1 - scores[2]) ** 2])
    labels, confidence, margin = label_pixels(state.maps.with_scores(scores), background)
    assert torch.equal(after.pixel_labels, labels.masked_fill(margin < 0.1, 255))
    torch.testing.assert_close(after.confidence, confidence)
    assert set(after.pixel_labels.unique().tolist()) == {0, 1, 2, 4, 255}
    assert (after.pixel_labels[1] == 0).all()


def test_step_uses_a_background_that_is_there(state):
    state.background = torch.full((3, 5, 6), 2.0)
    assert PixelLabels()(state).pixel_labels.sum() == 0


def test_images_without_names_can_be_ignored(state):
    after = PixelLabels(ignore_unlabelled=True)(state)
    assert (after.pixel_labels[1] == 255).all() and (after.pixel_labels[[0, 2]] != 255).all()


def test_the_shift_and_the_errors(state):
    assert foreground_label(torch.tensor([0, 19])).tolist() == [1, 20]
    assert background_score(torch.tensor([0.75]), 'power', 2).tolist() == [0.0625]
    with pytest.raises(ValueError, match='min_margin'):
        PixelLabels(min_margin=5)
    state.maps = None
    with pytest.raises(ValueError, match='GradCam'):
        SeedPipeline([PixelLabels()])(state)


def test_what_maps_and_labels_disagree_on_is_ignored(state):
    own = PixelLabels()(state)
    other = own.pixel_labels.clone()
    other[0, :10] = 2
    state = SeedState(**{**vars(own), 'pixel_labels': other})
    after = IgnoreDisagreement()(state).pixel_labels
    assert torch.equal(after, torch.where(other == own.pixel_labels, other, 255))
    assert (after == 255).any() and (after[1:] == own.pixel_labels[1:]).all()
    state.pixel_labels = None
    with pytest.raises(ValueError, match='SamVote'):
        SeedPipeline([IgnoreDisagreement()])(state)


def test_what_no_threshold_asks_for_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    maps = ClassMaps(torch.randint(0, 5, (3, 4, 6), generator=generator) / 4, torch.tensor([0, 0, 2]),
                     torch.tensor([1, 4, 0]))
    background = torch.randint(0, 5, (3, 4, 6), generator=generator) / 4
    labels, confidence, margin = label_pixels(maps, background)
    for thresholds in ((0, 0), (0.5, 0), (0, 0.25), (0.5, 0.25)):
        expected = ignore_unsure(labels, confidence, margin, *thresholds)
        found, sure = label_surely(maps, background, *thresholds)
        assert torch.equal(found, expected) and torch.equal(sure, confidence)
