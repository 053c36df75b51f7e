"""Prompts of every kind: the answers of segment_anything's own predictor."""
import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from weclip_sam.foundation import FrozenSam
from weclip_sam.foundation.named_sam import named_generator
from weclip_sam.foundation.sam_prompts import OUTSIDE, PromptedImage


@pytest.fixture(scope='module')
def sam():
    return FrozenSam('tiny', 'random')


@pytest.mark.parametrize('shape', [(112, 112), (30, 50)])
def test_answers_are_those_of_the_library(sam, shape):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image, predictor = PromptedImage(sam, torch.from_numpy(rgb).permute(2, 0, 1)), SamPredictor(sam.sam)
    predictor.set_image(rgb)
    rows, columns = image.frame
    points, box = np.array([[4., 7.], [20., 11.]]), np.array([2., 3., 40., 25.])
    rough = torch.randn(1, rows, columns, generator=torch.Generator().manual_seed(1))
    whole = np.full((1, *sam.sam.prompt_encoder.mask_input_size), OUTSIDE, np.float32)
    whole[:, :rows, :columns] = rough.numpy()
    given = dict(points=dict(point_coords=points, point_labels=np.ones(2)), boxes=dict(box=box),
                 rough=dict(mask_input=whole))
    ours = dict(points=torch.from_numpy(points)[None], boxes=torch.from_numpy(box)[None], rough=rough)
    for names in (['points'], ['boxes'], ['rough'], ['boxes', 'points'], ['boxes', 'points', 'rough']):
        found = image.ask(**{name: ours[name] for name in names})
        asked = {key: value for name in names for key, value in given[name].items()}
        for answers, multimask in ((found[0, :1], False), (found[0, 1:], True)):
            masks, _, expected = predictor.predict(**asked, multimask_output=multimask)
            np.testing.assert_allclose(answers, expected, atol=1e-4)
            assert np.array_equal(image.enlarge(answers), masks)


def test_many_prompts_at_once_and_the_image_is_looked_at_once(sam, monkeypatch):
    looks, embed = [], FrozenSam.embed
    monkeypatch.setattr(FrozenSam, 'embed', lambda self, images: looks.append(1) or embed(self, images))
    image = PromptedImage(sam, torch.zeros(3, 40, 20, dtype=torch.uint8))
    points = torch.tensor([[[3., 4.]], [[9., 30.]], [[1., 1.]]])
    together = image.ask(points)
    for one, answer in zip(points, together, strict=True):
        torch.testing.assert_close(image.ask(one[None])[0], answer, atol=1e-5, rtol=1e-5)
    assert len(looks) == 1 and image.frame == (56, 28)


def test_what_cannot_be_asked_is_named(sam):
    image = PromptedImage(sam, torch.zeros(3, 40, 20, dtype=torch.uint8))
    with pytest.raises(ValueError, match='give points, boxes or rough masks'):
        image.ask()
    with pytest.raises(ValueError, match=r'are \(56, 28\), got \(8, 8\)'):
        image.ask(rough=torch.zeros(1, 8, 8))


def test_a_sam_says_what_it_has_learnt_from(sam):
    assert sam.prompts == ('points',)  # tools/pretrain/train_tiny_sam.py asks for points alone
    assert FrozenSam(sam.card.to_dict(), 'random').prompts == ('points', 'box', 'rough')


def test_a_generator_by_name_or_file():
    assert named_generator('tiny')['sam'] == dict(type='FrozenSam', arch='tiny', checkpoint='tiny')
    assert named_generator('tiny')['points_per_side'] == 10  # the settings of its card
    assert named_generator('vit_b') == dict(type='MaskGenerator', sam=dict(
        type='FrozenSam', arch='vit_b', checkpoint='checkpoints/sam_vit_b_01ec64.pth'))
    like = dict(type='MaskGenerator', points_per_side=7, sam=dict(type='FrozenSam', arch='vit_b', checkpoint='b.pth'))
    assert named_generator('vit_b', like) == like
    assert named_generator('/x/sam_vit_b_01ec64.pth', like) == {
        **like, 'sam': {**like['sam'], 'checkpoint': '/x/sam_vit_b_01ec64.pth'}}
    assert named_generator('sam_vit_h.pth', like)['sam']['arch'] == 'vit_h'
    for name, message in (('vitb', "Did you mean 'vit_b'"), ('best.pth', 'does not tell which SAM it is')):
        with pytest.raises(ValueError, match=message):
            named_generator(name)
