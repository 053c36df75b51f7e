"""The tiny SAM's trainer: what it asks, what it wants to hear, and that a killed run ends like an unbroken one."""
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sam_training import DenseHead, PromptBatch, dense_loss, mask_iou, prompt_loss

from weclip_sam.datasets.shapes.scenes import Instance, Scene
from weclip_sam.foundation.sam import FrozenSam, build_sam

CARD = dict(image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, window_size=2, global_attn_indexes=[],
            prompt_dim=16, decoder_heads=2, decoder_mlp_dim=16, iou_head_hidden_dim=8)


@pytest.fixture(scope='module')
def tool():
    path = Path(__file__).parents[2] / 'tools' / 'pretrain' / 'train_tiny_sam.py'
    spec = importlib.util.spec_from_file_location('train_tiny_sam', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_flush_denormal(False)  # the training's own wish is no other test's


def block(y0, y1, x0, x1, size=16):
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def scene():
    """An object whose body is cut in two by clutter, with a head on top."""
    body = block(4, 6, 2, 6) | block(9, 12, 2, 6)
    head, clutter = block(2, 4, 2, 6), block(6, 9, 0, 9)
    cat = Instance('cat', 'grey', body | head, [('body', body), ('head', head)])
    return Scene(np.zeros((16, 16, 3), np.uint8), [cat], [clutter], 'grass')


def test_every_pixel_has_one_answer(tool, scene):
    pairs = tool.hierarchy(scene)
    assert len(pairs) == 4  # body, head, clutter, background
    assert (np.sum([part for _, part in pairs], axis=0) == 1).all()
    for whole, part in pairs:
        assert (part <= whole).all()


def test_levels_nest_under_the_point(tool, scene):
    points, targets = tool.prompts_of(scene, 200, np.random.default_rng(0))
    x, y = points.astype(int).T
    assert targets[np.arange(200), :, y, x].all()
    sub, part, whole = targets.transpose(1, 0, 2, 3)
    assert (sub <= part).all() and (part <= whole).all()
    lower = np.flatnonzero((y >= 9) & (y < 12) & (x >= 2) & (x < 6))[0]
    assert sub[lower].sum() == 12 and part[lower].sum() == 20 and whole[lower].sum() == 28
    assert (part[:, 2, 2] & ~part[:, 10, 2]).any()  # heads get their points too


def test_dense_targets(tool, scene):
    kinds, offsets = tool.dense_targets(scene)
    assert [(kinds == k).sum() for k in range(4)] == [256 - 28 - 27, 27, 20, 8]
    object_y, object_x = np.nonzero(scene.instances[0].mask)
    assert np.allclose(offsets[:, 4, 2], [(object_x.mean() - 2) / 16, (object_y.mean() - 4) / 16])
    assert (offsets[:, kinds < 2] == 0).all()


def test_mask_iou():
    a = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]]).bool()
    b = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]]]).bool()
    assert mask_iou(a, b).tolist() == [pytest.approx(1 / 3), 0.0]


def test_loss_sinks_on_one_batch(tool):
    torch.manual_seed(0)
    sam, head = build_sam(CARD), DenseHead(16)
    batch = tool.training_batch(0, 0, 2, 4, 32)
    optimizer = torch.optim.AdamW([*sam.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for _ in range(25):
        loss, stats = prompt_loss(sam, batch, head)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert set(stats) == {'mask', 'dice', 'iou_error', 'dense', 'iou_0', 'iou_1', 'iou_2'}


def test_each_output_learns_its_own_level():
    """Moving one level's target moves that level's term alone."""
    torch.manual_seed(0)
    sam = build_sam(CARD)
    targets = torch.zeros(1, 3, 32, 32, dtype=torch.bool)
    targets[..., :8] = True
    batch = PromptBatch(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.tensor([0]), torch.tensor([[3.0, 3.0]]),
                        targets, torch.zeros(1, 32, 32, dtype=torch.long), torch.zeros(1, 2, 32, 32))
    networks = sam.mask_decoder.output_hypernetworks_mlps
    # Output 0 answers the whole, like output 3.
    for level, outputs in ((0, [1]), (1, [2]), (2, [0, 3])):
        changed = targets.clone()
        changed[:, level, :, 8:] = True
        grads = []
        for wanted in (targets, changed):
            sam.zero_grad()
            prompt_loss(sam, PromptBatch(**{**vars(batch), 'targets': wanted}), iou_weight=0.0)[0].backward()
            grads.append([network.layers[0].weight.grad.clone() for network in networks])
        moved = [i for i in range(4) if not torch.equal(grads[0][i], grads[1][i])]
        assert moved == outputs


def test_perfect_dense_answers_cost_nothing():
    kinds = torch.tensor([[[0, 1], [2, 3]]]).repeat_interleave(4, 1).repeat_interleave(4, 2)
    offsets = torch.rand(1, 2, 8, 8).repeat_interleave(1, 1) * (kinds >= 2)[:, None]
    batch = PromptBatch(None, None, None, None, kinds, offsets)
    step = offsets[:, :, ::4, ::4]
    answers = torch.cat([50.0 * torch.nn.functional.one_hot(kinds[:, ::4, ::4], 4).permute(0, 3, 1, 2), step], 1)
    assert dense_loss(answers, batch).item() == pytest.approx(0, abs=1e-6)
    answers[:, 4:] += 0.25
    assert dense_loss(answers, batch).item() == pytest.approx(0.5)


def test_learning_rate(tool):
    rates = [tool.learning_rate(i, 1000, 1e-3, 100) for i in (0, 99, 100, 550, 1000)]
    assert rates == pytest.approx([1e-5, 1e-3, 1e-3, 0.505e-3, 1e-5])


def arguments(tmp_path, name, *more):
    (tmp_path / 'card.json').write_text(json.dumps(CARD))
    return ['--out', str(tmp_path / f'{name}.safetensors'), '--work-dir', str(tmp_path / name), '--card',
            str(tmp_path / 'card.json'), '--iterations', '4', '--images', '2', '--points', '3', '--warmup', '2',
            '--save-every', '3', '--log-every', '2', '--eval-scenes', '2', '--device', 'cpu', *more]


def test_killed_and_resumed_run_ends_with_the_same_weights(tool, tmp_path, capsys):
    tool.main(arguments(tmp_path, 'one'))
    tool.main(arguments(tmp_path, 'two', '--stop-at', '3'))
    tool.main(arguments(tmp_path, 'two', '--resume'))
    one, two = (load_file(tmp_path / f'{name}.safetensors') for name in ('one', 'two'))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert all(v.dtype == torch.half for v in one.values())
    other = arguments(tmp_path, 'three', '--seed', '1')
    tool.main(other)
    assert not all(torch.equal(one[k], v) for k, v in load_file(tmp_path / 'three.safetensors').items())

    about = json.loads((tmp_path / 'one.json').read_text())
    assert about['training']['iterations'] == 4 and about['training']['samples_seen'] == 8
    assert about['training']['seed'] == 0 and '--iterations 4' in about['training']['command']
    assert {'best_of_3', 'recall_50', 'masks', 'seconds', 'scenes'} <= set(about['metrics'])
    assert FrozenSam(str(tmp_path / 'one.json'), str(tmp_path / 'one.safetensors')).image_size == 32
    log = [json.loads(line) for line in (tmp_path / 'one' / 'log.jsonl').read_text().splitlines()]
    assert [line['iteration'] for line in log] == [2, 4] and log[0]['loss'] > 0
    assert not list(tmp_path.rglob('*.tmp'))


def test_training_goes_on_from_given_weights(tool, tmp_path, capsys):
    tool.main(arguments(tmp_path, 'one'))
    start = tool.Trainer(tool.parse(arguments(tmp_path, 'two', '--init', str(tmp_path / 'one.safetensors'))))
    given = load_file(tmp_path / 'one.safetensors')
    assert all(torch.equal(start.sam.state_dict()[name], value.float()) for name, value in given.items())
    assert all(torch.equal(start.average[name], value.float()) for name, value in given.items())


def test_evaluation_alone_changes_nothing(tool, tmp_path, capsys):
    tool.main(arguments(tmp_path, 'one'))
    before = {p.name: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    tool.main(arguments(tmp_path, 'one', '--eval-only'))
    assert before == {p.name: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}


def test_checkpoint_of_another_card_is_refused(tool, tmp_path, capsys):
    tool.main(arguments(tmp_path, 'one'))
    (tmp_path / 'other.json').write_text(json.dumps({**CARD, 'embed_dim': 8}))
    assert 'made with another card' in error_of(
        tool, capsys, [*arguments(tmp_path, 'one', '--resume'), '--card', str(tmp_path / 'other.json')])


def error_of(tool, capsys, given):
    with pytest.raises(SystemExit) as stop:
        tool.main(given)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize('more, message', [
    (['--export-only'], 'train first (the same command without --export-only)'),
    (['--eval-only'], 'no such weights to measure'), (['--init', 'gone.safetensors'], '--init gone.safetensors'),
    (['--card', 'gone.json'], 'card gone.json does not exist'), (['--out', 'tiny.pth'], 'ends in .safetensors'),
    (['--device', 'gpu'], "device 'gpu' cannot be used"), (['--device', 'cuda:99'], "device 'cuda:99' cannot be used")])
def test_slips_end_with_one_line_before_any_work(tool, tmp_path, capsys, more, message):
    error = error_of(tool, capsys, arguments(tmp_path, 'one', *more))
    assert message in error and error.startswith('error: ') and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['card.json']
