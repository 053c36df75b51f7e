"""Sharpness and the ranking of templates, as a function and as a command."""
import errno
import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.models.prompt_selection import localisation_embeddings, rank_templates, sharpness

CARD = {'embed_dim': 12, 'quick_gelu': True,
        'vision_cfg': {'image_size': 16, 'layers': 2, 'width': 64, 'head_width': 64, 'patch_size': 8},
        'text_cfg': {'context_length': 24, 'vocab_size': 49408, 'width': 8, 'heads': 1, 'layers': 1}}
VOCABULARY = dict(prompt_names=['cat', 'dog', 'bus'], background_nouns=['grass', 'sky'])


@pytest.fixture
def clip(tmp_path):
    (tmp_path / 'card.json').write_text(json.dumps(CARD))
    return FrozenClip(str(tmp_path / 'card.json'), 'random')


def test_sharpness_is_the_sum_of_variances_over_the_sum_of_means():
    scores = torch.tensor([[0.2, 0.6, 0.9], [0.1, 0.5, 0.3], [1.0, 0.0, 0.0]])
    labels = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    expected = (np.var([0.2, 0.6]) + np.var([0.1, 0.5, 0.3])) / (0.4 + 0.3)
    assert sharpness(scores, labels).item() == pytest.approx(expected)
    alike = torch.full((3, 3), 0.3)
    assert sharpness(alike, labels) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match='no image has two'):
        sharpness(scores, torch.eye(3, dtype=torch.bool))


def test_ranking_reads_the_scores_that_gradcam_reads(clip):
    dataset = [dict(inputs=torch.randint(0, 256, (3, 21, 30), dtype=torch.uint8)) for _ in range(4)]
    seen = []
    embeddings = localisation_embeddings(clip, dataset, [0, 2, 3], seen.append)
    assert embeddings.shape == (3, 12) and seen == [1, 2, 3]
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3), atol=1e-5)
    labels = torch.tensor([[True, True, False], [False, True, True], [True, False, False]])
    templates = ['a {}.', 'a photo of a {}.', 'a {}.', 'the {} there']
    rows = rank_templates(clip, embeddings, labels, VOCABULARY, templates)
    assert len(rows) == 3 and [r['sharpness'] for r in rows] == sorted(r['sharpness'] for r in rows)
    text = text_features(clip, ['cat', 'dog', 'bus', 'grass', 'sky'], [rows[0]['template']])
    logits = clip.logit_scale * embeddings @ text.T
    allowed = torch.cat([labels, torch.ones(3, 2, dtype=torch.bool)], 1)
    scores = logits.masked_fill(~allowed, -torch.inf).softmax(1)[:, :3]
    assert rows[0]['sharpness'] == pytest.approx(sharpness(scores, labels).item(), rel=1e-4)
    assert rows[0]['mean_score'] == pytest.approx(scores[labels].mean().item(), rel=1e-4)
    everyone = rank_templates(clip, embeddings, labels, VOCABULARY, templates, competitors='all')
    assert everyone[0]['mean_score'] < max(r['mean_score'] for r in rows)


def test_the_tool_ranks_templates_on_ones_own_images(tmp_path, clip, capsys, monkeypatch):
    tool = importlib.import_module('weclip_sam.cli.select_prompt')
    root = tmp_path / 'photos'
    (root / 'images').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (20, 27, 3), dtype=np.uint8)).save(root / 'images' / f'{i}.png')
    (root / 'labels.csv').write_text('image,classes\n0.png,cat;dog\n1.png,dog\n2.png,dog;bus\n')
    config = tmp_path / 'prompt_config.py'
    config.write_text(f"""
reader = dict(type='FolderReader', data_root={str(root)!r})
train_dataloader = dict(dataset=dict(type='ImageLabelDataset', reader=reader))
model = dict(type='SeedMaker', templates=['one {{}}'], seeds=[dict(type='GradCam'), dict(type='PixelLabels')],
             clip=dict(type='FrozenClip', arch={str(tmp_path / 'card.json')!r}, checkpoint='random'))
""")
    tool.main([str(config), '--json', str(tmp_path / 'out.json')])
    out = capsys.readouterr().out
    table = json.loads((tmp_path / 'out.json').read_text())
    assert table['images'] == 2 and len(table['templates']) == 27
    best = table['templates'][0]['template']
    assert out.splitlines()[1].endswith(best) and f"model.templates=['{best}']" in out
    (tmp_path / 'mine.txt').write_text('a {}\nmany {}\n')
    tool.main([str(config), '--templates', str(tmp_path / 'mine.txt')])
    assert len(capsys.readouterr().out.splitlines()) == 4

    def error_of(*more):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(config), *more])
        assert stop.value.code == 2
        return capsys.readouterr().err

    def read_only(path, value):
        raise OSError(errno.EROFS, 'Read-only file system', path)

    monkeypatch.setattr(tool, 'write_json', read_only)
    assert 'far.json: cannot be written' in error_of('--json', str(tmp_path / 'far.json'))
    (tmp_path / 'mine.txt').write_text('a {}\na photo\n')
    # Images are not touched from here on.
    monkeypatch.setattr('weclip_sam.models.prompt_selection.localisation_embeddings', None)
    assert "mine.txt: template 'a photo' needs exactly one {}" in error_of('--templates', str(tmp_path / 'mine.txt'))
    assert "model.templates of the config: template 'one'" in error_of('--cfg-options', "model.templates=['one']")
    assert 'a file of that name is in the way' in error_of('--json', str(tmp_path / 'mine.txt' / 'out.json'))
    (root / 'labels.csv').write_text('image,classes\n0.png,cat\n1.png,dog\n')
    with pytest.raises(SystemExit) as stop:
        tool.main([str(config)])
    assert stop.value.code == 2 and 'has two classes' in capsys.readouterr().err
