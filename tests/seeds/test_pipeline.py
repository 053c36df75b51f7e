import dataclasses
import json

import pytest
import torch

from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.seeds import SeedPipeline
from weclip_sam.seeds.pipeline import steps_need
from weclip_sam.structures import ClassMaps, SeedState

STEPS = [dict(type='GradCam'), dict(type='AttentionAffinity', layers=2), dict(type='Par', iterations=2),
         dict(type='PixelLabels', min_margin=0.01)]


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    card = {'embed_dim': 16, 'quick_gelu': True,
            'vision_cfg': {'image_size': 32, 'layers': 3, 'width': 32, 'head_width': 16, 'patch_size': 8},
            'text_cfg': {'context_length': 16, 'vocab_size': 49408, 'width': 16, 'heads': 1, 'layers': 1}}
    path = tmp_path_factory.mktemp('card') / 'card.json'
    path.write_text(json.dumps(card))
    return FrozenClip(str(path), 'random')


def make_state(clip, labels, seed=0):
    rgb = torch.randint(0, 256, (len(labels), 3, 40, 48), generator=torch.Generator().manual_seed(seed)).float()
    images = clip.normalize(rgb)
    return SeedState(images=images, image_labels=torch.tensor(labels), features={'clip': clip.encode(images)}, rgb=rgb,
                     text_features=text_features(clip, ['cat', 'dog', 'car', 'sky', 'road']),
                     encoders={'clip': clip})


def test_images_to_labels(clip):
    state = make_state(clip, [[True, False, True], [False, False, False], [False, True, False]])
    after = SeedPipeline(STEPS)(state)
    assert list(after.history) == ['gradcam', 'affinity', 'par']
    assert after.pixel_labels.shape == (3, 40, 48) and after.pixel_labels.dtype == torch.int64
    assert set(after.pixel_labels[0].unique().tolist()) <= {0, 1, 3, 255}
    assert (after.pixel_labels[1] == 0).all()
    assert set(after.pixel_labels[2].unique().tolist()) <= {0, 2, 255} and (after.pixel_labels[2] == 2).any()
    assert state.maps is None and state.history == {}


@pytest.mark.parametrize('step, message', [
    (dict(type='AttentionAffinity', power=-1), 'AttentionAffinity: expected rounds >= 0 and power >= 0, got 3 and -1'),
    (dict(type='CdaAffinity', power=-1), 'CdaAffinity: expected .* got None and -1'),
    (dict(type='FmaAffinity', rounds=-1), 'FmaAffinity: expected rounds >= 0'),
    (dict(type='Par', iterations=-1), 'PAR: expected iterations >= 0'),
    (dict(type='Par', dilations=()), 'PAR: expected .* dilations >= 1'),
    (dict(type='Par', background_power=0), 'background power: expected a number > 0'),
    (dict(type='PixelLabels', background_power=-1), 'background power: expected a number > 0'),
    (dict(type='IgnoreDisagreement', background_power=0), 'background power: expected a number > 0'),
    (dict(type='SamVote', background_value=0), 'background power: expected a number > 0'),
    (dict(type='Crf', background='powr'), "Did you mean 'power'"),
    (dict(type='Crf', crf=dict(gauss_sxy=3)), "no setting 'gauss_sxy'. Did you mean 'gaussian_sxy'")])
def test_wrong_settings_are_named_when_the_pipeline_is_built(step, message):
    with pytest.raises(ValueError, match=message):
        SeedPipeline([step])


def test_a_batch_is_its_images_one_by_one(clip):
    labels = [[True, False, True], [False, True, False]]
    together = SeedPipeline(STEPS)(make_state(clip, labels))
    whole = make_state(clip, labels)
    for i in range(2):
        one = SeedState(images=whole.images[i:i + 1], image_labels=whole.image_labels[i:i + 1],
                        features={'clip': clip.encode(whole.images[i:i + 1])},
                        text_features=whole.text_features, encoders={'clip': clip})
        alone = SeedPipeline(STEPS)(one)
        assert (alone.pixel_labels[0] == together.pixel_labels[i]).float().mean() > 0.995
        torch.testing.assert_close(alone.confidence[0], together.confidence[i], atol=1e-3, rtol=1e-3)


def test_a_batch_without_any_label_and_repeats(clip):
    nothing = SeedPipeline(STEPS)(make_state(clip, [[False] * 3] * 2))
    assert (nothing.pixel_labels == 0).all()
    labels = [[True, True, True]]
    first, second = (SeedPipeline(STEPS)(make_state(clip, labels)) for _ in range(2))
    assert torch.equal(first.pixel_labels, second.pixel_labels) and torch.equal(first.confidence, second.confidence)


@pytest.mark.parametrize('step', [dict(type='AttentionAffinity', layers=2), dict(type='AttentionAffinity', layers=1),
                                  dict(type='RfmAffinity', layers=2, warmup_layers=2)])
def test_a_mean_of_attentions_sees_the_last_block_that_gradcam_saw(clip, step):
    pipeline = SeedPipeline([dict(type='GradCam', skip=1), step])
    state = make_state(clip, [[True, False, True]])
    everything = pipeline(state).affinity
    wanted = pipeline.wants(dict(clip=clip))['clip']
    sparse = dataclasses.replace(state, features={'clip': clip.encode(state.images, wanted=wanted)})
    torch.testing.assert_close(pipeline(sparse).affinity, everything, atol=1e-5, rtol=1e-4)


def test_no_host_transfer_between_features_and_labels(clip, monkeypatch):
    state = make_state(clip, [[True, False, True]])
    # On a CPU, PAR looks at the pairs to go image by image; what a GPU runs does not.
    pipeline = SeedPipeline([dict(step, plain=True) if step['type'] == 'Par' else step for step in STEPS])
    for name in ('item', 'tolist', 'numpy', 'cpu', '__bool__', '__int__', '__float__'):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, name=name: pytest.fail(f'Tensor.{name} waits for the host'))
    pipeline(state)


def test_errors(clip):
    with pytest.raises(ValueError, match="unknown seed step 'GradCAM'.*Did you mean 'GradCam'"):
        SeedPipeline([dict(type='GradCAM')])
    with pytest.raises(ValueError, match='at least one step'):
        SeedPipeline([])
    assert repr(SeedPipeline(STEPS)) == 'SeedPipeline(GradCam -> AttentionAffinity -> Par -> PixelLabels)'
    with pytest.raises(ValueError, match='image_labels'):
        state = make_state(clip, [[True, False, True]])
        state.image_labels = state.image_labels.repeat(2, 1)
        SeedPipeline(STEPS)(state)


def test_a_pipeline_knows_what_it_needs_from_outside():
    assert steps_need(STEPS) == {'clip'}
    assert steps_need([dict(type='GradCam'), dict(type='RockSandWater'), dict(type='SamVote')]) == {'clip', 'masks'}
    assert steps_need([dict(type='SeplMerge')]) == {'pixel_labels', 'masks'}
    assert steps_need([dict(type='PixelLabels'), dict(type='SeplMerge')]) == {'maps', 'masks'}
    assert steps_need([dict(type='SamVote', uncovered='keep')]) == {'maps', 'masks', 'pixel_labels'}
    assert steps_need([]) == set()


class Learns(torch.nn.Module):
    """A step with a parameter."""
    needs, gives = frozenset({'maps'}), frozenset({'maps'})

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, state):
        return dataclasses.replace(state, losses={'factor': self.factor ** 2})


def test_steps_with_parameters_are_part_of_the_pipeline_and_run_with_gradient():
    pipeline = SeedPipeline([lambda state: state, Learns()])
    assert list(dict(pipeline.named_parameters())) == ['1.factor']
    maps = ClassMaps(torch.zeros(1, 2, 2), torch.zeros(1).long(), torch.zeros(1).long())
    state = SeedState(torch.zeros(1, 3, 8, 8), torch.ones(1, 1, dtype=torch.bool), maps=maps)
    pipeline(state).losses['factor'].backward()
    assert pipeline.steps[1].factor.grad == 4
    with torch.no_grad():
        assert not pipeline(state).losses['factor'].requires_grad
