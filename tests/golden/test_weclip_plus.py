"""WeCLIP+: weclip_plus.npz by the package's own code path, from images to losses and gradients."""
import json
import re

import pytest
import torch

from weclip_sam.datasets import COCO_VOCABULARY, VOC_VOCABULARY
from weclip_sam.features import TokenFeatures
from weclip_sam.models.agreement import dice_loss, mutual_loss, replace_labels
from weclip_sam.models.losses import segmentation_loss
from weclip_sam.models.predict import multi_scale_logits
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample

IMAGENET = dict(mean=(123.675 / 255, 116.28 / 255, 103.53 / 255), std=(58.395 / 255, 57.12 / 255, 57.375 / 255))
# What each of the two public model files does; everything else is the same.
VARIANTS = dict(
    voc=dict(vocabulary=VOC_VOCABULARY, cam=dict(skip=1), rfm=dict(layers=6, threshold=None), switch=18_000),
    coco=dict(vocabulary=COCO_VOCABULARY, cam=dict(), rfm=dict(layers=8, threshold=0.7, boxes_of='gradcam'),
              switch=40_000))


def parameter_name(name):
    """Name of a decoder parameter of the authors' in the package's decoder."""
    rules = ((r'dino_decoder_fts_fuse\.', 'adapters.dino.'), (r'decoder_fts_fuse\.', 'adapters.clip.'),
             (r'linears_modulelist\.(\d+)\.proj_2\.', r'projections.\1.2.'),
             (r'linears_modulelist\.(\d+)\.proj\.', r'projections.\1.0.'), (r'linear_fuse\.', 'fuse.'),
             (r'decoder\.linear_pred\.', 'head.classify.'), (r'decoder\.transformer\.resblocks\.', 'head.layers.'),
             (r'\.attn\.', '.attention.'), (r'\.ln_(\d)\.', r'.norm\1.'), (r'\.mlp\.c_fc\.', '.mlp.0.'),
             (r'\.mlp\.c_proj\.', '.mlp.2.'))
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def steps_of(variant):
    return [dict(type='GradCam', **variant['cam']), dict(type='WeighByPrediction'),
            dict(type='RfmAffinity', **variant['rfm']), dict(type='Par'), dict(type='PixelLabels')]


@pytest.fixture(scope='session')
def dino_config(weclip_plus, tmp_path_factory):
    folder = tmp_path_factory.mktemp('weclip_plus_dino')
    state = {key: value.float() for key, value in weclip_plus.under('dino/sd').items()}
    patch, side = state['patch_embed.proj.weight'].shape[-1], int(weclip_plus['dino/pos_grid'])
    torch.save(state, folder / 'dino.pth')
    (folder / 'card.json').write_text(json.dumps(dict(
        img_size=patch * side, patch_size=patch, embed_dim=state['cls_token'].shape[-1], init_values=1.0,
        depth=len({key.split('.')[1] for key in state if key.startswith('blocks.')}),
        num_heads=int(weclip_plus['dino/heads']))))
    return dict(type='FrozenDino', arch=str(folder / 'card.json'), checkpoint=str(folder / 'dino.pth'),
                rounding='down', positions='hub', **IMAGENET)


@pytest.fixture(scope='session', params=sorted(VARIANTS))
def case(request, weclip_plus, dino_config, write_checkpoint, tmp_path_factory):
    checkpoint = write_checkpoint(weclip_plus, tmp_path_factory.mktemp('weclip_plus') / 'clip.pt')
    return Case(weclip_plus, request.param, str(checkpoint), dino_config)


class Case:
    """One of the two models with the fixture's weights, and what it makes of the training batch."""

    def __init__(self, arrays, name, checkpoint, dino):
        self.arrays, self.name, variant = arrays, name, VARIANTS[name]
        weights = {**arrays.under('dec'), **(arrays.under('dec_coco') if name == 'coco' else {})}
        weights = {parameter_name(key): value.float() for key, value in weights.items()}
        self.model = MODELS.build(dict(
            type='WeClip', clip=dict(type='FrozenClip', arch='auto', checkpoint=checkpoint, **IMAGENET),
            encoders=dict(dino=dino), vocabulary=variant['vocabulary'].metainfo(), seeds=steps_of(variant), rfm_start=0,
            decoder=dict(type='BranchDecoder', branches=dict(clip=1, dino=[-1]),
                         dim=len(weights['adapters.clip.fuse.bias']),
                         depth=len({key.split('.')[2] for key in weights if key.startswith('head.layers.')})),
            agreement=dict(dice_weight=1.0, dice_classes='all', mutual_weight=0.1, replace_start=variant['switch'],
                           replace_classes='any')))
        self.model.decoder.load_state_dict(weights)
        self.model.eval()
        self.rgb = arrays['in/image_uint8'].permute(0, 3, 1, 2).float()
        self.labels = torch.zeros(len(self.rgb), len(self.model.classes), dtype=torch.bool)
        for image, row in enumerate(self.labels):
            row[arrays[f'fp32/{name}/keys_{image}']] = True
        self.samples = []
        for row in self.labels:
            self.samples.append(SegSample())
            self.samples[-1].image_labels = row
            self.samples[-1].padding_mask = torch.zeros(self.rgb.shape[2:], dtype=torch.bool)
        self.model.set_progress(0)
        with torch.no_grad():
            self.features, self.decoded = self.model.see(self.rgb, True)
            self.state = self.model.make_seeds(self.rgb, self.samples, self.features, self.decoded, True)

    def __getitem__(self, key):
        return self.arrays[f'fp32/{self.name}/{key}']

    def maps_of(self, step, image):
        """The maps of an image after a step, in the order of the authors' keys."""
        maps, keys = self.state.history[step], self[f'keys_{image}']
        mine = maps.sample_index == image
        order = {int(c): row for row, c in enumerate(maps.class_index[mine])}
        return maps.scores[mine][[order[int(key)] for key in keys]]


def test_branches_and_affinity(case, weclip_plus, close):
    clip, dino = case.decoded.branches
    close(clip, case['s_clip'], 5e-4)
    close(dino, case['s_dino'], 5e-4)
    close(case.decoded.seg_logits.softmax(1), case['prob'], 5e-4)
    close(case.decoded.affinity, weclip_plus['fp32/attn_pred'], 2e-4)


def test_maps_and_labels(case, weclip_plus, close):
    for image in range(len(case.rgb)):
        close(case.maps_of('gradcam', image), case[f'gcam_{image}'], 1e-3)
        close(case.maps_of('weighed', image), case[f'cam_times_prob_{image}'], 5e-4)
        close(case.state.affinity[image], case[f'trans_mat_{image}'], 1e-4)
        refined = case[f'cam_refined_{image}']
        refined = refined - refined.amin((1, 2), keepdim=True)
        refined = refined / (refined.amax((1, 2), keepdim=True) + 1e-7)
        close(case.maps_of('affinity', image), refined, 2e-3)
        wrong = case.state.pixel_labels[image] != case[f'pseudo_label_{image}'].long()
        assert wrong.float().mean() <= 1e-3


@pytest.mark.parametrize('when', ['loss', 'late'])
def test_losses_and_gradients(case, when, close):
    switch = VARIANTS[case.name]['switch']
    case.model.set_progress(0 if when == 'loss' else switch + 1)
    case.model.decoder.zero_grad()
    losses = case.model.loss(case.rgb, case.samples)
    sum(losses.values()).backward()
    mutual = case[f'{when}/mutual_clip'] + case[f'{when}/mutual_dino']
    for name, value, rtol in (('seg', losses['loss_seg'], 5e-4), ('aff', losses['loss_affinity'] / 0.1, 5e-4),
                              ('dice', losses['loss_dice'], 5e-4), ('total', sum(losses.values()), 5e-4)):
        torch.testing.assert_close(value.detach(), case[f'{when}/{name}'], rtol=rtol, atol=0)
    torch.testing.assert_close(losses['loss_mutual'].detach() / 0.1, mutual, rtol=1e-3, atol=0)
    gradients = dict(case.model.decoder.named_parameters())
    for name, expected in case.arrays.under(f'fp32/{case.name}/{when}/grad').items():
        close(gradients[parameter_name(name)].grad, expected, 0, of_max=2e-3)


def test_labels_give_way_at_the_switch_only(case):
    """As published, classes that an image does not have may win; by default they may not."""
    switch = VARIANTS[case.name]['switch']
    labels, logits = case.state.pixel_labels, case.decoded.seg_logits
    agreement = case.model.agreement
    assert torch.equal(agreement.replaced(labels, logits, case.labels, switch), labels)
    late = agreement.replaced(labels, logits, case.labels, switch + 1)
    if f'fp32/{case.name}/late/pseudo_label' in case.arrays:
        assert (late != case['late/pseudo_label'].long()).float().mean() <= 1e-3
    named = replace_labels(labels, logits, case.labels)
    for image, row in enumerate(case.labels):
        assert set(named[image].unique().tolist()) <= {0, *(row.nonzero()[:, 0] + 1).tolist()}


class StoredTokens(torch.nn.Module):
    """A DINO that answers with the stored tokens of each scale in turn: published, it sees the rest, too."""

    def __init__(self, arrays, image):
        super().__init__()
        patch = arrays['dino/sd/patch_embed.proj.weight'].shape[-1]
        self.answers = []
        while f'test/{image}/dino_tokens_s{len(self.answers)}' in arrays:
            scale = len(self.answers)
            grid = tuple((arrays[f'test/{image}/dino_hw_s{scale}'] // patch).tolist())
            tokens = arrays[f'test/{image}/dino_tokens_s{scale}']
            self.answers.append(TokenFeatures(torch.nn.functional.pad(tokens, (0, 0, 1, 0))[None], grid))

    def forward(self, rgb):
        answer = self.answers.pop(0)
        return TokenFeatures(answer.tokens.expand(3, -1, -1, -1), answer.grid)


def test_multi_scale_prediction(case, weclip_plus, close):
    model, patch = case.model, case.model.clip.patch_size
    long_side = int(weclip_plus['test/resize_long'])
    for image in (0, 1):
        rgb = weclip_plus[f'test/{image}/image_uint8'].permute(2, 0, 1)[None].float()
        factor = long_side / max(rgb.shape[2:])
        size = tuple(int(side * factor) for side in rgb.shape[2:])
        normalised = torch.nn.functional.interpolate(model.clip.normalize(rgb), size=size, mode='bilinear',
                                                     align_corners=False)
        dino = StoredTokens(weclip_plus, image)

        def forward(images, dino=dino):
            features = dict(clip=model.clip.encode(images, wanted=model.decoder_wants['clip']), dino=dino(images))
            return model.decoder(features).seg_logits

        with torch.no_grad():
            fused = multi_scale_logits(forward, normalised, weclip_plus['test/scales'].tolist(), True, patch)
        close(fused, case[f'test/{image}/msc_segs'], 5e-4)


# ---- losses by themselves ------------------------------------------------------------------------------------------

def test_losses_on_stored_logits(weclip_plus):
    a, b = (weclip_plus[f'loss2/logits_{name}'].float() for name in 'ab')
    for suffix in ('', '255'):
        labels = weclip_plus[f'loss2/label{suffix}'].long()
        torch.testing.assert_close(segmentation_loss(a, labels), weclip_plus[f'loss2/seg{suffix}'], rtol=1e-5, atol=0)
        torch.testing.assert_close(dice_loss(a, labels, 'all'), weclip_plus[f'loss2/dice{suffix}'], rtol=1e-5, atol=0)
    expected = weclip_plus['loss2/mutual_a_from_b'] + weclip_plus['loss2/mutual_b_from_a']
    torch.testing.assert_close(mutual_loss((a, b), weclip_plus['loss2/label'].long()), expected, rtol=1e-5, atol=0)


def test_a_teacher_without_background_leaves_that_half_out(weclip_plus, close):
    """Deliberate difference: there the value is NaN; the gradient is the same."""
    logits = weclip_plus['loss2/logits_a'].float().requires_grad_()
    assert weclip_plus['loss2/mutual_no_bg'].isnan()
    loss = segmentation_loss(logits, weclip_plus['loss2/label_no_bg'].long())
    assert loss.isfinite()
    loss.backward()
    close(logits.grad, weclip_plus['loss2/mutual_no_bg_grad'], 1e-6)
