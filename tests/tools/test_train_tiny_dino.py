"""The tiny DINO's trainer: its views, its losses, its gate, and that a run goes on as if it had never stopped."""
import json

import numpy as np
import pytest
import torch
from dino_training import View, assign, draw_mask, draw_view, look_up, surroundings
from safetensors.torch import load_file
from token_gate import GateScenes, neighbour_purity, probe_miou, shares

from weclip_sam.datasets.shapes.scenes import CLASSES, Instance, Scene
from weclip_sam.foundation.dino import FrozenDino


@pytest.fixture
def tool(monkeypatch):
    """The trainer, its network and its chunks of scenes made small."""
    import train_tiny_dino as module
    monkeypatch.setattr(module, 'CARD', dict(module.CARD, embed_dim=16, depth=1, num_heads=2))
    monkeypatch.setattr(module, 'CHUNK', 4)
    return module


def run(tool, folder, *options):
    tool.main(['--work-dir', str(folder), '--batch', '2', '--iterations', '3', '--gate-every', '0', '--threads', '0',
               *options])


# The gate ------------------------------------------------------------------------------------------------------------

def toy_scene(name, column):
    """16 x 16: one object, its body in rows 4-7 and its telling part in rows 8-11, on a black background."""
    body, head = np.zeros((2, 16, 16), bool)
    body[4:8, column:column + 4], head[8:12, column:column + 4] = True, True
    image = np.zeros((16, 16, 3), np.uint8)
    image[body | head] = 20 * (1 + CLASSES.index(name))
    image[..., 1][head] = 255
    return Scene(image, [Instance(name, 'red', body | head, [('body', body), ('head', head)])], [], 'wall')


def test_the_gate_tells_tokens_that_know_from_tokens_that_do_not():
    scenes = GateScenes.of([toy_scene(name, column) for name in CLASSES[:3] for column in (0, 8)])
    assert scenes.parts.unique().tolist() == [0, 1, 2, 3, 4, 5, 6]

    def knowing(images):
        means = torch.nn.functional.avg_pool2d(images.float(), 4).flatten(2).transpose(1, 2)
        return torch.cat([means, (means[..., :1] / 20 == torch.arange(1, 4)).float()], 2), (4, 4)

    def blind(images):
        return torch.ones(len(images), 16, 2) + torch.arange(16.0).view(1, 16, 1), (4, 4)

    known = neighbour_purity(scenes, knowing)
    assert known == dict(object=100, part=100, **{'class': 100}) and probe_miou(scenes, scenes, knowing) > 50
    assert neighbour_purity(scenes, blind)['class'] < 60 and probe_miou(scenes, scenes, blind) < 30


def test_shares_of_patches():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, :2, :1] = 1
    assert shares(labels, 2, (2, 2))[0, :, 1].tolist() == [0.5, 0, 0, 0]


# Views and losses ----------------------------------------------------------------------------------------------------

def test_patches_of_two_views_meet_by_place():
    def view(*box):
        return View(torch.zeros(1, 3, 8, 8), torch.tensor([box], dtype=torch.float32))
    whole, quarter, mirrored = view(0, 0, 8, 8), view(4, 4, 8, 8), view(8, 0, 0, 8)
    values = torch.arange(16.0).view(1, 16, 1)
    found, inside = look_up(values, whole, quarter.places(2))
    assert found.flatten().tolist() == [10, 11, 14, 15] and inside.all()
    assert look_up(values, mirrored, whole.places(4))[0].view(4, 4)[0].tolist() == [3, 2, 1, 0]
    found, inside = look_up(values, quarter, whole.places(2))
    assert inside.tolist() == [[False, False, False, True]] and found[0, 3, 0] == 10


def test_a_view_shows_what_its_box_says():
    scene = np.zeros((1, 64, 64, 3), np.uint8)
    scene[:, :, 32:] = 255  # dark left, bright right
    for seed in range(8):
        view = draw_view(scene, 16, (0.5, 0.9), np.random.default_rng(seed))
        assert view.images.shape == (1, 3, 16, 16) and 0 <= view.images.min() and view.images.max() <= 255
        bright = view.places(16)[0, ..., 0] > 32
        light = view.images[0].mean(0)
        assert light[bright].mean() > light[~bright].mean() + 50


def test_assignments_use_every_prototype_alike():
    cosines = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).mul(0.1)
    cosines[:, 0] += 0.5  # one prototype is the favourite of all
    q = assign(cosines, steps=20)
    torch.testing.assert_close(q.sum(1), torch.ones(64))
    assert (q.sum(0) - 8).abs().max() < 0.5 and (cosines.argmax(1) == 0).all()
    torch.testing.assert_close(assign(0.01 * cosines, steps=20), q, atol=1e-4, rtol=0)  # close tokens stay told apart


def test_surroundings_are_near_and_alike():
    torch.manual_seed(0)
    kinds = torch.zeros(8, 8, dtype=torch.long)
    kinds[:, 4:], kinds[0, 0] = 1, 1  # two halves, and one patch of the right half's kind far from it
    tokens = (torch.randn(2, 16)[kinds] + 0.3 * torch.randn(8, 8, 16)).flatten(0, 1)[None]
    means = surroundings(tokens)[0].unflatten(0, (8, 8))
    plane = tokens[0].unflatten(0, (8, 8))
    left, right = plane[1:, :4].mean((0, 1)), plane[:, 4:].mean((0, 1))
    apart = (left - right).norm()
    assert (means[4, 2] - left).norm() < 0.2 * apart and (means[4, 5] - right).norm() < 0.2 * apart
    noisy = (plane[2:6, 5:7] - right).norm(dim=-1)
    assert ((means[2:6, 5:7] - right).norm(dim=-1) < noisy).all()


def test_half_of_the_images_are_masked_in_blocks():
    mask = draw_mask(400, 8, np.random.default_rng(0)).view(400, 4, 2, 4, 2)
    assert (mask.float().std((2, 4)) == 0).all()
    share = mask.flatten(1).float().mean(1)
    assert 0.35 < (share > 0).float().mean() < 0.55 and share.max() < 0.9


# Runs ----------------------------------------------------------------------------------------------------------------

def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(tool, tmp_path):
    run(tool, tmp_path / 'whole')
    run(tool, tmp_path / 'parts', '--stop-at', '1')
    run(tool, tmp_path / 'parts')
    whole, parts = (torch.load(tmp_path / name / 'last.pth', weights_only=True) for name in ('whole', 'parts'))
    assert whole['iteration'] == parts['iteration'] == 3
    for key in ('student', 'teacher'):
        assert all(torch.equal(value, parts[key][name]) for name, value in whole[key].items())
    assert torch.equal(whole['queue'], parts['queue'])


def test_an_export_is_a_dino(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, 'gate', lambda tokens: dict(probe_miou=len(tokens(torch.zeros(1, 3, 112, 112))[0])))
    run(tool, tmp_path, '--stop-at', '1')
    run(tool, tmp_path, '--export', str(tmp_path / 'out' / 'dino'))
    card = json.loads((tmp_path / 'out' / 'dino.json').read_text())
    assert card['training']['samples_seen'] == 2 and card['metrics']['probe_miou'] == 1
    dino = FrozenDino(str(tmp_path / 'out' / 'dino.json'), str(tmp_path / 'out' / 'dino.safetensors'))
    teacher = torch.load(tmp_path / 'last.pth', weights_only=True)['teacher']
    assert torch.equal(dino.model.norm.weight, teacher['vit.norm.weight'].half().float())
    assert load_file(tmp_path / 'out' / 'dino.safetensors')['pos_embed'].dtype == torch.float16
    assert dino(torch.zeros(1, 3, 112, 112)).tokens.shape == (1, 1, 257, 16)


@pytest.mark.parametrize('given, message', [
    (['--export', 'tiny'], 'train first'), (['--batch', '2', '--device', 'gpu'], "device 'gpu' cannot be used"),
    (['--batch', '5000'], '--batch 5000'), (['--save-every', '0'], '--save-every 0'),
    (['--iterations', '0'], '--iterations 0')])
def test_slips_end_with_one_line_before_any_work(tool, tmp_path, capsys, given, message):
    with pytest.raises(SystemExit) as stop:
        tool.main(['--work-dir', str(tmp_path / 'run'), *given])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1
    assert not (tmp_path / 'run').exists()
