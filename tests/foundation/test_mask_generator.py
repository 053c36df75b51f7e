"""The generator agrees with segment_anything's own one, keeps levels, and never loses a mask unseen."""
import cv2
import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator

from weclip_sam.datasets.shapes.scenes import render_scene
from weclip_sam.foundation import FrozenSam, MaskGenerator
from weclip_sam.foundation.mask_filters import clean_regions, crop_boxes, mask_nms, stability_score
from weclip_sam.registry import MODELS

LOOSE = dict(points_per_side=6, pred_iou_thresh=0.3, stability_thresh=0.2, min_region_area=0,
             level_iou_bonus=(0, 0, 0), level_nms_bonus=(0, 0, 0))
RANDOM_CARD = dict(image_size=64, patch_size=8, embed_dim=32, depth=1, num_heads=2, window_size=4,
                   global_attn_indexes=[], prompt_dim=32, decoder_heads=4, decoder_mlp_dim=64)


@pytest.fixture(scope='module')
def sam():
    """The bundled model: a random one answers every point with the same noise."""
    return FrozenSam('tiny', 'tiny')


@pytest.fixture(scope='module')
def image():
    return render_scene(np.random.default_rng(5), 112).image


def as_rows(masks):
    return {np.packbits(m).tobytes() for m in masks}


@pytest.mark.parametrize('size, settings, theirs', [
    ((112, 112), dict(), dict()),
    ((90, 150), dict(nms_thresh=0.9), dict(box_nms_thresh=0.9)),
    ((160, 70), dict(min_region_area=60), dict(min_mask_region_area=60)),
    ((112, 112), dict(crop_n_layers=1), dict(crop_n_layers=1, crop_n_points_downscale_factor=2)),
])
def test_same_masks_as_segment_anything(sam, image, size, settings, theirs):
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
    ours = MaskGenerator(sam, **{**LOOSE, **settings}).generate(image)
    reference = SamAutomaticMaskGenerator(sam.sam, points_per_side=6, pred_iou_thresh=0.3, stability_score_thresh=0.2,
                                          **theirs).generate(image)
    assert len(reference) >= 3
    assert as_rows(ours.masks.numpy()) == as_rows([r['segmentation'] for r in reference])
    mine = sorted(zip(ours.predicted_iou.tolist(), ours.stability.tolist(), strict=True))
    assert np.allclose(mine, sorted((r['predicted_iou'], r['stability_score']) for r in reference), atol=1e-5)


def test_levels_are_sams_outputs(sam, image):
    found = MaskGenerator(sam, **{**LOOSE, 'points_per_side': 1, 'nms_thresh': 1.0, 'pred_iou_thresh': -9,
                                  'stability_thresh': 0}).generate(image)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    embedding = sam.embed(sam.preprocess(pixels)[None])
    logits, iou = sam.decode(embedding, torch.zeros(1, dtype=torch.long), torch.tensor([[56.0, 56.0]]))
    assert found.level.tolist() == [0, 1, 2]
    assert torch.allclose(found.predicted_iou, iou[0])
    assert torch.equal(found.masks, sam.upscale(logits, (112, 112))[0] > 0)
    assert found.area.tolist() == found.masks.flatten(1).sum(1).tolist()


def test_level_bonus_lets_wholes_pass_and_win(sam, image):
    free = MaskGenerator(sam, **{**LOOSE, 'nms_thresh': 1.0}).generate(image)
    highest = free.predicted_iou.max().item()
    passed = MaskGenerator(sam, **{**LOOSE, 'nms_thresh': 1.0, 'pred_iou_thresh': highest + 1,
                                   'level_iou_bonus': (0, 0, 50)}).generate(image)
    assert len(passed) and passed.level.unique().tolist() == [2]
    assert passed.predicted_iou.max() <= highest  # the bonus is a rule, not a better prediction
    for level in range(3):
        bonus = [10.0 if i == level else 0.0 for i in range(3)]
        first = MaskGenerator(sam, **{**LOOSE, 'nms_thresh': 0.0, 'level_nms_bonus': bonus}).generate(image)
        assert level in first.level.tolist()


def test_order_and_determinism(sam, image):
    generator = MaskGenerator(sam, **{**LOOSE, 'nms_thresh': 0.95})
    one, two = generator.generate(image), generator.generate(torch.from_numpy(image))
    for name in ('masks', 'level', 'predicted_iou', 'stability', 'sample_index'):
        assert torch.equal(getattr(one, name), getattr(two, name))
    key = list(zip(one.level.tolist(), (-one.predicted_iou).tolist(), strict=True))
    assert key == sorted(key) and len(set(one.level.tolist())) > 1


@pytest.mark.parametrize('encode_batch', [1, 2])
def test_batch_equals_single(sam, image, encode_batch):
    generator = MaskGenerator(sam, **LOOSE, crop_n_layers=1, encode_batch=encode_batch)
    wide = np.ascontiguousarray(image[:40])
    together = generator.generate_batch([image, wide, image[:, :1]])
    assert [m.size for m in together] == [(112, 112), (40, 112), (112, 1)]
    for found, alone in zip(together, (generator.generate(image), generator.generate(wide)), strict=False):
        assert torch.equal(found.masks, alone.masks) and torch.equal(found.level, alone.level)


def test_chunks_do_not_matter(sam, image):
    whole = MaskGenerator(sam, **LOOSE, points_per_chunk=100).generate(image)
    pieces = MaskGenerator(sam, **LOOSE, points_per_chunk=4).generate(image)
    assert torch.equal(whole.masks, pieces.masks)


def test_nothing_found_is_an_empty_set(sam, image):
    found = MaskGenerator(sam, **{**LOOSE, 'pred_iou_thresh': 99.0}).generate(image)
    assert len(found) == 0 and found.size == (112, 112) and found.masks.dtype == torch.bool
    assert found.level.dtype == torch.long


def test_mask_nms_keeps_a_part_that_fills_the_box():
    whole = torch.ones(8, 8, dtype=torch.bool)
    frame = whole.clone()
    frame[1:7, 1:7] = False
    masks, scores = torch.stack([frame, whole, whole]), torch.tensor([0.5, 0.9, 0.9])
    assert mask_nms(masks, scores, 0.7).tolist() == [1, 0]
    assert mask_nms(masks, scores, 0.3).tolist() == [1]
    assert mask_nms(masks[:0], scores[:0], 0.3).tolist() == []


def test_stability_without_pixels_is_zero():
    empty, full = torch.full((4, 4), -5.0), torch.full((4, 4), 5.0)
    soft = torch.tensor([-0.5, 2, 2, 2]).repeat(4, 1)
    assert stability_score(torch.stack([empty, full, soft]), 0.0, 1.0).tolist() == [0.0, 1.0, 0.75]


def test_crops_cover_the_image_and_have_pixels():
    crops = crop_boxes(100, 150, 1, 0.34)
    assert crops[0] == (0, (0, 0, 150, 100)) and [layer for layer, _ in crops] == [0, 1, 1, 1, 1]
    assert [box for _, box in crops[1:]] == [(0, 0, 92, 67), (0, 33, 92, 100), (58, 0, 150, 67), (58, 33, 150, 100)]
    assert crop_boxes(40, 1, 1, 0.34) == [(0, (0, 0, 1, 40)), (1, (0, 0, 1, 20)), (1, (0, 20, 1, 40))]


def test_cleaning_fills_holes_drops_islands_and_keeps_the_last():
    mask = np.zeros((12, 14), bool)
    mask[1:8, 1:8] = True
    mask[3, 3] = mask[10, 10] = False
    mask[10, 1:3] = True
    expected = np.zeros_like(mask)
    expected[1:8, 1:8] = True
    cleaned, changed = clean_regions(np.stack([mask, expected]), 4)
    assert np.array_equal(cleaned, [expected, expected]) and changed.tolist() == [True, False]
    alone, changed = clean_regions(expected[None], 60)  # smaller than that, but all there is
    assert np.array_equal(alone[0], expected) and not changed.any()


def test_fingerprint_follows_settings_and_weights(sam):
    base = MaskGenerator(sam, **LOOSE)
    assert base.fingerprint() == MaskGenerator(FrozenSam('tiny', 'tiny'), **LOOSE).fingerprint()
    assert base.fingerprint() == MaskGenerator(sam, **LOOSE, points_per_chunk=3, encode_batch=4).fingerprint()
    others = [MaskGenerator(sam, **{**LOOSE, 'nms_thresh': 0.71}),
              MaskGenerator(FrozenSam('tiny', 'random', seed=4), **LOOSE)]
    assert len({base.fingerprint(), *(o.fingerprint() for o in others)}) == 3
    names = {p: MaskGenerator(FrozenSam('tiny', 'tiny', precision=p), **LOOSE).fingerprint() for p in ('fp32', 'bf16')}
    assert names == dict(fp32=base.fingerprint(), bf16=base.fingerprint() + ' bf16')


def test_what_is_prepared_stays_where_the_model_stays():
    generator = MaskGenerator(FrozenSam('tiny', 'tiny', precision='bf16'), **LOOSE)
    ready = generator.sam._prepared()
    assert generator.to('cpu').sam._prepared() is ready  # every prediction with a SAM asks for its device
    assert generator.to('meta').sam.device.type == 'meta' and not generator.sam._ready


def test_built_from_config(image):
    sam = dict(type='FrozenSam', arch=RANDOM_CARD, checkpoint='random')
    generator = MODELS.build(dict(type='MaskGenerator', sam=sam, points_per_side=2))
    assert generator.generate(image).size == (112, 112)


@pytest.mark.parametrize('change, words', [
    (dict(points_per_side=0), 'points_per_side must be at least 1'),
    (dict(nms_thresh=1.5), r'nms_thresh must lie in \[0, 1\]'),
    (dict(level_iou_bonus=(0, 1)), 'level_iou_bonus needs three'),
    (dict(nms_type='boxes'), "nms_type must be 'box' or 'mask'"),
    (dict(encode_batch=0), 'encode_batch must be at least 1'),
])
def test_bad_settings(sam, change, words):
    with pytest.raises(ValueError, match=words):
        MaskGenerator(sam, **{**LOOSE, **change})


@pytest.mark.parametrize('bad, words', [
    (np.zeros((3, 64, 64), np.uint8), 'expected an RGB image H W 3'),
    (np.zeros((4, 4, 3), np.float32), 'expected uint8'),
    (np.zeros((0, 4, 3), np.uint8), 'expected an RGB image'),
    ('image.png', 'got str'),
])
def test_bad_images(sam, bad, words):
    with pytest.raises(ValueError, match=words):
        MaskGenerator(sam, **LOOSE).generate(bad)


def test_it_tells_how_far_it_is(sam, image):
    generator, shares = MaskGenerator(sam, **LOOSE, crop_n_layers=1, points_per_chunk=3), []
    generator.generate_batch([image, image], shares.append)
    assert shares[0] == 0 and shares == sorted(shares) and 0.9 < shares[-1] < 1 and len(set(shares)) > 10
