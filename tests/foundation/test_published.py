"""Facts about published checkpoints are said once, and found by the names that people have for them."""
import json
from urllib.parse import urlsplit

import pytest

from weclip_sam.foundation import published as module
from weclip_sam.foundation.clip_weights import tag_places
from weclip_sam.foundation.published import WHO, clip_checkpoint, find_published, published, timm_checkpoint


def test_the_table_is_whole_and_agrees_with_itself():
    table = json.loads(module.TABLE.read_text(encoding='utf-8'))
    assert list(published()) == list(table)  # timm knows every network in it
    files = [known.file for known in published().values()]
    assert len(set(files)) == len(files)
    for name, known in published().items():
        assert known.name == name and known.gate == 'none' and known.licence and known.sha256_by in WHO
        assert urlsplit(known.url).scheme == 'https' and (known.bytes is None) != (known.tensor_bytes is None)
        assert (known.sha256 is None) == (known.sha256_by == 'hub') == (known.hub is not None)
        assert known.sha256 is None or len(bytes.fromhex(known.sha256)) == 32


def test_openai_s_file_has_its_sha256_in_its_url():
    known = clip_checkpoint('ViT-B-16-quickgelu', 'openai')
    assert known is published()['clip_vit-b16'] is clip_checkpoint('ViT-B-16', 'openai')
    assert f'/{known.sha256}/' in known.url and known.bytes == 350_837_078
    other = clip_checkpoint('ViT-L-14-quickgelu', 'openai')  # not in the table: what open_clip says
    assert other.sha256 == other.url.split('/')[-2] and other.sha256_by == 'publisher' and other.file == 'ViT-L-14.pt'
    hub = clip_checkpoint('ViT-B-16', 'laion2b_s34b_b88k')
    assert hub.hub == ('laion/CLIP-ViT-B-16-laion2B-s34B-b88K', 'open_clip_model.safetensors')
    assert hub.file == 'ViT-B-16.laion2b_s34b_b88k.safetensors' and hub.url.endswith('/resolve/main/' + hub.hub[1])
    assert clip_checkpoint('ViT-B-16', 'nobodys') is None


def test_the_size_of_a_file_is_exact_or_a_little_more_than_its_tensors():
    sam, dino = published()['sam_vit_b'], published()['vit_small_patch16_224.dino']
    assert sam.size_fits(375_042_383) and not sam.size_fits(375_042_384) and sam.size == '375 MB'
    assert dino.size_fits(86_662_656 + 20_000) and dino.size == '87 MB'
    assert not dino.size_fits(86_662_655) and not dino.size_fits(88_662_656)
    unknown = timm_checkpoint('resnet18')
    assert unknown.size_fits(1) and unknown.size == '' and unknown.facts == ' (licence apache-2.0)'
    assert unknown.name == 'resnet18.a1_in1k' and unknown.file == 'resnet18.a1_in1k.safetensors'


@pytest.mark.parametrize('name, found', [
    ('sam_vit_h', 'sam_vit_h'), ('vit_h', 'sam_vit_h'), ('sam_vit_h_4b8939.pth', 'sam_vit_h'),
    ('ViT-B-16.pt', 'clip_vit-b16'), ('resnet101.tv_in1k', 'resnet101.tv_in1k'),
    ('resnet101.tv_in1k.safetensors', 'resnet101.tv_in1k'), ('resnet18.a1_in1k', 'resnet18.a1_in1k'),
    ('ViT-B-16-quickgelu.openai', 'clip_vit-b16'), ('ViT-L-14.openai', 'ViT-L-14.openai'),
    ('vit_small_patch16_dinov3.lvd1689m', 'vit_small_patch16_dinov3.lvd1689m')])
def test_names_that_people_have_for_them(name, found):
    assert find_published(name).name == found


def test_a_slip_names_the_nearest():
    with pytest.raises(ValueError, match="no checkpoint is called 'sam_vit_hh'. Did you mean 'sam_vit_h'"):
        find_published('sam_vit_hh')
    assert find_published('vit_small_patch16_dinov3.lvd1689m').licence == 'dinov3-license'


def test_what_is_fetched_is_found_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = published()['clip_vit-b16']
    assert tag_places('ViT-B-16-quickgelu', 'openai')[0] == known.place
    assert known.place.as_posix() == 'checkpoints/ViT-B-16.pt'
    assert 'fetch clip_vit-b16  or: curl' in known.how_to_get()
    assert 'fetch clip_vit-b16 --to ' in known.how_to_get(tmp_path)  # a folder
    assert 'weights.py fetch' not in known.how_to_get(tmp_path / 'mine.pt')  # fetch would call it otherwise
