"""Dense CRF: the fallback against brute force, behaviour on a scene one can reason about, errors."""
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds import crf
from weclip_sam.seeds.permutohedral import PermutohedralFilter
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.structures import ClassMaps, SeedState


def scene(height=24, width=32, classes=3, noise=3.0, seed=0):
    """Flat colour patches with noise, and smooth probabilities that ignore them."""
    generator = torch.Generator().manual_seed(seed)
    colours = F.interpolate(torch.rand(1, 3, 4, 5, generator=generator), size=(height, width))[0] * 255
    colours = (colours + noise * torch.randn(3, height, width, generator=generator)).clamp(0, 255).round()
    coarse = 1.5 * torch.randn(1, classes, 5, 6, generator=generator)
    return colours.permute(1, 2, 0), F.interpolate(coarse, size=(height, width), mode='bilinear')[0].softmax(0)


def mean_field_by_hand(rgb, probabilities, iterations, sxy, w, bxy, brgb, bw):
    """The definition with full N x N matrices."""
    classes, height, width = probabilities.shape
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing='ij')
    position = torch.stack([x, y], -1).reshape(-1, 2)
    colour = rgb.double().reshape(-1, 3)

    def kernel(features):
        k = torch.exp(-0.5 * (features[:, None] - features[None]).square().sum(-1))
        return k / (k.sum(0)[:, None] * k.sum(0)[None]).sqrt()

    kernels = w * kernel(position / sxy) + bw * kernel(torch.cat([position / bxy, colour / brgb], 1))
    log_p = probabilities.double().clamp(min=1e-5).log().reshape(classes, -1)
    q = log_p.softmax(0)
    for _ in range(iterations):
        q = (log_p + q @ kernels).softmax(0)
    return q.reshape(classes, height, width)


def test_exact_backend_is_the_definition():
    rgb, probabilities = scene(9, 11)
    expected = mean_field_by_hand(rgb, probabilities, 5, 1, 3, 67, 3, 4)
    got = crf.dense_crf(rgb, probabilities, 5, backend='exact')
    assert torch.allclose(got.double(), expected, atol=1e-4)
    assert (got.argmax(0) != probabilities.argmax(0)).any()


def test_exact_backend_in_blocks(monkeypatch):
    rgb, probabilities = scene(9, 11)
    whole = crf.dense_crf(rgb, probabilities, 2, backend='exact')
    monkeypatch.setattr(crf, 'EXACT_ROWS', 99 * 7)
    assert torch.allclose(whole, crf.dense_crf(rgb, probabilities, 2, backend='exact'), atol=1e-6)


@pytest.mark.parametrize('noise, labels, marginals', [(0, 0.01, 0.005), (3, 0.01, 0.008), (10, 0.03, 0.02)])
def test_lattice_stays_near_brute_force(noise, labels, marginals):
    rgb, probabilities = scene(noise=noise)
    exact = crf.dense_crf(rgb, probabilities, backend='exact')
    lattice = crf.dense_crf(rgb, probabilities, backend='lattice')
    changed = (exact.argmax(0) != probabilities.argmax(0)).float().mean()
    assert changed > 0.05
    assert (lattice.argmax(0) != exact.argmax(0)).float().mean() <= labels
    assert (lattice - exact).abs().mean() <= marginals
    assert torch.allclose(lattice.sum(0), torch.ones(24, 32), atol=1e-5)


def test_lattice_weights_are_barycentric_and_splat_is_slice_transposed():
    features = 4 * torch.rand(200, 5, generator=torch.Generator().manual_seed(0))
    lattice = PermutohedralFilter(features)
    weights = lattice.slice.to_dense()
    assert torch.allclose(weights.sum(1), torch.ones(200), atol=1e-5) and (weights >= -1e-6).all()
    assert torch.equal(lattice.splat.to_dense(), weights.T)
    assert ((weights > 0).sum(1) <= 6).all()


def test_lattice_filter_follows_the_gaussian():
    generator = torch.Generator().manual_seed(0)
    features, values = 4 * torch.rand(600, 2, generator=generator), torch.rand(600, 3, generator=generator)
    kernel = torch.exp(-0.5 * torch.cdist(features, features) ** 2)
    expected = kernel @ values / kernel.sum(1, keepdim=True)
    lattice = PermutohedralFilter(features)
    got = lattice(values) / lattice(torch.ones(600, 1))
    assert (got - expected).abs().max() < 0.1 * (expected.max() - expected.min()) + 0.02
    assert torch.allclose(lattice(values[:, :1] + 2 * values[:, 1:2]),
                          lattice(values)[:, :1] + 2 * lattice(values)[:, 1:2], atol=1e-4)


def test_a_single_pixel_and_no_iterations():
    probabilities = torch.tensor([0.2, 0.6])[:, None, None]
    for backend in ('lattice', 'exact'):
        q = crf.dense_crf(torch.zeros(1, 1, 3), probabilities, 3, backend=backend)
        assert q.shape == (2, 1, 1) and q[1] > 0.75
    unchanged = crf.dense_crf(torch.zeros(1, 1, 3), probabilities, 0)
    assert torch.allclose(unchanged.flatten(), torch.tensor([0.25, 0.75]))


def test_colour_edges_win_over_blurred_probabilities():
    rgb = np.zeros((16, 20, 3), np.uint8)
    rgb[:, 10:] = 200
    foreground = torch.sigmoid((torch.arange(20.0) - 7.5) / 3).expand(16, 20)   # crosses 0.5 at x = 7.5
    labels = crf.dense_crf(rgb, torch.stack([1 - foreground, foreground]), backend='lattice').argmax(0)
    assert torch.equal(labels, (torch.arange(20) >= 10).long().expand(16, 20))


def test_pydensecrf_agrees_when_it_is_installed():
    pytest.importorskip('pydensecrf')
    rgb, probabilities = scene(48, 64)
    theirs = crf.dense_crf(rgb, probabilities, backend='pydensecrf')
    ours = crf.dense_crf(rgb, probabilities, backend='lattice')
    assert (theirs.argmax(0) != ours.argmax(0)).float().mean() < 0.01 and (theirs - ours).abs().mean() < 0.005


@pytest.mark.parametrize('backend', ['lattice', 'exact'])
def test_the_crf_does_not_follow_autocast(backend):
    rgb, probabilities = scene(8, 10)
    plain = crf.dense_crf(rgb, probabilities, 2, backend=backend)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(crf.dense_crf(rgb, probabilities, 2, backend=backend), plain)


def test_missing_pydensecrf_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    with pytest.raises(ImportError, match='pip install pydensecrf2.*lattice'):
        crf.dense_crf(*scene(4, 4), backend='pydensecrf')


def test_auto_falls_back_without_pydensecrf(monkeypatch):
    monkeypatch.setattr(crf.importlib.util, 'find_spec', lambda name: None)
    rgb, probabilities = scene(8, 9)
    assert torch.equal(crf.dense_crf(rgb, probabilities), crf.dense_crf(rgb, probabilities, backend='lattice'))


@pytest.mark.parametrize('arguments, message', [
    (dict(backend='latice'), "Did you mean 'lattice'"), (dict(bilateral_srgb=0), 'bilateral_srgb'),
    (dict(iterations=-1), 'iterations')])
def test_wrong_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        crf.dense_crf(*scene(4, 4), **arguments)


def test_wrong_shapes_are_named():
    rgb, probabilities = scene(4, 5)
    with pytest.raises(ValueError, match=r'\(4, 5, 3\) and \(3, 5, 4\)'):
        crf.dense_crf(rgb, probabilities.transpose(1, 2))


def test_step_labels_each_image_with_its_own_classes():
    rgb = torch.stack([scene(16, 20, seed=s)[0].permute(2, 0, 1) for s in range(3)])
    scores = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1))
    maps = ClassMaps(scores, torch.tensor([0, 0, 2]), torch.tensor([1, 4, 3]))
    state = SeedState(torch.zeros(3, 3, 16, 20), torch.zeros(3, 6, dtype=torch.bool), rgb=rgb,
                      maps=maps)
    settings = dict(type='Crf', crf=dict(backend='lattice', iterations=3))
    after = SEED_STEPS.build(settings)(state)
    assert after.pixel_labels.shape == (3, 16, 20)
    assert set(after.pixel_labels[0].unique().tolist()) <= {0, 2, 5} and after.pixel_labels[0].any()
    assert not after.pixel_labels[1].any() and (after.confidence[1] == 1).all()
    assert set(after.pixel_labels[2].unique().tolist()) <= {0, 4}
    sure = SEED_STEPS.build(dict(settings, min_confidence=0.95))(state)
    unsure = after.confidence < 0.95
    assert unsure.any() and (sure.pixel_labels[unsure] == 255).all()
    assert torch.equal(sure.pixel_labels[~unsure], after.pixel_labels[~unsure])


def test_step_takes_the_background_that_belongs_to_the_maps():
    maps = ClassMaps(torch.full((1, 8, 8), 0.4), torch.tensor([0]), torch.tensor([2]))
    rgb = torch.zeros(1, 3, 8, 8)
    step = crf.Crf(normalise=False, crf=dict(backend='exact', iterations=2))
    labels = []
    for background in (None, torch.full((1, 8, 8), 0.1)):
        state = SeedState(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3), rgb=rgb, maps=maps,
                          background=background)
        labels.append(step(state).pixel_labels.unique().tolist())
    assert labels == [[0], [3]]


def test_step_says_what_is_missing():
    state = SeedState(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2))
    with pytest.raises(ValueError, match='GradCam'):
        SeedPipeline([crf.Crf()])(state)
    state.maps = ClassMaps(torch.zeros(0, 2, 2), torch.zeros(0).long(), torch.zeros(0).long())
    with pytest.raises(ValueError, match='rgb'):
        SeedPipeline([crf.Crf()])(state)
    with pytest.raises(ValueError, match='min_confidence'):
        crf.Crf(min_confidence=95)


def test_a_backend_that_is_pinned_is_what_labels_depend_on(monkeypatch):
    assert crf.Crf(crf=dict(backend='lattice')).settled() == 'lattice'
    monkeypatch.setattr(crf.importlib.util, 'find_spec', lambda name: object())
    assert crf.Crf().settled() == 'pydensecrf' and crf.Crf(crf=dict(backend='lattice')).settled() == 'lattice'


def test_wrapped_colours_are_bytes_of_what_is_left_after_the_mean():
    rgb = torch.tensor([[[122.0, 117.0, 104.0], [255.0, 255.0, 255.0], [0.0, 0.0, 0.0]]])
    as_bytes = (rgb.numpy() - np.array([122.675, 116.669, 104.008])).astype(np.int64).astype(np.uint8)
    assert torch.equal(crf.wrapped_colours(rgb), torch.from_numpy(as_bytes).float())
    probabilities = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0))
    picture = torch.linspace(100, 140, 72).round().view(8, 9, 1).expand(8, 9, 3)  # around the mean
    wrapped = crf.dense_crf(picture, probabilities, colours='wrapped', backend='exact')
    assert torch.equal(wrapped, crf.dense_crf(crf.wrapped_colours(picture), probabilities, backend='exact'))
    assert not torch.allclose(wrapped, crf.dense_crf(picture, probabilities, backend='exact'))
    with pytest.raises(ValueError, match="Did you mean 'wrapped'"):
        crf.dense_crf(picture, probabilities, colours='wraped')
