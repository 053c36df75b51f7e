
import pytest
import torch

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds import BlendMaps, BlendPrediction, WeighByPrediction
from weclip_sam.seeds.blend import present_probabilities
from weclip_sam.structures import ClassMaps, SeedState


def state(seg_logits=None, use=False, **history):
    first = torch.zeros(1).long()
    maps = {name: ClassMaps(torch.as_tensor(scores)[None], first, first) for name, scores in history.items()}
    return SeedState(images=torch.zeros(1, 3, 4, 4), image_labels=torch.ones(1, 1, dtype=torch.bool),
                     maps=list(maps.values())[-1], history=maps, seg_logits=seg_logits, decoder_heard=use)


def test_weighted_mean_of_two_steps():
    before = state(gradcam=[[1., 0.]], affinity=[[0.5, 1.]])
    after = SEED_STEPS.build(dict(type='BlendMaps', weight=0.25))(before)
    assert torch.equal(after.maps.scores, torch.tensor([[[0.875, 0.25]]]))
    assert list(after.history) == ['gradcam', 'affinity', 'blend'] and list(before.history) == ['gradcam', 'affinity']


def test_the_mean_of_several_steps_counts_each_the_same():
    given = state(gradcam=[[1., 0.]], excel=[[.5, .25]], eye=[[0., 1.]])
    torch.testing.assert_close(BlendMaps(['gradcam', 'excel'])(given).maps.scores, torch.tensor([[[.5, 1.25 / 3]]]))
    torch.testing.assert_close(BlendMaps(['gradcam', 'excel'], weight=.5)(given).maps.scores,
                               torch.tensor([[[.375, .5625]]]))


def test_errors_name_the_step():
    with pytest.raises(ValueError, match="Did you mean 'gradcam'"):
        BlendMaps('gradcm')(state(gradcam=[[1.]]))
    with pytest.raises(ValueError, match='before steps that upsample'):
        BlendMaps()(state(gradcam=[[1.]], par=[[1., 1.]]))
    with pytest.raises(ValueError, match='weight'):
        BlendMaps(weight=1.5)
    with pytest.raises(ValueError, match='name of an earlier step'):
        BlendMaps([])


def test_the_decoder_is_heard_from_the_switch_on():
    logits = torch.tensor([[[[0., 0.]], [[0., 2.]]]])
    early, offline = state(gradcam=[[1., 0.]], seg_logits=logits), state(gradcam=[[1., 0.]], use=True)
    assert BlendPrediction()(early) is early and BlendPrediction()(offline) is offline
    late = BlendPrediction(weight=0.25)(state(gradcam=[[1., 0.]], seg_logits=logits, use=True))
    expected = torch.tensor([[[0.75 + 0.25 * 0.5, 0.25 * torch.tensor(2.).sigmoid()]]])
    assert torch.allclose(late.maps.scores, expected) and list(late.history) == ['gradcam', 'prediction']


def test_the_decoder_has_no_say_in_which_classes_there_are():
    logits = torch.zeros(2, 3, 1, 1)
    labels = torch.tensor([[True, False], [False, False]])
    shares = present_probabilities(logits, labels)
    assert shares[..., 0, 0].tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]


def test_a_finer_prediction_lifts_the_maps_to_its_grid():
    logits = torch.zeros(1, 2, 2, 4)
    logits[:, 1, :, 2:] = 100.0
    given = state(gradcam=[[1., 0.]], seg_logits=logits, use=True)
    blended = BlendPrediction()(given).maps.scores
    enlarged = torch.nn.functional.interpolate(given.maps.scores[:, None], size=(2, 4), mode='bilinear')[:, 0]
    assert blended.shape == (1, 2, 4)
    torch.testing.assert_close(blended, (enlarged + logits.softmax(1)[:, 1]) / 2)


def test_maps_that_are_weighed_by_a_finer_prediction_stay_on_their_grid():
    logits = torch.zeros(1, 2, 2, 4)
    logits[:, 1, :, 2:] = 100.0
    weighed = WeighByPrediction()(state(gradcam=[[.8, .6]], seg_logits=logits, use=True)).maps.scores
    torch.testing.assert_close(weighed, torch.tensor([[[.4, .6]]]))
