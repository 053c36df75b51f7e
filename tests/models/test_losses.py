import pytest
import torch
import torch.nn.functional as F

from weclip_sam.models.losses import (
    affinity_labels,
    affinity_loss,
    pixel_cross_entropy,
    radius_mask,
    segmentation_loss,
)


def logits_and_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=generator)
    labels = torch.randint(0, 4, (2, 6, 10), generator=generator)
    labels[0, :2] = 255
    labels[1, :, :3] = 0
    return logits.requires_grad_(), labels


def test_segmentation_loss_is_half_background_half_foreground():
    logits, labels = logits_and_labels()
    large = F.interpolate(logits, (6, 10), mode='bilinear').permute(0, 2, 3, 1)
    sides = [F.cross_entropy(large[chosen], labels[chosen]) for chosen in (labels == 0, (labels > 0) & (labels < 255))]
    torch.testing.assert_close(segmentation_loss(logits, labels), (sides[0] + sides[1]) / 2)


@pytest.mark.parametrize('label', [0, 2, 255])
def test_one_side_absent_is_not_nan(label):
    logits, labels = logits_and_labels()
    loss = segmentation_loss(logits, torch.full_like(labels, label))
    if label == 255:
        assert loss == 0
    else:
        large = F.interpolate(logits, (6, 10), mode='bilinear')
        torch.testing.assert_close(loss, F.cross_entropy(large, torch.full_like(labels, label)) / 2)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_affinity_labels_pair_by_pair():
    labels = torch.zeros(2, 12, 16, dtype=torch.long)
    labels[:, ::4, ::4] = torch.tensor([[[1, 1, 0, 2], [255, 2, 0, 1], [1, 1, 1, 1]]])
    labels[1, 0, 0] = 7
    result = affinity_labels(labels, (3, 4), radius=1)
    for sample in range(2):
        patches = labels[sample, ::4, ::4].flatten().tolist()
        for i, a in enumerate(patches):
            for j, b in enumerate(patches):
                near = abs(i // 4 - j // 4) <= 1 and abs(i % 4 - j % 4) <= 1
                expected = 255 if 255 in (a, b) or not near else int(a == b)
                assert result[sample, i, j] == expected
    everything = affinity_labels(labels, (3, 4), radius=None)
    assert (everything == 255).sum() == 2 * (2 * 12 - 1)
    assert radius_mask((3, 4), 5).all()


def test_affinity_loss_by_hand():
    affinity = torch.tensor([[[0.9, 0.2], [0.6, 0.4]]])
    labels = torch.tensor([[[1, 0], [0, 255]]])
    torch.testing.assert_close(affinity_loss(affinity, labels), torch.tensor(0.5 * (0.1 / 2) + 0.5 * (0.8 / 3)))
    assert affinity_loss(affinity, torch.full((1, 2, 2), 255)) == 0
    torch.testing.assert_close(affinity_loss(affinity, torch.zeros_like(labels)), torch.tensor(0.5 * 2.1 / 5))


def test_errors():
    with pytest.raises(ValueError, match='labels'):
        segmentation_loss(torch.zeros(2, 4, 3, 5), torch.zeros(1, 3, 5, dtype=torch.long))
    with pytest.raises(ValueError, match='labels'):
        affinity_loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


def test_half_precision_logits_are_enlarged_in_float32():
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(1, 5, 4, 4, generator=generator)).bfloat16()
    labels = torch.randint(0, 5, (1, 32, 32), generator=generator)
    for loss in (segmentation_loss, pixel_cross_entropy):
        assert loss(logits, labels) == loss(logits.float(), labels)
