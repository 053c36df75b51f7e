"""What a config needs, and whether it is there and right."""
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from weclip_sam.checking import weights as module
from weclip_sam.checking.weights import MISSING, RIGHT, THERE, WRONG, Need, merge, needs, shipped_configs, state_of
from weclip_sam.engine import load_config
from weclip_sam.foundation.published import published, timm_checkpoint

CONTENT = b'weights' * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KNOWN = replace(published()['sam_vit_b'], bytes=len(CONTENT), sha256=SHA256)


def named(config):
    return {need.name: need for need in needs(config, optional=False)}


def test_every_part_with_weights_is_listed_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = dict(type='FrozenClip', arch='ViT-B-16-quickgelu')  # 'openai' unless something else is said
    sam = dict(type='FrozenSam', arch='vit_h', checkpoint='checkpoints/sam_vit_h_4b8939.pth')
    config = dict(
        model=dict(clip=clip, eye=dict(clip, mean=(0, 0, 0)), dino=dict(type='FrozenDino'), tiny=dict(
            type='FrozenSam', arch='tiny', checkpoint='tiny'), random=dict(type='FrozenSam', arch='vit_l'),
            backbone=dict(type='TimmBackbone', name='resnet18', weights='timm'),
            untrained=dict(type='TimmBackbone', name='resnet50'), own=dict(clip, checkpoint='mine/clip.pt'),
            prompts='work_dirs/a/prompts.safetensors', attributes='words.txt'),
        mask_generator=dict(type='MaskGenerator', sam=sam), load_from='iter_9.pth')
    found = named(config)
    assert set(found) == {'clip_vit-b16', 'vit_small_patch14_dinov2.lvd142m', 'tiny SAM', 'resnet18.a1_in1k',
                          'mine/clip.pt', 'sam_vit_h', 'work_dirs/a/prompts.safetensors', 'words.txt', 'iter_9.pth'}
    assert found['clip_vit-b16'].wanted_by == ('model.clip', 'model.eye')
    assert found['clip_vit-b16'].places[0] == Path('checkpoints/ViT-B-16.pt')
    assert found['clip_vit-b16'].hub == 'timm/vit_base_patch16_clip_224.openai'
    assert found['mine/clip.pt'].known is None and found['tiny SAM'].licence == 'Apache-2.0'
    assert 'PromptTuner' in found['work_dirs/a/prompts.safetensors'].note and not found['words.txt'].note
    optional = {need.name: need for need in needs(config) if not need.needed}
    assert set(optional) == {'sam_vit_l', 'sam_vit_b'} and optional['sam_vit_b'].wanted_by == ('--sam vit_b',)


@pytest.mark.parametrize('name, expected', [
    ('weclip_sam/weclip-sam_vit-b16_30k_voc', {'clip_vit-b16', 'sam_vit_h', 'vit_small_patch14_dinov2.lvd142m'}),
    ('weclip_sam/weclip-sam_tiny_400_shapes', {'tiny CLIP', 'tiny SAM'}),
    ('sepl/sepl_vit-h_free_voc', {'sam_vit_h'}),
    ('two_stage/deeplab-v2_resnet101_20k_voc', {'resnet101.tv_in1k'}),
    ('fma/fma-coarse_vit-b16_free_voc', {'clip_vit-b16', 'sam_vit_h',
                                         'work_dirs/fma-cls-prompts_vit-b16_1800_voc/prompts.safetensors'})])
def test_the_package_s_configs(name, expected):
    file = next(path for path in shipped_configs() if f'{path.parent.name}/{path.stem}' == name)
    assert set(named(load_config(file))) == expected


def test_there_missing_wrong_and_right(tmp_path):
    path = tmp_path / KNOWN.file
    need = Need(KNOWN.name, 'SAM', (tmp_path / 'nowhere', path), ('a',), KNOWN)
    assert state_of(need).verdict == MISSING
    path.write_bytes(CONTENT)
    assert state_of(need) == module.State(THERE, path, 'its size is right')
    assert state_of(need, verify=True).verdict == RIGHT
    assert state_of(replace(need, known=None), verify=True) == module.State(THERE, path, '')
    path.write_bytes(CONTENT[:-1] + b'?')
    assert state_of(need).verdict == THERE
    wrong = state_of(need, verify=True)
    assert wrong.verdict == WRONG and f'expected {SHA256} (not published, but several others' in wrong.told
    path.write_bytes(CONTENT[:-1])
    assert state_of(need).told == 'it has 699 bytes, expected 700'


def test_a_file_of_another_name_is_not_taken_for_the_published_one(tmp_path):
    (tmp_path / 'mine.pth').write_bytes(b'mine')
    found = state_of(Need(KNOWN.name, 'SAM', (tmp_path / 'mine.pth',), ('a',), KNOWN), verify=True)
    assert found.verdict == THERE and found.told == 'nothing is known to compare with'


def test_the_hub_s_cache_is_checked_against_the_name_that_it_gave(tmp_path, monkeypatch):
    blob = tmp_path / 'blobs' / SHA256
    blob.parent.mkdir()
    blob.write_bytes(CONTENT)
    link = tmp_path / 'snapshots' / 'abc' / 'model.safetensors'
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    known = timm_checkpoint('resnet18')
    monkeypatch.setattr(module, 'hub_copy', lambda hub: link)
    need = Need(known.name, known.what, (link,), ('a',), known)
    assert state_of(need).verdict == THERE
    assert state_of(need, verify=True) == module.State(RIGHT, link, "SHA-256 as the hub's cache has it filed")
    blob.write_bytes(b'other')
    assert state_of(need, verify=True).verdict == WRONG
    assert 'from 86,662,656' in state_of(replace(need, known=published()['vit_small_patch16_224.dino'])).told


def test_merging_keeps_the_needed_first():
    one = Need('a', 'A', (Path('a'),), ('x',), needed=False)
    assert merge([one, replace(one, name='b'), replace(one, needed=True, wanted_by=('y',))]) == [
        replace(one, needed=True, wanted_by=('x', 'y')), replace(one, name='b')]
    assert merge([replace(one, needed=True), replace(one, wanted_by=('y',))]) == [replace(one, needed=True)]


def test_the_tiny_dino_comes_with_the_package():
    model = dict(load_config('configs/weclip_plus/weclip-plus_vit-b16_30k_voc.py').to_dict())
    model['model']['encoders']['dino'] = dict(type='FrozenDino', arch='tiny', checkpoint='tiny')
    need, = (each for each in needs(model, optional=False) if each.what == 'tiny DINO')
    assert need.note == 'comes with the package' and need.licence and state_of(need).verdict == THERE
