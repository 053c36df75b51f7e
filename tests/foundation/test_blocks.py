"""The encoder computes what is wanted of it, and that is what it computes when everything is."""
import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from weclip_sam.features import Wanted
from weclip_sam.foundation import blocks
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.clip_card import build_clip
from weclip_sam.foundation.positions import GRIDS, resized_positions

IMAGES = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
PADDING = torch.zeros(2, 24, 40, dtype=torch.bool)
PADDING[0, :, 24:] = PADDING[1, :8] = True


@pytest.fixture()
def clip():
    return FrozenClip('tiny', 'random', seed=4)


class Operators(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__.split('.')[0])
        return func(*args, **kwargs or {})

    def count(self, *names):
        return sum(any(name.startswith(wanted) for wanted in names) for name in self.names)


def operators(function):
    with Operators() as seen:
        function()
    return seen


@pytest.mark.parametrize('padding', [None, PADDING])
@pytest.mark.parametrize('numbers', [1, 2 ** 18])  # heads one by one, and together
def test_what_is_wanted_equals_what_everything_gives(clip, padding, numbers, monkeypatch):
    whole = clip.encode(IMAGES, padding)
    monkeypatch.setattr(blocks, '_CPU_NUMBERS', numbers)
    last = clip.layers - 1
    wanted = Wanted(frozenset({0, last - 1}), frozenset({1}), frozenset({(0, last), (1, last)}))
    some = clip.encode(IMAGES, padding, wanted)
    assert sorted(some.tokens.kept) == [0, last - 1] and sorted(some.attentions.kept) == [1]
    assert some.grid == whole.grid and (padding is None or torch.equal(some.padding, whole.padding))
    for block in (0, last - 1):
        torch.testing.assert_close(some.tokens[block], whole.tokens[block])
    torch.testing.assert_close(some.attentions[1], whole.attentions[1])
    for pair in wanted.means:
        torch.testing.assert_close(some.mean_attention(pair), whole.mean_attention(pair))
    with pytest.raises(ValueError, match=f'tokens of block {last} were not asked for'):
        some.tokens[-1]


def test_blocks_and_attentions_that_nobody_reads_are_not_computed(clip):
    layers = clip.layers
    fused, written = ('_scaled_dot_product',), ('_softmax', 'softmax')
    tokens = operators(lambda: clip.encode(IMAGES, wanted=Wanted(tokens=frozenset(range(layers - 1)))))
    assert tokens.count(*fused) == layers - 1 and tokens.count(*written) == 0
    mean = operators(lambda: clip.encode(IMAGES, wanted=Wanted.mean_attention(layers, 2)))
    assert mean.count(*fused) == layers - 2 and mean.count(*written) == 2
    # Of the last block that runs the attention alone is made: no values mixed, no MLP.
    assert mean.count('silu', 'gelu') == layers - 1
    assert operators(lambda: clip.encode(IMAGES, wanted=Wanted())).count(*fused, *written) == 0


def test_heads_are_kept_where_there_is_room(clip, monkeypatch):
    last = clip.layers - 1
    wanted = Wanted(frozenset({0}), frozenset({1, last}), heads=frozenset({1, last}))
    features = clip.encode(IMAGES, PADDING, wanted)
    whole = clip.encode(IMAGES, PADDING)
    assert sorted(features.heads) == [1, last]
    for block, heads in features.heads.items():
        torch.testing.assert_close(heads.weights.mean(1), whole.attentions[block])
        torch.testing.assert_close(features.attentions[block], whole.attentions[block])
    block, heads = clip.model.visual.transformer.resblocks[1], features.heads[1]
    torch.testing.assert_close(heads.normed, block.ln_1(whole.tokens[0]))
    mixed = (heads.weights @ heads.values).transpose(1, 2).flatten(2)
    after = whole.tokens[0] + block.attn.out_proj(mixed)
    torch.testing.assert_close(after + block.mlp(block.ln_2(after)), whole.tokens[1], atol=1e-5, rtol=1e-5)
    own = heads.of(slice(1, 2))
    assert torch.equal(own.weights, heads.weights[1:]) and torch.equal(own.queries, heads.queries[1:])
    moved = features.entering_last_block(whole.tokens[1], whole.attentions[1])
    assert not moved.heads  # they are those of other tokens
    monkeypatch.setattr(blocks, '_CPU_ROOM', 0)
    assert not clip.encode(IMAGES, PADDING, wanted).heads


@pytest.mark.parametrize('quick_gelu, layer_scale', [(True, None), (False, 0.3)])
def test_every_kind_of_block_equals_open_clips(clip_card, quick_gelu, layer_scale, tmp_path):
    card = {**clip_card, 'quick_gelu': quick_gelu, 'vision_cfg': {**clip_card['vision_cfg'],
                                                                 'ls_init_value': layer_scale}}
    torch.manual_seed(0)
    library = build_clip(card).eval().requires_grad_(False)
    run = blocks.FrozenBlocks(library.visual.transformer.resblocks, blocks.CastOnce()).run
    tokens = torch.randn(2, 16, 64)
    before = tokens.clone()
    ours, *_ = run(tokens, Wanted(tokens=frozenset({2})), torch.float32)
    torch.testing.assert_close(ours[2], library.visual.transformer(tokens), atol=1e-5, rtol=1e-5)
    assert torch.equal(tokens, before)
    low, *_ = run(tokens, Wanted(tokens=frozenset({2})), torch.bfloat16)
    assert low[2].dtype == torch.float32 and 0 < (low[2] - ours[2]).abs().max() < 0.1


def low(clip):
    with torch.autocast('cpu', torch.bfloat16):
        return clip.encode(IMAGES, wanted=Wanted.last_block_input(clip.layers)).last_block_input


def test_weights_are_cast_once_and_anew_when_they_change(clip):
    whole = clip.encode(IMAGES).last_block_input
    first = low(clip)
    assert 0 < (first - whole).norm() / whole.norm() < 0.02
    weights = {parameter.data_ptr() for parameter in clip.parameters() if parameter.numel() > 1000}

    class NoCastOfWeights(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert not (func.__name__.startswith('_to_copy') and args[0].data_ptr() in weights)
            return func(*args, **kwargs or {})
    with NoCastOfWeights():
        assert torch.equal(low(clip), first)
    assert torch.equal(low(copy.deepcopy(clip)), first)

    other = FrozenClip('tiny', 'random', seed=5)
    clip.load_state_dict(other.state_dict())
    assert torch.equal(low(clip), low(other)) and not torch.equal(low(clip), first)
    low(clip.double())
    assert torch.equal(low(clip.float()), low(other))
    assert sorted(clip.state_dict()) == sorted(other.state_dict())


def test_positions_are_kept_for_a_few_grids(clip):
    embedding, native = clip.model.visual.positional_embedding, clip.model.visual.grid_size
    first = clip.position_embedding((3, 5))
    assert torch.equal(first, resized_positions(embedding, native, (3, 5)))
    assert clip.position_embedding((3, 5)) is first
    for width in range(1, GRIDS + 1):
        clip.position_embedding((2, width))
    assert clip.position_embedding((3, 5)) is not first and len(clip._positions._made) == GRIDS
    embedding.mul_(2)
    torch.testing.assert_close(clip.position_embedding((3, 5)), first * 2)
