"""Sums, counts and paintings over masks: by runs on the CPU, by pixels elsewhere, and by the definition."""
import dataclasses

import pytest
import torch

from weclip_sam.seeds import mask_blocks, sams
from weclip_sam.structures import ClassMaps, MaskSet

COUNTS, PAIRS = (4, 0, 7, 1), (0, 0, 2, 2, 3)


def smooth(count, height, width, generator):
    """Masks that a few borders bound, as SAM's are."""
    coarse = torch.rand(count, 1, 3, 3, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode='bilinear')[:, 0] > 0.5


@pytest.fixture(params=[(9, 11), (16, 24), (13, 8)])
def batch(request):
    generator = torch.Generator().manual_seed(3)
    sets = [MaskSet(smooth(n, *request.param, generator), torch.randint(0, 3, (n,), generator=generator),
                    torch.ones(n), torch.ones(n), torch.zeros(n).long()) for n in COUNTS]
    pairs = torch.tensor(PAIRS)
    maps = ClassMaps(torch.randn(len(pairs), *request.param, generator=generator), pairs, torch.arange(len(pairs)))
    padding = torch.zeros(len(COUNTS), *request.param, dtype=torch.bool)
    padding[:, -3:], padding[2, :, :2] = True, True
    return maps, MaskSet.stack(sets), padding


def on_device(masks, batch_size, padding, known=True):
    """The groups that another device than the CPU has."""
    if not known:
        masks = dataclasses.replace(masks)
    elsewhere = masks.to('meta')
    group, = mask_blocks.groups(elsewhere, batch_size, padding)
    if known:
        numbers = torch.tensor([[0, 1, 2, 3, 12, 12, 12], [12] * 7, [4, 5, 6, 7, 8, 9, 10], [11, *[12] * 6]])
    else:
        numbers = torch.where(masks.sample_index == torch.arange(batch_size)[:, None], torch.arange(12), 12)
    assert group.place.shape == numbers.shape and group.place.device.type == 'meta'
    group = mask_blocks.Group(slice(0, batch_size), numbers, masks, padding)
    group._runs = group._pixels
    group.pairs = lambda maps: slice(0, len(maps.sample_index))
    return [group]


def everything(maps, masks, images, batch_size):
    means, areas, rest = mask_blocks.mask_means(maps, images)
    top = mask_blocks.highest(images, torch.arange(5, 17), torch.zeros(batch_size, *masks.size, dtype=torch.int32))
    own = maps.sample_index[:, None] == masks.sample_index
    return torch.where(own, means, 0), areas, rest, top


def by_definition(maps, masks, padding, batch_size):
    own = maps.sample_index[:, None] == masks.sample_index
    means = torch.stack([torch.stack([scores[mask].mean() for mask in masks.masks]) for scores in maps.scores])
    top = torch.zeros(batch_size, *masks.size, dtype=torch.int32)
    for number, (image, mask) in enumerate(zip(masks.sample_index, masks.masks, strict=True)):
        top[image][mask] = 5 + number
    bare = (top == 0) & ~padding
    rest = torch.stack([scores.clamp(min=0)[bare[i]].mean() for scores, i in zip(maps.scores, maps.sample_index,
                                                                                strict=True)])
    return torch.where(own, means.nan_to_num(), 0), masks.area, rest, top


@pytest.mark.parametrize('way', ['runs', 'bits', 'blocks', 'pixels', 'bits as pixels', 'strangers'])
def test_every_way_is_what_the_definition_says(way, batch, monkeypatch):
    maps, masks, padding = batch
    expected = by_definition(maps, masks, padding, 4)
    held = masks.packed() if way.startswith('bits') else masks
    if way == 'blocks':
        monkeypatch.setattr(mask_blocks, 'BLOCK_BYTES', 9)
    images = mask_blocks.groups(held, 4, padding) if way in ('runs', 'bits', 'blocks') else \
        on_device(held, 4, padding, known=way != 'strangers')
    for found, right in zip(everything(maps, masks, images, 4), expected, strict=True):
        assert torch.allclose(found, right, atol=1e-6, equal_nan=True) and found.dtype == right.dtype


def test_runs_are_fewer_than_pixels_and_noise_is_taken_as_it_is(batch):
    _, masks, _ = batch
    for group in mask_blocks.groups(masks, 4):
        (_, columns), = group.blocks()
        assert columns.starts is None or len(columns.starts) < masks.size[0] * masks.size[1] // 2
        (_, again), = group.blocks()
        assert again is columns, 'a small image is looked at once'
    noise = MaskSet(torch.rand(5, 9, 11) > 0.5, *torch.zeros(4, 5))
    group, = mask_blocks.groups(dataclasses.replace(noise, sample_index=torch.zeros(5).long()), 1)
    (_, columns), = group.blocks()
    assert columns.starts is None and torch.equal(columns.inside[0].bool().view(5, 9, 11), noise.masks)


def test_shared_areas_and_thinning_do_not_depend_on_the_way(batch, monkeypatch):
    _, masks, _ = batch
    expected = sams.thin_masks(masks)
    flat = masks.masks.flatten(1).float()
    shared = torch.block_diag(*(mask_blocks.shared_areas(group)[0] for group in mask_blocks.groups(masks)))
    same = masks.sample_index == masks.sample_index[:, None]
    assert torch.equal(shared, torch.where(same, flat @ flat.T, 0).double())
    for known in (True, False):
        monkeypatch.setattr(sams, 'groups', lambda masks, known=known: on_device(masks, 4, None, known))
        assert torch.equal(sams.thin_masks(masks), expected)
    assert expected.any() and not expected.all()


def test_one_mask_found_twice_has_one_score():
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(37, 33, 29, generator=generator) > 0.5
    masks[[5, 20, 36]] = masks[0].clone()
    maps = ClassMaps(torch.rand(3, 33, 29, generator=generator), torch.zeros(3).long(), torch.arange(3))
    flat = MaskSet(masks, *torch.zeros(3, 37), torch.zeros(37).long())
    means = mask_blocks.mask_means(maps, mask_blocks.groups(flat, 1)).means
    assert (means[:, [5, 20, 36]] == means[:, :1]).all()
