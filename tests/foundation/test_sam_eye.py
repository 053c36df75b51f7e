"""SAM's encoder as an eye: the library's own tokens, on the grid of the image."""
import pytest
import torch

from weclip_sam.datasets.frame import Frame
from weclip_sam.features import BankedTokens, Wanted
from weclip_sam.foundation import SamEye
from weclip_sam.foundation.sam_eye import feature_bytes, feature_fingerprint, feature_map
from weclip_sam.models.encoders import Encoders, stack_banked
from weclip_sam.structures import SegSample

LAST = Wanted(tokens=frozenset({3}))


@pytest.fixture(scope='module')
def eye():
    return SamEye(dict(type='FrozenSam', arch='tiny', checkpoint='random'))


def test_tokens_are_those_of_the_library_s_encoder(eye):
    size, encoder = eye.sam.image_size, eye.sam.sam.image_encoder
    rgb = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255
    seen = []
    hooks = [block.register_forward_hook(lambda *args: seen.append(args[2])) for block in encoder.blocks]
    with torch.no_grad():
        encoder(eye.sam.sam.preprocess(rgb))
    for hook in hooks:
        hook.remove()
    features = eye(rgb)
    assert features.grid == (size // eye.patch_size,) * 2 and features.tokens.shape[0] == eye.layers == len(seen)
    for ours, theirs in zip(features.tokens, seen, strict=True):
        torch.testing.assert_close(ours[:, 1:], theirs.flatten(1, 2), atol=1e-4, rtol=1e-4)
        assert not ours[:, 0].any()


def test_what_is_padding_has_no_token_and_only_what_is_wanted_is_kept(eye):
    rgb = torch.rand(1, 3, eye.sam.image_size // 2, eye.sam.image_size) * 255
    features = eye(rgb, Wanted(tokens=frozenset({1})))
    rows, columns = features.grid
    assert columns == eye.sam.image_size // eye.patch_size and rows == -(-columns // 2)
    assert features.tokens[1].shape == (1, 1 + rows * columns, eye.width)
    torch.testing.assert_close(features.tokens[1], eye(rgb).tokens[1])
    with pytest.raises(ValueError, match='tokens of block 0 were not asked for'):
        features.tokens[0]


def test_other_sizes_are_brought_to_sam_s(eye):
    small = eye(torch.rand(1, 3, 20, 30) * 255)
    assert small.grid[1] == eye.sam.image_size // eye.patch_size and not eye.train().training
    assert not any(parameter.requires_grad for parameter in eye.parameters())


def kept_of(eye, rgb, pool=1):
    """What a bank keeps of an image 3 H W uint8."""
    _, tokens = eye.sam.see(eye.sam.preprocess(rgb)[None], (3,))
    return feature_map(eye.sam, tokens[3][0], tuple(rgb.shape[1:]), pool)


def test_what_is_kept_of_an_image_is_what_the_eye_sees_of_it(eye):
    """At SAM's own size, in cells of its patches, nothing is resized: equal but for float16."""
    size, patch = eye.sam.image_size, eye.patch_size
    rgb = torch.randint(0, 256, (3, size // 2, size), generator=torch.Generator().manual_seed(0)).byte()
    kept, live = kept_of(eye, rgb), eye(rgb[None].float(), LAST)
    assert kept.tokens.dtype == torch.float16 and kept.extent == tuple(side / patch for side in rgb.shape[1:])
    assert kept.tokens.nbytes == feature_bytes(eye.sam, tuple(rgb.shape[1:]))
    cells = Frame.whole(*rgb.shape[1:]).take_tokens(kept.tokens, kept.extent, patch)
    banked = eye.from_bank(BankedTokens(cells[None], 3, patch), LAST)
    assert banked.grid == live.grid
    torch.testing.assert_close(banked.tokens[3], live.tokens[3], atol=5e-3, rtol=2e-3)
    with pytest.raises(ValueError, match='tokens of block 0 were not asked for'):
        banked.tokens[0]


def test_pooled_tokens_take_a_quarter_and_edges_count_what_is_there(eye):
    rgb = torch.randint(0, 256, (3, 75, 100), generator=torch.Generator().manual_seed(0)).byte()
    whole, pooled = kept_of(eye, rgb), kept_of(eye, rgb, pool=2)
    rows, columns = whole.tokens.shape[:2]
    assert pooled.tokens.shape[:2] == (-(-rows // 2), -(-columns // 2)) and rows % 2  # 15 to 8
    assert pooled.extent == (whole.extent[0] / 2, whole.extent[1] / 2)
    assert pooled.tokens.nbytes == feature_bytes(eye.sam, (75, 100), pool=2)
    mean = whole.tokens.float()[:2, :2].mean((0, 1))
    torch.testing.assert_close(pooled.tokens[0, 0].float(), mean, atol=5e-3, rtol=1e-3)
    torch.testing.assert_close(pooled.tokens[-1, 0].float(), whole.tokens.float()[-1, :2].mean(0), atol=5e-3, rtol=1e-3)


def test_features_of_another_encoder_or_block_are_refused(eye):
    tokens = torch.zeros(1, 2, 3, eye.width)
    for banked, message in ((BankedTokens(tokens[..., 1:], 3, 8), 'it is another one'),
                            (BankedTokens(tokens, 9, 8), 'it is another one'),
                            (BankedTokens(tokens, 2, 8), 'tokens of block 3 are wanted, the bank .* of block 2')):
        with pytest.raises(ValueError, match=message):
            eye.from_bank(banked, LAST)
    with pytest.raises(ValueError, match='tokens of block 0, 1, 2 are wanted'):
        eye.from_bank(BankedTokens(tokens, 3, 8))
    names = {feature_fingerprint(eye.sam, block, pool) for block in (3, 2) for pool in (1, 2)}
    assert len(names) == 4 and feature_fingerprint(eye.sam, -1) in names
    with pytest.raises(ValueError, match="feature_bank.block of SAM's encoder"):
        feature_fingerprint(eye.sam, 4)


def test_samples_bring_what_was_kept_and_one_without_makes_all_look(eye):
    encoders, rgb = Encoders({'sam': dict(type='SamEye', sam=eye.sam)}), torch.rand(2, 3, 32, 48) * 255
    samples = [SegSample(), SegSample()]
    samples[0].banked = dict(sam=BankedTokens(torch.ones(4, 6, eye.width).half(), 3, 8))
    samples[1].banked = dict(sam=BankedTokens(torch.ones(3, 5, eye.width).half(), 3, 8))  # a smaller image, padded
    found = encoders(rgb, dict(sam=LAST), stack_banked(samples, (32, 48)))['sam']
    assert found.grid == (4, 6) and found.tokens[3].shape == (2, 25, eye.width)
    assert found.tokens[3][0, 1:].all() and found.tokens[3][1, 1:].view(4, 6, -1)[:3, :5].all()
    assert not found.tokens[3][1, 1:].view(4, 6, -1)[3:].any()
    with pytest.raises(ValueError, match='cells of 8 pixels do not divide inputs of'):
        stack_banked(samples, (36, 48))
    del samples[1].banked
    assert stack_banked(samples, (32, 48)) == {} == stack_banked([], (32, 48))
    assert encoders(rgb, dict(sam=LAST), {})['sam'].grid[1] == eye.sam.image_size // eye.patch_size
    blind = Encoders({'clip': dict(type='FrozenClip', arch='tiny', checkpoint='random')})
    with pytest.raises(ValueError, match="encoder 'clip': FrozenClip takes no features of a bank"):
        blind(rgb, None, dict(clip=BankedTokens(torch.ones(2, 4, 6, 3), 3, 8)))
