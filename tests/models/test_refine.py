"""SAM's masks on the way to a prediction: brought, made live, or missing."""
import pytest
import torch

from weclip_sam.models import refine
from weclip_sam.models.predict import predict_samples
from weclip_sam.models.refine import SamAtTest, refine_prediction, refinement
from weclip_sam.registry import MODELS
from weclip_sam.seeds import SeedPipeline
from weclip_sam.structures import MaskSet, SegSample

VOTE = dict(type='VotePrediction')


class HalfGenerator:
    """Finds one mask in every image: its left half."""

    made: list = []

    def to(self, device):
        return self

    def generate(self, rgb):
        self.made.append(tuple(rgb.shape))
        return left_half(*rgb.shape[:2])


@pytest.fixture
def generator(monkeypatch):
    monkeypatch.setattr(MODELS, 'build', lambda config: HalfGenerator())
    HalfGenerator.made = []
    return dict(type='HalfGenerator')


def left_half(height, width):
    held = torch.zeros(1, height, width, dtype=torch.bool)
    held[:, :, :width // 2] = True
    one = torch.ones(1)
    return MaskSet(held, one.long(), one, one, torch.zeros(1, dtype=torch.long))


def predict(sample, sam, **test):
    logits = torch.zeros(1, 2, 2, 4)
    logits[:, 1, 0, 0] = 3  # a quarter of the left half
    inputs = torch.zeros(1, 3, 8, 16)
    return predict_samples(lambda images: logits, inputs, [sample], dict(dict(refine=[VOTE]), **test), 1, sam)[0]


def sample_of(**fields):
    sample = SegSample(metainfo=dict(image_id='a', ori_shape=(8, 16), content_box=(0, 0, 8, 16)))
    for name, value in fields.items():
        sample.set_field(value, name)
    return sample


def test_masks_that_a_sample_brings_are_taken_and_others_are_made(generator):
    made = predict(sample_of(), SamAtTest(generator), probabilities=True)
    assert made.sam[:2] == (1, True) and made.sam.seconds > 0 and HalfGenerator.made == [(8, 16, 3)]
    assert made.probabilities[:, :, :8].flatten(1).std(1).max() < 1e-6  # all of the mask has its mean
    brought = predict(sample_of(mask_set=left_half(8, 16)), SamAtTest(generator), probabilities=True)
    assert brought.sam[:2] == (1, False) and len(HalfGenerator.made) == 1
    assert torch.equal(brought.probabilities, made.probabilities)


def test_an_image_without_a_mask_keeps_its_prediction(generator):
    plain = predict(sample_of(mask_set=left_half(8, 16)), None, refine=[])
    kept = predict(sample_of(mask_set=MaskSet.empty(8, 16)), SamAtTest(generator))
    assert torch.equal(kept.prediction, plain.prediction) and kept.sam[:2] == (0, False) and plain.get('sam') is None


def test_other_refinements_stand_beside_and_leave_the_probabilities_alone(generator):
    seen = predict(sample_of(), SamAtTest(generator), beside=dict(plain=[], vote=[VOTE]))
    alone = predict(sample_of(), None, refine=[])
    assert torch.equal(seen.prediction_plain, alone.prediction)
    assert torch.equal(seen.prediction_vote, seen.prediction) and not torch.equal(seen.prediction, alone.prediction)


def test_masks_of_large_images_are_made_smaller_and_enlarged(generator, monkeypatch):
    monkeypatch.setattr(refine, 'LIVE_SIDE', 8)
    masks = SamAtTest(generator).masks(torch.zeros(3, 8, 16, dtype=torch.uint8))
    assert HalfGenerator.made == [(4, 8, 3)]
    assert masks.width == 16 and torch.equal(masks.masks, left_half(8, 16).masks)


def test_the_image_at_the_size_of_the_file_is_looked_at_if_it_is_there(generator):
    sample = SegSample(metainfo=dict(image_id='a', ori_shape=(16, 32), content_box=(0, 0, 8, 16)))
    sample.original = torch.zeros(3, 16, 32, dtype=torch.uint8)
    assert predict(sample, SamAtTest(generator)).prediction.shape == (16, 32)
    assert HalfGenerator.made == [(16, 32, 3)]
    sample.mask_set, sample.original_masks = left_half(8, 16), left_half(16, 32)  # of the transformed image, of itself
    assert predict(sample, SamAtTest(generator)).sam[:2] == (1, False)


def test_no_copy_is_made_of_probabilities_that_may_be_written_over():
    probabilities = torch.rand(3, 8, 16)
    steps = refinement(dict(refine=[VOTE], crf=None))
    sample, rgb = sample_of(mask_set=left_half(8, 16)), torch.zeros(3, 8, 16)
    before = probabilities.clone()
    labels, refined, _ = refine_prediction(steps, probabilities, rgb, sample)
    assert torch.equal(probabilities, before)
    owned = refine_prediction(steps, probabilities, rgb, sample, owned=True)
    assert owned[1].data_ptr() == probabilities.data_ptr() and torch.equal(owned[1], refined)
    assert torch.equal(owned[0], labels) and not torch.equal(probabilities, before)


def test_a_plain_function_is_a_step():
    probabilities = torch.rand(3, 8, 16).softmax(0)
    steps = SeedPipeline([lambda state: state])
    labels, refined, use = refine_prediction(steps, probabilities, torch.zeros(3, 8, 16), sample_of())
    assert torch.equal(refined, probabilities) and torch.equal(labels, probabilities.argmax(0)) and use is None


def test_colours_may_be_bytes():
    probabilities = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0)).softmax(0)
    rgb = torch.arange(3 * 8 * 16).remainder(256).view(3, 8, 16)
    for downscale in (1, 2):
        steps = refinement(dict(refine=[dict(type='Par', downscale=downscale, iterations=2)]))
        answers = [refine_prediction(steps, probabilities, colours, sample_of())[1]
                   for colours in (rgb.float(), rgb.byte())]
        assert torch.equal(*answers)


def test_neither_masks_nor_a_sam():
    with pytest.raises(ValueError, match='VotePrediction needs SAM masks.*model.test.mask_generator'):
        predict(sample_of(), SamAtTest(None))
    with pytest.raises(ValueError, match=r'prediction is \(8, 16\), the masks are \(4, 4\)'):
        predict(sample_of(mask_set=MaskSet.empty(4, 4)), SamAtTest(None))
