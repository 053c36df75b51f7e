"""Normalisation, background scores and the softmax over present classes."""
import pytest
import torch

from weclip_sam.seeds import scores


def test_min_max_clips_and_stretches_every_map():
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 4.0]], [[2.0, 2.0], [2.0, 2.0]]])
    torch.testing.assert_close(scores.min_max(maps)[0], torch.tensor([[0.0, 0.0], [0.25, 1.0]]))
    assert not scores.min_max(maps)[1].any()
    assert scores.min_max(maps[:0]).shape == (0, 2, 2)


def test_order_of_resizing_and_normalising_matters():
    maps = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    first, last = scores.min_max(scores.resize_maps(maps, (9, 11))), scores.resize_maps(scores.min_max(maps), (9, 11))
    assert first.shape == last.shape == (2, 9, 11) and not torch.allclose(first, last)


def test_resize_keeps_what_fits_and_copes_with_nothing():
    maps = torch.rand(2, 4, 5)
    assert scores.resize_maps(maps, (4, 5)) is maps
    assert scores.resize_maps(maps[:0], (8, 8)).shape == (0, 8, 8)


def test_background_score():
    best = torch.tensor([0.0, 0.75, 1.0, 3.0])
    torch.testing.assert_close(scores.background_score(best, 'power', 0.5), torch.tensor([1.0, 0.5, 0.0, 0.0]))
    assert scores.background_score(best, 'threshold', 0.3).tolist() == pytest.approx([0.3] * 4)
    with pytest.raises(ValueError, match="Did you mean 'threshold'"):
        scores.background_score(best, 'treshold')
    with pytest.raises(ValueError, match='power'):
        scores.background_score(best, 'power', 0)


def test_with_background():
    maps = torch.rand(2, 3, 4)
    stacked = scores.with_background(maps, 'power', 2.0)
    torch.testing.assert_close(stacked[0], (1 - maps.amax(0)) ** 2)
    assert torch.equal(stacked[1:], maps)
    assert (scores.with_background(maps[:0]) == 1).all()
    assert (scores.with_background(maps, 'threshold', 0.3)[0] == 0.3).all()
    with pytest.raises(ValueError, match="Did you mean 'power'"):
        scores.with_background(maps, 'pover')


def test_masked_softmax_forgets_the_forbidden():
    logits = torch.tensor([[1.0, 2.0, 500.0]], requires_grad=True)
    allowed = torch.tensor([[True, True, False]])
    exact = scores.masked_softmax(logits, allowed)
    torch.testing.assert_close(exact[:, :2], logits[:, :2].softmax(1))
    exact[0, 0].backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 2] == 0
    assert not scores.masked_softmax(logits, torch.zeros_like(allowed)).any()


def test_the_published_softmax_collapses_behind_an_absent_class():
    allowed = torch.tensor([[True, True, False]])
    calm, led = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, 2.0, 20.0]])
    assert scores.masked_softmax(calm, allowed, 'fma').sum().item() == pytest.approx(1, abs=1e-4)
    assert scores.masked_softmax(led, allowed, 'fma').sum() < 0.01
    assert scores.masked_softmax(led, allowed).sum().item() == pytest.approx(1)
    assert torch.equal(scores.masked_softmax(led, None, 'fma'), led.softmax(1))
    with pytest.raises(ValueError, match="'exact'"):
        scores.masked_softmax(led, allowed, 'exactly')
