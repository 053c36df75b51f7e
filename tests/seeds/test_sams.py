"""SAM-guided seeds: scores, votes, painting, batches, and the cases photographs really bring."""
import dataclasses

import pytest
import torch

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds import SamVote, mask_blocks, sams
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import ClassMaps, MaskSet, SeedState


def mask_set(masks, level=None, sample_index=None):
    count = masks.shape[0]
    level = torch.zeros(count).long() if level is None else torch.as_tensor(level).long()
    sample_index = torch.zeros(count).long() if sample_index is None else torch.as_tensor(sample_index).long()
    return MaskSet(masks, level, torch.ones(count), torch.ones(count), sample_index)


def state(maps, masks, batch_size=1, **fields):
    images = torch.zeros(batch_size, 3, *masks.size)
    labels = torch.zeros(batch_size, 5, dtype=torch.bool)
    return SeedState(images, labels, masks=masks, maps=maps, **fields)


def random_batch(counts=(4, 0, 7, 1), classes=((0, 3), (1,), (), (2, 3)), size=(9, 11), seed=0):
    generator = torch.Generator().manual_seed(seed)
    sets = [dataclasses.replace(mask_set(torch.rand(n, *size, generator=generator) > 0.6),
                                level=torch.randint(0, 3, (n,), generator=generator)) for n in counts]
    sample = torch.tensor([i for i, names in enumerate(classes) for _ in names]).long()
    names = torch.tensor([c for group in classes for c in group]).long()
    maps = ClassMaps(torch.randn(len(names), 3, 4, generator=generator), sample, names)
    return maps, sets


def paint_by_hand(masks, labels, order):
    """The definition: later masks overwrite earlier ones."""
    canvas = torch.zeros(masks.shape[1:], dtype=torch.long)
    for position in order.tolist():
        canvas[masks[position]] = labels[position]
    return canvas


def test_blocks_of_rows_and_masks_held_as_bits_change_nothing(monkeypatch):
    maps, sets = random_batch()
    whole = sams.sam_vote(maps, MaskSet.stack(sets), 4, extent='image')
    assert all(torch.equal(a, b) for a, b in zip(
        whole[:3], sams.sam_vote(maps, MaskSet.stack(sets).packed(), 4, extent='image')[:3], strict=True))
    monkeypatch.setattr(mask_blocks, 'PIXEL_BLOCK', 25)
    parts = sams.sam_vote(maps, MaskSet.stack(sets), 4, extent='image')
    assert all(torch.equal(a, b) for a, b in zip(whole[:3], parts[:3], strict=True))


def test_the_winner_takes_the_whole_mask():
    left, right = torch.zeros(2, 4, 6, dtype=torch.bool)
    left[:, :3], right[:, 3:] = True, True
    scores = torch.zeros(2, 4, 6)
    scores[0, :, :3] = torch.linspace(0.1, 1, 4)[:, None]  # class 1 fills the left half unevenly
    scores[1, 0, 4] = 0.9                                 # class 4 has one hot pixel on the right
    maps = ClassMaps(scores, torch.tensor([0, 0]), torch.tensor([1, 4]))
    labels, confidence, covered, votes, _ = sams.sam_vote(maps, mask_set(torch.stack([left, right])), 1)
    assert votes.labels.tolist() == [2, 5]
    assert (labels[0, :, :3] == 2).all() and (labels[0, :, 3:] == 5).all()
    assert covered.all() and (confidence > 0.99).all()


def test_higher_level_then_higher_confidence_is_painted_last():
    masks = torch.zeros(3, 1, 4, dtype=torch.bool)
    masks[0, 0, :2], masks[1, 0, 1:3], masks[2, 0, 2:] = True, True, True
    scores = torch.tensor([[[1.0, 0.9, 0.0, 0.0]], [[0.0, 0.2, 0.6, 0.8]]])
    maps = ClassMaps(scores, torch.tensor([0, 0]), torch.tensor([0, 1]))
    sure = sams.sam_vote(maps, mask_set(masks), 1, background='threshold', background_value=0.0)
    assert sure[3].labels.tolist() == [1, 2, 2]
    assert sure[0][0, 0].tolist() == [1, 1, 2, 2]     # mask 0 is surer than mask 1
    whole = sams.sam_vote(maps, mask_set(masks, level=[0, 2, 0]), 1, background='threshold', background_value=0.0)
    assert whole[0][0, 0].tolist() == [1, 2, 2, 2]    # as a whole, mask 1 comes on top
    assert whole[4].tolist()[-1] == 1


@pytest.mark.parametrize('priority, expected', [
    (('level_bigger',), [1, 3, 0, 2]), (('level_smaller',), [0, 2, 1, 3]),
    (('area_bigger',), [2, 1, 3, 0]), (('area_smaller',), [0, 3, 1, 2]),
    (('confidence_bigger',), [3, 0, 1, 2]), (('confidence_smaller',), [1, 2, 0, 3]),
    (('level_bigger', 'confidence_bigger'), [3, 1, 0, 2]), (('level_smaller', 'area_bigger'), [2, 0, 1, 3])])
def test_painting_order_is_stable_and_lexicographic(priority, expected):
    order = sams.painting_order(priority, level=torch.tensor([2, 0, 2, 0]), area=torch.tensor([9, 4, 2, 5]),
                                confidence=torch.tensor([0.6, 0.7, 0.7, 0.5]))
    assert order.tolist() == expected


@pytest.mark.parametrize('normalisation', sams.NORMALISATIONS)
def test_a_batch_equals_its_images(normalisation):
    maps, sets = random_batch()
    options = dict(normalisation=normalisation, gamma=2.0)
    batch = sams.sam_vote(maps, MaskSet.stack(sets), len(sets), **options)
    for i, masks in enumerate(sets):
        mine = maps.sample_index == i
        alone = ClassMaps(maps.scores[mine], torch.zeros(int(mine.sum())).long(), maps.class_index[mine])
        one = sams.sam_vote(alone, masks, 1, **options)
        assert torch.equal(batch[0][i], one[0][0]) and torch.equal(batch[2][i], one[2][0])
        assert torch.allclose(batch[1][i], one[1][0], atol=1e-6)
        assert torch.equal(one[0][0], paint_by_hand(masks.masks, one[3].labels, one[4]))


def test_no_masks_at_all_and_no_classes_at_all():
    maps, _ = random_batch()
    nothing = MaskSet.empty(9, 11)
    labels, confidence, covered, votes, order = sams.sam_vote(maps, nothing, 4)
    assert not labels.any() and not covered.any() and not confidence.any() and len(votes.labels) == len(order) == 0
    no_pairs = ClassMaps(torch.zeros(0, 3, 4), torch.zeros(0).long(), torch.zeros(0).long())
    masks = torch.ones(2, 9, 11, dtype=torch.bool)
    labels, confidence, covered, votes, _ = sams.sam_vote(no_pairs, mask_set(masks), 1)
    assert not labels.any() and covered.all() and (confidence == 1).all() and not votes.labels.any()
    assert sams.sam_vote(no_pairs, nothing, 2)[0].shape == (2, 9, 11)


def test_masks_that_a_crop_emptied_do_not_disturb_the_others():
    maps, sets = random_batch(counts=(5,), classes=((0, 3),))
    masks = sets[0]
    emptied = MaskSet.stack([masks.with_masks(masks.masks)])
    more = mask_set(torch.cat([torch.zeros(2, 9, 11, dtype=torch.bool), emptied.masks]),
                    level=torch.cat([torch.tensor([2, 2]), emptied.level]))
    a, b = sams.sam_vote(maps, masks, 1), sams.sam_vote(maps, more, 1)
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert b[3].labels[:2].tolist() == [0, 0] and b[3].confidence.isfinite().all()


def test_ties_go_to_the_background_then_to_the_lower_class():
    masks = mask_set(torch.ones(1, 2, 2, dtype=torch.bool))
    maps = ClassMaps(torch.full((2, 2, 2), 0.5), torch.tensor([0, 0]), torch.tensor([2, 3]))
    options = dict(normalisation='none', background='threshold')
    assert sams.sam_vote(maps, masks, 1, background_value=0.5, **options)[0].unique().tolist() == [0]
    assert sams.sam_vote(maps, masks, 1, background_value=0.4, **options)[0].unique().tolist() == [3]


def test_unnormalised_scores_above_one_give_no_nan():
    maps = ClassMaps(torch.full((1, 2, 2), 7.0), torch.tensor([0]), torch.tensor([1]))
    labels, confidence, *_ = sams.sam_vote(maps, mask_set(torch.ones(1, 2, 2, dtype=torch.bool)), 1,
                                           normalisation='none', background_value=0.6)
    assert (labels == 2).all() and (confidence == 7).all()


@pytest.mark.parametrize('threshold, kept', [(0.3, [0, 3]), (0.6, [0, 1, 3, 4]), (0.0, [0])])
def test_rock_sand_water(threshold, kept):
    masks = torch.zeros(5, 1, 12, dtype=torch.bool)
    masks[0, 0, :6] = True     # whole
    masks[1, 0, 4:8] = True    # part, half covered by the whole
    masks[2, 0, :3] = True     # part inside the whole
    masks[3, 0, 6:10] = True   # part in the gap; overlaps mask 1, which is of its own level
    masks[4, 0, 9:11] = True   # sub-part, half covered by mask 3
    picked = sams.thin_masks(mask_set(masks, level=[2, 1, 1, 1, 0]), threshold)
    assert picked.nonzero()[:, 0].tolist() == kept


def test_rock_sand_water_of_a_batch_and_of_nothing():
    _, sets = random_batch(counts=(6, 0, 8))
    together = sams.thin_masks(MaskSet.stack(sets))
    assert torch.equal(together, torch.cat([sams.thin_masks(each) for each in sets]))
    assert together.any() and not together.all()
    assert sams.thin_masks(MaskSet.empty(3, 3)).tolist() == []
    with pytest.raises(ValueError, match='threshold'):
        sams.thin_masks(sets[0], 30)


def test_step_writes_labels_at_the_size_of_the_masks():
    maps, sets = random_batch()
    step = SEED_STEPS.build(dict(type='SamVote', background_value=0.7, extent='masks'))
    before = state(maps, MaskSet.stack(sets), 4)
    after = step(before)
    assert after.pixel_labels.shape == (4, 9, 11) and after.pixel_labels.dtype == torch.long
    expected = sams.sam_vote(maps, MaskSet.stack(sets), 4, background_value=0.7)
    assert torch.equal(after.pixel_labels, expected[0]) and before.pixel_labels is None
    assert ((after.confidence >= 0) & (after.confidence <= 1)).all()


def test_step_uncovered_pixels():
    maps, sets = random_batch()
    masks = MaskSet.stack(sets)
    covered = sams.sam_vote(maps, masks, 4)[2]
    earlier = torch.full((4, 9, 11), 4)
    ignored = SamVote(uncovered='ignore')(state(maps, masks, 4))
    kept = SamVote(uncovered='keep')(state(maps, masks, 4, pixel_labels=earlier,
                                               confidence=torch.full((4, 9, 11), 0.25)))
    assert (~covered).any()
    assert (ignored.pixel_labels[~covered] == 255).all() and (ignored.confidence[~covered] == 0).all()
    assert (kept.pixel_labels[~covered] == 4).all() and (kept.confidence[~covered] == 0.25).all()
    assert torch.equal(kept.pixel_labels[covered], ignored.pixel_labels[covered])
    assert (ignored.pixel_labels[1] == 255).all(), 'an image without masks is ignored where that was asked for'
    with pytest.raises(ValueError, match='PixelLabels'):
        SeedPipeline([SamVote(uncovered='keep')])(state(maps, masks, 4))


@pytest.mark.parametrize('settings, message', [
    (dict(normalisation='relu_meen'), "Did you mean 'relu_mean'"), (dict(background='powr'), "Did you mean 'power'"),
    (dict(uncovered='ignored'), "Did you mean 'ignore'"), (dict(priority=('level_biger',)), "'level_bigger'"),
    (dict(priority='level_bigger'), 'sequence')])
def test_step_names_wrong_settings_when_it_is_built(settings, message):
    with pytest.raises(ValueError, match=message):
        SamVote(**settings)


def test_step_says_what_is_missing():
    maps, sets = random_batch()
    with pytest.raises(ValueError, match='GradCam'):
        SeedPipeline([SamVote()])(state(None, MaskSet.stack(sets), 4))
    with pytest.raises(ValueError, match='mask bank'):
        SeedPipeline([SamVote()])(dataclasses.replace(state(maps, MaskSet.stack(sets), 4), masks=None))


def test_step_does_not_follow_autocast():
    maps, sets = random_batch()
    plain = SamVote()(state(maps, MaskSet.stack(sets), 4))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = SamVote()(state(maps, MaskSet.stack(sets), 4))
    assert torch.equal(plain.pixel_labels, mixed.pixel_labels) and torch.equal(plain.confidence, mixed.confidence)


def square(*boxes, size=(12, 12)):
    """Masks of rectangles (top, left, bottom, right)."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def object_maps(size=(12, 12)):
    """One class whose map is high on the upper left quarter and low elsewhere."""
    scores = torch.full((1, *size), 0.1)
    scores[0, :6, :6] = 0.9
    return ClassMaps(scores, torch.zeros(1).long(), torch.tensor([2]))


@pytest.mark.parametrize('boxes', [
    [(0, 0, 6, 6)],                                  # one perfect mask
    [(0, 0, 6, 6), (0, 0, 3, 6)],                    # an object and its part, no mask of the background
    []])                                             # no mask at all
def test_a_name_is_not_lost_where_masks_are_few(boxes):
    masks = mask_set(square(*boxes), level=[2, 1][:len(boxes)])
    expected = torch.zeros(12, 12).long()
    expected[:6, :6] = 3
    after = SamVote(background_value=1.0)(state(object_maps(), masks))
    assert torch.equal(after.pixel_labels[0], expected)
    published = SamVote(background_value=1.0, extent='masks')(state(object_maps(), masks)).pixel_labels[0]
    assert (published != 3).all()  # the lowest mask gets zero, and nothing else is higher for sure


def test_an_object_that_fills_the_crop_is_not_background():
    scores = torch.full((1, 12, 12), 0.8)
    scores[0, 11, 11] = 0.0
    maps = ClassMaps(scores, torch.zeros(1).long(), torch.tensor([0]))
    masks = mask_set(square((0, 0, 12, 12), (0, 0, 6, 6)), level=[2, 1])
    assert (SamVote()(state(maps, masks)).pixel_labels == 1).all()
    assert (SamVote(extent='masks')(state(maps, masks)).pixel_labels == 0).any()


def test_padding_says_nothing_about_what_no_mask_covers():
    maps, masks = object_maps(), mask_set(square((0, 0, 6, 6), (6, 0, 12, 6)))
    maps.scores[0, 6:, :6] = 0.3
    padding = torch.zeros(1, 12, 12, dtype=torch.bool)
    padding[..., 6:] = True

    def rest(padding):
        prepare = sams.preparation(maps, 1, 'relu_mean')
        means = mask_blocks.mask_means(maps, mask_blocks.groups(masks, 1, padding), prepare)
        return sams.rest_scores(means.rest, maps, padding, prepare).tolist()

    # All that is no padding is covered: the lowest value of the picture takes the place of the rest.
    assert rest(padding) == [pytest.approx(0.3)]
    assert rest(None) == [pytest.approx(0.1)]


def test_the_scores_that_labels_were_chosen_by_are_left_on_request():
    maps, sets = random_batch()
    maps = maps.with_scores(resize_maps(maps.scores, (9, 11)))
    given = state(maps, MaskSet.stack(sets), 4)
    plain, kept = SamVote()(given), SamVote()(dataclasses.replace(given, keep_scores=True))
    assert torch.equal(plain.pixel_labels, kept.pixel_labels) and plain.chosen_by is None
    assert kept.maps is plain.maps is maps and kept.background is None  # later steps read what they always do
    chosen, background = kept.chosen_by
    assert chosen.scores.shape == (len(maps.scores), 9, 11) and background.shape == (4, 9, 11)
    _, confidence, covered, votes, order = sams.sam_vote(maps, MaskSet.stack(sets), 4, extent='image')
    masks = MaskSet.stack(sets)
    for image in range(4):
        own = maps.sample_index == image
        for y, x in ((0, 0), (4, 5), (8, 10)):
            over = [m for m in order.tolist() if masks.sample_index[m] == image and masks.masks[m, y, x]]
            expected = votes.scores[own, over[-1]].clamp(min=0) if over else maps.scores[own, y, x].clamp(min=0)
            assert torch.equal(chosen.scores[own, y, x], expected)
    best = torch.stack([torch.cat([background[i][None], chosen.scores[maps.sample_index == i]]).amax(0)
                        for i in range(4)])
    assert torch.equal(best[covered], confidence[covered])


def test_labels_of_maps_leave_their_scores_on_request():
    maps, sets = random_batch()
    maps = maps.with_scores(resize_maps(maps.scores, (9, 11)))
    given = state(maps, MaskSet.stack(sets), 4, keep_scores=True)
    after = SEED_STEPS.build(dict(type='PixelLabels', background_power=2.0))(given)
    chosen, background = after.chosen_by
    assert torch.equal(chosen.scores, maps.scores) and after.background is None
    best = chosen.scores[maps.sample_index == 0].amax(0).clamp(min=0)
    assert torch.allclose(background[0], (1 - best).clamp(min=0) ** 2)


@pytest.mark.parametrize('steps', [
    [dict(type='SamVote'), dict(type='IgnoreDisagreement')], [dict(type='SamVote'), dict(type='PixelLabels')],
    [dict(type='PixelLabels', background_power=2.0), dict(type='IgnoreDisagreement', background_power=0.5)],
    [dict(type='PixelLabels'), dict(type='Crf', crf=dict(iterations=1))]], ids=str)
def test_labels_are_the_same_whether_their_scores_are_kept_or_not(steps):
    maps, sets = random_batch()
    given = dataclasses.replace(state(maps, MaskSet.stack(sets), 4), rgb=torch.rand(4, 3, 9, 11) * 255)
    plain, kept = (SeedPipeline(steps)(dataclasses.replace(given, keep_scores=keep)) for keep in (False, True))
    assert torch.equal(plain.pixel_labels, kept.pixel_labels)
    assert kept.chosen_by[0].scores.shape[1:] == kept.chosen_by[1].shape[1:] == kept.pixel_labels.shape[1:]
