import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from weclip_sam.datasets.shapes.reader import shapes_scene
from weclip_sam.features import Wanted
from weclip_sam.foundation.dino import FrozenDino, find_dino_weights, hub_positions
from weclip_sam.models.encoders import Encoders

# ViT-S/14 of DINOv2 at its real width, cut to three blocks.
PLAIN = dict(img_size=70, patch_size=14, embed_dim=384, depth=3, num_heads=6, init_values=1e-5)
VARIANTS = {'plain': PLAIN, 'registers': dict(PLAIN, reg_tokens=4, no_embed_class=True)}
SMALL = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)


@pytest.fixture
def card(tmp_path):
    """A function: writes a card and returns its path."""
    def write(content, name='card.json'):
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)
    return write


def lively(model):
    """Random values for what starts at zero or nearly so: positions, registers, layer scales."""
    rng = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if name.endswith(('embed', 'token', 'gamma')):
            value.data = torch.randn(value.shape, generator=rng)
    return model


def photo(height, width, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize('variant', VARIANTS)
def test_tokens_are_those_of_timm(card, variant):
    dino = FrozenDino(card(VARIANTS[variant]), 'random')
    lively(dino.model)
    rgb = photo(42, 84, 2)
    features = dino(rgb)
    normal = (rgb / 255 - torch.tensor(dino.mean).view(3, 1, 1)) / torch.tensor(dino.std).view(3, 1, 1)
    expected = dino.model.forward_features(normal)
    assert features.grid == (3, 6) and features.tokens.shape == (3, 2, 19, 384)
    assert (dino.width, dino.layers, dino.patch_size) == (384, 3, 14)
    kept = torch.cat([expected[:, :1], expected[:, dino.model.num_prefix_tokens:]], 1)
    torch.testing.assert_close(features.tokens[-1], kept, atol=1e-5, rtol=0)
    first = dino.model.norm(dino.model.blocks[0](dino.model._pos_embed(dino.model.patch_embed(normal))))
    torch.testing.assert_close(features.tokens[0][:, 0], first[:, 0], atol=1e-5, rtol=0)


def test_the_published_network_by_its_name():
    dino = FrozenDino('vit_small_patch14_dinov2.lvd142m', 'random')
    assert (dino.width, dino.layers, dino.patch_size) == (384, 12, 14)
    assert dino.mean == (0.485, 0.456, 0.406) and dino.model.patch_embed.grid_size == (37, 37)
    rgb = photo(28, 42)
    expected = dino.model.forward_features(dino.normalize(rgb))
    torch.testing.assert_close(dino(rgb).tokens[-1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('size, nearest, down', [
    ((17, 30), (2, 4), (2, 3)), ((32, 8), (4, 1), (4, 1)), ((3, 1), (1, 1), (1, 1)), ((20, 19), (3, 2), (2, 2))])
def test_an_image_that_the_patch_does_not_divide_is_resized(card, size, nearest, down):
    rgb = photo(*size)
    for rounding, grid in (('nearest', nearest), ('down', down)):
        dino = FrozenDino(card(SMALL), 'random', rounding=rounding)
        features = dino(rgb)
        resized = F.interpolate(dino.normalize(rgb), [8 * n for n in grid], mode='bilinear', align_corners=False)
        assert features.grid == grid and torch.equal(features.tokens, dino.encode(resized).tokens)
    with pytest.raises(ValueError, match='divisible by the patch size 8'):
        dino.encode(photo(17, 30))


def test_it_is_frozen_and_its_random_weights_repeat(card):
    state = torch.get_rng_state()
    one, two = (FrozenDino(card(SMALL), 'random', seed=3).train() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.training and not any(p.requires_grad for p in one.parameters())
    rgb = photo(16, 16).requires_grad_()
    assert torch.equal(one(rgb).tokens, two(rgb).tokens) and not one(rgb).tokens.requires_grad
    assert not torch.equal(one(rgb).tokens, FrozenDino(card(SMALL), 'random')(rgb).tokens)


def test_nothing_wanted_is_nothing_kept(card):
    found = FrozenDino(card(SMALL), 'random')(photo(16, 16), Wanted())
    assert not found.tokens.kept and found.grid[0] == found.grid[1] > 0


def test_it_is_one_of_a_models_encoders(card):
    encoders = Encoders(dict(dino=dict(type='FrozenDino', arch=card(SMALL), checkpoint='random', mean=(0, 0, 0),
                                       std=(1 / 255,) * 3)))
    rgb = photo(16, 24)
    assert torch.allclose(encoders['dino'].normalize(rgb), rgb)
    assert encoders(rgb, ['dino'])['dino'].grid == (2, 3)


# Weights -------------------------------------------------------------------------------------------------------------

def hub_state(model):
    """The state dict as torch.hub publishes it: with a mask token, registers under another name, and a position for
    the class token."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state['mask_token'] = torch.zeros(1, model.embed_dim)
    if 'reg_token' in state:
        state['register_tokens'] = state.pop('reg_token')
        place = torch.randn(1, 1, model.embed_dim)
        state['cls_token'], state['pos_embed'] = state['cls_token'] - place, torch.cat([place, state['pos_embed']], 1)
    return state


@pytest.mark.parametrize('registers', [False, True])
def test_files_in_the_names_of_timm_and_of_torch_hub(card, tmp_path, registers):
    small = dict(SMALL, reg_tokens=4, no_embed_class=True) if registers else SMALL
    source = lively(VisionTransformer(**small, num_classes=5, dynamic_img_size=True)).eval()
    save_file(source.state_dict(), tmp_path / 'timm.safetensors')
    torch.save(hub_state(source), tmp_path / 'hub.pth')
    rgb = photo(24, 40)
    for name in ('timm.safetensors', 'hub.pth'):
        dino = FrozenDino(card(small), str(tmp_path / name))
        with torch.no_grad():
            expected = source.forward_features(dino.normalize(rgb))[:, source.num_prefix_tokens:]
        torch.testing.assert_close(dino(rgb).tokens[-1][:, 1:], expected, atol=1e-5, rtol=0)


def test_weights_of_another_network_are_told(card, tmp_path):
    file = tmp_path / 'other.pth'
    for change, tensor in ((dict(embed_dim=64), 'cls_token'), (dict(patch_size=16), 'pos_embed'),
                           (dict(depth=1), 'blocks.1')):
        torch.save(VisionTransformer(**{**SMALL, **change}, num_classes=0).state_dict(), file)
        with pytest.raises(ValueError, match=f'DINO weights .*other.pth.* are of another network.*{tensor}'):
            FrozenDino(card(SMALL), str(file))
    file.write_bytes(b'<html>')
    with pytest.raises(ValueError, match='DINO weights .*other.pth.*web page'):
        FrozenDino(card(SMALL), str(file))


@pytest.mark.parametrize('arch, words', [
    ('vit_small_patch14_dinov2.lvd142m', r'\(88 MB, licence apache-2\.0\) with: .+ fetch vit_small_patch14_dinov2'),
    ('vit_small_patch16_dinov3.lvd1689m', r'\(licence dinov3-license\) with: .+ fetch vit_small_patch16_dinov3')])
def test_missing_weights_say_size_licence_and_the_line_that_fetches_them(monkeypatch, arch, words):
    import huggingface_hub
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *args: None)
    with pytest.raises(FileNotFoundError, match=f'{words}.* give its path as checkpoint'):
        find_dino_weights(arch, 'timm')
    with pytest.raises(FileNotFoundError, match=r'DINO weights no\.pth are not there.*as checkpoint'):
        find_dino_weights(arch, 'no.pth')


def test_slips_are_one_line(card, monkeypatch, tmp_path):
    blind = card(dict(SMALL, class_token=False, global_pool='avg'), 'blind.json')
    for arch, words in (('vit_smal_patch14_dinov2', "Did you mean 'vit_small_patch14_dinov2'"),
                        ('resnet50', 'no vision transformer'), ('vit_relpos_small_patch16_224', 'any size'),
                        (blind, 'no class token'), (card(dict(patch_size=8), 'empty.json'), "missing 'img_size'"),
                        (card(dict(SMALL, heads=2), 'odd.json'), "describes no .*'heads'")):
        with pytest.raises(ValueError, match=words) as raised:
            FrozenDino(arch, 'random')
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(FileNotFoundError, match='DINO card .* is not there'):
        FrozenDino('absent.json', 'random')
    for each in ('mean', 'std'):
        with pytest.raises(ValueError, match=f'FrozenDino {each}: expected three numbers'):
            FrozenDino(card(SMALL), 'random', **{each: 0.5})
    with pytest.raises(ValueError, match=r'FrozenDino std: expected .* in \(0, 1\], got \(0, 0, 0\)'):
        FrozenDino(card(SMALL), 'random', std=(0, 0, 0))
    with pytest.raises(FileNotFoundError, match="give checkpoint='tiny' for the bundled weights"):
        FrozenDino('tiny')
    monkeypatch.setattr('weclip_sam.foundation.dino.TINY_CARD', tmp_path / 'tiny_dino.json')
    for missing in (lambda: FrozenDino('tiny', 'random'), lambda: find_dino_weights('tiny', 'tiny')):
        with pytest.raises(FileNotFoundError, match='The package is incomplete: install it again'):
            missing()
    for option in ('positions', 'rounding'):
        with pytest.raises(ValueError, match=f'{option} must be one of'):
            FrozenDino(card(SMALL), 'random', **{option: 'other'})


def test_the_bundled_dino_tells_things_from_what_is_around_them():
    dino = FrozenDino('tiny', 'tiny', enlarge=1.5)
    assert (dino.patch_size, dino.width, dino.layers) == (7, 128, 6)
    apart = []
    for index in range(12):
        scene = shapes_scene('tune', index, 112, 0)
        features = dino(torch.from_numpy(scene.image).permute(2, 0, 1)[None])
        assert features.grid == (24, 24)
        inside = F.adaptive_avg_pool2d(torch.from_numpy(scene.label_map() > 0)[None].float(), (24, 24)).flatten() > 0.5
        tokens = F.normalize(features.tokens[-1][0, 1:] - features.tokens[-1][0, 1:].mean(0), dim=-1)
        cosines = tokens @ tokens.T
        apart.append(cosines[inside][:, inside].mean() - cosines[inside][:, ~inside].mean())
    assert torch.stack(apart).min() > 0.15 and torch.stack(apart).mean() > 0.3


def test_an_enlarged_image_has_more_tokens(card):
    plain, finer = (FrozenDino(card(SMALL), 'random', enlarge=factor) for factor in (1, 1.5))
    rgb = photo(32, 48)
    assert plain.grid(32, 48) == (4, 6) and finer.grid(32, 48) == (6, 9) and finer.grid(3, 3) == (1, 1)
    larger = F.interpolate(finer.normalize(rgb), (48, 72), mode='bilinear', align_corners=False)
    torch.testing.assert_close(finer(rgb).tokens, plain.encode(larger).tokens)
    for wrong in (0, -1.0, 1e-3, 9, 1e9, float('inf'), float('nan'), '2', None, True):
        with pytest.raises(ValueError, match=f'enlarge: expected a factor, a number from 1/64 to 8, got {wrong!r}'):
            FrozenDino(card(SMALL), 'random', enlarge=wrong)


# torch.hub's positions -----------------------------------------------------------------------------------------------

def test_hub_positions_sample_with_the_offset():
    line = torch.arange(12.0).view(1, 12, 1, 1).expand(1, 12, 12, 1).flatten(1, 2)
    assert hub_positions(line, (12, 12)) is line
    got = hub_positions(line, (12, 8)).view(12, 8)
    # The bicubic kernel is 0.03 off a straight line; without the offset row 8 would be 0.07 off.
    rows = torch.arange(3, 9)
    torch.testing.assert_close(got[rows, 0], (rows + 0.5) * 12 / 12.1 - 0.5, atol=0.04, rtol=0)
    assert got[8, 0] < 7.97


def test_hub_positions_are_for_networks_without_registers(card):
    dino = FrozenDino(card(SMALL), 'random', positions='hub')
    plain = FrozenDino(card(SMALL), 'random')
    for each in (dino, plain):
        lively(each.model)
    same, other = photo(32, 32), photo(24, 40)
    assert torch.equal(dino(same).tokens, plain(same).tokens)
    assert (dino(other).tokens - plain(other).tokens).abs().max() > 0.01
    with pytest.raises(ValueError, match='without registers'):
        FrozenDino(card(dict(SMALL, reg_tokens=4, no_embed_class=True)), 'random', positions='hub')
