"""FMA-WSSS's losses: by hand, at their edges, and where the authors' code overflows."""
import pytest
import torch

from weclip_sam.models.fma_losses import cam_activation_loss, multi_label_contrastive_loss
from weclip_sam.structures import ClassMaps


def pairs(scores, sample=(0,), classes=(0,)):
    return ClassMaps(scores, torch.tensor(sample).long(), torch.tensor(classes).long())


def test_contrastive_loss_by_hand():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    labels = torch.tensor([[True, False, True, False]])
    negatives = logits[0, 1].exp() + logits[0, 3].exp()
    expected = -torch.stack([(p.exp() / (p.exp() + negatives)).log() for p in (logits[0, 0], logits[0, 2])]).mean()
    torch.testing.assert_close(multi_label_contrastive_loss(logits, labels), expected)


def test_contrastive_reductions_weigh_images_differently():
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[True, True, True, False], [False, True, False, False]])
    each = [multi_label_contrastive_loss(logits[i:i + 1], labels[i:i + 1]) for i in range(2)]
    torch.testing.assert_close(multi_label_contrastive_loss(logits, labels), (3 * each[0] + each[1]) / 4)
    by_image = multi_label_contrastive_loss(logits, labels, reduction='images')
    torch.testing.assert_close(by_image, (each[0] + each[1]) / 2)


def test_contrastive_loss_survives_large_logits_and_silent_images():
    logits = torch.tensor([[200.0, 100.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    labels = torch.tensor([[False, True], [True, True], [False, False]])
    loss = multi_label_contrastive_loss(logits, labels)
    assert loss.item() == pytest.approx(100)
    loss.backward()
    assert logits.grad.isfinite().all() and logits.grad[1:].abs().max() == 0


def test_activation_loss_by_hand():
    cam = torch.tensor([[[2.0, 1.0, -1.0], [3.0, -2.0, 0.5]]], requires_grad=True)
    labels = torch.tensor([[[1, 1, 0], [2, 2, 255]]])
    inside, outside = cam_activation_loss(pairs(cam), labels)
    # top inside is 2: lacks 0 and 1; outside are -1 -> 0, 3 -> 3 and -2 -> 0; the ignored pixel counts nowhere
    assert inside.item() == pytest.approx(1 / 5) and outside.item() == pytest.approx(3 / 5)
    (inside + outside).backward()
    assert torch.equal(cam.grad, torch.tensor([[[0, -1, 0], [1, 0, 0]]]) / 5)


def test_activation_loss_where_the_class_is_nowhere_or_negative():
    cam = torch.full((1, 2, 2), -1.0)
    nowhere = cam_activation_loss(pairs(cam + 3), torch.zeros(1, 2, 2).long())
    assert nowhere[0] == 0 and nowhere[1] == 2
    negative = cam_activation_loss(pairs(cam), torch.ones(1, 2, 2).long())
    assert negative[0] == 1 and negative[1] == 0      # the goal is never below zero


def test_activation_loss_without_maps_or_pixels_is_zero_and_differentiable():
    scores = torch.zeros(0, 2, 2, requires_grad=True)
    sum(cam_activation_loss(pairs(scores, (), ()), torch.zeros(1, 4, 4).long())).backward()
    assert scores.grad.shape == scores.shape
    for reduction in ('pixels', 'regions', 'regions_per_map'):
        losses = cam_activation_loss(pairs(torch.ones(1, 2, 2)), torch.full((1, 2, 2), 255), reduction=reduction)
        assert losses[0] == 0 and losses[1] == 0


def test_activation_loss_resizes_maps_to_the_labels():
    cam = torch.rand(1, 2, 3)
    labels = torch.randint(0, 2, (1, 8, 12))
    large = torch.nn.functional.interpolate(cam[None], size=(8, 12), mode='bilinear')[0]
    torch.testing.assert_close(cam_activation_loss(pairs(cam), labels), cam_activation_loss(pairs(large), labels))


def test_unknown_names_have_a_near_match():
    with pytest.raises(ValueError, match="Did you mean 'pixels'"):
        cam_activation_loss(pairs(torch.ones(1, 2, 2)), torch.zeros(1, 2, 2).long(), reduction='pixel')
    with pytest.raises(ValueError, match="Did you mean 'images'"):
        multi_label_contrastive_loss(torch.ones(1, 2), torch.ones(1, 2).bool(), reduction='image')
