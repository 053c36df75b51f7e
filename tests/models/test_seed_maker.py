"""Seeds offline: CLIP sees stretched images, labels come out at the size of the files."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.datasets import FolderReader
from weclip_sam.mask_bank import MaskBank
from weclip_sam.models.seed_maker import stretch_to_multiple
from weclip_sam.registry import DATASETS, MODELS, SEED_STEPS
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.seeds.sams import thin_masks
from weclip_sam.structures import MaskSet, SeedState, SegSample

CARD = {'embed_dim': 12, 'quick_gelu': True,
        'vision_cfg': {'image_size': 16, 'layers': 3, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
VOCABULARY = dict(classes=['cat', 'dog'], prompt_names=['cat', 'dog'], background_nouns=['grass'])
SIZE = (27, 45)


def mask_set(size=SIZE):
    masks = torch.zeros(3, *size, dtype=torch.bool)
    masks[0, :20, :20], masks[1, 5:15, 5:15], masks[2, 10:, 30:] = True, True, True
    return MaskSet(masks, torch.tensor([2, 1, 2]), torch.ones(3), torch.ones(3), torch.zeros(3, dtype=torch.long))


@pytest.fixture
def photo(tmp_path):
    """One photograph of 27 x 45 with SAM masks, as an item of seed making."""
    (tmp_path / 'images').mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'images' / 'a.png')
    (tmp_path / 'labels.csv').write_text('image,classes\na.png,cat;dog\n')
    with MaskBank(tmp_path / 'bank') as bank:
        bank.put('a', mask_set())
    dataset = DATASETS.build(dict(
        type='ImageLabelDataset', reader=FolderReader(str(tmp_path)), mask_bank=str(tmp_path / 'bank'),
        pipeline=[dict(type='ResizeToMultiple', divisor=8), dict(type='PackSample', original=True)]))
    return dataset[0], pixels


def maker(tmp_path, *seeds, **settings):
    (tmp_path / 'card.json').write_text(json.dumps(CARD))
    clip = dict(type='FrozenClip', arch=str(tmp_path / 'card.json'), checkpoint='random')
    return MODELS.build(dict(type='SeedMaker', clip=clip, vocabulary=VOCABULARY, seeds=list(seeds)) | settings).eval()


def test_samples_of_seed_making_keep_the_file_as_it_is(photo):
    item, pixels = photo
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 32, 48)
    assert np.array_equal(sample.original.permute(1, 2, 0).numpy(), pixels)
    assert torch.equal(sample.mask_set.masks, mask_set().masks) and sample.ori_shape == SIZE


def test_padding_and_flips_are_refused(photo, tmp_path):
    for step in (dict(type='RandomCrop', size=64), dict(type='RandomFlip', prob=1.0)):
        dataset = DATASETS.build(dict(type='ImageLabelDataset', reader=FolderReader(str(tmp_path)),
                                      pipeline=[step, dict(type='PackSample', original=True)]))
        with pytest.raises(ValueError, match='may resize only'):
            dataset[0]


@pytest.mark.parametrize('steps', [
    [dict(type='PixelLabels')], [dict(type='Crf', crf=dict(iterations=1, backend='lattice'))], [dict(type='SamVote')],
    [dict(type='Par', iterations=1, dilations=(1,)), dict(type='PixelLabels'),
     dict(type='SamVote', uncovered='keep'), dict(type='SeplMerge')]])
def test_every_way_to_labels_ends_at_the_size_of_the_file(photo, tmp_path, steps):
    item, pixels = photo
    model = maker(tmp_path, dict(type='GradCam'), dict(type='AttentionAffinity', layers=2), *steps)
    named = []

    class Watch:
        def __init__(self, name):
            named.append(name)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

    state = model.make(item['inputs'][None], [item['data_samples']], Watch)
    assert state.pixel_labels.shape == (1, *SIZE) and state.features['clip'].grid == (4, 6)
    assert torch.equal(state.rgb[0].byte(), torch.from_numpy(pixels).permute(2, 0, 1))
    assert named == ['encode', 'GradCam', 'AttentionAffinity', *(step['type'] for step in steps)]
    again = model(item['inputs'][None], [item['data_samples']], mode='predict')[0].prediction
    assert torch.equal(again, state.pixel_labels[0])


def test_fingerprint_tells_settings_and_weights_apart(tmp_path):
    steps = dict(type='GradCam'), dict(type='PixelLabels')
    first = maker(tmp_path, *steps).fingerprint()
    assert first == maker(tmp_path, *steps).fingerprint()
    assert first != maker(tmp_path, steps[0], dict(type='PixelLabels', min_margin=0.1)).fingerprint()
    assert first != maker(tmp_path, *steps, templates=['one {}']).fingerprint()
    moved = maker(tmp_path, *steps)
    moved.clip.model.visual.proj.data[0, 0] += 1e-4
    assert first != moved.fingerprint()


def test_what_is_missing_is_named(photo, tmp_path):
    item, _ = photo
    with pytest.raises(ValueError, match="GradCam needs the features of the encoder 'clip'"):
        maker(tmp_path, dict(type='GradCam'), clip=None)
    with pytest.raises(ValueError, match='SeedMaker: vocabulary is missing'):
        maker(tmp_path, dict(type='GradCam'), vocabulary=None)
    with pytest.raises(ValueError, match=r'must end in labels at the size of the image \(27, 45\), got none'):
        maker(tmp_path, dict(type='GradCam')).make(item['inputs'][None], [item['data_samples']])
    with pytest.raises(ValueError, match='trains nothing'):
        maker(tmp_path, dict(type='GradCam'))(item['inputs'][None], [item['data_samples']], mode='loss')
    assert maker(tmp_path, dict(type='SeplMerge'), clip=None).starts_from_labels
    item['data_samples'].mask_set = mask_set((20, 45))
    with pytest.raises(ValueError, match=r"masks of 'a' are \(20, 45\), the image is \(27, 45\)"):
        maker(tmp_path, dict(type='GradCam'), dict(type='SamVote')).make(item['inputs'][None], [item['data_samples']])


def test_stretching_rounds_up_to_whole_patches():
    image = torch.full((1, 3, 17, 32), 200.0)
    assert stretch_to_multiple(image, 16).shape == (1, 3, 32, 32) and (stretch_to_multiple(image, 16) == 200).all()
    assert stretch_to_multiple(image[..., :16, :], 16).shape == (1, 3, 16, 32)


def test_the_thinning_step_is_the_published_filter():
    masks = mask_set()
    state = SeedState(images=torch.zeros(1, 3, *SIZE), image_labels=torch.ones(1, 2, dtype=torch.bool),
                      masks=masks)
    thinned = SEED_STEPS.build(dict(type='RockSandWater', threshold=0.3))(state).masks
    left = thinned.masks.flatten(1).any(1).nonzero()[:, 0]
    assert left.tolist() == thin_masks(masks, 0.3).nonzero()[:, 0].tolist()
    assert torch.equal(thinned.masks[left], masks.masks[left])
    assert thinned.level[left].tolist() == [2, 2]  # the part inside the first whole is gone
    state.masks = None
    with pytest.raises(ValueError, match='needs SAM masks'):
        SeedPipeline([dict(type='RockSandWater')])(state)
    with pytest.raises(ValueError, match='share of the area'):
        SEED_STEPS.build(dict(type='RockSandWater', threshold=2))


def test_stretching_is_pillows_bicubic():
    rgb = np.random.default_rng(0).integers(90, 166, (50, 70, 3), dtype=np.uint8)  # far from what a byte cuts off
    ours = stretch_to_multiple(torch.from_numpy(rgb).permute(2, 0, 1)[None].float(), 16)[0].permute(1, 2, 0)
    pillow = np.asarray(Image.fromarray(rgb).resize((80, 64), Image.Resampling.BICUBIC))
    difference = np.abs(ours.numpy() - pillow)
    assert difference.max() <= 1  # Pillow rounds between its two passes


def test_sentences_about_the_classes_move_their_texts_alone(photo, tmp_path):
    steps, file = [dict(type='ExcelMaps', blocks=2), dict(type='PixelLabels')], tmp_path / 'said.json'
    file.write_text(json.dumps({'cat': ['a cat. It purrs.', 'It has fur.'], 'dog': ['a dog. It barks.']}))
    plain, moved = maker(tmp_path, *steps), maker(tmp_path, *steps, attributes=str(file), attribute_centres=3)
    assert (moved.text_features[:2] - plain.text_features[:2]).abs().amax(1).min() > 1e-3
    assert torch.equal(moved.text_features[2:], plain.text_features[2:])
    before = moved.fingerprint()
    assert before != plain.fingerprint()
    file.write_text(json.dumps({'cat': ['a cat. It purrs.', 'It has fur.'], 'dog': ['a dog. It sleeps.']}))
    assert maker(tmp_path, *steps, attributes=str(file), attribute_centres=3).fingerprint() != before
    with pytest.raises(ValueError, match='attributes move the texts of a CLIP'):
        maker(tmp_path, dict(type='SeplMerge'), clip=None, attributes=str(file))


def test_masks_are_made_live_for_those_that_bring_none(photo, tmp_path):
    item, _ = photo
    brought = item['data_samples']
    without = SegSample(ori_shape=SIZE, sample_id='b')
    model, asked = maker(tmp_path, dict(type='GradCam'), dict(type='SamVote')), []

    class Generator:
        def generate_batch(self, images):
            asked.extend(images)
            return [mask_set().select(torch.tensor([0])) for _ in images]

    model.mask_generator = Generator()
    rgb = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, *SIZE)
    masks = model._masks(rgb, [brought, without])
    assert len(asked) == 1 and (asked[0] == 1).all()
    assert masks.sample_index.tolist() == [0, 0, 0, 1]
