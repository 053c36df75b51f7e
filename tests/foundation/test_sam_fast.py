"""SAM rewritten for inference says what segment_anything's own modules say, in fp32 and nearly so in half of it."""
import numpy as np
import pytest
import torch
from segment_anything.utils.amg import batched_mask_to_box, remove_small_regions

from weclip_sam.datasets.shapes.scenes import DATA_SET_SCENES, render_scene
from weclip_sam.foundation import FrozenSam, MaskGenerator, mask_filters, sam_encoder
from weclip_sam.foundation.mask_filters import boxes_above, clean_regions, count_above

CARD = dict(image_size=72, patch_size=8, embed_dim=32, depth=3, num_heads=2, window_size=4, global_attn_indexes=[1],
            prompt_dim=32, decoder_heads=4, decoder_mlp_dim=64, iou_head_hidden_dim=32)


@pytest.fixture(scope='module')
def sam():
    """Its grid of 9 is no multiple of the window of 4; relative positions are random instead of zero."""
    made = FrozenSam(CARD, 'random', seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, value in made.sam.named_parameters():
        if 'rel_pos' in name or name.endswith('bias'):
            value.copy_(torch.randn(value.shape, generator=generator))
    return made


@pytest.fixture(scope='module')
def images():
    return torch.randn(3, 3, 72, 72, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('room', [2 ** 28, 1])
def test_the_encoder_is_segment_anythings(sam, images, monkeypatch, room):
    monkeypatch.setattr(sam_encoder, '_BIAS_BYTES', room)  # all heads at once, each by itself
    with torch.no_grad():
        expected = sam.sam.image_encoder(images)
    assert torch.allclose(sam.embed(images), expected, atol=2e-5) and expected.std() > 0.5


@pytest.mark.parametrize('depth', [1, 2, 3])
def test_answers_are_those_of_segment_anythings_decoder(images, depth):
    sam = FrozenSam({**CARD, 'decoder_depth': depth}, 'random', seed=depth)
    for name, value in sam.sam.mask_decoder.named_parameters():
        if name.endswith('bias') or 'norm' in name:
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))))
    embeddings = sam.embed(images)
    points = torch.tensor([[3.0, 70], [40, 9], [60, 60], [0, 0], [71, 30]])
    for i in range(2):
        logits, iou = sam.decode(embeddings, torch.full((5,), i), points)
        answers = sam.ask(sam.look(embeddings[i:i + 1]), points)
        assert torch.allclose(answers.iou, iou, atol=1e-4)
        for wanted in (range(15), [1, 6, 7, 14], [9], []):  # all, of some points, of one, none
            wanted = torch.tensor(wanted, dtype=torch.long)
            found = answers.logits(wanted)
            assert found.shape == (len(wanted), 36, 36)
            assert torch.allclose(found, logits.flatten(0, 1)[wanted], atol=1e-4 * float(logits.std()))


@pytest.mark.parametrize('size', [(72, 72), (50, 90), (33, 20), (1, 40), (144, 100)])
@pytest.mark.parametrize('patch', [8, 6])
def test_masks_are_enlarged_as_segment_anything_does(size, patch):
    sam = FrozenSam({**CARD, 'patch_size': patch}, 'random')
    logits = torch.randn(3, 2, 4 * 72 // patch, 4 * 72 // patch, generator=torch.Generator().manual_seed(0))
    expected = sam.sam.postprocess_masks(logits, sam.input_shape(*size), size)
    assert torch.allclose(sam.upscale(logits, size), expected, atol=1e-5)
    assert sam.upscale(logits[:0], size).shape == (0, 2, *size)


def test_half_precision_is_a_copy_that_is_made_once(sam, images):
    expected, weights = sam.embed(images), sam.sam.image_encoder.blocks[0].attn.qkv.weight.clone()
    half = FrozenSam(CARD, 'random', precision='bf16')
    half.load_state_dict(sam.state_dict())
    found = half.embed(images)
    assert found.dtype == torch.float and 0 < (found - expected).abs().mean() < 0.05 * expected.abs().mean()
    made = half._prepared()
    half.embed(images)
    assert half._prepared() is made and made[0].encoder is not half.sam.image_encoder
    assert half.sam.image_encoder.pos_embed.dtype == torch.float
    with torch.autocast('cpu', torch.bfloat16):  # the other way to ask for it
        assert torch.equal(sam.embed(images), found)
    assert torch.equal(sam.embed(images), expected)
    assert torch.equal(sam.sam.image_encoder.blocks[0].attn.qkv.weight, weights)
    half.load_state_dict(FrozenSam(CARD, 'random', seed=9).state_dict())
    assert not torch.equal(half.embed(images), found)  # of the new weights


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match=r"precision must be one of \['fp32', 'bf16', 'fp16'\] or None, got 'bf61'\. "
                                         "Did you mean 'bf16'"):
        FrozenSam(CARD, 'random', precision='bf61')


def test_bfloat16_finds_the_masks_of_fp32():
    settings = dict(points_per_side=10, pred_iou_thresh=0.3, stability_thresh=0.5, min_region_area=12)
    exact, half = (MaskGenerator(FrozenSam('tiny', 'tiny', precision=p), **settings) for p in ('fp32', 'bf16'))
    best = []
    for k in range(4):
        image = render_scene(np.random.default_rng([31, k]), 112, **DATA_SET_SCENES).image
        a, b = (generator.generate(image).masks.flatten(1).float() for generator in (exact, half))
        shared = a @ b.T
        best.append((shared / (a.sum(1)[:, None] + b.sum(1) - shared)).amax(1))
    best = torch.cat(best)
    assert len(best) > 20 and best.mean() > 0.95 and (best < 0.75).float().mean() < 0.05


def test_pixels_and_boxes_of_masks_last_in_memory_and_first():
    logits = torch.randn(5, 300, 7, generator=torch.Generator().manual_seed(0))  # more rows than a byte counts
    logits[1], logits[2] = 3.0, -3.0
    logits[3], logits[3, 299, 2] = -3.0, 3.0
    for given in (logits, logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        assert count_above(given, 0.5).tolist() == (logits > 0.5).flatten(1).sum(1).tolist()
        boxes, any_pixel = boxes_above(given, 0.5)
        assert torch.equal(boxes, batched_mask_to_box(logits > 0.5)) and boxes.dtype == torch.long
        assert any_pixel.tolist() == [True, True, False, True, True]
    assert boxes_above(logits[:0], 0.5)[0].shape == (0, 4) and count_above(logits[:0], 0.5).tolist() == []


@pytest.mark.parametrize('canvas', [2 ** 22, 500])
def test_cleaning_many_masks_is_cleaning_each(monkeypatch, canvas):
    monkeypatch.setattr(mask_filters, '_CANVAS', canvas)
    rng, touched = np.random.default_rng(0), 0
    for _ in range(25):
        height, width = rng.integers(1, 30, 2)
        masks = rng.random((4, height, width)) > rng.uniform(0.3, 0.8)
        masks[0] = False
        masks[0, height // 2, width // 3] = True
        least = int(rng.integers(1, 40))
        cleaned, changed = clean_regions(masks, least)
        for mask, found, moved in zip(masks, cleaned, changed, strict=True):
            expected = remove_small_regions(remove_small_regions(mask, least, 'holes')[0], least, 'islands')[0]
            assert np.array_equal(found, expected) and moved == (expected != mask).any()
            touched += moved
    assert touched > 20
