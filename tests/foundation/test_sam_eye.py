"""SAM's encoder as an eye: the library's own tokens, on the grid of the image."""
import pytest
import torch

from weclip_sam.features import Wanted
from weclip_sam.foundation import SamEye


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
