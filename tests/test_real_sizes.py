"""At real size: checkpoint files of the published formats (random weights, full size) are read, and the published
configs take a training step, a seed and a refined prediction with them on real photographs.

The photographs are not part of the repository: without the folder ../shared these are skipped, and
tests/test_configs.py takes the same steps on drawn scenes.
"""
import csv
import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
from mmengine.dataset import pseudo_collate
from safetensors.torch import save_file
from segment_anything import sam_model_registry

from weclip_sam.datasets.prepare_coco import prepare_coco
from weclip_sam.datasets.readers.labels import write_label_table
from weclip_sam.engine import build_runner, load_config
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.dino import FrozenDino
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.foundation.sam_eye import SamEye
from weclip_sam.io.checkpoints import safe_load
from weclip_sam.io.images import read_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline.seed_run import run_seeds
from weclip_sam.registry import DATASETS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'
pytestmark = pytest.mark.slow
NAMES = ('2011_000003', '2011_000006', '2011_000025')


@pytest.fixture(scope='module')
def clip_files(tmp_path_factory):
    """(folder, state dict): one CLIP ViT-B/16 in half precision, as clip.pt, clip.safetensors and traced.pt."""
    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    model = open_clip.create_model('ViT-B-16-quickgelu', pretrained=None).half().eval()
    state = model.state_dict()
    torch.save(state, folder / 'clip.pt')
    save_file({key: value.contiguous() for key, value in state.items()}, folder / 'clip.safetensors')
    save_traced(model, folder / 'traced.pt')
    assert all(path.stat().st_size > 290e6 for path in folder.iterdir())
    yield folder, state
    shutil.rmtree(folder)


def save_traced(model, path):
    """As OpenAI made ViT-B-16.pt: the whole model traced, with three integers beside its weights."""
    for key, value in {'input_resolution': 224, 'context_length': 77, 'vocab_size': 49408}.items():
        vars(model).pop(key, None)  # a plain integer in open_clip
        model.register_buffer(key, torch.tensor(value))
    inputs = torch.zeros(1, 3, 224, 224).half(), torch.zeros(1, 77, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript is on its way out; the files people have are not
        torch.jit.trace(model, inputs, check_trace=False, strict=False).save(path)
        listed = torch.jit.load(path).state_dict()
    assert {'input_resolution', 'attn_mask', 'visual.proj'} <= set(listed)


@pytest.fixture(scope='module')
def weights(clip_files):
    """Files like ViT-B-16.pt (half precision, 299 MB), sam_vit_b_01ec64.pth (375 MB) and the DINOv2 ViT-S/14 of timm
    (88 MB); random content."""
    folder, _ = clip_files
    torch.save(sam_model_registry['vit_b']().state_dict(), folder / 'sam.pth')
    torch.save(timm.create_model('vit_small_patch14_dinov2.lvd142m', num_classes=0).state_dict(), folder / 'dino.pth')
    assert (folder / 'sam.pth').stat().st_size > 370e6 and (folder / 'dino.pth').stat().st_size > 85e6
    return folder


@pytest.mark.parametrize('name', ['clip.pt', 'clip.safetensors', 'traced.pt'])
def test_clip_vit_b16_is_read_from_every_published_format(name, clip_files):
    folder, expected = clip_files
    clip = FrozenClip('ViT-B-16-quickgelu', str(folder / name))
    found = clip.model.state_dict()
    assert sorted(found) == sorted(expected) and len(found) == 302
    for key, value in expected.items():
        assert found[key].dtype == torch.float32 and torch.equal(found[key], value.float()), key


def voc(root):
    """Two real VOC images, one to train on and one to validate on, with the label file that prepare_voc.py makes."""
    shutil.copytree(SHARED / 'voc_mini' / 'VOC2012', root)
    write_label_table(root / 'image_labels.csv', dict(zip(NAMES, (
        ['bottle', 'person'], ['chair', 'person', 'sofa'], ['bus', 'car']), strict=True)))
    lists = root / 'ImageSets' / 'Segmentation'
    (lists / 'train_aug.txt').write_text(NAMES[0])
    (lists / 'train.txt').write_text(NAMES[0])
    (lists / 'val.txt').write_text(NAMES[1])
    return {}


def coco(root):
    """The same images in COCO's layout, made ready by prepare_coco.py."""
    whole = json.loads((SHARED / 'coco_mini' / 'instances.json').read_text(encoding='utf-8'))
    whole['categories'] = [c for c in whole['categories'] if c['name'] != '_background_']
    (root / 'annotations').mkdir(parents=True)
    for split, names in (('train2014', NAMES[:1]), ('val2014', NAMES[1:2])):
        images = [i for i in whole['images'] if Path(i['file_name']).stem in names]
        kept = {i['id'] for i in images}
        part = dict(whole, images=images, annotations=[a for a in whole['annotations'] if a['image_id'] in kept])
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(part), encoding='utf-8')
        (root / split).mkdir()
        for name in names:
            shutil.copy(SHARED / 'coco_mini' / 'images' / f'{name}.jpg', root / split)
    report = prepare_coco(root, classes='json', workers=1)
    assert report.ok, report.text()
    return {f'{part}.reader.classes': 'json' for part in (
        'train_dataloader.dataset', 'val_dataloader.dataset', 'test_dataloader.dataset', 'seed_dataset')}


def rooms(root):
    """Two photographs of a user's own, with the rows of labels.csv that name them."""
    (root / 'images').mkdir(parents=True)
    with open(SHARED / 'rooms' / 'labels.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.reader(file))[:3]
    for name, _ in rows[1:]:
        shutil.copy(SHARED / 'rooms' / 'images' / name, root / 'images')
    with open(root / 'labels.csv', 'w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows(rows)
    return {}


LEAF = """
_base_ = [{method!r}, {sam!r}]
mask_bank, mask_dataset = {bank!r}, 'real'
train_dataloader = dict(dataset=dict(mask_bank=True, feature_bank=True))
model = dict(
    encoders=dict(sam=dict(type='SamEye')),
    seeds=[*_base_.seeds[:2], dict(type='EyeAffinity', eye='sam'), *_base_.seeds[-2:]])
custom_hooks = [dict(type='MaskBankHook')]
"""
SEEDS = """
_base_ = [{method!r}, {sam!r}]
mask_bank, mask_dataset = {bank!r}, 'real'
train_dataloader = dict(dataset=dict(mask_bank=True, feature_bank=True))
model = dict(encoders=dict(sam=dict(type='SamEye')),
             seeds=[_base_.seeds[0], dict(type='EyeAffinity', eye='sam'), *_base_.seeds[-2:]])
"""


@pytest.mark.skipif(not SHARED.is_dir(), reason='no ../shared folder beside the repository')
@pytest.mark.parametrize('name, data, side', [
    ('30k_voc', voc, 512), ('80k_coco', coco, 256), ('5k_folder', rooms, 256)])
def test_two_eyes_take_a_step_a_seed_and_a_prediction_with_real_files_on_real_images(
        name, data, side, weights, tmp_path, monkeypatch):
    """WeCLIP+ as published (DINO live, in its decoder) with SAM's eye in its seeds: SAM ViT-B makes masks and features
    of an image once; the step, the seed and the vote read them from the bank. The file's own 1,024 pixels would be most
    of the time: at fewer its position tables are resampled, which is what can fail here.
    """
    root, bank = tmp_path / 'data', tmp_path / 'masks'
    options = data(root) | {
        'data_root': str(root), 'model.clip.checkpoint': str(weights / 'clip.pt'),
        'mask_generator.sam.arch': 'vit_b', 'mask_generator.sam.image_size': side,
        'mask_generator.sam.checkpoint': str(weights / 'sam.pth'), 'train_dataloader.dataset.limit': 1,
        # Random weights are sure of nothing: take what comes, from few points.
        'mask_generator.points_per_side': 2, 'mask_generator.crop_n_layers': 0,
        'mask_generator.pred_iou_thresh': -100.0, 'mask_generator.stability_thresh': 0.0}
    training = {
        'model.encoders.dino.checkpoint': str(weights / 'dino.pth'), 'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False, 'train_dataloader.batch_size': 1, 'train_cfg.max_iters': 1,
        'param_scheduler.0.end': 1, 'param_scheduler.0.warmup_iters': 0}
    if data is not rooms:
        training |= {'val_dataloader.num_workers': 0, 'val_dataloader.persistent_workers': False,
                     'train_cfg.val_interval': 1}
    config = read(tmp_path / 'leaf.py', LEAF, f'weclip_plus/weclip-plus_vit-b16_{name}.py', bank, options | training)
    config.default_hooks.pop('sheets')
    config.work_dir, config.visualizer.vis_backends = str(tmp_path / 'run'), [dict(type='LocalVisBackend')]
    runner = build_runner(config)
    looks = count_looks(monkeypatch)
    runner.train()
    model = runner.model
    assert (looks.encoder, looks.eye) == (1, 0) and len(MaskBank(bank)) == 1
    assert isinstance(model.encoders['dino'], FrozenDino) and model.encoders['dino'].patch_size == 14
    saved = safe_load(tmp_path / 'run' / 'iter_1.pth')['state_dict']
    assert all(key.startswith('decoder') or key == 'progress' for key in saved)
    assert sum(value.numel() for value in saved.values()) == pytest.approx(2.93e6, rel=0.03)
    assert all(torch.isfinite(value).all() for value in saved.values())
    if data is not rooms:
        assert 0 <= json.loads((tmp_path / 'run' / 'summary.json').read_text(encoding='utf-8'))['val']['mIoU'] <= 100

    image = DATASETS.build(dict(config.train_dataloader.dataset, pipeline=[
        dict(type='ResizeLong', size=256), dict(type='PackSample', original=True)]))
    size, classes = image.image_size(0), image.image_labels[0].nonzero()[:, 0]
    model.set_test(dict(refine=[dict(type='VotePrediction')], crf=dict(iterations=1)), model.clip.patch_size)
    refined = model.eval().val_step(pseudo_collate([image[0]]))[0].prediction
    assert refined.shape == size and 0 <= refined.min() and refined.max() <= len(model.classes)
    seen = model.explain(pseudo_collate([image[0]]))
    assert {'gradcam', 'eye', 'par'} <= set(seen['stages']) and torch.equal(seen['cam_classes'], classes)
    seeds = [seen['seed'].numpy()]
    if data is voc:
        config = read(tmp_path / 'seeds.py', SEEDS, 'excel/excel_vit-b16_free_voc.py', bank, options)
        assert run_seeds(config, 'seeds', 'train', str(tmp_path / 'seeds'), torch.device('cpu')) == 0
        seeds.append(read_labels(tmp_path / 'seeds' / f'{image.image_ids[0]}.png', len(model.classes), size))
    assert (looks.encoder, looks.eye) == (1, 0)
    for seed in seeds:
        assert seed.shape == size and set(np.unique(seed)) <= {0, *(classes + 1).tolist()}


def read(path, text, method, bank, options):
    """A config of the user's own on a published one."""
    configs = ROOT / 'configs'
    path.write_text(text.format(method=str(configs / method), sam=str(configs / '_base_' / 'models' / 'sam_vit-h.py'),
                                bank=str(bank)))
    return load_config(path, options)


def count_looks(monkeypatch):
    """How often SAM's encoder looks for masks and their features, and how often it looks as an eye."""
    seen, see, forward = SimpleNamespace(encoder=0, eye=0), FrozenSam.see, SamEye.forward

    def watch_encoder(*args):
        seen.encoder += 1
        return see(*args)

    def watch_eye(*args, **kwargs):
        seen.eye += 1
        return forward(*args, **kwargs)
    monkeypatch.setattr(FrozenSam, 'see', watch_encoder)
    monkeypatch.setattr(SamEye, 'forward', watch_eye)
    return seen
