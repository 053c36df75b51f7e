"""ExCEL's maps, CDA, affinity of a second eye: what the golden arrays leave open."""
import dataclasses

import pytest
import torch

from weclip_sam.features import ClipFeatures, TokenFeatures
from weclip_sam.registry import MODELS
from weclip_sam.seeds import CdaAffinity, ExcelMaps, EyeAffinity, SeedPipeline, WeighByPrediction
from weclip_sam.seeds.cda import named_texts
from weclip_sam.seeds.excel import similarity_maps
from weclip_sam.seeds.eye_affinity import token_affinity
from weclip_sam.structures import ClassMaps, SeedState

LABELS = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])


@pytest.fixture(scope='module')
def clip():
    return MODELS.build(dict(type='FrozenClip', arch='tiny', checkpoint='random'))


@pytest.fixture
def state(clip):
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(3, 3, 32, 24, generator=generator) * 255
    texts = torch.nn.functional.normalize(torch.randn(5, clip.embed_dim, generator=generator), dim=1)
    eye = TokenFeatures(torch.rand(2, 3, 1 + 6, 8, generator=generator), (3, 2))
    return SeedState(images=clip.normalize(rgb), image_labels=LABELS, features=dict(clip=clip(rgb), dino=eye),
                     encoders=dict(clip=clip), text_features=texts, rgb=rgb)


def test_excel_makes_a_map_for_each_named_class_and_no_gradient(state, clip, monkeypatch):
    monkeypatch.setattr(torch.autograd, 'grad', lambda *_, **__: pytest.fail('no gradient is needed'))
    maps = ExcelMaps(blocks=2)(state).maps
    assert maps.sample_index.tolist() == [0, 0, 2] and maps.class_index.tolist() == [0, 2, 1]
    assert maps.scores.shape == (3, 4, 3) and maps.scores.min() >= 0 and maps.scores.max() <= 1
    embedded = clip.embed_calibrated(state.features['clip'], 2)
    used = torch.nn.functional.pad(LABELS, (0, 2), value=True)
    by_hand = similarity_maps(embedded[:1], state.text_features[used[0]])
    torch.testing.assert_close(maps.scores[1].flatten(), by_hand[0, 1:, 1], atol=1e-5, rtol=0)
    everything = ExcelMaps(blocks=2, texts='all')(state).maps.scores
    torch.testing.assert_close(everything[1].flatten(), similarity_maps(embedded, state.text_features)[0, 1:, 2])


def test_each_excel_map_reaches_from_zero_to_one_over_the_patches_unless_published():
    texts = torch.eye(3)
    embeddings = torch.tensor([[[1., 0, 0], [0.6, 0.5, 0], [0.2, 0, 0.9], [0.1, 0.8, 0.3]]])  # class token: all text 0
    maps = similarity_maps(embeddings, texts)[0, 1:]
    assert maps.amin(0).tolist() == [0, 0, 0] and maps.amax(0).tolist() == [1, 1, 1]
    published = similarity_maps(embeddings, texts, stretch='tokens')[0, 1:]
    assert published[:, 0].max() < 0.9  # no patch is as much text 0 as the class token
    low, high = published.amin(0), published.amax(0)
    torch.testing.assert_close(maps, (published - low) / (high - low))


def test_steps_read_what_they_said(state, clip):
    for step in (ExcelMaps(blocks=2), CdaAffinity(layers=2, calibrated=2), CdaAffinity(layers=[1]),
                 EyeAffinity('dino', attention=2)):
        wanted = step.wants(dict(clip=clip, dino=type('Eye', (), dict(layers=2))))['clip']
        asked = clip(state.rgb, wanted=wanted)
        before = ExcelMaps(blocks=2)(state)
        sparse = SeedState(**{**vars(before), 'features': {**state.features, 'clip': asked}})
        torch.testing.assert_close(step(sparse).maps.scores, step(before).maps.scores, atol=3e-4, rtol=0)


@pytest.mark.parametrize('step', [
    CdaAffinity(layers=2), CdaAffinity(layers=2, direction='left', rounds=3, power=2, threshold=0.4),
    EyeAffinity('dino'), EyeAffinity('clip', block=-2, attention=2, boxes_of='excel', threshold=0.4)])
def test_affinities_spread_each_image_s_maps_by_itself(state, step):
    before = ExcelMaps(blocks=2)(state)
    after = step(before)
    assert after.maps.scores.shape == before.maps.scores.shape and after.affinity.shape == (3, 12, 12)
    assert after.maps.scores.min() >= 0 and after.maps.scores.max() < 1 and step.name in after.history
    assert not torch.equal(after.maps.scores, before.maps.scores)


@pytest.mark.parametrize('step', [
    ExcelMaps(blocks=2), EyeAffinity('dino', temperature=0.05), CdaAffinity(layers=2, calibrated=2, power=2)])
def test_mixed_precision_is_no_matter_of_the_steps(state, step):
    before = ExcelMaps(blocks=2)(state)
    plain = step(before).maps.scores
    with torch.autocast('cpu', torch.bfloat16):
        mixed = step(before).maps.scores
    assert mixed.dtype == torch.float32 and torch.equal(plain, mixed)


def test_an_eye_sees_equal_tokens_as_one_thing():
    tokens = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [0, 1]]])
    affinity = token_affinity(tokens, (2, 2), (2, 2), 0.05)[0]
    torch.testing.assert_close(affinity, torch.tensor([[.5, .5, 0, 0]] * 2 + [[0, 0, .5, .5]] * 2), atol=1e-6, rtol=0)
    assert token_affinity(tokens, (2, 2), (3, 4), 1.0).shape == (1, 12, 12)


def test_the_decoder_is_an_eye_once_it_is_heard(state):
    before = ExcelMaps(blocks=2)(state)
    step = EyeAffinity('decoder')
    assert step(before) is before
    heard = SeedState(**{**vars(before), 'decoder_heard': True, 'seg_affinity': torch.eye(12).expand(3, 12, 12)})
    torch.testing.assert_close(step(heard).maps.scores.flatten(1).argmax(1), before.maps.scores.flatten(1).argmax(1))


def test_named_texts_are_packed_and_all_nouns_count():
    index, used = named_texts(LABELS, 2)
    assert index[0].tolist() == [0, 2, 3, 4] and used.tolist() == [[True] * 4, [True] * 2 + [False] * 2,
                                                                   [True] * 3 + [False]]
    assert index[1, :2].tolist() == [3, 4] and index[2, :3].tolist() == [1, 3, 4]


@pytest.mark.parametrize('scaling', ['class', 'all'])
def test_a_batch_that_names_nothing_has_no_maps_and_no_error(state, clip, scaling):
    nothing = dataclasses.replace(state, image_labels=torch.zeros_like(LABELS), text_features=state.text_features[:3])
    after = SeedPipeline([dict(type='ExcelMaps', blocks=2), dict(type='CdaAffinity', scaling=scaling)])(nothing)
    assert after.maps.scores.shape == (0, 4, 3) and after.affinity.isfinite().all()


def test_maps_times_the_prediction(state):
    maps = ClassMaps(torch.ones(3, 4, 3), torch.tensor([0, 0, 2]), torch.tensor([0, 2, 1]))
    before = SeedState(**{**vars(state), 'maps': maps, 'seg_logits': torch.randn(3, 4, 4, 3)})
    step = WeighByPrediction()
    assert step(before) is before
    heard = SeedState(**{**vars(before), 'decoder_heard': True})
    torch.testing.assert_close(step(heard).maps.scores[1], before.seg_logits.softmax(1)[0, 3])
    named = WeighByPrediction('named')(heard).maps.scores
    torch.testing.assert_close(named[2], before.seg_logits[2, [0, 2]].softmax(0)[1])


@pytest.mark.parametrize('config, said', [
    (dict(type='ExcelMaps', stretch='patch'), r"ExcelMaps stretch: expected one of .* Did you mean 'patches'"),
    (dict(type='ExcelMaps', heads='max'), r"ExcelMaps heads: expected one of .* got 'max'"),
    (dict(type='ExcelMaps', blocks=0), 'blocks: expected a number >= 1'),
    (dict(type='CdaAffinity', tau=0), 'CDA tau: expected a number > 0'),
    (dict(type='CdaAffinity', scaling='clas'), "Did you mean 'class'"),
    (dict(type='CdaAffinity', direction='rihgt'), "direction: expected one of .*Did you mean 'right'"),
    (dict(type='EyeAffinity', temperature=0), 'temperature: expected a number > 0'),
    (dict(type='WeighByPrediction', classes='some'), "expected 'all' or 'named'")])
def test_wrong_settings_are_named(config, said):
    with pytest.raises(ValueError, match=said):
        SeedPipeline([config])


def test_an_encoder_with_too_few_blocks_is_told(clip):
    with pytest.raises(ValueError, match=r'calibrated blocks: expected a number from 1 to 5 \(the encoder has 6\)'):
        ExcelMaps(blocks=6).wants(dict(clip=clip))
    assert isinstance(clip(torch.zeros(1, 3, 16, 16)), ClipFeatures)
