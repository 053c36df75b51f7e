"""Every config that people start a command with: found, named by the rule, complete, and able to make its first step.

The frozen networks and backbones are swapped for tiny ones with random weights, the data for two drawn scenes; steps,
losses and settings are the config's own. Two tests at the end build at real size.
"""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from weclip_sam.engine import load_config
from weclip_sam.engine.start.launch import _check_optimizer
from weclip_sam.engine.start.shared_settings import fill_shared_settings, mask_settings
from weclip_sam.engine.start.vocabulary import fill_vocabulary
from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.models.prompts import PromptLearner, save_prompts
from weclip_sam.offline.seed_making import make_seeds
from weclip_sam.offline.splits import seed_images
from weclip_sam.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS

ROOT = Path(__file__).parents[1]
NO_LEAVES = {'_base_', 'compare'}  # parts; experiment files of tools/compare.py, tested in tools/test_compare.py
LEAVES = sorted(p for p in (ROOT / 'configs').glob('*/*.py') if p.parts[-2] not in NO_LEAVES)
METHODS = {'weclip', 'weclip_plus', 'weclip_sam', 'clip_es', 'excel', 'sepl', 'fma', 'two_stage'}
NAME = re.compile(r'[a-z0-9-]+_[a-z0-9-]+_(free|\d+k?)_(shapes|voc|coco|folder)')
CARD = {'embed_dim': 16, 'quick_gelu': True,
        'vision_cfg': {'image_size': 32, 'layers': 6, 'width': 32, 'head_width': 16, 'patch_size': 16},
        'text_cfg': {'context_length': 32, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
SCENES = dict(type='ShapesReader', num_images=2, size=64)


def name_of(path):
    return f'{path.parent.name}/{path.stem}'


@pytest.fixture(scope='session')
def card(tmp_path_factory):
    path = tmp_path_factory.mktemp('card') / 'card.json'
    path.write_text(json.dumps(CARD))
    return str(path)


def walk(node):
    """Every dict in a config."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from walk(value)


def make_small(config, card, folder):
    """Tiny networks with random weights, two scenes of 64 pixels; labels and prompts come from ``folder``."""
    fill_shared_settings(config)
    for node in walk(config._cfg_dict):
        kind = node.get('type')
        if kind == 'FrozenClip':
            node.update(arch=card, checkpoint='random')
        elif kind == 'FrozenDino':
            node.update(arch='vit_tiny_patch16_224', checkpoint='random')
        elif kind == 'FrozenSam':
            node.update(arch='tiny', checkpoint='tiny')
        elif kind == 'MaskGenerator':
            node.update(points_per_side=4, crop_n_layers=0, pred_iou_thresh=0.2, stability_thresh=0.2,
                        min_region_area=4)
        elif kind == 'TimmBackbone':
            node.update(name='test_vit' if node['name'].startswith('vit') else 'test_resnet', weights=None)
        elif kind in ('RandomCrop', 'ResizeLong'):
            node.update(size=64)
        if 'reader' in node:
            split = node['reader'].get('split', 'train')
            node['reader'] = dict(SCENES, split='val' if split.startswith('val') else 'train')
        if isinstance(node.get('pixel_labels'), str):
            node['pixel_labels'] = str(folder)
        if node.get('mask_bank') is not None:
            node['mask_bank'] = None
    for key in ('prompts', 'start'):
        if config.model.get(key):
            config.model[key] = str(folder / 'prompts.safetensors')
    if config.model.type == 'SeedMaker' and any('Sam' in s['type'] or 'Sepl' in s['type'] for s in config.model.seeds):
        config.model.mask_generator = mask_settings(config)['generator']
    if config.model.type == 'WeClip' and 'MaskBankHook' in [h['type'] for h in config.get('custom_hooks') or []]:
        config.model.mask_generator = mask_settings(config)['generator']
    fill_vocabulary(config)
    return config


def optimizer_of(model, config):
    with DefaultScope.overwrite_default_scope('weclip_sam'):
        return build_optim_wrapper(model, dict(config.optim_wrapper))


def make_inputs(folder, config):
    """Labels as an earlier stage would have left them, and learnt prompts."""
    for index in range(2):
        labels = np.zeros((64, 64), int)
        labels[8:40, 8:30], labels[50:, 40:] = index + 1, 255
        write_labels(folder / f'train_0_{index:05}.png', labels)
    if config.model.get('prompts') or config.model.get('start'):
        dataset = DATASETS.build(dict(type='ImageLabelDataset', reader=SCENES)).metainfo
        clip = MODELS.build(config.model.clip)
        names = [*dataset['prompt_names'], *dataset['background_nouns']]
        save_prompts(folder / 'prompts.safetensors', PromptLearner(clip, names, n_ctx=config.model.get('n_ctx', 4)))


def test_all_leaf_configs_are_known():
    on_disk = {p for p in (ROOT / 'configs').rglob('*.py') if not NO_LEAVES & set(p.parts)}
    assert set(LEAVES) == on_disk and len(LEAVES) >= 45
    assert {p.parent.name for p in LEAVES} == METHODS
    covered = {(p.parent.name, p.stem.rsplit('_', 1)[1]) for p in LEAVES}
    assert {(m, d) for m in METHODS for d in ('shapes', 'voc', 'coco')} <= covered
    assert {('weclip_sam', 'folder'), ('clip_es', 'folder'), ('excel', 'folder')} <= covered


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_names_and_keys(path):
    text = path.read_text()
    docstring = text.split('"""')[1]
    assert NAME.fullmatch(path.stem), f'{path.stem}: <method>_<backbone>_<schedule>_<dataset>'
    assert text.count('\n') <= 25 and f'configs/{path.parent.name}/{path.name}' in docstring
    assert re.search(r'[Ss]econds|[Mm]inutes|hours|not\s+measured', docstring), 'what it costs'
    assert path.stem.endswith(('shapes', 'folder')) or 'ublished' in docstring, 'what it is expected to reach'
    config = load_config(path)
    for command in re.findall(r'configs/\S+\.py', docstring):
        assert (ROOT / command).is_file(), f'{path.name} tells to start {command}'
    assert 'seed' not in config.train_dataloader.get('sampler', {}), 'the order of the samples would ignore --seed'
    schedule, dataset = path.stem.split('_')[-2:]
    assert {'shapes': 'ShapesReader', 'voc': 'VocReader', 'coco': 'CocoReader', 'folder': 'FolderReader'}[dataset] == \
        config.train_dataloader.dataset.reader.type
    if schedule == 'free':
        assert config.model.type == 'SeedMaker' and 'train_cfg' not in config
    else:
        iterations = int(schedule.replace('k', '000'))
        assert config.train_cfg.max_iters == iterations
        assert config.param_scheduler[-1].end == iterations
    assert config.train_dataloader.dataset.get('with_masks', False) == ('supervised' in path.stem)
    earlier = (config.get('input_labels'), config.model.get('prompts'), config.model.get('start'),
               config.train_dataloader.dataset.get('pixel_labels'))
    later = [labels for labels in earlier if isinstance(labels, str)]
    for where in later:  # the file an earlier stage writes: that stage has a config
        stage = Path(where).parts[1]
        assert list((ROOT / 'configs').glob(f'*/{stage}.py')), f'{path.name} waits for {where}'


def steps_below(path):
    """How many ``_base_`` steps lie below a config file."""
    found = re.search(r'^_base_ = (.*?)$(?=\n\w|\n*\Z)', path.read_text(), re.S | re.M)
    below = re.findall(r"'([^']+)'", found[1]) if found else []
    return max((1 + steps_below(path.parent / name) for name in below), default=0)


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_a_leaf_stands_on_parts_and_these_on_little(path):
    """Leaf, part, the part that it varies; a third step where a leaf varies a leaf, or photographs have no masks."""
    assert 1 <= steps_below(path) <= 3


def test_hooks_are_never_addressed_by_position():
    pattern = re.compile(r'''custom_hooks((\.|__)\d+(\.|__)\w[\w.]*['"]?\s*[=:]|['"]?\]?\[\d)''')
    for text in ("'custom_hooks.{}.dataset.mask_bank': 1", 'custom_hooks__{}__interval=1', 'config.custom_hooks[{}]'):
        assert pattern.search(text.format(2))
    files = [p for folder in ('configs', 'tools', 'weclip_sam', 'tests', 'docs') for kind in ('py', 'md')
             for p in (ROOT / folder).rglob(f'*.{kind}')]
    found = {f'{path.relative_to(ROOT)}: {match[0]}' for path in [*files, *ROOT.glob('*.md')]
             for match in pattern.finditer(path.read_text(encoding='utf-8'))}
    assert len(files) > 200 and not found


def strings_of(node):
    if isinstance(node, str):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from strings_of(value)


@pytest.mark.parametrize('path', [p for p in LEAVES if 'mask_bank' in load_config(p)], ids=name_of)
def test_the_mask_bank_is_said_once_and_reaches_all(path):
    config = load_config(path)
    bank, generator = config.mask_bank, config.mask_generator
    assert list(strings_of(config.to_dict())).count(bank) == 1
    assert [node for node in walk(config._cfg_dict) if node == generator] == [generator]
    assert config.train_dataloader.dataset.mask_bank is config.seed_dataset.mask_bank is True
    config = load_config(path, {'mask_bank': '/other/bank'})
    fill_shared_settings(config)
    assert bank not in strings_of(config.to_dict())
    assert config.train_dataloader.dataset.mask_bank == config.seed_dataset.mask_bank == '/other/bank'
    for hook in config.get('custom_hooks') or []:
        if hook.type == 'MaskBankHook':
            assert hook == dict(type='MaskBankHook', bank='/other/bank', generator=generator,
                                dataset=config.mask_dataset)
    sheets = (config.get('default_hooks') or {}).get('sheets') or {}
    if 'MaskBankHook' in str(config.get('custom_hooks')):  # a seed that votes is shown with masks, whoever makes them
        assert sheets.get('mask_generator') == generator or sheets.dataset.mask_bank == '/other/bank'


# What VOC and COCO may differ in: where the images are, how long is trained, and what papers published for each.
APART = re.compile(r'data_root|mask_dataset|.*\.reader\..*|.*\bunlabelled|train_cfg\.(max_iters|val_interval)|'
                   r'param_scheduler\.\d+\.end|model\.rfm_start|(model\.)?seeds\.\d+\.(threshold|layers|boxes_of)|'
                   r'model\.agreement\.replace_start|train_dataloader\.batch_size|'
                   r'custom_hooks\.\d+\.dataset')
TWINS = [(p, next(p.parent.glob(f'{p.stem.rsplit("_", 2)[0]}_*_coco.py'), None)) for p in LEAVES if 'voc' in p.stem]


def settings_of(path):
    """Dotted names and values as a run has them; the names of the data sets and of their schedules are taken out."""
    config = load_config(path)
    fill_shared_settings(config)

    def leaves(node, name=''):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
        for key, value in items:
            yield from leaves(value, f'{name}.{key}' if name else str(key))
        if not items:
            own_names = r'(_\d+k)?_(voc|coco)\b|(voc|coco)(?=_train)'
            yield name, re.sub(own_names, '', node) if isinstance(node, str) else node
    return dict(leaves(config.to_dict()))


@pytest.mark.parametrize('voc, coco', TWINS, ids=lambda path: name_of(path) if path else 'none')
def test_voc_and_coco_differ_where_they_must(voc, coco):
    if coco is None:
        assert voc.stem == 'deeplab-v3_vit-b16_20k_voc'  # the only one without a twin
        return
    first, second = settings_of(voc), settings_of(coco)
    differ = {name for name in {*first, *second} if first.get(name, KeyError) != second.get(name, KeyError)}
    assert 'data_root' in differ and {name for name in differ if not APART.fullmatch(name)} == set()


def test_the_seed_of_a_run_orders_its_samples():
    config = load_config(ROOT / 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py')
    config.train_dataloader.dataset = dict(type='ImageLabelDataset', reader=dict(type='ShapesReader', num_images=30,
                                                                                 size=32))
    with DefaultScope.overwrite_default_scope('weclip_sam'):
        samplers = [Runner.build_dataloader(config.train_dataloader, seed=seed).sampler for seed in (0, 1, 1)]
    first, second, third = (sampler.order(0) for sampler in samplers)
    assert first != second == third


@pytest.mark.parametrize('path', LEAVES, ids=name_of)
def test_first_step(path, card, tmp_path):
    config = load_config(path)
    is_seeds = config.model.type == 'SeedMaker'
    make_small(config, card, tmp_path)
    make_inputs(tmp_path, config)
    if is_seeds:
        names = DATASETS.build(config.train_dataloader.dataset).metainfo
        config.model.vocabulary = {k: list(names[k]) for k in ('classes', 'prompt_names', 'background_nouns')}
        model = MODELS.build(config.model).eval()
        labels = str(tmp_path) if config.get('input_labels') else None
        report = make_seeds(model, DATASETS.build(seed_images(config, 'train', labels)), tmp_path / 'out')
        assert len(report.made) == 2 and not report.failed
        made = [read_labels(tmp_path / 'out' / f'{name}.png', 10, (64, 64)) for name in report.made]
        assert any(labels.any() for labels in made)
        return
    _check_optimizer(config)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    wrapper = optimizer_of(model, config)
    for scheduler in config.param_scheduler:
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=wrapper))
    for hook in config.get('custom_hooks') or []:
        HOOKS.build(hook)
    for metric in (config.get('val_evaluator'),):
        assert metric is None or METRICS.build(metric)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    scheduled = [group['lr'] for group in wrapper.param_groups]
    for group in wrapper.param_groups:
        group['lr'] = max(group['lr'], 1e-3)  # warm-ups start at nothing
    losses = model.train_step(pseudo_collate([dataset[0], dataset[1]]), wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values()) and losses['loss'] > 0 and scheduled
    changed = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert changed and (config.model.type != 'PromptTuner' or changed == ['prompts.context'] == list(before))
    if config.get('val_dataloader'):
        model.eval()
        item = DATASETS.build(config.val_dataloader.dataset)[0]
        sample = model.val_step(pseudo_collate([item]))[0]
        got = sample.image_scores if config.model.type == 'PromptTuner' else sample.prediction
        assert got.shape == ((10,) if config.model.type == 'PromptTuner' else (64, 64))


@pytest.mark.slow
def test_a_seed_and_a_training_step_with_a_real_vit_b16():
    """Sizes of the published models: the decoder has 6.0 M parameters, the maps come from 12 blocks of 768 channels."""
    config = load_config(ROOT / 'configs/weclip/weclip_vit-b16_30k_voc.py')
    config.model.clip.checkpoint = 'random'
    config.train_dataloader.dataset = dict(type='ImageLabelDataset', reader=SCENES, pipeline=[dict(type='PackSample')])
    fill_vocabulary(config)
    model = MODELS.build(config.model).train()
    assert (model.clip.width, model.clip.layers, model.clip.patch_size) == (768, 12, 16)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(6.0e6, rel=0.02)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    wrapper = optimizer_of(model, config)
    losses = model.train_step(pseudo_collate([dataset[0]]), wrapper)
    assert torch.isfinite(losses['loss'])


@pytest.mark.slow
def test_sam_vit_b_and_resnet101_at_real_width(tmp_path):
    generator = dict(load_config(ROOT / 'configs/sepl/sepl_vit-h_free_voc.py').mask_generator)
    generator.update(sam=dict(type='FrozenSam', arch='vit_b', checkpoint='random', image_size=64), points_per_side=2,
                     crop_n_layers=0, pred_iou_thresh=-10.0, stability_thresh=0.0)
    assert len(MODELS.build(generator).generate(np.zeros((40, 64, 3), np.uint8))) >= 0
    config = load_config(ROOT / 'configs/two_stage/deeplab-v2_resnet101_20k_voc.py')
    config.model.backbone.weights = None
    model = MODELS.build(dict(config.model, vocabulary=dict(classes=['a'] * 20))).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 65, 65)).shape == (1, 21, 9, 9)
