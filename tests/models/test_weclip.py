import dataclasses

import pytest
import torch
from mmengine.dataset import pseudo_collate

from weclip_sam.datasets import ImageLabelDataset
from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet

SIZE = 56
VOCABULARY = dict(classes=['cat', 'dog', 'boat'], prompt_names=['cat', 'dog', 'boat'],
                  background_nouns=['grass', 'sky'])
RFM = [dict(type='GradCam'), dict(type='RfmAffinity', layers=3, warmup_layers=2)]
SEEDS = {'par': [*RFM, dict(type='Par', iterations=2), dict(type='PixelLabels')], 'sam': [*RFM, dict(type='SamVote')]}


def build(seeds='par', **kwargs):
    torch.manual_seed(0)
    config = dict(type='WeClip', clip=dict(type='FrozenClip', arch='tiny', checkpoint='random'),
                  decoder=dict(type='WeClipDecoder', dim=32, depth=1, heads=4),
                  seeds=SEEDS.get(seeds) if isinstance(seeds, str | None) else seeds,
                  vocabulary=VOCABULARY, rfm_start=3)
    return MODELS.build(config | kwargs)


def batch(labels=((0,), (1, 2)), size=SIZE, masks=False):
    data = ImageLabelDataset(dict(type='ShapesReader', num_images=len(labels), size=size),
                             pipeline=[dict(type='PackSample')])
    items = [data[i] for i in range(len(labels))]
    for item, classes in zip(items, labels, strict=True):
        sample = item['data_samples']
        sample.image_labels = torch.zeros(3, dtype=torch.bool)
        sample.image_labels[list(classes)] = True
        if masks:
            squares = torch.zeros(2, size, size, dtype=torch.bool)
            squares[0, :size // 2] = squares[1, size // 2:, :size // 2] = True
            one = torch.ones(2)
            sample.mask_set = MaskSet(squares, torch.tensor([2, 1]), one, one, torch.zeros(2).long())
    return pseudo_collate(items)


def losses(model, data):
    return model(**model.data_preprocessor(data, True), mode='loss')


@pytest.mark.parametrize('seeds', ['par', 'sam'])
def test_only_the_decoder_learns_and_is_saved(seeds):
    model = build(seeds)
    found = losses(model, batch(masks=True))
    assert set(found) == {'loss_seg', 'loss_affinity'} and all(torch.isfinite(v) and v > 0 for v in found.values())
    sum(found.values()).backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
    assert all(p.grad is None and not p.requires_grad for p in model.clip.parameters())
    assert {name.split('.')[0] for name in model.state_dict()} == {'decoder', 'progress'}
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.decoder.parameters()}


def test_training_mode_leaves_the_encoder_alone():
    model = build().train()
    assert model.decoder.training and not model.clip.training


def test_the_frozen_encoder_follows_the_model():
    model = build().double()
    assert next(model.clip.parameters()).dtype == torch.float64
    assert model.text_features.dtype == torch.float64


def test_an_image_without_labels_teaches_background_only():
    model = build().eval()
    data = model.data_preprocessor(batch(labels=((), ())), True)
    with torch.no_grad():
        features = model.encoders(data['inputs'])
        state = model.make_seeds(data['inputs'], data['data_samples'], features, model.decoder(features), False)
    assert (state.pixel_labels == 0).all()
    assert torch.isfinite(losses(model, batch(labels=((), ())))['loss_seg'])


def test_seeds_hold_only_the_classes_named_for_the_image():
    model = build('sam').eval()
    data = model.data_preprocessor(batch(labels=((1,), (0, 2)), masks=True), True)
    features = model.encoders(data['inputs'])
    state = model.make_seeds(data['inputs'], data['data_samples'], features, model.decoder(features), False)
    labels = state.pixel_labels
    assert set(labels[0].unique().tolist()) <= {0, 2}
    assert set(labels[1].unique().tolist()) <= {0, 1, 3} and (labels[1] > 0).any()


def test_padding_teaches_nothing():
    model = build().eval()
    data = batch()
    plain = losses(model, data)['loss_seg']
    for sample in data['data_samples']:
        sample.padding_mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    nothing = losses(model, data)
    assert plain > 0 and nothing['loss_seg'] == 0 and nothing['loss_affinity'] == 0


def test_the_curriculum_switches_at_its_iteration(monkeypatch):
    model, seen = build(), []
    monkeypatch.setattr(type(model.seeds), '__call__', lambda self, state: seen.append(state.decoder_heard) or _raise())
    for iteration in (0, 2, 3, 9):
        model.set_progress(iteration)
        with pytest.raises(StopIteration):
            losses(model, batch())
    assert seen == [False, False, True, True]
    assert model.state_dict()['progress'] == 9


def _raise():
    raise StopIteration


@pytest.mark.parametrize('size', [SIZE, 51])
def test_prediction_has_the_original_size_whatever_the_patch(size):
    model = build().eval()
    samples = model(**model.data_preprocessor(batch(size=size)), mode='predict')
    for sample in samples:
        assert sample.prediction.shape == (size, size) and sample.prediction.dtype == torch.int64
        assert 0 <= sample.prediction.min() and sample.prediction.max() <= 3


def test_a_batch_predicts_what_its_images_predict_alone():
    model = build().eval()
    together = model(**model.data_preprocessor(batch()), mode='predict')
    for i in range(2):
        data = batch()
        alone = dict(inputs=data['inputs'][i:i + 1], data_samples=data['data_samples'][i:i + 1])
        (sample,) = model(**model.data_preprocessor(alone), mode='predict')
        assert (sample.prediction == together[i].prediction).float().mean() > 0.999


def test_explain_shows_every_stage():
    shown = build('sam').eval().explain(batch(labels=((0, 2), (1,)), masks=True))
    assert shown['cam'].shape == (2, SIZE, SIZE) and shown['cam_classes'].tolist() == [0, 2]
    assert list(shown['stages']) == ['gradcam', 'affinity']
    for labels in (shown['seed'], shown['prediction'], *shown['stages'].values()):
        assert labels.shape == (SIZE, SIZE) and labels.dtype == torch.int64


def test_class_maps_are_those_of_explain_and_want_no_masks():
    model = build('sam').eval()
    shown = model.explain(batch(labels=((0, 2), (1,)), masks=True))
    maps = model.class_maps(batch(labels=((0, 2), (1,))))
    assert torch.equal(maps['cam'], shown['cam']) and torch.equal(maps['cam_classes'], shown['cam_classes'])


class Drawn:
    """A step of somebody's own that draws labels without class maps."""

    needs, gives = frozenset(), frozenset({'pixel_labels'})

    def __call__(self, state):
        return dataclasses.replace(state, pixel_labels=torch.ones(state.rgb[:, 0].shape, dtype=torch.long))


def test_a_pipeline_without_class_maps_trains_and_says_that_there_are_none():
    model = build(seeds=[Drawn()])
    assert torch.isfinite(losses(model, batch())['loss_seg'])
    shown = model.eval().explain(batch())
    assert shown['cam'].shape == (0, SIZE, SIZE) and not len(shown['cam_classes']) and shown['stages'] == {}
    assert shown['seed'].eq(1).all()
    with pytest.raises(ValueError, match=r'class_maps: no step of .* SeedPipeline\(Drawn\) leaves class maps'):
        model.class_maps(batch())


def test_a_pipeline_without_labels_is_told():
    model = build(seeds=RFM)
    for use in (lambda: losses(model, batch()), lambda: model.explain(batch())):
        with pytest.raises(ValueError, match='GradCam -> RfmAffinity.* must end in labels, and leaves none; end'):
            use()
    assert model.class_maps(batch())['cam'].shape == (1, SIZE, SIZE)


@pytest.mark.parametrize('seeds', ['par', 'sam'])
def test_explain_of_an_image_without_a_label_shows_background(seeds):
    shown = build(seeds).eval().explain(batch(labels=((), (1,)), masks=True))
    assert shown['cam'].shape == (0, SIZE, SIZE) and shown['cam_classes'].tolist() == []
    assert shown['seed'].shape == (SIZE, SIZE) and not shown['seed'].any() and len(shown['stages']) >= 2


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(vocabulary=None), 'vocabulary is missing'), (dict(labels='ofline'), "Did you mean 'offline'"),
    (dict(labels='offline'), 'needs seeds')])
def test_wrong_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_votes_without_masks_say_what_is_missing():
    with pytest.raises(ValueError, match='mask bank'):
        losses(build('sam'), batch())


def test_loading_tells_the_model_whether_the_decoder_is_heard():
    trained, fresh = build(), build()
    assert not trained.decoder_heard
    trained.set_progress(2)
    assert not trained.decoder_heard
    trained.set_progress(3)
    assert trained.decoder_heard and not fresh.decoder_heard
    fresh.load_state_dict(trained.state_dict())
    assert fresh.decoder_heard
    trained.set_progress(1)
    fresh.load_state_dict(trained.state_dict())
    assert not fresh.decoder_heard


def test_images_of_two_sizes_train_in_one_batch():
    data, small = batch(), batch(size=40)
    data['inputs'][1], data['data_samples'][1] = small['inputs'][1], small['data_samples'][1]
    assert all(torch.isfinite(value) for value in losses(build(), data).values())


def test_explained_labels_are_those_that_are_taught(monkeypatch):
    model, seen = build().eval(), []
    run = model.make_seeds
    monkeypatch.setattr(model, 'make_seeds', lambda *args: seen.append(args[-1]) or run(*args))
    data = batch(labels=((0,),))
    data['data_samples'][0].set_metainfo(dict(ori_shape=(SIZE, SIZE), content_box=(0, 0, SIZE, SIZE)))
    for iteration in (2, 3):
        model.set_progress(iteration)
        model.explain(data)
    assert seen == [False, True]


def test_a_model_taught_offline_says_that_it_makes_no_labels():
    model, data = build(None, labels='offline'), batch()
    with pytest.raises(ValueError, match="labels='offline' has no steps"):
        model.make_seeds(data['inputs'], data['data_samples'], {}, None, False)
    with pytest.raises(ValueError, match="labels='offline' has no steps"):
        model.class_maps(data)


def test_padded_borders_teach_nothing_unless_asked_for():
    data = batch()
    for sample in data['data_samples']:
        sample.padding_mask[:, SIZE // 2:] = True
    ignored, taught = losses(build(), data), losses(build(padding='teach'), data)
    assert ignored['loss_seg'] != taught['loss_seg']
    for sample in data['data_samples']:
        sample.padding_mask[:] = False
    assert losses(build(), data)['loss_seg'] == taught['loss_seg']
    with pytest.raises(ValueError, match="padding: expected one of"):
        build(padding='taught')
