"""The inference path as one graph: the same labels for images of any number and size; torch alone is needed."""
import copy
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from untrained import write_checkpoint

from weclip_sam.datasets.frame import Frame
from weclip_sam.engine.start.restore import restore_model
from weclip_sam.export.deploy import InferenceNetwork, export_network, network_card
from weclip_sam.export.deploy.card import _resizing, _step
from weclip_sam.export.deploy.deployed import resized
from weclip_sam.export.deploy.network import broken_condition
from weclip_sam.io.images import fit_within
from weclip_sam.registry import TRANSFORMS

SCRIPT = Path(__file__).parents[2] / 'docs' / 'deploy' / 'use_onnx.py'
# In torch 2.11 a pooling asks whether a side is even.
CONVOLUTIONS_FAIL = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 15)
# A vision transformer of timm's whose patches (10) do not divide CLIP's (8), positions as torch.hub resizes them.
CARD = dict(img_size=30, patch_size=10, embed_dim=24, depth=2, num_heads=2)
MODELS_OF = dict(
    weclip=('weclip/weclip_tiny_400_shapes.py', {}),
    main_job=('weclip_sam/weclip-sam_tiny_400_shapes.py', {}),
    weclip_plus=('weclip_plus/weclip-plus_tiny_400_shapes.py', {
        'model.encoders': dict(_delete_=True, dino=dict(type='FrozenDino', checkpoint='random', positions='hub')),
        'model.decoder.branches': dict(_delete_=True, clip=1, dino=[-1])}),
    second_stage=('two_stage/deeplab-v3_resnet18_800_shapes.py', {'model.head.channels': 8}),
    second_stage_vit=('two_stage/deeplab-v3_vit-b16_20k_voc.py', {
        'model.backbone': dict(_delete_=True, type='TimmBackbone', name='test_vit', weights=None),
        'model.head.channels': 8}))


def images(count, height, width):
    """Squares of one colour each: noise would look alike everywhere."""
    shape = count, 3, -(-height // 16), -(-width // 16)
    small = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(height + width))
    return small.repeat_interleave(16, 2).repeat_interleave(16, 3)[..., :height, :width].contiguous()


@pytest.fixture(scope='module')
def build(tmp_path_factory):
    def made(name):
        config, options = MODELS_OF[name]
        folder = tmp_path_factory.mktemp('network')
        if name == 'weclip_plus':
            (folder / 'dino.json').write_text(json.dumps(CARD))
            options = copy.deepcopy(options)
            options['model.encoders']['dino']['arch'] = str(folder / 'dino.json')
        path = write_checkpoint(folder / f'{name}.pth', config, options, ('cat', 'dog'))
        model, config, meta = restore_model(path)
        network = InferenceNetwork(model)
        return network, network_card(network, config, meta, path)
    return made


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.skipif(CONVOLUTIONS_FAIL and name == 'second_stage', reason='older torch'))
    for name in MODELS_OF])
def test_a_program_for_all_sizes_gives_the_labels_of_the_model(build, name):
    network, card = build(name)
    program = export_network(network).module()
    unit, least = network.divisor, network.smallest
    assert unit in (1, 8, 16) and least % unit == 0 and card['smallest'] == least
    native = 14 * unit if unit > 1 else 112  # the grid that CLIP and SAM were made for
    seen = set()
    for count, height, width in (
            (1, native, native), (3, least, 3 * least), (1, least, least), (2, 2 * native, native)):
        given = images(count, height, width)
        with torch.no_grad():
            labels, logits = network(given)
            own_labels, own_logits = program(given)
        assert own_labels.dtype == torch.uint8 and own_labels.shape == (count, height, width)
        assert (own_labels == labels).float().mean() >= 0.999
        torch.testing.assert_close(own_logits, logits, atol=2e-4, rtol=1e-3)
        seen.update(labels.unique().tolist())
    assert len(seen) > 1, 'a model that says one thing only tests little'


def test_labels_are_those_of_the_model_s_own_prediction(build):
    network, _ = build('weclip')
    given = images(2, 48, 64)
    with torch.no_grad():
        labels, logits = network(given)
        enlarged = torch.nn.functional.interpolate(network.model.tensor(given.float()), (48, 64), mode='bilinear')
    assert torch.equal(labels.long(), enlarged.argmax(1)) and logits.shape == (2, 3, 6, 8)


def test_the_card_says_what_somebody_needs(build):
    network, card = build('main_job')
    assert card['classes'] == ['background', 'cat', 'dog'] and len(card['palette']) == 3
    assert card['divisor'] == 8 and card['pad_value'] == 114 and card['border'] == 'pad'
    assert card['read'] == dict(least=0, most=2048, unit=1, round='nearest', filter='bicubic')
    assert card['resize'] == []
    assert set(card['normalisation']) == {'where', 'clip', 'sam'}
    assert card['normalisation']['sam']['mean'] == [0.485, 0.456, 0.406]
    assert card['left_out'] == []
    assert json.loads(json.dumps(card)) == card
    _, card = build('second_stage_vit')
    assert card['resize'] == [dict(least=512, most=512, unit=1, round='down', filter='bilinear')]
    assert card['read']['most'] is None and card['normalisation']['backbone']['mean'] == [0.5, 0.5, 0.5]


SIZES = [(4096, 3071), (4096, 2047), (333, 250), (7, 5000), (5000, 1), (1, 1), (120, 80), (121, 17), (96, 96)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('own', [
    None, dict(type='ResizeLong', size=120), dict(type='ResizeLong', size=120, only_shrink=True),
    dict(type='ResizeToMultiple', divisor=24)])
def test_a_step_of_the_card_gives_the_size_that_the_package_gives(size, own):
    """``None``: what a photo is shrunk to when it is read."""
    picture = Image.new('1', size)
    if own is None:
        height, width = fit_within(size[::-1], 2048)
        step = _resizing('nearest', most=2048, rounded='nearest')
    else:
        results = TRANSFORMS.build(dict(own, interpolation='nearest'))(
            dict(image=np.zeros((*size[::-1], 3), np.uint8), frame=Frame.whole(*size[::-1])))
        height, width = results['image'].shape[:2]
        step = _step(dict(own, interpolation='nearest'))
    assert resized(picture, step).size == (width, height)


def test_a_step_of_somebody_s_own_is_named():
    step = _step(dict(type='Mine', size=3))
    assert step == dict(type='Mine', size=3)
    with pytest.raises(ValueError, match="prepared by 'Mine', which is not known here"):
        resized(Image.new('RGB', (4, 4)), step)


def test_what_is_left_out_is_said(tmp_path):
    path = write_checkpoint(tmp_path / 'a.pth', 'weclip/weclip_tiny_400_shapes.py', {
        'model.test': dict(scales=(1.0, 0.75), flip=True, crf=dict(iterations=1), refine=[dict(type='Par')])},
        ('cat', 'dog'))
    model, config, meta = restore_model(path)
    card = network_card(InferenceNetwork(model), config, meta, path)
    assert card['left_out'] == ['Par', 'CRF', 'other scales and mirror images']


def test_models_that_cannot_be_exported_are_refused():
    with pytest.raises(ValueError, match='a Linear predicts no label for every pixel'):
        InferenceNetwork(nn.Linear(2, 2))


@pytest.mark.slow
def test_a_part_that_asks_for_the_size_is_named(build):
    network, _ = build('second_stage_vit')
    head = network.model.head
    plain = head.forward
    head.forward = lambda features: plain(features) * (2 if features.shape[2] == 5 else 1)
    with pytest.raises(ValueError, match='this Segmentor cannot be exported .*not met by images of 80 x 32 in a batch'):
        export_network(network)


def test_conditions_are_tried_on_many_sizes():
    holds = ["L['image'].size()[2] >= 16", "(L['image'].size()[3] % 8) == 0", "torch.sym_max(1, 2) == 2"]
    assert broken_condition(holds, 8, 2) is None
    assert 'images of 16 x 56 in' in broken_condition([*holds, "L['image'].size()[3] // 8 != 7"], 8, 2)
    assert 'batch of 4' in broken_condition([*holds, "L['image'].size()[0] < 4"], 8, 2)


def test_too_many_classes(build):
    network, _ = build('second_stage')
    network.model.classes = tuple(map(str, range(256)))
    with pytest.raises(ValueError, match='256 classes and the background'):
        InferenceNetwork(network.model)


def test_the_script_says_in_one_line_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(SystemExit, match='^error: onnxruntime is missing: pip install onnxruntime'):
        runpy.run_path(str(SCRIPT))
