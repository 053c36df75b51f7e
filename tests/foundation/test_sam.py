"""FrozenSam computes what segment_anything computes, reads what people have on disk, and says what is wrong with it."""
import copy
import json
import pickle
import time
import warnings

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from segment_anything import SamPredictor, sam_model_registry

from weclip_sam.foundation.sam import FrozenSam, build_sam, decode_points
from weclip_sam.foundation.sam_card import CARDS, SamCard, load_card
from weclip_sam.registry import MODELS

CARD = dict(image_size=64, patch_size=8, embed_dim=32, depth=2, num_heads=2, window_size=4, global_attn_indexes=[1],
            prompt_dim=32, decoder_heads=4, decoder_mlp_dim=64, iou_head_hidden_dim=32)


@pytest.fixture(scope='module')
def sam():
    return FrozenSam(CARD, 'random', seed=1)


@pytest.fixture(scope='module')
def vit_b_file(tmp_path_factory):
    """A file like sam_vit_b_01ec64.pth: same names, shapes and format, random content."""
    torch.manual_seed(0)
    model = sam_model_registry['vit_b']()
    torch.nn.init.normal_(model.image_encoder.pos_embed)
    path = tmp_path_factory.mktemp('sam') / 'sam_vit_b_01ec64.pth'
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize('arch', ['vit_b', 'vit_l', 'vit_h'])
def test_cards_build_the_librarys_models(arch):
    with torch.device('meta'):
        ours, theirs = build_sam(arch).state_dict(), sam_model_registry[arch]().state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    windows = [b.window_size for b in build_on_meta(arch).image_encoder.blocks]
    assert windows == [b.window_size for b in registry_on_meta(arch).image_encoder.blocks]


def build_on_meta(arch):
    with torch.device('meta'):
        return build_sam(arch)


def registry_on_meta(arch):
    with torch.device('meta'):
        return sam_model_registry[arch]()


@pytest.mark.parametrize('shape', [(64, 64), (50, 90), (33, 20), (1, 40)])
def test_points_give_the_predictors_masks(sam, shape):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    predictor = SamPredictor(sam.sam)
    predictor.set_image(rgb)
    embedding = sam.embed(sam.preprocess(torch.from_numpy(rgb).permute(2, 0, 1))[None])
    assert torch.allclose(embedding, predictor.get_image_embedding(), atol=1e-5)
    points = np.array([[3.0, 0.0], [17.0, shape[0] - 1.0]])
    scaled = torch.from_numpy(predictor.transform.apply_coords(points, shape)).float()
    logits, iou = sam.decode(embedding, torch.zeros(2, dtype=torch.long), scaled)
    for i in range(2):
        masks, expected_iou, low = predictor.predict(points[i:i + 1], np.array([1]), return_logits=True)
        assert np.allclose(logits[i], low, atol=1e-5) and np.allclose(iou[i], expected_iou, atol=1e-5)
        assert np.allclose(sam.upscale(logits[i:i + 1], shape)[0], masks, atol=1e-5)


def test_prompts_of_several_images_in_one_call(sam):
    embeddings = sam.embed(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    index, points = torch.tensor([2, 0, 0, 1]), torch.tensor([[5.0, 6], [30, 9], [2, 60], [63, 63]])
    together, iou = decode_points(sam.sam, embeddings, index, points)
    assert together.shape == (4, 4, 32, 32) and iou.shape == (4, 4)
    for n, image in enumerate(index):
        alone = sam.decode(embeddings[image][None], torch.zeros(1, dtype=torch.long), points[n][None])
        assert torch.allclose(together[n, 1:], alone[0][0], atol=1e-6)
        assert torch.allclose(iou[n, 1:], alone[1][0], atol=1e-6)


def test_decoding_is_differentiable_for_training():
    sam = build_sam(CARD)
    embeddings = torch.randn(1, 32, 8, 8, requires_grad=True)
    decode_points(sam, embeddings, torch.tensor([0]), torch.tensor([[8.0, 8.0]]))[0].sum().backward()
    assert embeddings.grad.abs().sum() > 0 and sam.mask_decoder.mask_tokens.weight.grad is not None


def test_frozen(sam):
    sam.train()
    assert not any(m.training for m in sam.modules()) and not any(p.requires_grad for p in sam.parameters())


@pytest.mark.parametrize('part', ['', 'sam', 'sam.image_encoder'])
def test_weights_that_are_loaded_later_are_those_that_see_and_have_a_fingerprint_of_their_own(part):
    other = FrozenSam(CARD, 'random', seed=1)
    one = copy.deepcopy(FrozenSam(CARD, 'random'))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, expected = one.embed(images), other.embed(images)
    first = one.fingerprint()
    one.get_submodule(part).load_state_dict(other.get_submodule(part).state_dict())
    assert torch.equal(one.embed(images), expected) and not torch.equal(before, expected)
    assert one.fingerprint() != first and (one.fingerprint() == other.fingerprint()) == (part != 'sam.image_encoder')


def test_random_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, two, other = (FrozenSam(CARD, 'random', seed=s) for s in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    assert FrozenSam(CARD, 'random', image_size=32, seed=5).fingerprint() != one.fingerprint()


@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: {'model': s}, lambda s: {'state_dict': s},
                                  lambda s: {f'module.{k}': v for k, v in s.items()}])
def test_pth_round_trip(tmp_path, sam, wrap):
    torch.save(wrap(sam.sam.state_dict()), tmp_path / 'sam.pth')
    assert FrozenSam(CARD, str(tmp_path / 'sam.pth')).fingerprint() == sam.fingerprint()


def test_half_precision_safetensors_and_json_card(tmp_path, sam):
    save_file({k: v.half() for k, v in sam.sam.state_dict().items()}, tmp_path / 'sam.safetensors')
    (tmp_path / 'sam.json').write_text(json.dumps(dict(card=CARD, training=dict(seed=0))))
    loaded = FrozenSam(str(tmp_path / 'sam.json'), str(tmp_path / 'sam.safetensors'))
    assert loaded.image_size == 64
    for name, value in loaded.sam.state_dict().items():
        assert value.dtype == torch.float and torch.equal(value, sam.sam.state_dict()[name].half().float())


@pytest.mark.slow
def test_vit_b_at_full_and_reduced_size(vit_b_file):
    state = torch.load(vit_b_file, weights_only=True)
    full = FrozenSam('vit_b', str(vit_b_file))
    assert full.image_size == 1024
    assert all(torch.equal(value, state[name]) for name, value in full.sam.state_dict().items())
    small = FrozenSam('vit_b', str(vit_b_file), image_size=64)
    position = small.sam.state_dict()['image_encoder.pos_embed']
    assert position.shape == (1, 4, 4, 768)
    # Bilinear, half-pixel centres: a 64-grid seen at 4 takes the mean of the 4 entries around each cell's centre.
    source = state['image_encoder.pos_embed'][0]
    assert torch.allclose(position[0, 0, 0], source[7:9, 7:9].mean((0, 1)), atol=1e-6)
    assert small.embed(torch.zeros(1, 3, 64, 64)).shape == (1, 256, 4, 4)


def test_wrong_architecture_is_named_within_a_second(vit_b_file):
    began = time.monotonic()
    with pytest.raises(ValueError, match=r'is vit_b \(width 768, 12 blocks\), but arch is vit_h .*sam_vit_h_4b8939\.'
                                         r'pth \(2,565 MB, licence Apache-2\.0\) with: .+ fetch sam_vit_h --to \S+  '
                                         r'or: curl -L --create-dirs -o \S+/sam_vit_h_4b8939\.pth https://dl\.'):
        FrozenSam('vit_h', str(vit_b_file))
    with pytest.raises(ValueError, match=r'but arch is the given card \(width 32, 2 blocks\)'):
        FrozenSam(CARD, str(vit_b_file))
    assert time.monotonic() - began < 5  # a second on an idle machine


def test_truncated_file(vit_b_file, tmp_path):
    path = tmp_path / 'half.pth'
    with open(vit_b_file, 'rb') as whole:
        path.write_bytes(whole.read(10 ** 6))
    with pytest.raises(ValueError, match=r'half\.pth \(1,000,000 bytes, expected 375,042,383\): cannot be read.*curl'):
        FrozenSam('vit_b', str(path))


def test_missing_file_says_where_to_get_it():
    with pytest.raises(FileNotFoundError, match=r'/no/sam\.pth does not exist\. Get sam_vit_l_0b3195\.pth \(1,250 MB, '
                                                r'licence \S+\) with: curl -L --create-dirs -o /no/sam\.pth https://\S+0b3195\.pth'):
        FrozenSam('vit_l', '/no/sam.pth')
    with pytest.raises(FileNotFoundError, match=r"-o '/my files/sam_vit_b_01ec64\.pth' https://"):
        FrozenSam('vit_b', '/my files/sam.safetensors')


class Evil:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path(__import__('os').environ['EVIL_MARK']).touch()",)


@pytest.mark.parametrize('write', [lambda p: p.write_bytes(pickle.dumps(Evil(), protocol=2)),
                                   lambda p: torch.save({'image_encoder.pos_embed': Evil()}, p)])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, monkeypatch, write):
    monkeypatch.setenv('EVIL_MARK', str(tmp_path / 'ran'))
    write(tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'evil\.pth .*refused'):
        FrozenSam('vit_b', str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'ran').exists()


def training_checkpoint(path):
    """As tools/train.py leaves it: weights beside the history of the log."""
    history = HistoryBuffer()
    history.update(0.5)
    torch.save({'meta': {}, 'state_dict': {'decoder.weight': torch.zeros(2)}, 'optimizer': {},
                'message_hub': {'log_scalars': {'loss': history}}}, path)


def torchscript_archive(path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)


@pytest.mark.parametrize('write, words', [
    (training_checkpoint, r'a training checkpoint, holds no SAM'),
    (torchscript_archive, 'a TorchScript archive, holds no SAM'),
    (lambda p: save_file({'visual.proj': torch.zeros(1)}, p),
     r"a safetensors file, holds no SAM state dict \(found \['visual\.proj'\]\)"),
    (lambda p: torch.save({'image_encoder.pos_embed': Evil()}, p), r'refused. It asks to load `eval`'),
    (lambda p: p.write_bytes(b'hello'), 'cannot be read'),
    (lambda p: p.write_bytes(b'PK\3\4' + bytes(30)), 'cannot be read: truncated'),
])
def test_the_line_that_fetches_sam_never_writes_over_a_file_that_is_there(tmp_path, monkeypatch, write, words):
    monkeypatch.setenv('EVIL_MARK', str(tmp_path / 'ran'))
    mine = tmp_path / 'mine.pth'
    write(mine)
    with pytest.raises(ValueError, match=rf'SAM checkpoint \S+mine\.pth.*{words}') as raised:
        FrozenSam('vit_b', str(mine))
    assert f'-o {tmp_path}/sam_vit_b_01ec64.pth https://' in str(raised.value)
    assert f'-o {mine}' not in str(raised.value)
    assert ('cannot be read' in str(raised.value)) == ('cannot be read' in words)


def test_files_under_the_other_formats_name(tmp_path, sam):
    save_file(sam.sam.state_dict(), tmp_path / 'sam.pth')
    assert FrozenSam(CARD, str(tmp_path / 'sam.pth')).fingerprint() == sam.fingerprint()
    torch.save(sam.sam.state_dict(), tmp_path / 'sam.safetensors')
    assert FrozenSam(CARD, str(tmp_path / 'sam.safetensors')).fingerprint() == sam.fingerprint()


@pytest.mark.parametrize('content', [b'', b'hello', b'PK\x03\x04garbage', b'\x80\x02.'])
@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
def test_garbage_files(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'SAM checkpoint .*{name}'):
        FrozenSam(CARD, str(tmp_path / name))


def test_other_models_checkpoint(tmp_path):
    torch.save({'visual.conv1.weight': torch.zeros(1)}, tmp_path / 'clip.pth')
    with pytest.raises(ValueError, match=r"clip\.pth, a file of torch\.save, holds no SAM state dict "
                                         r"\(found \['visual\.conv1\.weight'\]\)"):
        FrozenSam('vit_b', str(tmp_path / 'clip.pth'))
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='expected a dict of tensors, found list.*curl'):
        FrozenSam('vit_b', str(tmp_path / 'list.pth'))


@pytest.mark.parametrize('arch, words', [
    ('vit_bb', "unknown SAM architecture 'vit_bb'.*Did you mean 'vit_b'"),
    ({**CARD, 'image_sizes': 3}, "unknown entry 'image_sizes'.*Did you mean 'image_size'"),
    ({'image_size': 64}, r"missing entries \['depth', 'embed_dim'"),
    ({**CARD, 'image_size': 60}, 'image_size=60 must be a positive multiple of patch_size=8'),
    ({**CARD, 'decoder_heads': 5}, 'half of prompt_dim=32 must be a multiple of decoder_heads=5'),
    ({**CARD, 'global_attn_indexes': [2]}, r'\[2\] lie outside the 2 blocks'),
])
def test_bad_cards(arch, words):
    with pytest.raises(ValueError, match=words):
        FrozenSam(arch, 'random')


def test_reduced_size_must_fit_the_patch():
    with pytest.raises(ValueError, match='image_size=100 must be a positive multiple of patch_size=16'):
        FrozenSam('vit_b', 'random', image_size=100)


def test_tiny_weights_belong_to_tiny():
    with pytest.raises(ValueError, match="checkpoint 'tiny' belongs to arch 'tiny'"):
        FrozenSam('vit_b', 'tiny')


def test_bundled_tiny_sam(request):
    sam = MODELS.build(dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))
    assert sam.card == load_card('tiny') and isinstance(sam.card, SamCard) and 'tiny' not in CARDS
    assert sam.embed(torch.zeros(1, 3, sam.image_size, sam.image_size)).shape[1] == sam.card.prompt_dim
