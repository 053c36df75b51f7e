"""Masks as bits: packed, unpacked and turned as their pixels are, on the CPU and elsewhere."""
import numpy as np
import pytest
import torch

from weclip_sam import bits
from weclip_sam.structures import MaskSet

SIZES = [(1, 1), (5, 7), (8, 8), (17, 33), (64, 40)]


@pytest.fixture(params=SIZES)
def masks(request):
    return torch.rand(3, *request.param, generator=torch.Generator().manual_seed(0)) > 0.5


def mask_set(masks):
    count = len(masks)
    return MaskSet(masks, torch.arange(count) % 3, torch.rand(count), torch.rand(count), torch.zeros(count).long())


class Elsewhere:
    """Makes a function take the way of other devices than the CPU."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(torch.Tensor, 'device', property(lambda tensor: torch.device('meta')))
        arange = torch.arange
        monkeypatch.setattr(torch, 'arange', lambda *args, device=None, **kwargs: arange(*args, **kwargs))


def test_bits_hold_the_masks(masks, monkeypatch):
    packed = bits.pack_bits(masks)
    assert packed.dtype == torch.uint8 and packed.shape == (3, masks.shape[1], -(-masks.shape[2] // 8))
    assert torch.equal(bits.unpack_bits(packed, masks.shape[2]), masks)
    assert packed[0, 0, 0] & 1 == masks[0, 0, 0], 'the lowest bit is the first column'
    assert bits.pack_bits(masks[:0]).shape == (0, *packed.shape[1:])  # no mask at all
    with monkeypatch.context() as patch:
        Elsewhere(patch)
        again, unpacked = bits.pack_bits(masks), bits.unpack_bits(packed, masks.shape[2])
    assert torch.equal(again, packed) and torch.equal(unpacked, masks)


def test_bits_are_turned(masks):
    turned = bits.transpose_bits(bits.pack_bits(masks).numpy(), masks.shape[2])
    assert np.array_equal(turned, bits.pack_bits(masks.transpose(1, 2)).numpy())
    assert np.array_equal(bits.transpose_bits(turned, masks.shape[1]), bits.pack_bits(masks).numpy())


def test_no_masks_at_all():
    none = torch.zeros(0, 5, 9, dtype=torch.bool)
    packed = bits.pack_bits(none)
    assert packed.shape == (0, 5, 2) and bits.unpack_bits(packed, 9).shape == none.shape
    assert bits.transpose_bits(packed.numpy(), 9).shape == (0, 9, 1)


def test_a_packed_set_is_the_same_set(masks):
    plain = mask_set(masks)
    packed = plain.packed()
    assert packed.packed() is packed and packed.held.dtype == torch.uint8 and packed.size == plain.size
    assert torch.equal(packed.masks, masks) and packed.masks.dtype == torch.bool and len(packed) == 3
    assert torch.equal(packed.area, plain.area) and plain.area.tolist() == masks.flatten(1).sum(1).tolist()
    kept = torch.tensor([True, False, True])
    larger = (masks.shape[1] + 2, masks.shape[2] + 9)
    for change in (lambda s: s.select(torch.tensor([2, 0])), lambda s: s.select(kept), lambda s: s.emptied(kept),
                   lambda s: s.padded(larger), lambda s: s.to('cpu'), lambda s: s.with_masks(~masks),
                   lambda s: MaskSet.stack([s, s, plain])):
        one, other = change(plain), change(packed)
        assert torch.equal(one.masks, other.masks) and torch.equal(one.level, other.level)
    assert torch.equal(packed.bits(1, 3), plain.bits()[:, 1:3]) and torch.equal(packed.bits(), plain.bits())
    assert not plain.emptied(kept).masks[1].any() and plain.padded(plain.size) is plain
    assert not packed.padded(larger).masks[:, masks.shape[1]:].any()
    for sets in (plain, packed):
        with pytest.raises(ValueError, match='which the image .* does not hold: they are of another image'):
            sets.padded((masks.shape[1] + 2, masks.shape[2] - 1))


def test_a_stacked_set_knows_how_many_masks_each_image_has():
    sets = [mask_set(torch.ones(count, 2, 3, dtype=torch.bool)) for count in (2, 0, 1)]
    stacked = MaskSet.stack(sets)
    assert stacked.counts == (2, 0, 1) and stacked.sample_index.tolist() == [0, 0, 2]
    assert stacked.packed().to('cpu').emptied(torch.ones(3, dtype=torch.bool)).counts == (2, 0, 1)
    assert stacked.select(torch.tensor([0])).counts is None
