"""At real size: checkpoint files of the published formats (random weights, full size) are read, and one training step
is started as its user starts it: tools/train.py, the published configs, real photographs.

The photographs are not part of the repository: without the folder ../shared the steps are skipped, and
tests/test_configs.py takes the same ones on drawn scenes.
"""
import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry

from weclip_sam.datasets.readers.labels import write_label_table
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.io.checkpoints import safe_load
from weclip_sam.mask_bank import MaskBank

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
    """Files like ViT-B-16.pt (half precision, 299 MB) and sam_vit_b_01ec64.pth (375 MB); random content."""
    folder, _ = clip_files
    torch.save(sam_model_registry['vit_b']().state_dict(), folder / 'sam.pth')
    assert (folder / 'sam.pth').stat().st_size > 370e6
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
    tool(['prepare_coco.py', root, '--classes', 'json', '--workers', '1'])
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


def tool(arguments, cwd=ROOT):
    done = subprocess.run([sys.executable, str(ROOT / 'tools' / arguments[0]), *map(str, arguments[1:])], cwd=cwd,
                          capture_output=True, text=True, timeout=500, env=dict(os.environ, OMP_NUM_THREADS='2'))
    assert done.returncode == 0, f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    return done.stdout


@pytest.mark.skipif(not SHARED.is_dir(), reason='no ../shared folder beside the repository')
@pytest.mark.parametrize('config, data, images, sam', [
    ('weclip-sam_vit-b16_30k_voc.py', voc, 1, 'vit_b'), ('weclip-sam_vit-b16_80k_coco.py', coco, 1, 'tiny'),
    ('weclip-sam_vit-b16_5k_folder.py', rooms, 2, 'tiny')])
def test_weclip_sam_takes_a_step_with_real_files_on_real_images(config, data, images, sam, weights, tmp_path):
    """SAM makes the masks (ViT-B at 1024 pixels once: it is most of the time), CLIP ViT-B/16 the maps, and the decoder
    moves."""
    root, work_dir, bank = tmp_path / 'data', tmp_path / 'run', tmp_path / 'masks'
    options = data(root)
    options |= {
        'data_root': root, 'mask_bank': bank, 'model.clip.checkpoint': weights / 'clip.pt',
        'mask_generator.sam.arch': sam,
        'mask_generator.sam.checkpoint': weights / 'sam.pth' if sam == 'vit_b' else 'tiny',
        # Random weights are sure of nothing: take what comes, from few points.
        'mask_generator.points_per_side': 2, 'mask_generator.crop_n_layers': 0,
        'mask_generator.pred_iou_thresh': -100.0, 'mask_generator.stability_thresh': 0.0,
        'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
        'train_dataloader.batch_size': images, 'train_cfg.max_iters': 1, 'param_scheduler.0.end': 1,
        'param_scheduler.0.warmup_iters': 0}
    if data is not rooms:
        options |= {'val_dataloader.num_workers': 0, 'val_dataloader.persistent_workers': False,
                    'train_cfg.val_interval': 1, 'default_hooks.sheets.mask_generator': None}
    settings = [f'{name}={value}' for name, value in options.items()]
    tool(['train.py', ROOT / 'configs' / 'weclip_sam' / config, '--work-dir', work_dir, '--cfg-options', *settings])

    summary = json.loads((work_dir / 'summary.json').read_text(encoding='utf-8'))
    assert len(MaskBank(bank)) == images
    saved = safe_load(work_dir / 'iter_1.pth')['state_dict']
    assert not any(name.startswith(('clip.', 'sam.')) for name in saved)
    assert sum(value.numel() for name, value in saved.items() if name.startswith('decoder')) > 5e6
    assert all(torch.isfinite(value).all() for value in saved.values())
    if data is not rooms:
        assert 0 <= summary['val']['mIoU'] <= 100
