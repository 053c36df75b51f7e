"""Prompt tuning: only prompts learn, both tasks learn something, and the result feeds seeds."""
import json

import pytest
import torch

from weclip_sam.models.prompt_tuning import PromptTuner
from weclip_sam.models.prompts import load_prompts
from weclip_sam.registry import MODELS
from weclip_sam.seeds.gradcam import gradcam
from weclip_sam.structures import SegSample

CARD = {'embed_dim': 12, 'quick_gelu': True,
        'vision_cfg': {'image_size': 16, 'layers': 2, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
VOCABULARY = dict(classes=('cat', 'bird', 'tv'), prompt_names=('cat', 'bird avian', 'tv screen'),
                  background_nouns=('ground', 'grass'))


@pytest.fixture(scope='module')
def clip_config(tmp_path_factory):
    card = tmp_path_factory.mktemp('card') / 'toy.json'
    card.write_text(json.dumps(CARD))
    return dict(type='FrozenClip', arch=str(card), checkpoint='random')


def tuner(clip_config, **settings):
    return MODELS.build(dict(type='PromptTuner', clip=clip_config, vocabulary=VOCABULARY, n_ctx=4, **settings))


def batch(size=(24, 32), with_seeds=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    inputs = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for _ in labels]
    samples = []
    for row in labels:
        sample = SegSample()
        sample.image_labels = row
        if with_seeds:
            names = torch.tensor([0, *(row.nonzero()[:, 0] + 1).tolist(), 255])
            sample.pixel_labels = names[torch.randint(0, len(names), size, generator=generator)]
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def losses_of(model, data):
    data = model.data_preprocessor(data, training=True)
    return model(**data, mode='loss')


def test_published_choices_of_the_two_tasks(clip_config):
    coarse, fine = tuner(clip_config), tuner(clip_config, task='segmentation')
    assert (coarse.prompts.position, coarse.prompts.context_kind) == ('end', 'shared')
    assert coarse.prompts.names == ('cat', 'bird avian', 'tv screen', 'ground', 'grass')
    assert (fine.prompts.position, fine.prompts.context_kind) == ('front', 'per_class')
    assert fine.prompts.names == ('cat', 'bird avian', 'tv screen', '', '')
    assert tuner(clip_config, background='empty').prompts.names[3:] == ('', '')


def test_random_contexts_follow_the_seed(clip_config):
    contexts = []
    for seed in (0, 1, 1):
        torch.manual_seed(seed)  # as the runner does
        contexts.append(tuner(clip_config, task='classification').prompts.state_dict())
    first, second, third = (torch.cat([v.float().flatten() for v in found.values()]) for found in contexts)
    assert not torch.equal(first, second) and torch.equal(second, third)


@pytest.mark.parametrize('task', ['classification', 'segmentation'])
def test_only_prompts_learn_and_the_loss_falls(clip_config, task):
    model = tuner(clip_config, task=task, seed=3)
    model.train()
    assert [name for name, _ in model.named_parameters()] == ['prompts.context']
    assert list(model.state_dict()) == ['prompts.context']
    frozen = {name: p.clone() for name, p in model.clip.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    totals = []
    for _ in range(8):
        loss = sum(losses_of(model, batch()).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < totals[0]
    assert all(torch.equal(frozen[name], p) for name, p in model.clip.named_parameters())
    assert all(p.grad is None for p in model.clip.parameters())


def test_gradient_through_the_maps_is_the_numerical_one(clip_config):
    model = tuner(clip_config, task='segmentation', soft_margin_weight=0.0, init_std=1.0,
                  activation=dict(detach_max=False))  # a finite difference sees the maximum move
    data = batch()
    direction = torch.randn(model.prompts.context.shape, generator=torch.Generator().manual_seed(0))

    def total(step):
        with torch.no_grad():
            model.prompts.context.add_(step * direction)
        value = sum(losses_of(model, dict(data)).values())
        with torch.no_grad():
            model.prompts.context.sub_(step * direction)
        return value

    (gradient,) = torch.autograd.grad(total(0.0), model.prompts.context)
    step = 2e-2
    numerical = (total(step) - total(-step)).item() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(numerical, rel=0.05, abs=1e-6)
    assert abs(numerical) > 1e-5


def test_loss_names_and_weights(clip_config):
    assert set(losses_of(tuner(clip_config), batch(with_seeds=False))) == {'loss_contrast'}
    heavy = losses_of(tuner(clip_config, task='segmentation', soft_margin_weight=1.0), batch())
    light = losses_of(tuner(clip_config, task='segmentation', soft_margin_weight=0.1), batch())
    assert set(heavy) == {'loss_inside', 'loss_outside', 'loss_margin'}
    torch.testing.assert_close(heavy['loss_margin'], 10 * light['loss_margin'])


def test_batch_without_any_label_is_no_crash(clip_config):
    for task in ('classification', 'segmentation'):
        model, data = tuner(clip_config, task=task), batch()
        for sample in data['data_samples']:
            sample.image_labels = torch.zeros(3, dtype=torch.bool)
        total = sum(losses_of(model, data).values())
        total.backward()
        assert total.isfinite() and model.prompts.context.grad.isfinite().all()


def test_inputs_of_any_size_are_padded_and_padding_is_ignored(clip_config):
    model = tuner(clip_config, task='segmentation', soft_margin_weight=0.0)
    losses = losses_of(model, batch(size=(21, 30)))
    assert all(value.isfinite() for value in losses.values())


def test_padding_that_samples_know_of_is_not_attended_to(clip_config):
    model = tuner(clip_config).eval()
    data = model.data_preprocessor(batch(with_seeds=False))
    padding = torch.zeros(24, 32, dtype=torch.bool)
    padding[:, 16:] = True
    for sample in data['data_samples']:
        sample.padding_mask = padding
    masked = model(data['inputs'], data['data_samples'])
    data['inputs'][..., 16:] = 7.0                                     # what lies there does not matter
    torch.testing.assert_close(model(data['inputs'], data['data_samples']), masked)
    torch.testing.assert_close(model(data['inputs'][..., :16]), masked, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(data['inputs']), masked, atol=1e-2)


def test_activation_weight_scales_both_sides(clip_config):
    once, thrice = (losses_of(tuner(clip_config, task='segmentation', activation_weight=w), batch()) for w in (1, 3))
    for name in ('loss_inside', 'loss_outside'):
        torch.testing.assert_close(thrice[name], 3 * once[name])


def test_missing_seeds_say_what_to_do(clip_config):
    with pytest.raises(ValueError, match='pixel_labels='):
        losses_of(tuner(clip_config, task='segmentation'), batch(with_seeds=False))


def test_predict_gives_scores_for_multi_label_map(clip_config):
    model = tuner(clip_config).eval()
    data = model.data_preprocessor(batch(with_seeds=False))
    samples = model(**data, mode='predict')
    scores = torch.stack([sample.image_scores for sample in samples])
    assert scores.shape == (3, 3) and not scores.requires_grad
    torch.testing.assert_close(scores, model(data['inputs'])[:, :3])


def test_learnt_prompts_make_seeds(clip_config, tmp_path):
    model = tuner(clip_config, task='segmentation')
    model.save_prompts(tmp_path / 'prompts.safetensors')
    text = load_prompts(tmp_path / 'prompts.safetensors', model.clip, names=VOCABULARY['prompt_names'])
    data = model.data_preprocessor(batch())
    features = model.clip(data['inputs'])
    labels = torch.stack([s.image_labels for s in data['data_samples']])
    maps = gradcam(model.clip, features, text, labels)
    assert maps.scores.shape == (3, 3, 4) and maps.scores.max() > 0.9


@pytest.mark.parametrize('settings, message', [
    (dict(task='segmentaton'), "Did you mean 'segmentation'"), (dict(background='noun'), "Did you mean 'nouns'"),
    (dict(vocabulary=None), 'vocabulary')])
def test_wrong_settings_are_named(clip_config, settings, message):
    with pytest.raises(ValueError, match=message):
        PromptTuner(clip=clip_config, **{'vocabulary': VOCABULARY, **settings})


def test_learning_goes_on_from_learnt_contexts(clip_config, tmp_path):
    coarse, path = tuner(clip_config, seed=3), tmp_path / 'prompts.safetensors'
    coarse.save_prompts(path)
    fine = tuner(clip_config, task='segmentation', start=str(path), position='end', background='nouns')
    assert fine.prompts.context.shape == (5, 4, 8) and fine.prompts.context.requires_grad
    assert all(torch.equal(each, coarse.prompts.context) for each in fine.prompts.context)
    # The same names in the same place: the same sentences, until the sets part.
    assert torch.allclose(fine.prompts.text_features(fine.clip), coarse.prompts.text_features(coarse.clip))
    fine.save_prompts(path)
    with pytest.raises(ValueError, match=r'prompts.safetensors: context vectors have shape \(5, 4, 8\), but \(4, 8\)'):
        tuner(clip_config, start=str(path))
    with pytest.raises(FileNotFoundError, match='train a PromptTuner'):
        tuner(clip_config, start=str(tmp_path / 'gone'))


def test_unknown_mode(clip_config):
    with pytest.raises(ValueError, match='mode'):
        tuner(clip_config)(torch.zeros(1, 3, 16, 16), mode='train')
