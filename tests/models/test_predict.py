"""Multi-scale fusion: against the published code's arrays and against hand-made cases."""
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from weclip_sam.models import predict
from weclip_sam.models.predict import multi_scale_logits, predict_samples, prediction_settings, to_original
from weclip_sam.seeds.crf import dense_crf
from weclip_sam.structures import SegSample

GOLDEN = Path(__file__).parents[3] / 'shared' / 'golden' / 'weclip.npz'


@pytest.mark.skipif(not GOLDEN.exists(), reason='the full golden arrays are not beside the checkout')
def test_fusion_equals_the_published_code():
    golden = np.load(GOLDEN)
    weight = torch.from_numpy(golden['fusion/conv_weight']).float()
    scales = golden['fusion/scales'].tolist()
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    for i in range(2):
        rgb = torch.from_numpy(golden[f'test/{i}/image_uint8']).float()
        images = ((rgb - mean) / std).permute(2, 0, 1)[None]
        height, width = images.shape[-2:]
        ratio = int(golden['test/resize_long']) / max(height, width)
        images = F.interpolate(images, (int(height * ratio), int(width * ratio)), mode='bilinear', align_corners=False)
        fused = multi_scale_logits(lambda x: F.conv2d(x, weight, stride=16), images, scales, flip=True, multiple=16)
        torch.testing.assert_close(fused, torch.from_numpy(golden[f'fusion/{i}/msc_segs']), atol=1e-4, rtol=0)


def pool(images):
    """A stand-in model: mean colour of every 4 x 4 patch."""
    return F.avg_pool2d(images, 4)


def test_one_scale_without_flip_is_the_model_itself():
    images = torch.rand(2, 3, 8, 12)
    assert torch.equal(multi_scale_logits(pool, images), pool(images))


def test_flip_is_undone_before_the_mean():
    images = torch.rand(1, 3, 8, 12)
    torch.testing.assert_close(multi_scale_logits(pool, images, flip=True), pool(images))
    # A model that always answers "left" must come out undecided.
    left = torch.zeros(1, 1, 2, 3)
    left[..., 0] = 1
    fused = multi_scale_logits(lambda x: left.expand(len(x), -1, -1, -1), images, flip=True)
    assert fused[0, 0, 0].tolist() == [0.5, 0, 0.5]


def test_scales_are_averaged_on_the_grid_of_scale_one():
    seen = []

    def forward(x):
        seen.append(tuple(x.shape))
        return torch.full((len(x), 1, x.shape[2] // 4, x.shape[3] // 4), float(len(seen)))
    fused = multi_scale_logits(forward, torch.rand(1, 3, 16, 24), (0.5, 1.0, 1.5), multiple=4)
    assert seen == [(1, 3, 8, 12), (1, 3, 16, 24), (1, 3, 24, 36)]
    assert fused.shape == (1, 1, 4, 6) and torch.equal(fused, torch.full((1, 1, 4, 6), 2.0))


def test_a_scale_that_does_not_divide_is_cropped_or_resized():
    seen = []

    def forward(x):
        seen.append(tuple(x.shape[2:]))
        return pool(x)
    images = torch.rand(1, 3, 12, 20)
    assert multi_scale_logits(forward, images, (1.0, 0.75), multiple=4).shape == (1, 3, 3, 5)
    assert multi_scale_logits(forward, images, (1.0, 0.75), multiple=4, fit='resize').shape == (1, 3, 3, 5)
    assert seen == [(12, 20), (8, 12), (12, 20), (8, 16)]


def test_resize_keeps_the_picture_in_place():
    """A ramp stays a ramp over the whole width; cropped grids would be stretched over it."""
    ramp = torch.linspace(0, 1, 40).expand(1, 1, 40, 40)
    resized = multi_scale_logits(pool, ramp, (1.0, 0.75), multiple=4, fit='resize')
    cropped = multi_scale_logits(pool, ramp, (1.0, 0.75), multiple=4, fit='crop')
    error = [(fused - pool(ramp)).abs().max().item() for fused in (resized, cropped)]
    assert error[0] < 0.02 < 0.03 < error[1]


@pytest.mark.parametrize('options, message', [
    (dict(scales=()), 'at least one'), (dict(scales=(1.0, 0)), 'positive'),
    (dict(scales=(0.1,), multiple=4), 'one patch of 4'),
    (dict(fit='crp'), "Did you mean 'crop'")])
def test_impossible_settings(options, message):
    with pytest.raises(ValueError, match=message):
        multi_scale_logits(pool, torch.rand(1, 3, 8, 8), **options)


@pytest.mark.parametrize('settings, message', [
    (dict(scale=(1.0,)), "test: there is no setting 'scale'. Did you mean 'scales'"),
    (dict(scales=()), 'scales must be positive'), (dict(fit='corp'), "Did you mean 'crop'"),
    (dict(crf=dict(iteration=3)), "dense CRF: there is no setting 'iteration'. Did you mean 'iterations'"),
    (dict(crf=dict(bilateral_srgb=0)), 'bilateral_srgb: expected a standard deviation > 0')])
def test_wrong_settings_are_named_when_the_model_is_built(settings, message):
    with pytest.raises(ValueError, match=message):
        prediction_settings(settings)


@pytest.mark.parametrize('classes_at_once', [1, 3, 99])
@pytest.mark.parametrize('border', ['pad', 'cut'])
def test_labels_are_made_some_classes_at_a_time_and_equal_those_of_all(classes_at_once, border, monkeypatch):
    logits = torch.randn(1, 7, 5, 6, generator=torch.Generator().manual_seed(0)).round()
    logits[0, 4:6] = logits[0, 1:3]  # ties, which the first wins
    sample = SegSample(metainfo=dict(ori_shape=(23, 31), content_box=(0, 0, 20, 22)))
    run = dict(forward=lambda images: logits, inputs=torch.zeros(1, 3, 20, 24), data_samples=[sample])
    whole = predict_samples(test=dict(border=border, probabilities=True), **run)[0]
    expected, seen = whole.prediction, []
    assert whole.probabilities.sum(0).sub(1).abs().max() < 1e-6 and len(expected.unique()) == 5
    monkeypatch.setattr(predict, '_LARGEST', classes_at_once * 23 * 31 + 5)
    interpolate = F.interpolate
    monkeypatch.setattr(F, 'interpolate', lambda x, *args, **kw: seen.append(x.shape[1]) or interpolate(x, *args, **kw))
    assert torch.equal(predict_samples(test=dict(border=border), **run)[0].prediction, expected)
    assert max(seen) == min(7, classes_at_once) and sum(seen) == 7 * (2 if border == 'pad' else 1)
    if border == 'pad':
        assert torch.equal(predict.predicted_labels(logits[0], (20, 24), sample), expected)


def test_refinement_is_a_list_of_seed_steps_and_the_crf_is_one_of_them():
    torch.manual_seed(0)
    logits, rgb = torch.randn(1, 4, 6, 8), torch.rand(1, 3, 48, 64) * 255

    def predict(**test):
        sample = SegSample(metainfo=dict(ori_shape=(40, 60), content_box=(0, 0, 44, 64)))
        return predict_samples(lambda images: logits, rgb, [sample], dict(test, probabilities=True))[0]

    plain, scores = predict(), to_original(logits[0], (48, 64), predict())
    assert torch.equal(plain.prediction, scores.argmax(0)) and torch.equal(plain.probabilities, scores.softmax(0))
    crf = dict(iterations=2, backend='lattice')
    refined = predict(crf=crf)
    picture = to_original(rgb[0], (48, 64), refined).permute(1, 2, 0)
    expected = dense_crf(picture, scores.softmax(0), **crf)
    assert torch.equal(refined.probabilities, expected) and torch.equal(refined.prediction, expected.argmax(0))
    named = predict(refine=[dict(type='Crf', normalise=False, crf=crf)])
    assert torch.equal(named.probabilities, expected) and torch.equal(named.prediction, refined.prediction)
    twice = predict(refine=[dict(type='Crf', normalise=False, crf=crf)], crf=crf)
    assert torch.equal(twice.probabilities, dense_crf(picture, expected, **crf))


def test_wrong_refinement_is_named_when_the_model_is_built():
    with pytest.raises(ValueError, match="unknown seed step 'Crff'. Did you mean 'Crf'"):
        prediction_settings(dict(refine=[dict(type='Crff')]))
    with pytest.raises(ValueError, match="unknown seed step 'Crff'"):
        prediction_settings(dict(beside=dict(other=[dict(type='Crff')])))
    with pytest.raises(ValueError, match='SamVote needs SAM masks'):
        predict_samples(lambda images: torch.zeros(1, 2, 2, 2), torch.zeros(1, 3, 8, 8),
                        [SegSample(metainfo=dict(ori_shape=(8, 8), content_box=(0, 0, 8, 8)))],
                        dict(refine=[dict(type='SamVote')]))


def test_border_says_what_happens_to_the_last_patch():
    seen = []

    def forward(images):
        seen.append(tuple(images.shape[-2:]))
        return torch.zeros(len(images), 2, images.shape[-2] // 16, images.shape[-1] // 16)

    inputs = torch.zeros(1, 3, 48, 64)
    sample = SegSample(metainfo=dict(ori_shape=(90, 120), content_box=(0, 0, 45, 60)))
    for border, size in (('pad', (48, 64)), ('cut', (32, 48))):
        predict_samples(forward, inputs, [sample], dict(border=border), 16)
        assert seen.pop() == size and sample.prediction.shape == (90, 120)
    with pytest.raises(ValueError, match="Did you mean 'cut'"):
        prediction_settings(dict(border='cutt'))
    other = SegSample(metainfo=dict(ori_shape=(90, 120), content_box=(0, 0, 48, 64)))
    with pytest.raises(ValueError, match='batch_size=1'):
        predict_samples(forward, torch.cat([inputs, inputs]), [sample, other], dict(border='cut'), 16)


def named_case(seed=0, named=(1, 4)):
    """Logits of seven labels for an image of 23 x 31, whose sample names two classes."""
    logits = 3 * torch.randn(1, 7, 5, 6, generator=torch.Generator().manual_seed(seed))
    sample = SegSample(metainfo=dict(ori_shape=(23, 31), content_box=(0, 0, 20, 22)))
    sample.image_labels = torch.zeros(6, dtype=torch.bool)
    sample.image_labels[list(named)] = True
    return logits, sample


def whole_softmax(logits, sample):
    return to_original(logits[0], (20, 24), sample).double().softmax(0)


@pytest.mark.parametrize('classes_at_once', [1, 2, 99])
def test_classes_that_are_not_named_are_impossible(classes_at_once, monkeypatch):
    logits, sample = named_case()
    expected = whole_softmax(logits, sample)
    expected[[1, 3, 4, 6]] = 0
    expected /= expected.sum(0)
    monkeypatch.setattr(predict, '_LARGEST', classes_at_once * 23 * 31)
    run = dict(forward=lambda images: logits, inputs=torch.zeros(1, 3, 20, 24), data_samples=[sample])
    plain = predict_samples(test=dict(named=True, confidence=True), **run)[0]
    assert torch.equal(plain.prediction, expected.argmax(0)) and set(plain.prediction.unique().tolist()) == {0, 2, 5}
    assert torch.allclose(plain.confidence.double(), expected.amax(0), atol=1e-6)
    kept = predict_samples(test=dict(named=True, confidence=True, probabilities=True), **run)[0]
    assert kept.probabilities.shape == (7, 23, 31) and not kept.probabilities[[1, 3, 4, 6]].any()
    assert torch.allclose(kept.probabilities.double(), expected, atol=1e-6)
    assert torch.equal(kept.prediction, plain.prediction)
    assert torch.allclose(kept.confidence, plain.confidence, atol=1e-6)


def test_an_image_without_names_is_background_for_sure():
    logits, sample = named_case(named=())
    run = dict(forward=lambda images: logits, inputs=torch.zeros(1, 3, 20, 24), data_samples=[sample])
    for test in ({}, dict(crf=dict(iterations=1, backend='lattice'))):
        made = predict_samples(test=dict(named=True, confidence=True, **test), **run)[0]
        assert not made.prediction.any() and torch.allclose(made.confidence, torch.ones(23, 31))


@pytest.mark.parametrize('classes_at_once', [1, 3, 99])
@pytest.mark.parametrize('border', ['pad', 'cut'])
def test_confidence_is_the_probability_of_the_label(classes_at_once, border, monkeypatch):
    logits, sample = named_case()
    monkeypatch.setattr(predict, '_LARGEST', classes_at_once * 23 * 31 + 5)
    run = dict(forward=lambda images: logits, inputs=torch.zeros(1, 3, 20, 24), data_samples=[sample])
    made = predict_samples(test=dict(border=border, confidence=True), **run)[0]
    assert made.confidence.shape == (23, 31) and 'probabilities' not in made  # C H W are not kept
    whole = predict_samples(test=dict(border=border, probabilities=True), **run)[0]
    assert torch.equal(made.prediction, whole.prediction)
    assert torch.allclose(made.confidence, whole.probabilities.amax(0), atol=1e-6)


def test_a_refinement_sees_the_named_classes_alone_and_labels_keep_their_numbers():
    logits, sample = named_case()
    rgb = torch.rand(1, 3, 20, 24) * 255
    crf = dict(iterations=2, backend='lattice')
    made = predict_samples(lambda images: logits, rgb, [sample], dict(named=True, confidence=True, crf=crf))[0]
    possible = whole_softmax(logits, sample)[[0, 2, 5]]
    marginals = dense_crf(to_original(rgb[0], (20, 24), sample).clamp(0, 255).permute(1, 2, 0),
                          (possible / possible.sum(0)).float(), **crf)
    labels = torch.tensor([0, 2, 5])[marginals.argmax(0)]
    assert (labels == made.prediction).float().mean() > 0.999
    assert torch.allclose(made.confidence, marginals.amax(0), atol=1e-4)


def test_an_ignored_label_has_no_confidence():
    labels, probabilities = torch.tensor([[0, 255, 1]]), torch.tensor([[[0.5, 0.4, 0.3]], [[0.5, 0.6, 0.7]]])
    assert torch.allclose(predict.probability_of(labels, probabilities), torch.tensor([[0.5, 0, 0.7]]))
    assert predict.as_labels(labels, torch.tensor([0, 9])).tolist() == [[0, 255, 9]]
