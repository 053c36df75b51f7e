"""FMA-WSSS's affinity step: what flows, and what is refused."""
import pytest
import torch

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.affinity import mean_attention, transition_matrix
from weclip_sam.seeds.scores import min_max
from weclip_sam.structures import ClassMaps, ClipFeatures, SeedState


def state(grid=(4, 5)):
    generator = torch.Generator().manual_seed(0)
    count = grid[0] * grid[1] + 1
    attentions = torch.rand(9, 2, count, count, generator=generator).softmax(-1)
    maps = ClassMaps(torch.randn(3, *grid, generator=generator), torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]))
    return SeedState(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, dtype=torch.bool),
                     {'clip': ClipFeatures(attentions[..., :1], attentions, grid)}, maps=maps)


def test_without_boxes_it_is_a_matrix_product_of_signed_maps():
    before = state()
    after = SEED_STEPS.build(dict(type='FmaAffinity', spread='cam', use_boxes=False))(before)
    transition = transition_matrix(mean_attention(before.features['clip'].patch_attentions(), 8), 1, 2)
    for k, image in enumerate((0, 0, 1)):
        expected = transition[image] @ before.maps.scores[k].flatten()
        torch.testing.assert_close(after.maps.scores[k].flatten(), expected)
    assert (after.maps.scores < 0).any() and torch.equal(after.affinity, transition)


def test_scores_flow_out_of_boxes_only():
    before = state()
    scores = torch.zeros(3, 4, 5)
    scores[:, 1, 1] = 1.0
    lit = SEED_STEPS.build(dict(type='FmaAffinity'))
    before.maps = before.maps.with_scores(scores)
    after = lit(before)
    transition = after.affinity[[0, 0, 1]]
    torch.testing.assert_close(after.maps.scores.flatten(1), transition[:, :, 6] * min_max(scores).amax())


def test_no_power_changes_nothing_but_the_kind_of_map():
    before = state()
    signed = SEED_STEPS.build(dict(type='FmaAffinity', power=0, spread='cam'))(before)
    scores = SEED_STEPS.build(dict(type='FmaAffinity', power=0, spread='score'))(before)
    assert torch.equal(signed.maps.scores, before.maps.scores)
    assert torch.equal(scores.maps.scores, min_max(before.maps.scores))


def test_errors():
    with pytest.raises(ValueError, match="Did you mean 'score'"):
        SEED_STEPS.build(dict(type='FmaAffinity', spread='scores'))
    with pytest.raises(ValueError, match='outside'):
        SEED_STEPS.build(dict(type='FmaAffinity', outside='none'))
    with pytest.raises(ValueError, match='threshold'):
        SEED_STEPS.build(dict(type='FmaAffinity', threshold=40))
    upsampled = state()
    upsampled.maps = upsampled.maps.with_scores(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match='right behind GradCam'):
        SEED_STEPS.build(dict(type='FmaAffinity'))(upsampled)
