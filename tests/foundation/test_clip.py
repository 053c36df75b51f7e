import json
import time
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from weclip_sam.foundation.clip import CLIP_MEAN, FrozenClip
from weclip_sam.foundation.clip_card import build_clip, card_from_state_dict, find_card, known_archs
from weclip_sam.registry import MODELS


@pytest.fixture()
def card_file(clip_card, tmp_path):
    path = tmp_path / 'card.json'
    path.write_text(json.dumps(clip_card))
    return str(path)


def state_file(clip_model, path, wrap=lambda state: state):
    torch.save(wrap(clip_model.state_dict()), path)
    return str(path)


# ---- guard: our own loop over open_clip's blocks gives open_clip's own numbers -----------------------------------


@pytest.mark.parametrize('quick_gelu', [True, False])
@pytest.mark.parametrize('size', [(32, 32), (24, 48)])
def test_encode_image_equals_open_clip(clip_card, clip_model, tmp_path, quick_gelu, size):
    clip = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt'), quick_gelu=quick_gelu)
    native = clip_model.visual.positional_embedding
    card = {**clip_card, 'quick_gelu': quick_gelu, 'vision_cfg': {**clip_card['vision_cfg'], 'image_size': size}}
    library = build_clip(card).eval()
    grid = tuple(side // 8 for side in size)
    patches = F.interpolate(native[1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2), grid, mode='bilinear')
    state = clip_model.state_dict()
    state['visual.positional_embedding'] = torch.cat([native[:1], patches[0].permute(1, 2, 0).flatten(0, 1)])
    library.load_state_dict(state)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = library.encode_image(images)
    torch.testing.assert_close(clip.encode_image(images), expected, atol=1e-5, rtol=0)
    # the activation matters at all, so the parametrisation above tests something
    other = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt'), quick_gelu=not quick_gelu)
    assert (other.encode_image(images) - expected).abs().max() > 1e-4


def test_full_size_architecture_equals_open_clip():
    clip = FrozenClip('ViT-S-32', 'random', seed=1)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(images), clip.model.encode_image(images), atol=1e-5, rtol=0)
    assert (clip.patch_size, clip.width, clip.layers, clip.embed_dim) == (32, 384, 12, 384)


# ---- what it exposes ------------------------------------------------------------------------------------------


def test_encode_shapes_and_attention_rows(clip_model, tmp_path):
    clip = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt'))
    images = clip.normalize(torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8))
    features = clip.encode(images)
    assert features.grid == (3, 5)
    assert features.tokens.shape == (3, 2, 16, 64) and features.attentions.shape == (3, 2, 16, 16)
    torch.testing.assert_close(features.attentions.sum(-1), torch.ones(3, 2, 16))
    assert not features.tokens.requires_grad


def test_finish_is_the_last_block_and_pools_patches(clip_model, tmp_path):
    clip = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt'))
    features = clip.encode(torch.randn(2, 3, 32, 32))
    embedding, attention = clip.finish(features.last_block_input)
    torch.testing.assert_close(attention, features.attentions[-1])
    visual = clip.model.visual
    expected = F.normalize(visual.ln_post(features.tokens[-1])[:, 1:].mean(1) @ visual.proj, dim=-1)
    torch.testing.assert_close(embedding, expected, atol=1e-6, rtol=1e-5)


def test_gradient_flows_through_attention_only(clip_model, tmp_path):
    clip = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt'))
    tokens = clip.encode(torch.randn(1, 3, 32, 32)).last_block_input
    leaf = clip.last_ln1(tokens).requires_grad_()
    (gradient,) = torch.autograd.grad(clip.finish(tokens, leaf)[0][:, 0].sum(), leaf, create_graph=True)
    assert gradient.abs().max() > 0 and gradient.requires_grad
    # without an attention output there is no way left for the gradient: the residual reads `tokens`
    clip.model.visual.transformer.resblocks[-1].attn.out_proj.weight.zero_()
    (blocked,) = torch.autograd.grad(clip.finish(tokens, leaf)[0][:, 0].sum(), leaf)
    assert blocked.abs().max() == 0


def test_text_tower_equals_open_clip(clip_model, tmp_path):
    clip = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt'))
    ids = clip.tokenize(['a clean origami cat.', 'sky'])
    assert ids.tolist() == open_clip.tokenize(['a clean origami cat.', 'sky'], context_length=16).tolist()
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_text(ids), clip_model.encode_text(ids), atol=1e-6, rtol=1e-5)
    prompts = clip.token_embedding(ids).clone().requires_grad_()
    clip.encode_text_embeddings(prompts, ids.argmax(-1)).sum().backward()
    assert prompts.grad.abs().sum() > 0


def test_never_trained(clip_model, tmp_path):
    clip = FrozenClip('auto', state_file(clip_model, tmp_path / 'w.pt')).train()
    assert not clip.training and not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_normalize_uses_the_given_statistics(card_file):
    clip = FrozenClip(card_file, 'random', mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    white = clip.normalize(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([1.0, 1.0, 0.0]))
    assert FrozenClip(card_file, 'random').mean == CLIP_MEAN
    assert not any('mean' in key for key in clip.state_dict())
    for wrong in ((0.5, 0.5), 0.5, (0, 0, 0), (0.5, 0.5, float('nan')), '123', (None, 1, 1), (58.4, 57.1, 57.4)):
        with pytest.raises(ValueError, match='FrozenClip std: expected three numbers, of red, green and') as raised:
            FrozenClip(card_file, 'random', std=wrong)
    assert str(raised.value).endswith('got (58.4, 57.1, 57.4); divide those of 0..255 by 255')
    with pytest.raises(ValueError, match='FrozenClip mean: expected three numbers'):
        FrozenClip(card_file, 'random', mean=(-1, 0, 0))


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(card_file):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = FrozenClip(card_file, 'random', seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = (FrozenClip(card_file, 'random', seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first['model.visual.proj'], other['model.visual.proj'])


# ---- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['state_dict', 'nested', 'module prefix', 'text prefix', 'half', 'legacy',
                                  'safetensors', 'torchscript', 'traced'])
def test_every_file_format_gives_the_same_model(kind, clip_model, card_file, tmp_path, torchscript_archive,
                                                traced_archive):
    state, path = clip_model.state_dict(), tmp_path / 'weights.pt'
    if kind == 'safetensors':
        path = tmp_path / 'weights.safetensors'
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    elif kind in ('torchscript', 'traced'):
        path = torchscript_archive if kind == 'torchscript' else traced_archive
    elif kind == 'legacy':
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({
            'state_dict': state,
            'nested': {'epoch': 3, 'state_dict': {f'module.{key}': value for key, value in state.items()}},
            'module prefix': {f'module.{key}': value for key, value in state.items()},
            'text prefix': {key if key.startswith(('visual', 'logit')) else f'text.{key}': value
                            for key, value in state.items()},
            'half': {key: value.half() for key, value in state.items()},
        }[kind], path)
    for arch in ('auto', card_file):
        loaded = FrozenClip(arch, str(path)).model.state_dict()
        assert sorted(loaded) == sorted(state)
        for key, value in state.items():
            assert loaded[key].dtype == torch.float32 and torch.equal(loaded[key], value), key


def test_sizes_are_read_off_the_state_dict(clip_model, clip_card):
    assert card_from_state_dict(clip_model.state_dict()) == clip_card


def test_another_native_grid_than_the_cards_is_accepted(clip_card, clip_model, tmp_path):
    card = {**clip_card, 'vision_cfg': {**clip_card['vision_cfg'], 'image_size': 64}}
    (tmp_path / 'card.json').write_text(json.dumps(card))
    clip = FrozenClip(str(tmp_path / 'card.json'), state_file(clip_model, tmp_path / 'w.pt'))
    assert clip.model.visual.grid_size == (4, 4)


def test_truncated_files_say_so(clip_model, tmp_path, torchscript_archive):
    whole = {'a.pt': Path(state_file(clip_model, tmp_path / 'whole.pt')).read_bytes(),
             'b.pt': torchscript_archive.read_bytes()}
    save_file({key: value.contiguous() for key, value in clip_model.state_dict().items()},
              tmp_path / 'whole.safetensors')
    whole['c.safetensors'] = (tmp_path / 'whole.safetensors').read_bytes()
    torch.save(clip_model.state_dict(), tmp_path / 'legacy.pt', _use_new_zipfile_serialization=False)
    whole['d.pt'] = (tmp_path / 'legacy.pt').read_bytes()
    for name, content in whole.items():
        for keep in (0, 5, 1000, len(content) // 2, len(content) - 100):
            (tmp_path / name).write_bytes(content[:keep])
            with pytest.raises(ValueError, match=rf'{name}.*\({keep:,} bytes\).*(truncated|damaged)'):
                FrozenClip('auto', str(tmp_path / name))


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / 'ran',))

    torch.save({'visual.proj': Evil()}, tmp_path / 'evil.pt')
    (tmp_path / 'plain.pt').write_bytes(pickle.dumps(Evil()))
    for name in ('evil.pt', 'plain.pt'):
        with pytest.raises(ValueError, match=name):
            FrozenClip('auto', str(tmp_path / name))
    assert not (tmp_path / 'ran').exists()


def test_wrong_architecture_names_both(clip_model, tmp_path):
    file = state_file(clip_model, tmp_path / 'w.pt')
    with pytest.raises(ValueError, match=r'w\.pt is another architecture.*image width 64 \(expected 768\).*auto'):
        FrozenClip('ViT-B-16-quickgelu', file)


def test_other_things_are_not_clip(clip_model, tmp_path):
    torch.save({'conv.weight': torch.zeros(3)}, tmp_path / 'resnet.pt')
    with pytest.raises(ValueError, match='resnet.pt, a file of torch.save, is not a CLIP vision transformer'):
        FrozenClip('auto', str(tmp_path / 'resnet.pt'))
    torch.save({'vision_model.embeddings': torch.zeros(3)}, tmp_path / 'hf.pt')
    with pytest.raises(ValueError, match='transformers library'):
        FrozenClip('auto', str(tmp_path / 'hf.pt'))
    torch.save([1, 2], tmp_path / 'list.pt')
    with pytest.raises(ValueError, match='expected a dict of tensors, found list'):
        FrozenClip('auto', str(tmp_path / 'list.pt'))
    incomplete = clip_model.state_dict()
    del incomplete['visual.ln_post.bias']
    torch.save(incomplete, tmp_path / 'hole.pt')
    with pytest.raises(ValueError, match=r'missing 1 keys \(visual.ln_post.bias\)'):
        FrozenClip('auto', str(tmp_path / 'hole.pt'))


def test_missing_weights_are_reported_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(Path, 'home', lambda: tmp_path)
    monkeypatch.setattr('socket.socket.connect', lambda *_: pytest.fail('touched the network'))
    start = time.perf_counter()
    wanted = (r"'openai'.*ViT-B-16.pt \(351 MB, licence MIT\) with: python tools/weights.py fetch clip_vit-b16  or: "
              r'curl -L \S+ -o checkpoints/ViT-B-16.pt http')
    with pytest.raises(FileNotFoundError, match=wanted):
        FrozenClip('ViT-B-16-quickgelu', 'openai')
    with pytest.raises(FileNotFoundError, match=r'nowhere.pt is not there.*351 MB.*fetch clip_vit-b16 --to \S+  or'):
        FrozenClip('ViT-B-16-quickgelu', str(tmp_path / 'nowhere.pt'))
    assert time.perf_counter() - start < 1


def test_a_cached_tag_is_found_without_network(monkeypatch, tmp_path, card_file):
    tag = {'url': 'https://example.org/mine.pt', 'hf_hub': '', 'mean': (0, 0, 0), 'std': (1, 1, 1), 'quick_gelu': True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, card_file, {'mine': tag})
    monkeypatch.setattr(Path, 'home', lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match='curl -L'):
        FrozenClip(card_file, 'mine')
    clip = FrozenClip(card_file, 'random')
    (tmp_path / '.cache/clip').mkdir(parents=True)
    torch.save(clip.model.state_dict(), tmp_path / '.cache/clip/mine.pt')
    loaded = FrozenClip(card_file, 'mine')
    assert loaded.mean == (0, 0, 0) and torch.equal(loaded.model.visual.proj, clip.model.visual.proj)


@pytest.mark.parametrize('arch, checkpoint, message', [
    ('ViT-B-16-quickgleu', 'openai', "Did you mean 'ViT-B-16-quickgelu'"),
    ('RN50', 'openai', 'a ResNet CLIP'),
    ('ViT-B-16-SigLIP', 'webli', 'no part of a plain CLIP'),
    ('ViT-B-16-quickgelu', 'openia', "Did you mean 'openai'"),
    ('ViT-B-16', 'openai', "Use arch='ViT-B-16-quickgelu'"),
    ('auto', 'random', 'name an architecture'),
])
def test_unknown_names(arch, checkpoint, message):
    with pytest.raises(ValueError, match=message):
        FrozenClip(arch, checkpoint)


def test_cards_are_checked(clip_card, tmp_path):
    with pytest.raises(ValueError, match="missing 'width' in vision_cfg"):
        build_clip({**clip_card, 'vision_cfg': {'layers': 1, 'patch_size': 8}})
    with pytest.raises(ValueError, match="'layer'.*Did you mean 'layers'"):
        build_clip({**clip_card, 'text_cfg': {**clip_card['text_cfg'], 'layer': 3}})
    with pytest.raises(FileNotFoundError, match='card'):
        find_card(str(tmp_path / 'card.json'))
    (tmp_path / 'card.json').write_text('{')
    with pytest.raises(ValueError, match='not valid JSON'):
        find_card(str(tmp_path / 'card.json'))
    assert 'ViT-B-16-quickgelu' in known_archs() and 'RN50' not in known_archs()


def test_image_size_errors(card_file):
    clip = FrozenClip(card_file, 'random')
    with pytest.raises(ValueError, match='30x32 is not divisible by the patch size 8; pad to 32x32'):
        clip.encode(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match='images: expected'):
        clip.encode(torch.zeros(1, 1, 32, 32))


def test_a_prompt_too_long_is_an_error(card_file):
    with pytest.raises(ValueError, match='needs 22 tokens, but the text tower reads 16'):
        FrozenClip(card_file, 'random').tokenize(['cat ' * 20])


def test_built_from_a_config(card_file):
    clip = MODELS.build({'type': 'FrozenClip', 'arch': card_file, 'checkpoint': 'random'})
    assert isinstance(clip, FrozenClip) and 13 < clip.logit_scale < 15
