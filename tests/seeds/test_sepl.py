"""SEPL's closed form against the sequence it stands for, and its edges."""
import pytest
import torch

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds import mask_blocks, sepl
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.structures import MaskSet, SeedState


def by_sequence(labels, masks, num_classes, rule):
    """The method as written down: classes in turn, each takes what is left."""
    taken_before, result = set(), torch.zeros_like(labels)
    for name in range(1, num_classes + 1):
        region = labels == name
        if not region.any():
            continue
        left = [i for i in range(len(masks)) if i not in taken_before]
        mine = [i for i in left if 2 * (masks[i] & region).sum() > masks[i].sum()
                or rule == 'max_iou_imp2' and (masks[i] & region).sum().item() / region.sum().item() >= 0.85]
        new = torch.zeros_like(region)
        for i in mine:
            new |= masks[i]
        if rule != 'max_iou':
            new |= region & ~masks[left].any(0)
        taken_before |= set(mine)
        result[new] = name
    return result


def random_case(seed, size=(8, 10), classes=4, count=12):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes + 1, size, generator=generator)
    labels[:3, :5], labels[5:, 6:] = 1, 3
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        y, x = (int(torch.randint(0, n, (), generator=generator)) for n in size)
        high, wide = (int(torch.randint(1, n, (), generator=generator)) for n in size)
        mask[y:y + high, x:x + wide] = True
    return labels, masks


def mask_set(masks):
    return MaskSet(masks, *(torch.zeros(len(masks)).to(t) for t in (torch.long, torch.float, torch.float, torch.long)))


def merge(labels, masks, *settings):
    """One image's labels."""
    return sepl.sepl_merge_batch(labels[None], mask_set(masks), *settings)[0]


@pytest.mark.parametrize('rule', sepl.RULES)
def test_closed_form_equals_the_sequence(rule):
    changed = 0
    for seed in range(40):
        labels, masks = random_case(seed)
        expected = by_sequence(labels, masks, 4, rule)
        assert torch.equal(merge(labels, masks, 4, rule), expected)
        changed += not torch.equal(labels, expected)
    assert changed > 20


@pytest.mark.parametrize('rule', sepl.RULES)
def test_order_of_masks_does_not_matter(rule):
    labels, masks = random_case(3)
    assert torch.equal(merge(labels, masks, 4, rule), merge(labels, masks.flip(0), 4, rule))


def test_a_batch_equals_its_images(monkeypatch):
    monkeypatch.setattr(mask_blocks, 'BLOCK_ENTRIES', 200)
    cases = [random_case(seed, count=count) for seed, count in ((0, 7), (1, 0), (2, 12))]
    batch = sepl.sepl_merge_batch(torch.stack([label for label, _ in cases]),
                                  MaskSet.stack([mask_set(m) for _, m in cases]), 4)
    assert torch.equal(batch, torch.stack([merge(label, m, 4) for label, m in cases]))


def test_half_is_not_enough_but_85_percent_of_the_region_is():
    labels = torch.zeros(1, 20, dtype=torch.long)
    labels[0, :4] = 1
    masks = torch.zeros(1, 1, 20, dtype=torch.bool)
    masks[0, 0, :8] = True       # |S & R| / |S| = 1/2 exactly, |S & R| / |R| = 1
    assert merge(labels, masks, 1, 'max_iou').sum() == 0
    assert merge(labels, masks, 1, 'max_iou_imp').sum() == 0
    assert torch.equal(merge(labels, masks, 1), masks[0].long())


def test_without_masks_only_the_first_rule_loses_the_labels():
    labels, _ = random_case(0)
    nothing = torch.zeros(0, 8, 10, dtype=torch.bool)
    assert not merge(labels, nothing, 4, 'max_iou').any()
    assert torch.equal(merge(labels, nothing, 4), labels)


def test_ignored_and_unknown_labels_become_background():
    labels = torch.tensor([[255, 9, 1, -1]])
    nothing = torch.zeros(0, 1, 4, dtype=torch.bool)
    assert merge(labels, nothing, 4).tolist() == [[0, 0, 1, 0]]
    assert merge(labels.to(torch.uint8)[:, :3], nothing[..., :3], 4).tolist() == [[0, 0, 1]]


def test_empty_masks_win_nothing():
    labels, masks = random_case(4)
    empty = torch.zeros(2, 8, 10, dtype=torch.bool)
    assert torch.equal(merge(labels, torch.cat([empty, masks]), 4), merge(labels, masks, 4))


def test_step_merges_and_forgets_the_confidence():
    labels, masks = random_case(5)
    flat = mask_set(masks)
    step = SEED_STEPS.build(dict(type='SeplMerge', rule='max_iou_imp'))
    state = SeedState(torch.zeros(1, 3, 8, 10), torch.zeros(1, 4, dtype=torch.bool), masks=flat,
                      pixel_labels=labels[None], confidence=torch.ones(1, 8, 10))
    after = step(state)
    assert torch.equal(after.pixel_labels[0], merge(labels, masks, 4, 'max_iou_imp'))
    assert after.confidence is None and state.confidence is not None
    with pytest.raises(ValueError, match='PixelLabels'):
        SeedPipeline([step])(SeedState(torch.zeros(1, 3, 8, 10), torch.zeros(1, 4), masks=flat))


def test_errors_name_the_rule_and_the_sizes():
    labels, masks = random_case(6)
    with pytest.raises(ValueError, match="Did you mean 'max_iou_imp2'"):
        sepl.SeplMerge(rule='maxiou_imp2')
    with pytest.raises(ValueError, match=r'\(8, 10\)'):
        merge(labels[:5], masks, 4)
