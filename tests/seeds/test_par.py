import pytest
import torch
import torch.nn.functional as F

from weclip_sam.seeds import par
from weclip_sam.seeds.labels import PixelLabels
from weclip_sam.seeds.par import Par, neighbour_weights, pixel_adaptive_refinement, position_weights
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.structures import ClassMaps, SeedState


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(image, scores, dilations, iterations):
    """The definition, pixel by pixel."""
    _, height, width = image.shape
    offsets = [(r * d, c * d) for d in dilations for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]
    distance = torch.tensor([(r * r + c * c) ** 0.5 for r, c in offsets])
    position = (-(distance / (distance.std() + 1e-8) / 0.3) ** 2).softmax(0)
    for _ in range(iterations):
        new = torch.empty_like(scores)
        for y in range(height):
            for x in range(width):
                ys = [min(max(y + r, 0), height - 1) for r, _ in offsets]
                xs = [min(max(x + c, 0), width - 1) for _, c in offsets]
                colours = image[:, ys, xs]
                spread = colours.std(1, keepdim=True) + 1e-8
                weight = (-((colours - image[:, y, x, None]).abs() / spread / 0.3) ** 2).mean(0).softmax(0)
                new[:, y, x] = (scores[:, ys, xs] * (weight + 0.01 * position)).sum(1)
        scores = new
    return scores


@pytest.mark.parametrize('plain', [False, True])
def test_equals_the_definition(plain):
    images, scores = rand(2, 3, 6, 7), rand(3, 6, 7, seed=1)
    index = torch.tensor([0, 0, 1])
    result = pixel_adaptive_refinement(images, scores, index, iterations=2, dilations=(1, 3), plain=plain)
    for sample in (0, 1):
        expected = by_hand(images[sample], scores[index == sample], (1, 3), 2)
        torch.testing.assert_close(result[index == sample], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('block', [1, 40, 1 << 19])
def test_image_by_image_and_in_any_block_the_numbers_are_those_of_the_plain_version(block, monkeypatch):
    monkeypatch.setattr(par, '_BLOCK', block)  # one row at a time, two, all
    images, scores = rand(3, 3, 9, 8), rand(4, 9, 8, seed=1)
    before = scores.clone()
    for index in (torch.tensor([2, 0, 2, 2]), None):
        given = scores[:3] if index is None else scores
        result = pixel_adaptive_refinement(images, given, index, 3, (1, 12))
        assert torch.equal(result, pixel_adaptive_refinement(images, given, index, 3, (1, 12), plain=True))
        assert torch.equal(scores, before)


def test_kernels_that_do_not_work_are_told_once_and_done_without(monkeypatch):
    monkeypatch.setattr(par, 'find_spec', lambda name: name)
    monkeypatch.setattr(par, '_with_kernels', lambda *args: 1 / 0)
    par._has_kernels.cache_clear()
    with pytest.warns(UserWarning, match='plain version is used, which is many times slower .ZeroDivisionError'):
        assert not par._has_kernels(torch.device('cpu'))
    assert not par._has_kernels(torch.device('cpu'))  # without another warning
    par._has_kernels.cache_clear()


def test_weights_sum_to_101_percent_and_stop_at_edges():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    weights = neighbour_weights(image, (1,))
    torch.testing.assert_close(weights.sum(0), torch.full((1, 8, 8), 1.01))
    torch.testing.assert_close(position_weights((1, 2)).sum(), torch.tensor(1.0))
    scores = image[0, :1] * 0.5
    refined = pixel_adaptive_refinement(image, scores, iterations=5, dilations=(1, 2))
    assert refined[0, :, 4:].min() > 0.45 and refined[0, :, :4].max() < 0.05
    blurred = pixel_adaptive_refinement(torch.zeros_like(image), scores, iterations=5, dilations=(1, 2))
    assert 0.05 < blurred[0, :, 3].min() and blurred[0, :, 4].max() < 0.45


def test_colour_scale_does_not_matter():
    images, scores = rand(1, 3, 12, 12), rand(1, 12, 12, seed=1)
    torch.testing.assert_close(pixel_adaptive_refinement(images * 255, scores, iterations=3, dilations=(1, 2)),
                               pixel_adaptive_refinement(images, scores, iterations=3, dilations=(1, 2)),
                               atol=1e-4, rtol=1e-4)


def test_images_are_resized_to_the_scores():
    images, scores = rand(1, 3, 16, 16), rand(1, 9, 11, seed=1)
    resized = F.interpolate(images, (9, 11), mode='bilinear', align_corners=True)
    torch.testing.assert_close(pixel_adaptive_refinement(images, scores, iterations=2),
                               pixel_adaptive_refinement(resized, scores, iterations=2))


def test_no_maps_no_rounds_and_errors():
    images = rand(2, 3, 8, 8)
    assert pixel_adaptive_refinement(images, torch.zeros(0, 8, 8), torch.zeros(0, dtype=torch.long)).shape == (0, 8, 8)
    scores = rand(2, 8, 8)
    assert torch.equal(pixel_adaptive_refinement(images, scores, iterations=0), scores)
    with pytest.raises(ValueError, match='3 maps for 2 images'):
        pixel_adaptive_refinement(images, rand(3, 8, 8))
    with pytest.raises(ValueError, match=r'images in 0..1, got \[0, 2\]'):
        pixel_adaptive_refinement(images, scores, torch.tensor([0, 2]))
    with pytest.raises(ValueError, match='dilations >= 1'):
        pixel_adaptive_refinement(images, scores, dilations=(0,))
    with pytest.raises(ValueError, match='downscale'):
        Par(downscale=0)


@pytest.fixture()
def state():
    maps = ClassMaps(rand(2, 4, 4, seed=2), torch.tensor([0, 2]), torch.tensor([1, 0]))
    return SeedState(images=rand(3, 3, 16, 16), image_labels=torch.ones(3, 2, dtype=torch.bool),
                     maps=maps)


def test_step_refines_maps_and_background_together(state):
    after = Par(iterations=2, dilations=(1, 2), background_power=2)(state)
    scores = F.interpolate(state.maps.scores[:, None], (16, 16), mode='bilinear')[:, 0]
    background = torch.stack([(1 - scores[0]) ** 2, torch.ones(16, 16), (1 - scores[1]) ** 2])
    refined = pixel_adaptive_refinement(state.images, torch.cat([background, scores]), torch.tensor([0, 1, 2, 0, 2]),
                                        2, (1, 2))
    refined = refined / 1.01 ** 2  # back in [0, 1]
    torch.testing.assert_close(after.background, refined[:3])
    torch.testing.assert_close(after.maps.scores, refined[3:])
    assert after.history['par'] is after.maps


def test_the_step_can_be_told_to_use_the_plain_version(state, monkeypatch):
    told = []
    monkeypatch.setattr(par, 'pixel_adaptive_refinement', lambda *args: told.append(args[-1]) or args[1])
    Par(plain=True)(state)
    Par()(state)
    assert told == [True, False]


def test_step_keeps_a_background_made_earlier(state):
    state.background = torch.full((3, 4, 4), 0.25)
    after = Par(iterations=0)(state)
    torch.testing.assert_close(after.background, torch.full((3, 16, 16), 0.25))


def test_step_at_half_size_returns_full_size(state):
    after = Par(iterations=1, downscale=2)(state)
    assert after.maps.scores.shape == (2, 16, 16) and after.background.shape == (3, 16, 16)
    with pytest.raises(ValueError, match='GradCam'):
        SeedPipeline([Par()])(SeedState(state.images, state.image_labels))


def test_refined_scores_stay_in_their_range():
    maps = ClassMaps(torch.ones(1, 4, 4), torch.zeros(1).long(), torch.zeros(1).long())
    state = SeedState(torch.zeros(1, 3, 16, 16), torch.ones(1, 1, dtype=torch.bool), maps=maps)
    after = Par()(state)
    torch.testing.assert_close(after.maps.scores, torch.ones(1, 16, 16))
    assert PixelLabels(min_confidence=0.99)(after).pixel_labels.eq(1).all()
    assert float(PixelLabels()(after).confidence.max()) <= 1.0001
