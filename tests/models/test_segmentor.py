"""The second stage: timm backbones, DeepLab heads, offline labels, and the light decoder taught offline."""
import json
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from weclip_sam.foundation.published import published
from weclip_sam.foundation.timm_weights import find_timm_weights
from weclip_sam.models.losses import affinity_labels, affinity_loss, pixel_cross_entropy, segmentation_loss
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = dict(classes=('cat', 'dog'), prompt_names=('cat', 'dog'), background_nouns=('grass',))
RESNET = dict(type='TimmBackbone', name='test_resnet', output_stride=8)
VIT = dict(type='TimmBackbone', name='test_vit')
CARD = {'embed_dim': 12, 'quick_gelu': True,
        'vision_cfg': {'image_size': 16, 'layers': 3, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}


def build(backbone=RESNET, head=None, **settings):
    torch.manual_seed(0)
    head = head or dict(type='DeepLabV3Head', channels=16, rates=(1, 2))
    return MODELS.build(dict(type='Segmentor', backbone=backbone, head=head, vocabulary=VOCABULARY, **settings))


def batch(count=2, size=(40, 56), labels=True, ori_shape=(30, 42)):
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for i in range(count):
        sample = SegSample(metainfo=dict(image_id=f'i{i}', ori_shape=ori_shape, img_shape=size,
                                         content_box=(0, 0, *size), flip=False))
        image = torch.randint(0, 90, (3, *size), generator=generator, dtype=torch.uint8)
        truth = torch.zeros(size, dtype=torch.long)
        truth[:, :20], truth[:, -16:] = 1, 2
        image[0, :, :20] += 150
        image[2, :, -16:] += 150
        truth[:4] = 255
        sample.image_labels = torch.tensor([True, True])
        sample.padding_mask = torch.zeros(size, dtype=torch.bool)
        if labels:
            sample.pixel_labels = truth
        inputs.append(image)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def loss_of(model, data):
    return model(**model.data_preprocessor(data), mode='loss')


@pytest.mark.parametrize('backbone, grid', [(RESNET, (5, 7)), (VIT, (3, 4))])
def test_learns_its_labels_and_predicts_at_the_original_size(backbone, grid):
    model = build(backbone).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = loss_of(model, batch())['loss_seg']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None for p in model.head.parameters())
    model.eval()
    data = model.data_preprocessor(batch(labels=False))
    assert model(data['inputs']).shape == (2, 3, *grid)
    samples = model(**data, mode='predict')
    assert samples[0].prediction.shape == (30, 42) and samples[0].prediction.dtype == torch.long
    assert torch.equal(model.explain(batch())['prediction'], samples[0].prediction)


def test_multi_scale_flip_and_crf_at_test_time():
    model = build(test=dict(scales=(1.0, 0.75), flip=True)).eval()
    data = model.data_preprocessor(batch(1))
    seen = []
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    plain = model(**data, mode='predict')[0].prediction
    assert seen == [(2, 3, 40, 56), (2, 3, 30, 42)]
    model.test_cfg['crf'] = dict(iterations=2, backend='lattice')
    refined = model(**data, mode='predict')[0].prediction
    assert refined.shape == plain.shape
    model.test_cfg['crf'] = dict(iterations=0, backend='lattice')
    assert torch.equal(model(**data, mode='predict')[0].prediction, plain)


def test_cross_entropy_counts_labelled_pixels_alone():
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[0, :2] = 255
    assert torch.allclose(pixel_cross_entropy(logits, labels), F.cross_entropy(logits, labels, ignore_index=255))
    large = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    up = F.interpolate(logits, (8, 8), mode='bilinear')
    assert torch.allclose(pixel_cross_entropy(logits, large), F.cross_entropy(up, large, ignore_index=255))
    nothing = pixel_cross_entropy(logits.requires_grad_(), torch.full_like(labels, 255))
    nothing.backward()
    assert nothing == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_heads_are_what_they_say():
    features = torch.randn(2, 8, 9, 9)
    large_fov = MODELS.build(dict(type='DeepLabV2Head', in_channels=8, num_classes=2, rates=(12,)))
    branch = large_fov.branches[0]
    assert branch.dilation == (12, 12) and large_fov(features).shape == (2, 3, 9, 9)
    v2 = MODELS.build(dict(type='DeepLabV2Head', in_channels=8, num_classes=2))
    assert [b.dilation[0] for b in v2.branches] == [6, 12, 18, 24]
    assert torch.allclose(v2(features), sum(F.conv2d(features, b.weight, b.bias, padding=b.padding, dilation=b.dilation)
                                            for b in v2.branches))
    v3 = MODELS.build(dict(type='DeepLabV3Head', in_channels=8, num_classes=2, channels=4, rates=(2, 3))).train()
    assert v3(features[:1]).shape == (1, 3, 9, 9)  # a batch of one trains
    with pytest.raises(ValueError, match='rates: expected at least one dilation'):
        MODELS.build(dict(type='DeepLabV2Head', in_channels=8, num_classes=2, rates=()))


def test_weights_come_from_files_of_the_same_network(tmp_path):
    source = build()
    state = source.backbone.model.state_dict()
    save_file({**state, 'fc.weight': torch.zeros(3, 96)}, tmp_path / 'net.safetensors')
    torch.save({'state_dict': {f'module.{k}': v for k, v in state.items()}}, tmp_path / 'net.pth')
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'run.pth')
    torch.manual_seed(7)
    for name in ('net.safetensors', 'net.pth', 'run.pth'):
        loaded = MODELS.build(dict(RESNET, weights=str(tmp_path / name)))
        assert all(torch.equal(value, loaded.model.state_dict()[key]) for key, value in state.items()), name
    with pytest.raises(ValueError, match='are of another network: .* for example'):
        MODELS.build(dict(VIT, weights=str(tmp_path / 'net.pth')))
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'net.pth').read_bytes()[:3000])
    with pytest.raises(ValueError, match=r'cut.pth \(3,000 bytes\): cannot be read: truncated'):
        MODELS.build(dict(RESNET, weights=str(tmp_path / 'cut.pth')))
    torch.save({'state_dict': print}, tmp_path / 'code.pth')
    with pytest.raises(ValueError, match='code.pth .*: refused.*`print`.*Nothing was executed'):
        MODELS.build(dict(RESNET, weights=str(tmp_path / 'code.pth')))
    with pytest.raises(FileNotFoundError, match='not there'):
        MODELS.build(dict(RESNET, weights=str(tmp_path / 'absent.pth')))
    torch.save(dict(state_dict=source.state_dict(), meta={}, message_hub=dict(log=HistoryBuffer([1.0], [1]))),
               tmp_path / 'iter_9.pth')
    loaded = MODELS.build(dict(RESNET, weights=str(tmp_path / 'iter_9.pth')))
    assert all(torch.equal(value, loaded.model.state_dict()[key]) for key, value in state.items())
    for option in ('pretrained', 'checkpoint_path'):
        with pytest.raises(ValueError, match=f"options must not hold '{option}': name the weights as weights"):
            MODELS.build(dict(RESNET, options={option: str(tmp_path / 'net.pth')}))


def test_missing_pretrained_weights_say_how_to_get_them(monkeypatch, tmp_path):
    import huggingface_hub
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *args: None)
    with pytest.raises(FileNotFoundError, match=r'Get resnet18\.a1_in1k\.safetensors .* fetch resnet18\.a1_in1k  or'):
        MODELS.build(dict(type='TimmBackbone', name='resnet18', weights='timm'))
    with pytest.raises(FileNotFoundError, match=r'\(179 MB, .*\) with: python tools/weights.py fetch resnet101\.tv'):
        find_timm_weights('resnet101.tv_in1k', 'timm')
    with pytest.raises(FileNotFoundError, match="names no source of pretrained weights of 'vit_tiny_patch16_384_x'"):
        find_timm_weights('vit_tiny_patch16_384_x', 'timm')


HUB = 'https://huggingface.co/timm'


@pytest.mark.parametrize('name, given, saved, words', [
    ('resnet101.tv_in1k', 'my nets/r.safetensors', "'my nets/r.safetensors'", r'Get resnet101\.tv_in1k\S+ \(179 MB, '),
    ('resnet101.tv_in1k', 'r.pth', 'resnet101.tv_in1k.safetensors', r'not there.* --to \.  .* \(and give \S+ as wei'),
    ('vit_base_patch16_224.augreg_in21k_ft_in1k', 'v.safetensors', 'v.safetensors', r'\(346 MB, licence apache-2.0\)'),
    ('resnet18.a1_in1k', 'r.safetensors', 'r.safetensors', r'resnet18\.a1_in1k\.\S+ \(licence apache-2.0\) with'),
    ('resnet18.a1_in1k', '.', 'resnet18.a1_in1k.safetensors', 'are a folder, not a file'),
])
def test_a_missing_file_of_weights_is_fetched_by_one_line(monkeypatch, tmp_path, name, given, saved, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=words) as raised:
        find_timm_weights(name, given)
    assert f'-o {saved} {HUB}/{name}/resolve/main/model.safetensors' in str(raised.value)
    assert str(raised.value).endswith(' as weights)') == (given in ('r.pth', '.'))


def test_every_size_is_that_of_its_network():
    configs = (Config.fromfile(path) for path in sorted((ROOT / 'configs' / '_base_' / 'models').glob('*.py')))
    backbones = [config.get('model', {}).get('backbone', {}) for config in configs]
    named = [backbone['name'] for backbone in backbones if backbone.get('weights') == 'timm']
    assert len(named) == 2 and published().keys() >= set(named)
    of_timm = {name: known.tensor_bytes for name, known in published().items() if known.tensor_bytes}
    assert of_timm.keys() >= set(named) and all(published()[name].hub == (f'timm/{name}', 'model.safetensors')
                                                for name in of_timm)
    for name, size in of_timm.items():
        with torch.device('meta'):
            network = timm.create_model(name)
        assert size == sum(value.numel() * value.element_size() for value in network.state_dict().values())


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"no model 'resnt101'. Did you mean 'resnet101'"):
        build(dict(type='TimmBackbone', name='resnt101'))
    with pytest.raises(ValueError, match='cannot be built with'):
        build(dict(VIT, output_stride=8))
    with pytest.raises(ValueError, match='vocabulary is missing'):
        MODELS.build(dict(type='Segmentor', backbone=RESNET, head=dict(type='DeepLabV2Head')))
    with pytest.raises(ValueError, match="pixel_labels='folder of label PNGs'"):
        loss_of(build(), batch(labels=False))
    with pytest.raises(ValueError, match="mode: expected one of"):
        build()(torch.zeros(1, 3, 32, 32), mode='train')


def test_the_light_decoder_learns_from_offline_labels(tmp_path):
    card = tmp_path / 'card.json'
    card.write_text(json.dumps(CARD))
    config = dict(type='WeClip', clip=dict(type='FrozenClip', arch=str(card), checkpoint='random'), labels='offline',
                  decoder=dict(type='WeClipDecoder', dim=16, depth=1, heads=2, dropout=0.0), vocabulary=VOCABULARY,
                  affinity_radius=3)
    model = MODELS.build(config).train()
    data = model.data_preprocessor(batch())
    losses = model(**data, mode='loss')
    labels = torch.stack([s.pixel_labels for s in data['data_samples']])
    decoded = model.decoder(model.encoders(data['inputs']))
    assert torch.allclose(losses['loss_seg'], segmentation_loss(decoded.seg_logits, labels))
    pairs = affinity_labels(labels, (5, 7), 3)
    assert torch.allclose(losses['loss_affinity'], 0.1 * affinity_loss(decoded.affinity, pairs))
    assert list(model.explain(batch())) == ['prediction']
    with pytest.raises(ValueError, match='pixel_labels='):
        loss_of(model, batch(labels=False))
    with pytest.raises(ValueError, match="labels='offline' none"):
        MODELS.build(dict(config, seeds=[dict(type='GradCam')]))
    with pytest.raises(ValueError, match=r"labels: expected one of .* Did you mean 'offline'"):
        MODELS.build(dict(config, labels='offlin'))
