import pytest
import torch

from weclip_sam.checks import select_layers
from weclip_sam.seeds.affinity import (
    AttentionAffinity,
    RfmAffinity,
    choose_attention,
    mean_attention,
    propagate,
    sinkhorn,
    transition_matrix,
)
from weclip_sam.seeds.boxes import above_threshold, box_masks
from weclip_sam.seeds.gradcam import stretch
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.structures import ClassMaps, ClipFeatures, SeedState


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture()
def state():
    attentions = rand(4, 2, 7, 7).softmax(-1)
    maps = ClassMaps(stretch(rand(3, 2, 3, seed=1), 2), torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]))
    return SeedState(images=torch.zeros(2, 3, 16, 24), image_labels=torch.ones(2, 3, dtype=torch.bool),
                     features={'clip': ClipFeatures(torch.zeros(4, 2, 7, 4), attentions, (2, 3))},
                     text_features=torch.zeros(3, 4), maps=maps)


def test_layers_by_count_or_by_index():
    attentions = rand(5, 2, 3, 3)
    torch.testing.assert_close(mean_attention(attentions, 2), attentions[3:].mean(0))
    torch.testing.assert_close(mean_attention(attentions, 99), attentions.mean(0))
    torch.testing.assert_close(mean_attention(attentions, [0, -1]), attentions[[0, 4]].mean(0))
    for wrong in (0, [], [5], [0, -5], [1, 1]):
        with pytest.raises(ValueError, match='attention layers'):
            mean_attention(attentions, wrong)
    assert select_layers([3, 1], 4) == [3, 1]


def test_sinkhorn_divides_columns_first_and_batches():
    matrix = torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    by_hand = torch.tensor([[0.5, 0.75], [0.5, 0.25]])
    by_hand = by_hand / by_hand.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn(matrix, 1), by_hand)
    batch = rand(3, 6, 6)
    torch.testing.assert_close(sinkhorn(batch)[1], sinkhorn(batch[1]))
    torch.testing.assert_close(sinkhorn(batch, 200).sum(-2), torch.ones(3, 6))


def test_transition_is_symmetrised_and_powered():
    batch = rand(2, 5, 5)
    balanced = sinkhorn(batch, 3)
    balanced = (balanced + balanced.transpose(1, 2)) / 2
    torch.testing.assert_close(transition_matrix(batch), balanced @ balanced)
    torch.testing.assert_close(transition_matrix(batch, power=1), balanced)
    with pytest.raises(ValueError, match='rounds >= 0'):
        transition_matrix(batch, rounds=-1)


@pytest.mark.parametrize('inside, outside', [('inside', 'inside'), ('inside', 'outside'), ('all', 'inside'),
                                             ('outside', 'all')])
def test_propagate_equals_an_explicit_mask(inside, outside):
    transition, maps, boxes = rand(2, 6, 6), rand(3, 2, 3, seed=1) - 0.5, rand(3, 2, 3, seed=2) > 0.5
    index = torch.tensor([0, 1, 1])
    result = propagate(transition, maps, index, boxes, inside, outside)
    for k in range(3):
        columns = {'inside': boxes[k].flatten(), 'outside': ~boxes[k].flatten(), 'all': torch.ones(6, dtype=torch.bool)}
        mask = torch.where(boxes[k].flatten()[:, None], columns[inside][None], columns[outside][None])
        torch.testing.assert_close(result[k].flatten(), (transition[index[k]] * mask) @ maps[k].flatten())


def test_propagate_without_boxes_and_errors():
    transition, maps = rand(1, 6, 6), rand(2, 2, 3)
    index = torch.zeros(2, dtype=torch.long)
    torch.testing.assert_close(propagate(transition, maps, index)[1].flatten(), transition[0] @ maps[1].flatten())
    with pytest.raises(ValueError, match="Did you mean 'inside'"):
        propagate(transition, maps, index, maps > 0, inside='insied')


def test_published_choice_only_sees_the_class_token_and_the_other_compares():
    base = rand(3, 1, 5, 5).softmax(-1)
    seg = base[1] * 0.2  # the decoder agrees with block 1, at another scale of rows
    attentions = base * torch.tensor([0.9, 0.5, 0.3]).view(3, 1, 1, 1)  # block 0 keeps most mass on patches
    _, kept = choose_attention(attentions, seg)
    _, kept_for_another = choose_attention(attentions, rand(1, 5, 5, seed=9))
    assert kept[:, 0].tolist() == kept_for_another[:, 0].tolist() == [True, False, False]
    attention, kept = choose_attention(attentions, seg, 'row_normalised')
    assert kept[1, 0] and not kept.all()
    expected = attentions[kept[:, 0], 0].sum(0) / (kept.sum() + 1e-5) * seg[0]
    torch.testing.assert_close(attention[0], expected)
    with pytest.raises(ValueError, match="Did you mean 'published'"):
        choose_attention(attentions, seg, 'publishd')


def test_some_block_is_always_kept():
    same = rand(1, 1, 5, 5).softmax(-1).expand(6, 3, 5, 5)
    attention, kept = choose_attention(same, rand(3, 5, 5))
    assert kept.any(0).all() and attention.isfinite().all() and (attention.sum((1, 2)) > 0).all()


def test_caa_step(state):
    after = AttentionAffinity(layers=2, threshold=0.4)(state)
    transition = transition_matrix(state.features['clip'].attentions[2:, :, 1:, 1:].mean(0))
    expected = propagate(transition, state.maps.scores, state.maps.sample_index, box_masks(state.maps.scores, 0.4))
    torch.testing.assert_close(after.maps.scores, stretch(expected))
    torch.testing.assert_close(after.affinity, transition)
    assert after.history['affinity'] is after.maps and state.history == {}


def test_rfm_step_switches_with_the_curriculum(state):
    step = RfmAffinity(layers=[0, 1], warmup_layers=2)
    warm = step(state)
    torch.testing.assert_close(warm.maps.scores, AttentionAffinity(layers=2)(state).maps.scores)
    state.seg_affinity = rand(2, 6, 6, seed=4)
    torch.testing.assert_close(step(state).maps.scores, warm.maps.scores)  # not allowed yet
    state.decoder_heard = True
    attention, _ = choose_attention(state.features['clip'].attentions[:2, :, 1:, 1:], state.seg_affinity)
    torch.testing.assert_close(step(state).affinity, transition_matrix(attention))


def test_steps_reject_what_they_cannot_use(state):
    with pytest.raises(ValueError, match='threshold'):
        AttentionAffinity(threshold=40)
    with pytest.raises(ValueError, match='selection'):
        RfmAffinity(selection='best')
    state.maps = state.maps.with_scores(torch.zeros(3, 16, 24))
    with pytest.raises(ValueError, match='before steps that upsample'):
        AttentionAffinity()(state)
    state.maps = None
    with pytest.raises(ValueError, match='GradCam'):
        SeedPipeline([RfmAffinity()])(state)


def test_sinkhorn_keeps_empty_rows_and_columns_empty():
    attention = rand(5, 5, seed=1)
    attention[:, 2] = attention[2] = 0
    balanced = sinkhorn(attention)
    assert torch.isfinite(balanced).all() and not balanced[2].any() and not balanced[:, 2].any()
    keep = [0, 1, 3, 4]
    torch.testing.assert_close(balanced[keep][:, keep], sinkhorn(attention[keep][:, keep]))


@pytest.mark.parametrize('grid', [(1, 6), (6, 1)])
def test_a_grid_one_patch_high_or_wide_spreads_somewhere(grid):
    maps = torch.zeros(1, *grid)
    maps.flatten()[1:4] = 1
    assert box_masks(maps).flatten().tolist() == [False, True, True, True, False, False]


def test_scores_outside_their_range_are_cut_before_they_become_bytes():
    maps = torch.tensor([[[-0.5, 0.2, 1.0], [1.3, 0.9, -2.0], [0.0, 0.0, 0.0]]])
    assert torch.equal(above_threshold(maps, 0.4), maps > 0.4)
