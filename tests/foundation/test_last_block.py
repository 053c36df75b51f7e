"""The last block's gradient written out equals autograd's."""
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from weclip_sam.features import ClipFeatures, Wanted
from weclip_sam.foundation import blocks, last_block
from weclip_sam.foundation.blocks import FrozenBlocks
from weclip_sam.foundation.cast_once import CastOnce
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.clip_card import build_clip
from weclip_sam.foundation.last_block import LastBlock, Products, run_block
from weclip_sam.seeds.gradcam import gradcam

PADDING = torch.tensor([[False] * 12, [True] * 3 + [False] * 9, [False] * 8 + [True] * 4])


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize('numbers', [1, 2 ** 22])  # scores one by one, and together
@pytest.mark.parametrize('padding', [None, PADDING])
@pytest.mark.parametrize('quick_gelu, layer_scale', [(True, None), (False, 0.3)])
def test_equals_autograd_in_double_precision(quick_gelu, layer_scale, padding, numbers, monkeypatch):
    monkeypatch.setattr(last_block, '_CPU_NUMBERS', numbers)
    vision = dict(image_size=32, layers=1, width=32, head_width=8, patch_size=8, ls_init_value=layer_scale)
    text = dict(context_length=8, vocab_size=49408, width=8, heads=1, layers=1)
    visual = build_clip(dict(embed_dim=16, quick_gelu=quick_gelu, vision_cfg=vision, text_cfg=text)).visual.double()
    for seed, parameter in enumerate(visual.parameters()):
        parameter.requires_grad_(False).add_(rand(*parameter.shape, seed=seed, dtype=torch.float64), alpha=0.2)
    block, tokens, towards = visual.transformer.resblocks[0], rand(3, 13, 32).double(), rand(3, 5, 16, seed=1).double()
    heads = FrozenBlocks(visual.transformer.resblocks, CastOnce()).heads(0, tokens, torch.float64, padding)
    ours = LastBlock(block, visual.ln_post, visual.proj, tokens, heads, padding, Products(CastOnce(), torch.float64))
    activations = block.ln_1(tokens).requires_grad_()
    patches = visual.ln_post(run_block(block, tokens, activations, padding)[0][:, 1:])
    content = torch.ones(3, 12, 1).double() if padding is None else (~padding[..., None]).double()
    embedding = torch.nn.functional.normalize((patches * content).sum(1) / content.sum(1) @ visual.proj, dim=-1)
    torch.testing.assert_close(ours.embedding, embedding, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(ours.activations, activations[:, 1:], atol=1e-12, rtol=1e-10)
    expected = [torch.autograd.grad((embedding * towards[:, n]).sum(), activations, retain_graph=True)[0][:, 1:].mean(1)
                for n in range(5)]
    torch.testing.assert_close(ours.mean_gradient(towards), torch.stack(expected, 1), atol=1e-12, rtol=1e-8)


@pytest.fixture(scope='module')
def case():
    """A clip, features of four images, and names: two, none, three and one."""
    clip = FrozenClip('tiny', 'random', seed=2)
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.bool)
    text = torch.nn.functional.normalize(rand(6, clip.embed_dim, seed=3), dim=-1)
    return clip, clip.encode(rand(4, 3, 24, 40)), text, labels


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('numbers', [1, 16 * 128 * 8, 2 ** 22])  # image by image, a few, and all at once
def test_maps_equal_those_of_autograd(case, numbers, padded, monkeypatch):
    clip, features, text, labels = case
    if padded:
        padding = torch.zeros(4, 24, 40, dtype=torch.bool)
        padding[0, :8] = padding[2, :, 32:] = True
        features = clip.encode(rand(4, 3, 24, 40), padding)
    monkeypatch.setattr(last_block, '_CPU_NUMBERS', numbers)
    for options in (dict(), dict(competitors='present_foreground', softmax='fma')):
        ours = gradcam(clip, features, text, labels, signed=True, **options)
        reference = gradcam(clip, features, text, labels, signed=True, create_graph=True, **options)
        assert ours.sample_index.tolist() == [0, 0, 2, 2, 2, 3] and not ours.scores.requires_grad
        size = reference.scores.abs().amax((1, 2), keepdim=True).detach()
        torch.testing.assert_close(ours.scores / size, reference.scores.detach() / size, atol=2e-5, rtol=0)
    assert gradcam(clip, features, text, labels & False).scores.shape == (0, 3, 5)


def test_the_last_block_runs_once_an_image_and_no_attention_is_made_for_a_class(case):
    clip, features, text, _ = case

    class Squares(TorchDispatchMode):
        """Shapes of what is as large as tokens times tokens."""
        def __init__(self):
            super().__init__()
            self.shapes, self.softmaxes = [], 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **kwargs or {})
            if isinstance(made, torch.Tensor) and made.shape[-2:] == (16, 16):
                self.shapes.append(tuple(made.shape[:-2]))
            self.softmaxes += func.__name__.startswith(('_softmax', 'softmax')) and made.shape[-1] == 16
            return made
    one, many = Squares(), Squares()
    alone = ClipFeatures(features.tokens[:, :1], features.attentions[:, :1], features.grid)
    for seen, labels in ((one, torch.tensor([[1, 0, 0, 0]])), (many, torch.ones(1, 4))):
        with seen:
            gradcam(clip, alone, text, labels.bool())
    assert one.softmaxes == many.softmaxes == 1 and one.shapes == many.shapes


def test_bfloat16_moves_the_maps_little_and_float16_nothing(case):
    clip, features, text, labels = case
    maps = gradcam(clip, features, text, labels).scores
    with torch.autocast('cpu', torch.bfloat16):
        low = gradcam(clip, features, text, labels).scores
        encoded = clip.encode(rand(4, 3, 24, 40))
    encoder = (gradcam(clip, encoded, text, labels).scores - maps).abs()
    assert low.dtype == torch.float32 and 0 < (low - maps).abs().max() < 2e-2
    # As the encoder's own bfloat16 moves them: a third of it on a CPU with AMX, a tenth more than it with avx512_bf16.
    assert (low - maps).abs().mean() < 2 * encoder.mean()
    with torch.autocast('cpu', torch.float16):
        assert torch.equal(gradcam(clip, features, text, labels).scores, maps)


@pytest.mark.parametrize('numbers', [1, 2 ** 22])  # image by image, and all at once
@pytest.mark.parametrize('low', [False, True])
def test_attention_that_the_encoder_kept_is_not_made_again(case, low, numbers, monkeypatch):
    clip, _, text, labels = case
    monkeypatch.setattr(last_block, '_CPU_NUMBERS', numbers)
    last = clip.layers - 1
    wanted = Wanted.last_block_input(clip.layers) | Wanted(heads=frozenset({last}))
    with torch.autocast('cpu', torch.bfloat16, enabled=low):
        kept = clip.encode(rand(4, 3, 24, 40), wanted=wanted)
        with monkeypatch.context() as patch:
            patch.setattr(blocks, '_CPU_ROOM', 0)
            without = clip.encode(rand(4, 3, 24, 40), wanted=wanted)
        expected = gradcam(clip, without, text, labels).scores
        with monkeypatch.context() as patch:
            patch.setattr(blocks, '_attend_by_heads', lambda *_: pytest.fail('made again'))
            maps = gradcam(clip, kept, text, labels).scores
    assert list(kept.heads) == [last] and not without.heads and kept.heads[last].weights.shape == (4, 3, 16, 16)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)
    if low:  # of another precision than asked for now, so made again
        torch.testing.assert_close(gradcam(clip, kept, text, labels).scores,
                                   gradcam(clip, without, text, labels).scores, atol=1e-5, rtol=0)
