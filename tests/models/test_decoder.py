import pytest
import torch

from weclip_sam.models.decoder import WeClipDecoder
from weclip_sam.structures import ClipFeatures


def make_features(layers=4, batch=2, grid=(3, 5), width=12, seed=0):
    tokens = torch.randn(layers, batch, 1 + grid[0] * grid[1], width, generator=torch.Generator().manual_seed(seed))
    return ClipFeatures(tokens, torch.zeros(0), grid)


@pytest.fixture()
def decoder():
    torch.manual_seed(0)
    return WeClipDecoder(encoder_width=12, encoder_layers=4, num_classes=3, dim=16, depth=2, heads=4).eval()


def test_shapes_and_affinity(decoder):
    features = make_features()
    out, fused = decoder({'clip': features}), decoder.fuse_tokens(features)
    assert out.seg_logits.shape == (2, 4, 3, 5) and fused.shape == (2, 16, 3, 5)
    flat = fused.flatten(2)
    torch.testing.assert_close(out.affinity, torch.sigmoid(flat.transpose(1, 2) @ flat))
    torch.testing.assert_close(out.affinity, out.affinity.transpose(1, 2))


def test_a_layer_adds_attention_and_mlp_to_normed_tokens(decoder):
    layer, x = decoder.layers[0], torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    normed = layer.norm1(x)
    mixed, weights = layer.attention(normed, normed, normed)
    torch.testing.assert_close(layer.attend(normed), mixed)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7))
    x = x + mixed
    torch.testing.assert_close(layer(x - mixed), x + layer.mlp(layer.norm2(x)), atol=1e-5, rtol=1e-4)


def test_the_fused_map_is_linear_relu_linear_concatenated_and_convolved(decoder):
    features = make_features()
    maps = [project(features.tokens[i, :, 1:]).transpose(1, 2).unflatten(2, (3, 5))
            for i, project in enumerate(decoder.projections)]
    plain, fused = decoder.fuse(torch.cat(maps, 1)), decoder.fuse_tokens(features)
    torch.testing.assert_close(fused, plain, atol=1e-6, rtol=1e-5)
    parameters = [*decoder.projections.parameters(), *decoder.fuse.parameters()]
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(*(torch.autograd.grad((map * weights).sum(), parameters) for map in (fused, plain)),
                            strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('token_layers, expected', [(None, [0, 1, 2]), (2, [1, 2]), (9, [0, 1, 2]), ([3, 0], [3, 0]),
                                                    ([-1], [3])])
def test_only_the_named_layers_are_read_and_no_class_token(token_layers, expected):
    decoder = WeClipDecoder(12, 4, 3, token_layers, dim=16).eval()
    assert decoder.token_layers == expected
    features = make_features()
    before = decoder({'clip': features}).seg_logits
    for layer in range(4):
        changed = make_features()
        changed.tokens[layer, :, 1:] += 1
        moved = (decoder({'clip': changed}).seg_logits - before).abs().max()
        assert moved > 1e-4 if layer in expected else moved == 0
    features.tokens[:, :, 0] += 1
    assert torch.equal(decoder({'clip': features}).seg_logits, before)


def test_no_position_embedding_patches_may_be_permuted(decoder):
    features, order = make_features(grid=(1, 6)), torch.tensor([3, 1, 5, 0, 4, 2])
    tokens = torch.cat([features.tokens[:, :, :1], features.tokens[:, :, 1:][:, :, order]], 2)
    moved = decoder({'clip': ClipFeatures(tokens, features.attentions, features.grid)}).seg_logits
    torch.testing.assert_close(moved, decoder({'clip': features}).seg_logits[..., order], atol=1e-5, rtol=1e-4)


def test_dropout_is_for_training_only(decoder):
    features = make_features()
    assert torch.equal(decoder({'clip': features}).seg_logits, decoder({'clip': features}).seg_logits)
    decoder.train()
    torch.manual_seed(0)
    fused = []
    decoder.dropout.register_forward_hook(lambda module, inputs, output: fused.append(output))
    for _ in range(20):
        decoder({'clip': features})
    dropped = [(each == 0).flatten(2).all(-1) for each in fused]
    assert 0.05 < torch.stack(dropped).float().mean() < 0.2


def test_published_size_has_6_million_parameters():
    decoder = WeClipDecoder(768, 12, 20)
    assert 5.9e6 < sum(parameter.numel() for parameter in decoder.parameters()) < 6.1e6


@pytest.mark.parametrize('wrong, message', [
    (dict(dim=15, heads=8), 'divisible by heads 8'), (dict(token_layers=[4]), r'token_layers.*0\.\.3'),
    (dict(token_layers=0), 'token_layers'), (dict(num_classes=0), 'at least 1 foreground class'),
])
def test_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        WeClipDecoder(**{**dict(encoder_width=12, encoder_layers=4, num_classes=3, dim=16), **wrong})


def test_features_of_another_encoder_are_refused(decoder):
    with pytest.raises(ValueError, match='expected the tokens of 4 blocks, got 6; build .* encoder_layers=6'):
        decoder({'clip': make_features(layers=6)})
