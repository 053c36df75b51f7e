"""CLIP-ES: every array of clip_es.npz against the package's own code path."""
import numpy as np
import pytest
import torch

from weclip_sam.datasets import COCO_VOCABULARY, VOC_VOCABULARY
from weclip_sam.datasets.frame import Frame
from weclip_sam.evaluation import IoUReport, confusion_matrix
from weclip_sam.foundation import text_features
from weclip_sam.registry import TRANSFORMS
from weclip_sam.seeds import SeedPipeline
from weclip_sam.seeds.affinity import mean_attention, propagate, transition_matrix
from weclip_sam.seeds.boxes import box_masks
from weclip_sam.seeds.gradcam import (
    class_probabilities,
    class_scores,
    gradcam,
    localisation_logits,
    present_pairs,
    stretch,
)
from weclip_sam.seeds.labels import best_foreground, label_pixels
from weclip_sam.seeds.scores import background_score, resize_maps
from weclip_sam.structures import ClassMaps, ClipFeatures, SeedState


class Case:
    """One image of the fixture: its names, and its features by the package's encoder."""

    def __init__(self, arrays, name, clip):
        self.arrays, self.name, self.clip = arrays, name, clip
        self.keys = self['keys']
        self.labels = torch.zeros(1, len(arrays['fg_text']), dtype=torch.bool)
        self.labels[0, self.keys] = True
        self.text = torch.cat([arrays['fg_text'], arrays['bg_text']])
        self.order = self.keys.argsort()  # the package's order is by class, the authors' by appearance in the XML
        self.features = clip.encode(self['image'][None]) if self.whole else self.stored_features()

    def __getitem__(self, key):
        return self.arrays[f'{self.name}/{key}']

    @property
    def whole(self):
        """Whether the fixture has all the blocks whose attention it stores."""
        return self.clip.layers == len(self['attn_layers']) + 1

    def stored_features(self):
        """What the blocks before the last one put out, as stored."""
        tokens = self['features_in_last_block'][None]
        attentions = torch.cat([self['attn_layers'], self['attn_last'][None]])
        grid = tuple(side // self.clip.patch_size for side in self['image'].shape[-2:])
        return ClipFeatures(torch.stack([tokens, torch.zeros_like(tokens)]), attentions[:, None], grid)

    def gradcam(self, **kwargs):
        return gradcam(self.clip, self.features, self.text, self.labels, **kwargs)

    @property
    def size(self):
        return tuple(self['image_uint8'].shape[:2])


@pytest.fixture()
def case(clip_es, es_image, es_clip):
    return Case(clip_es, es_image, es_clip)


@pytest.fixture()
def rounded_case(clip_es, es_image, es_clip_rounded):
    return Case(clip_es, es_image, es_clip_rounded)


# ---- text -----------------------------------------------------------------------------------------------------


def test_token_embedding_recipe(clip_es, es_clip):
    rows, columns = [0, 1, 320, 49405, 49406, 49407], clip_es['token_embedding_check'].shape[1]
    table = es_clip.token_embedding(torch.tensor(rows))
    assert torch.equal(table[:, :columns], clip_es['token_embedding_check'])


def test_prompt_names_are_those_of_the_vocabulary(clip_es):
    assert list(clip_es['text_names']) == [*VOC_VOCABULARY.prompt_names, *VOC_VOCABULARY.background_nouns]
    # deliberate difference: the authors' COCO list says 'sknowboard'
    assert 'snowboard' in COCO_VOCABULARY.prompt_names and len(COCO_VOCABULARY.background_nouns) == 23


def test_tokens(clip_es, es_clip):
    tokens = es_clip.tokenize([f'a clean origami {name}.' for name in clip_es['text_names']])
    assert torch.equal(tokens, clip_es['text_tokens'].long())


def test_text_features_and_prompt_ensemble(clip_es, es_clip, close):
    names = [str(name) for name in clip_es['text_names']]
    count = len(clip_es['zeroshot_fg'])
    features = text_features(es_clip, names)
    close(features[:count], clip_es['zeroshot_fg'], 1e-4)
    close(features[count:], clip_es['zeroshot_bg'], 1e-4)
    ensemble = text_features(es_clip, ['cat', 'dog'], ['a clean origami {}.', 'a photo of a {}.',
                                                      'a rendering of a weird {}.'])
    close(ensemble, clip_es['zeroshot_multi_template'], 1e-4)


# ---- image encoder --------------------------------------------------------------------------------------------


def test_preprocessing(case, close):
    rgb = case['image_uint8'].numpy()
    step = TRANSFORMS.build(dict(type='ResizeToMultiple', divisor=case.clip.patch_size))
    resized = step(dict(image=rgb, frame=Frame.whole(*rgb.shape[:2])))['image']
    images = case.clip.normalize(torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None])
    close(images[0], case['image'], 1e-6)


def test_tokens_and_attentions_of_every_block(rounded_case, close):
    case, features = rounded_case, rounded_case.features
    close(features.attentions[:-1, 0], case['attn_layers'], 1e-4)
    close(features.attentions[-1, 0], case['attn_last'], 1e-4)
    close(case.clip.finish(features.last_block_input)[1][0], case['attn_last'], 1e-4)
    close(features.last_block_input[0], case['features_in_last_block'], 2e-4)
    close(mean_attention(features.patch_attentions(), 8)[0], case['attn_mean'], 1e-4)
    activation = case.clip.last_ln1(features.last_block_input)[0, 1:].T.unflatten(1, features.grid)
    close(activation, case['ln1_activation'], 2e-4)


def test_positions_are_not_rounded_to_half_precision(case, rounded_case):
    """Deliberate difference: the authors' resized position embedding goes through float16."""
    grid = case.features.grid
    exact, rounded = (each.clip.position_embedding(grid) for each in (case, rounded_case))
    difference = (exact - rounded).abs().max()
    if grid == tuple(case.clip.model.visual.grid_size):  # nothing is resized, and the weights are exact in float16
        assert difference == 0
    else:
        assert 0 < difference < 1e-3 * exact.abs().max()


# ---- GradCAM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('literal', [True, False])
def test_softmax_scores(case, rounded_case, literal, close):
    used = rounded_case if literal else case
    expected = case['prob' if literal else 'nohalf_prob']
    logits = localisation_logits(used.clip, used.features.last_block_input, used.text)
    probabilities = class_probabilities(logits, used.labels)[0]
    present = torch.cat([used.keys, torch.arange(used.labels.shape[1], len(used.text))])
    close(probabilities[present], expected, 1e-4)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    _, classes = present_pairs(used.labels)
    count = len(classes)
    scores = class_scores(logits.expand(count, -1), used.labels.expand(count, -1), classes)
    close(scores, expected[:count][case.order], 1e-4)


def test_raw_gradcam(rounded_case, close):
    """The signed map follows from the stored gradient and activation: mean gradient times activation."""
    case = rounded_case
    weights = case['ln1_grad'][case.order].mean((2, 3))
    expected = torch.einsum('kd,dhw->khw', weights, case['ln1_activation'])
    close(case.gradcam(signed=True).scores, expected, 0, of_max=1e-3)
    close(stretch(expected.relu(), 2), case['gcam'][case.order], 1e-3)


def test_gradcam(case, rounded_case, close):
    close(rounded_case.gradcam().scores, case['gcam'][case.order], 1e-3)
    maps = case.gradcam()
    close(maps.scores, case['nohalf_gcam'][case.order], 1e-3)
    close(maps.scores, case['gcam'][case.order], 1e-3)
    assert maps.class_index.tolist() == sorted(case.keys.tolist())
    largest = maps.scores.flatten(1).amax(1)
    assert (largest * 255).to(torch.uint8).tolist() == [254 if value else 0 for value in largest.tolist()]


# ---- boxes and affinity ---------------------------------------------------------------------------------------


def boxes_of(array):
    return {tuple(row) for row in array.tolist()}


def test_boxes_of_gradcam(case, list_of_boxes):
    maps = case.gradcam()
    assert torch.equal(box_masks(maps.scores, 0.4), case['aff_mask'][case.order].bool())
    for row, key in enumerate(case.order.tolist()):
        assert list_of_boxes(maps.scores[row], 0.4) == boxes_of(case[f'boxes_{key}'])


def test_boxes_of_given_maps(clip_es, bbox_case, list_of_boxes):
    score_map = clip_es[f'bbox/{bbox_case}/map']
    threshold = float(clip_es[f'bbox/{bbox_case}/thr'])
    threshold = float(np.format_float_positional(np.float32(threshold)))  # 0.4, not 0.4000000059604645
    boxes = boxes_of(clip_es[f'bbox/{bbox_case}/boxes'])
    assert list_of_boxes(score_map, threshold) == boxes
    assert boxes_of(clip_es[f'bbox/{bbox_case}/single']) <= boxes  # the largest contour alone: not used by any method
    union = torch.zeros(score_map.shape, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        union[y0:y1, x0:x1] = True
    assert torch.equal(box_masks(score_map[None], threshold)[0], union)


def test_refined_maps_at_patch_and_image_size(case, rounded_case, close):
    for used, prefix in ((rounded_case, ''), (case, 'nohalf_')):
        maps = used.gradcam()
        transition = transition_matrix(mean_attention(used.features.patch_attentions(), 8), rounds=3, power=2)
        refined = propagate(transition, maps.scores, maps.sample_index, box_masks(maps.scores, 0.4))
        close(refined, used[f'{prefix}cam_refined'][used.order], 0, of_max=1e-3)
        close(resize_maps(stretch(refined), used.size), used['cam_refined_highres'][used.order], 1e-3)


def test_the_pipeline_of_steps_gives_the_same(case, close):
    state = SeedState(images=case['image'][None], image_labels=case.labels, features={'clip': case.features},
                      text_features=case.text, encoders={'clip': case.clip})
    after = SeedPipeline([dict(type='GradCam'), dict(type='AttentionAffinity', layers=8, threshold=0.4),
                          dict(type='PixelLabels')])(state)
    close(after.history['gradcam'].scores, case['nohalf_gcam'][case.order], 1e-3)
    close(resize_maps(after.maps.scores, case.size), case['cam_refined_highres'][case.order], 1e-3)
    assert set(after.pixel_labels.unique().tolist()) <= {0, *(case.keys + 1).tolist()}


# ---- labels and their scores ----------------------------------------------------------------------------------


def labels_from_stored_map(case, threshold):
    """Label map of a stored map, with constant or power background. The authors save maps as float16 and go on
    computing in it, so that even the constant is rounded; such maps are full of ties, which go to the class that the
    XML names first."""
    scores = case['cam_refined_highres'].half()
    index = torch.zeros(len(scores), dtype=torch.long)
    maps = ClassMaps(scores, index, case.keys)
    method = 'power' if float(threshold) >= 1 else 'threshold'
    background = background_score(best_foreground(scores, index, 1), method, float(threshold))
    return label_pixels(maps, background)[0][0]


def test_labels(case, eval_threshold):
    expected = case[f'eval_pred_{eval_threshold}'].long()
    assert (labels_from_stored_map(case, eval_threshold) != expected).float().mean() <= 1e-3


def test_iou(clip_es, es_clip, eval_threshold):
    expected = clip_es[f'eval_iou_{eval_threshold}']
    matrix, images = 0, sorted(key.split('/')[0] for key in clip_es if key.endswith('/eval_gt'))
    for name in images:
        case = Case(clip_es, name, es_clip)
        labels = labels_from_stored_map(case, eval_threshold)
        matrix = matrix + confusion_matrix(labels, case['eval_gt'].long(), len(expected))
    report = IoUReport.from_confusion(matrix, [str(i) for i in range(len(expected))], len(images))
    ours = torch.tensor(report.iou, dtype=torch.float64)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=0, equal_nan=True)
    assert report.miou == pytest.approx(float(clip_es[f'eval_miou_{eval_threshold}']), abs=1e-3)
