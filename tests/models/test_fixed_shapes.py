"""A compiled step gives what the plain one gives, for the shape of training alone, and never ends a training."""
import pytest
import torch

from weclip_sam.models import fixed_shapes
from weclip_sam.models.fixed_shapes import FixedShape, chosen
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample


def build():
    torch.manual_seed(0)
    names = ['cat', 'dog', 'boat']
    return MODELS.build(dict(
        type='WeClip', clip=dict(type='FrozenClip', arch='tiny', checkpoint='random'),
        decoder=dict(type='WeClipDecoder', dim=32, depth=1, heads=4), rfm_start=0,
        seeds=[dict(type='GradCam'), dict(type='RfmAffinity', layers=3, warmup_layers=2), dict(type='PixelLabels')],
        vocabulary=dict(classes=names, prompt_names=names, background_nouns=['grass', 'sky']))).train()


def batch():
    sample = SegSample(metainfo=dict(img_shape=(32, 32)))
    sample.image_labels = torch.tensor([True, False, True])
    sample.padding_mask = torch.zeros(32, 32, dtype=torch.bool)
    return dict(inputs=torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255,
                data_samples=[sample, sample])


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(fixed_shapes, 'print_log', lambda text, **_: lines.append(text))
    return lines


def test_losses_and_gradients_of_a_compiled_step_are_those_of_the_plain_one(said):
    model, data, graphs = build(), batch(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def step():
        model.zero_grad()
        torch.manual_seed(0)  # dropout
        losses = model.loss(**data)
        sum(losses.values()).backward()
        return losses, [parameter.grad for parameter in model.parameters()]
    (losses, gradients), _ = step(), model.fix_shape(backend=backend, mode=None)
    moved = 0 if torch.__version__ >= '2.15' else 1e-7  # torch 2.11 moves them by 2e-8
    for _ in range(2):
        again, others = step()
        assert losses == again
        assert all(torch.allclose(one, other, rtol=0, atol=moved) for one, other in zip(gradients, others, strict=True))
    assert len(graphs) == 1 and not said  # encoder and decoder are one graph, made once


def test_other_shapes_and_what_has_no_gradient_run_plain(said):
    runs = []

    def backend(graph, inputs):
        runs.append(tuple(inputs[0].shape))
        return graph.forward
    fixed = FixedShape(lambda images: images.float() + 1, backend=backend, mode=None)
    with torch.no_grad():
        assert fixed(torch.zeros(3, 4))[0, 0] == 1 and not runs and fixed.shape is None
    for rows in (3, 5, 3, 1):
        assert fixed(torch.zeros(rows, 4)).shape == (rows, 4)
    assert runs == [(3, 4)] and not said


def test_where_it_cannot_be_compiled_training_goes_on_and_says_so_once(said):
    def backend(graph, inputs):
        raise RuntimeError('no compiler on this machine\nand more')
    fixed = FixedShape(lambda images: images * 2, backend=backend, mode=None)
    assert [fixed(torch.ones(2)).tolist() for _ in range(3)] == [[2, 2]] * 3
    assert len(said) == 1 and 'no compiler on this machine' in said[0] and 'compile=False' in said[0]


def test_the_function_s_own_errors_are_its_own(said):
    def wrong(images):
        raise ValueError('images: too dark')
    with pytest.raises(ValueError, match='too dark'):
        FixedShape(wrong, backend='eager', mode=None)(torch.ones(2))
    assert not said


@pytest.mark.parametrize('choice, device, counts, compiles', [
    ('auto', 'cuda', 1, True), ('auto', 'cpu', 1, False), ('auto', 'cuda', 2, False), (True, 'cpu', 1, True),
    (False, 'cuda', 1, False)])
def test_when_a_step_is_compiled(choice, device, counts, compiles):
    assert chosen(choice, device, counts) == compiles


@pytest.mark.parametrize('choice, counts, message', [
    ('always', 1, "expected 'auto', True or False, got 'always'"), (1, 1, 'got 1'), (True, 4, 'gradients of 4')])
def test_errors(choice, counts, message):
    with pytest.raises(ValueError, match=message):
        chosen(choice, 'cuda', counts)
