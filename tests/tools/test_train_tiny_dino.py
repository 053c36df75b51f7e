"""The tiny DINO's trainer: its views, its losses, its gate, and that a run goes on as if it had never stopped."""
import json

import numpy as np
import pytest
import torch
from dino_training import Learner, patch_film_loss, same_film_loss
from films import draw_patches, draw_views
from safetensors.torch import load_file
from tiny import film_frames
from token_gate import GateScenes, neighbour_purity, probe_miou, shares

from weclip_sam.datasets.shapes.scenes import CLASSES, Instance, Scene
from weclip_sam.foundation.dino import TINY_CARD, FrozenDino


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


# Films, views and losses ---------------------------------------------------------------------------------------------

def test_frames_of_a_film_show_the_same_individuals_elsewhere():
    for seed in range(6):
        frames = film_frames(np.random.default_rng(seed), 64, 4)
        seen = [{(i.name, i.colour) for i in frame.instances} for frame in frames]
        assert len(set.union(*seen)) <= 2 and len({frame.image.tobytes() for frame in frames}) == 4
        assert len({frame.background for frame in frames}) > 1


def test_views_are_bright_where_their_frame_is():
    frame = np.zeros((1, 64, 64, 3), np.uint8)
    frame[:, 32:] = 255  # dark above, bright below
    for seed in range(8):
        views = draw_views(frame, 16, (0.5, 0.9), np.random.default_rng(seed))
        assert views.shape == (1, 3, 16, 16) and 0 <= views.min() and views.max() <= 255
        assert views[0, :, 13:].mean() > views[0, :, :3].mean() + 50


def test_kept_patches_are_those_that_are_named():
    torch.manual_seed(0)
    learner = Learner(dict(img_size=28, patch_size=7, embed_dim=16, depth=2, num_heads=2, num_classes=0,
                           dynamic_img_size=True)).eval()
    images = torch.randn(2, 3, 28, 28)
    keep = draw_patches(2, 16, 0.5, torch.Generator().manual_seed(0))
    assert keep.shape == (2, 8) and (keep.diff(dim=1) > 0).all() and keep.max() < 16
    whole, every = learner(images), learner(images, torch.arange(16).expand(2, 16))
    torch.testing.assert_close(whole, every)
    assert learner(images, keep)[1].shape == (2, 8, 64)
    dropped = images.clone()  # what lies in a patch that is not read changes nothing
    unread = next(i for i in range(16) if i not in keep[0].tolist())
    dropped[0, :, unread // 4 * 7:unread // 4 * 7 + 7, unread % 4 * 7:unread % 4 * 7 + 7] = 9
    torch.testing.assert_close(learner(images, keep), learner(dropped, keep))


def test_views_of_one_film_attract_each_other():
    films = torch.eye(3).expand(2, 3, 3)  # two frames of three films, told apart without a doubt
    loss, hit = same_film_loss(films, 1.0)
    # Of five other views one is the same (cosine 1), four are others (cosine 0).
    assert hit == 1 and loss.item() == pytest.approx(np.log(np.e + 4) - 1)
    mixed = torch.stack([torch.eye(3), torch.eye(3).roll(1, 0)])
    assert same_film_loss(mixed, 1.0)[1] == 0 and same_film_loss(mixed, 1.0)[0] > loss


def test_patches_look_for_the_other_frames_of_their_film():
    views = torch.eye(3).expand(2, 3, 3).clone().requires_grad_()
    patches = views.detach()[:, :, None].expand(2, 3, 5, 3).clone().requires_grad_()
    loss, hit = patch_film_loss(patches, views, 1.0)
    assert hit == 1 and loss.item() == pytest.approx(np.log(np.e + 2) - 1)
    loss.backward()
    assert views.grad is None and patches.grad.abs().sum() > 0
    # A patch's own frame does not count: frame 0 of film 0 looks like film 1, and its patches do not know it by that.
    views = torch.eye(3).expand(3, 3, 3).clone()
    views[0, 0] = torch.tensor([0.0, 1, 0])
    patches = views[:, :, None]
    assert patch_film_loss(patches, views, 1.0)[1] == pytest.approx(8 / 9)


def test_patches_that_tell_nothing_need_not_learn():
    views = torch.eye(3).expand(2, 3, 3)
    telling, silent = views[:, :, None].expand(2, 3, 2, 3), torch.full((2, 3, 2, 3), 3 ** -0.5)
    patches = torch.cat([silent, telling], 2).clone().requires_grad_()
    loss, hit = patch_film_loss(patches, views, 1.0, share=0.5)
    assert loss.item() == pytest.approx(np.log(np.e + 2) - 1) and hit < 1
    loss.backward()
    assert (patches.grad[:, :, :2] == 0).all() and (patches.grad[:, :, 2:] != 0).any()


# Runs ----------------------------------------------------------------------------------------------------------------

def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(tool, tmp_path):
    run(tool, tmp_path / 'whole')
    run(tool, tmp_path / 'parts', '--stop-at', '1')
    run(tool, tmp_path / 'parts')
    whole, parts = (torch.load(tmp_path / name / 'last.pth', weights_only=True) for name in ('whole', 'parts'))
    assert whole['iteration'] == parts['iteration'] == 3
    assert all(torch.equal(value, parts['learner'][name]) for name, value in whole['learner'].items())


def test_a_run_does_not_go_on_with_other_settings(tool, tmp_path, capsys):
    run(tool, tmp_path, '--stop-at', '1')
    with pytest.raises(SystemExit):
        run(tool, tmp_path, '--lr', '1')
    assert 'was trained with --lr 0.003; give the same' in capsys.readouterr().err
    torch.save(dict(student={}, teacher={}, iteration=1), tmp_path / 'last.pth')
    with pytest.raises(SystemExit):
        run(tool, tmp_path)
    assert 'its checkpoint is of an earlier trainer' in capsys.readouterr().err


def test_an_export_is_a_dino(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, 'gate', lambda tokens: dict(probe_miou=tokens(torch.zeros(1, 3, 112, 112))[0].shape[1]))
    run(tool, tmp_path, '--stop-at', '1')
    with pytest.raises(SystemExit):
        run(tool, tmp_path, '--export', str(tmp_path))
    assert 'is a folder; expected a path without suffix' in capsys.readouterr().err
    tool.main(['--work-dir', str(tmp_path), '--export', str(tmp_path / 'out' / 'dino')])  # it knows how it was trained
    card = json.loads((tmp_path / 'out' / 'dino.json').read_text())
    assert '--iterations 3 --batch 2' in card['training']['command'] and str(tmp_path) not in json.dumps(card)
    assert card['training']['samples_seen'] == 2 * tool.FRAMES and card['metrics']['images x 1']['probe_miou'] == 256
    assert card['metrics']['images x 1.5']['probe_miou'] == 24 * 24
    dino = FrozenDino(str(tmp_path / 'out' / 'dino.json'), str(tmp_path / 'out' / 'dino.safetensors'))
    learner = torch.load(tmp_path / 'last.pth', weights_only=True)['learner']
    assert torch.equal(dino.model.norm.weight, learner['vit.norm.weight'].half().float())
    assert load_file(tmp_path / 'out' / 'dino.safetensors')['pos_embed'].dtype == torch.float16
    assert dino(torch.zeros(1, 3, 112, 112)).tokens.shape == (1, 1, 257, 16)


def test_a_run_begins_with_the_network_of_an_export(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, 'gate', lambda tokens: dict(patches=tokens(torch.zeros(1, 3, 112, 112))[0].shape[1]))
    first, prefix, second = tmp_path / 'first', str(tmp_path / 'out'), tmp_path / 'second'
    run(tool, first)
    run(tool, first, '--export', prefix)
    run(tool, second, '--start', prefix, '--seed', '1', '--stop-at', '0')
    state = torch.load(second / 'last.pth', weights_only=True)
    trained = load_file(f'{prefix}.safetensors')
    assert all(torch.equal(state['learner'][f'vit.{name}'], value.float()) for name, value in trained.items())
    assert state['iteration'] == 0 and state['before']['iterations'] == 3
    with pytest.raises(SystemExit):
        run(tool, second, '--seed', '1')  # without what it began with
    assert f'was trained with --start {prefix}' in capsys.readouterr().err
    run(tool, second, '--start', prefix, '--seed', '1', '--export', str(tmp_path / 'later'))
    card = json.loads((tmp_path / 'later.json').read_text())
    assert card['training']['before']['iterations'] == 3 and '--seed 1' in card['training']['command']


@pytest.mark.parametrize('given, message', [
    (['--export', 'tiny'], 'train first'),
    (['--batch', '2', '--start', 'absent'], '--start absent: there is no absent.json'),
    (['--batch', '2', '--start', str(TINY_CARD.with_suffix(''))], 'its network has other sizes'),
    (['--batch', '2', '--start', str(TINY_CARD.with_name('tiny_clip'))], 'is no card of this trainer'),
    (['--batch', '2', '--device', 'gpu'], "device 'gpu' cannot be used"),
    (['--batch', '5000'], '--batch 5000'), (['--save-every', '0'], '--save-every 0'),
    (['--iterations', '0'], '--iterations 0')])
def test_slips_end_with_one_line_before_any_work(tool, tmp_path, capsys, given, message):
    with pytest.raises(SystemExit) as stop:
        tool.main(['--work-dir', str(tmp_path / 'run'), *given])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1
    assert not (tmp_path / 'run').exists()


def test_the_lines_of_its_help_can_be_pasted(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--help'])
    assert ' --work-dir work_dirs/tiny_dino \\\n        --export ' in capsys.readouterr().out
