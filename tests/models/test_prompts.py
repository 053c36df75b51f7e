"""Prompt learner: where every vector ends up, what is learnt, what is saved."""
import json

import pytest
import torch
from safetensors.torch import save_file

from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.models.prompts import PromptLearner, load_prompts, read_prompts, save_prompts

CARD = {'embed_dim': 12, 'quick_gelu': True,
        'vision_cfg': {'image_size': 16, 'layers': 2, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
NAMES = ['cat', 'bird avian', 'tvmonitor screen', '']


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    card = tmp_path_factory.mktemp('card') / 'toy.json'
    card.write_text(json.dumps(CARD))
    return FrozenClip(arch=str(card), checkpoint='random')


@pytest.mark.parametrize('position, before', [('front', 0), ('middle', 2), ('end', 5)])
def test_every_vector_is_in_its_place(clip, position, before):
    learner = PromptLearner(clip, NAMES, n_ctx=5, position=position, context='per_class')
    prompts = learner()
    assert prompts.shape == (4, 24, 8)
    for row, name in enumerate(NAMES):
        ids = clip.tokenize([f'{name}.'])[0]
        length = int(ids.argmax()) - 2                       # without start, '.' and end
        words = clip.token_embedding(ids)
        context = learner.context[row]
        expected = torch.cat([words[:1], context[:before], words[1:1 + length], context[before:], words[1 + length:]])
        assert torch.equal(prompts[row, :24], expected[:24])


def test_words_as_fixed_context_are_the_plain_prompt(clip):
    learner = PromptLearner(clip, NAMES[:3], ctx_init='a_clean origami', position='end')
    assert learner.n_ctx == int(clip.tokenize(['a clean origami']).argmax()) - 1
    torch.testing.assert_close(learner.text_features(clip), text_features(clip, NAMES[:3], ['a clean origami {}.']))


def test_words_of_several_tokens_are_kept_whole(clip):
    learner = PromptLearner(clip, ['cat'], ctx_init='weclipsam origami')
    assert learner.n_ctx > 2
    torch.testing.assert_close(learner.text_features(clip), text_features(clip, ['cat'], ['weclipsam origami {}.']))


def test_groups_share_their_vectors(clip):
    learner = PromptLearner(clip, ['cat', 'dog', 'cat'], n_ctx=3, context=[1, 0, 1])
    assert learner.context.shape == (2, 3, 8)
    features = learner.text_features(clip)
    assert torch.equal(features[0], features[2]) and not torch.equal(features[0], features[1])
    features[0].sum().backward()
    assert learner.context.grad[1].any() and not learner.context.grad[0].any()


def test_only_the_context_is_a_parameter_and_is_saved(clip):
    learner = PromptLearner(clip, NAMES, n_ctx=3)
    assert [name for name, _ in learner.named_parameters()] == ['context']
    assert list(learner.state_dict()) == ['context']
    torch.testing.assert_close(learner.text_features(clip).norm(dim=1), torch.ones(4))


def test_the_seed_decides_the_start(clip):
    first, second, other = (PromptLearner(clip, NAMES, generator=torch.Generator().manual_seed(s), n_ctx=4).context
                            for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert 0.005 < first.std() < 0.03


@pytest.mark.parametrize('context', ['shared', 'per_class', [0, 1, 1, 0]])
def test_saved_prompts_come_back(clip, tmp_path, context):
    learner = PromptLearner(clip, NAMES, n_ctx=3, position='middle', context=context)
    save_prompts(tmp_path / 'p.safetensors', learner, arch='toy')
    expected = learner.text_features(clip)
    assert torch.equal(load_prompts(tmp_path / 'p.safetensors', clip), expected)
    assert torch.equal(load_prompts(tmp_path / 'p.safetensors', clip, names=NAMES[:3]), expected)
    assert read_prompts(tmp_path / 'p.safetensors', clip).names == tuple(NAMES)
    assert not expected.equal(load_prompts(tmp_path / 'p.safetensors', clip).flip(0))
    assert [p.name for p in tmp_path.iterdir()] == ['p.safetensors']


def test_wrong_prompt_files_are_named(clip, tmp_path):
    with pytest.raises(FileNotFoundError, match='tools/train.py'):
        load_prompts(tmp_path / 'none.safetensors', clip)
    (tmp_path / 'text.safetensors').write_text('no tensors')
    save_file({'context': torch.zeros(3, 8)}, tmp_path / 'plain.safetensors')
    save_prompts(tmp_path / 'good.safetensors', PromptLearner(clip, NAMES, n_ctx=3))
    whole = (tmp_path / 'good.safetensors').read_bytes()
    (tmp_path / 'cut.safetensors').write_bytes(whole[:-20])
    for name in ('text', 'plain', 'cut'):
        with pytest.raises(ValueError, match=f'{name}.safetensors'):
            load_prompts(tmp_path / f'{name}.safetensors', clip)
    with pytest.raises(ValueError, match="'cat' where 'dog'"):
        load_prompts(tmp_path / 'good.safetensors', clip, names=['dog'])
    learner = PromptLearner(clip, NAMES, n_ctx=3)
    learner.context.data = torch.zeros(3, 10)
    save_prompts(tmp_path / 'wide.safetensors', learner, arch='other')
    with pytest.raises(ValueError, match=r"\(3, 10\).*\(3, 8\).*'other'"):
        load_prompts(tmp_path / 'wide.safetensors', clip)


@pytest.mark.parametrize('settings, message', [
    (dict(position='middel'), "Did you mean 'middle'"), (dict(context='per_clas'), "Did you mean 'per_class'"),
    (dict(context=[0, 1]), '4 names'), (dict(n_ctx=0), 'n_ctx'), (dict(n_ctx=40), '24'), (dict(names=[]), 'names')])
def test_wrong_settings_are_named(clip, settings, message):
    with pytest.raises(ValueError, match=message):
        PromptLearner(clip, **{'names': NAMES, **settings})
