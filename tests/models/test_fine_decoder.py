"""The decoder that answers in steps of a few pixels."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from weclip_sam.features import TokenFeatures
from weclip_sam.models import FineDecoder, WeClipDecoder
from weclip_sam.models.losses import segmentation_loss

SIZES = dict(encoder_width=6, encoder_layers=3, num_classes=2, dim=16, depth=1, heads=4)


def features(count=2, grid=(3, 4), patch=8, width=6, layers=3):
    tokens = torch.randn(layers, count, 1 + grid[0] * grid[1], width)
    image = torch.rand(count, 3, grid[0] * patch, grid[1] * patch) * 255
    return dict(clip=TokenFeatures(tokens, grid), image=image)


@pytest.mark.parametrize(('stride', 'patch', 'expected'), [(4, 8, (6, 8)), (2, 8, (12, 16)), (4, 14, (11, 14)),
                                                          (1, 8, (24, 32))])
def test_answers_come_in_steps_of_the_stride(stride, patch, expected):
    decoder = FineDecoder(**SIZES, stride=stride).eval()
    out = decoder(features(patch=patch))
    assert out.seg_logits.shape == (2, 3, *expected)
    assert out.affinity_logits.shape == (2, 12, 12)


def test_it_begins_with_the_coarse_answer():
    torch.manual_seed(0)
    fine = FineDecoder(**SIZES).eval()
    coarse = WeClipDecoder(**SIZES).eval()
    coarse.load_state_dict(fine.state_dict(), strict=False)
    seen = features()
    with torch.no_grad():
        expected = F.interpolate(coarse(seen).seg_logits, size=(6, 8), mode='bilinear')
        torch.testing.assert_close(fine(seen).seg_logits, expected)


def test_an_edge_inside_a_patch_is_learnt_from_the_image_alone():
    """All tokens are alike, so where the object ends can be read off the pixels alone."""
    torch.manual_seed(0)
    decoder = FineDecoder(**SIZES, dropout=0.0)
    seen = features(count=4)
    seen['clip'].tokens.zero_()
    labels = torch.zeros(4, 24, 32, dtype=torch.long)
    for index, edge in enumerate((4, 12, 20, 28)):  # in the middle of a patch
        labels[index, :, edge:] = 1
    seen['image'] = torch.where(labels[:, None] == 1, 200.0, 50.0).expand(-1, 3, -1, -1).contiguous()
    optimizer = torch.optim.AdamW(decoder.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        segmentation_loss(decoder(seen).seg_logits, labels).backward()
        optimizer.step()
    with torch.no_grad():
        logits = F.interpolate(decoder(seen).seg_logits, size=(24, 32), mode='bilinear')
    assert (logits.argmax(1) == labels).float().mean() > 0.97


def test_encoders_beside_clip_are_asked_for_and_heard():
    torch.manual_seed(0)
    decoder = FineDecoder(**SIZES, beside=dict(sam=[-1]), encoder_sizes=dict(sam=(5, 2))).eval()
    assert decoder.reads == {'clip', 'sam'}
    assert {name: sorted(wanted.tokens) for name, wanted in decoder.wants().items()} == {'clip': [0, 1], 'sam': [1]}
    seen = features() | dict(sam=features(grid=(6, 8), width=5, layers=2)['clip'])
    with torch.no_grad():
        before = decoder(seen)
        seen['sam'].tokens[1].mul_(3)
        after = decoder(seen)
    assert not torch.allclose(before.seg_logits, after.seg_logits)
    assert not torch.allclose(before.affinity_logits, after.affinity_logits)


@pytest.mark.parametrize(('wrong', 'message'), [
    (dict(stride=3), 'power of two'), (dict(beside=dict(sam=[-1])), "beside names .'sam'."),
    (dict(image_width=6), 'multiple of 4'), (dict(fine_depth=0), 'fine_depth')])
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        FineDecoder(**SIZES, **wrong)
