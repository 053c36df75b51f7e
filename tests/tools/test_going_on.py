"""More photos and another class later: a folder that grows, trained on again from what was learnt."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.api import Segmenter
from weclip_sam.engine import safe_load
from weclip_sam.models.weclip import WeClip

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_folder.py'
FIRST = {'p0': 'cup', 'p1': 'cup;plant', 'p2': 'plant', 'p3': 'lamp'}
LATER = {'p4': 'apple;cup', 'p5': 'lamp;apple'}  # its name comes first: every label moves by one


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in an empty current one, and a function that adds photos to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    table = tmp_path / 'photos' / 'labels.csv'
    (tmp_path / 'photos' / 'images').mkdir(parents=True)
    table.write_text('image,classes\n')

    def add(photos):
        for name, classes in photos.items():
            pixels = np.random.default_rng(int(name[1:])).integers(0, 255, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((60, 48)).save(tmp_path / 'photos' / 'images' / f'{name}.png')
            with open(table, 'a') as file:
                file.write(f'{name}.png,{classes}\n')
    return add


@pytest.fixture
def train(load_tool, capsys):
    """Runs train.py on the folder for a few iterations; returns the exit code and what it said."""
    def run(*arguments, iterations=2):
        try:
            load_tool('train').main([str(CONFIG), *map(str, arguments), '--cfg-options', 'data_root=photos',
                                     f'train_cfg.max_iters={iterations}', 'param_scheduler.0.end=2',
                                     'param_scheduler.0.warmup_iters=1', 'train_dataloader.batch_size=2',
                                     'mask_generator.points_per_side=3', 'default_hooks.sheets=None',
                                     "visualizer.vis_backends=[{'type':'LocalVisBackend'}]"])
            code = 0
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out + said.err
    return run


@pytest.fixture
def first_batch(monkeypatch):
    """What the model that is trained makes of the first batch, and how far its curriculum is then."""
    seen, loss = {}, WeClip.loss

    def listen(model, inputs, samples):
        if not seen:
            model.eval()
            with torch.no_grad():
                seen.update(logits=model.tensor(inputs), inputs=inputs.clone(), progress=int(model.progress))
            model.train()
        return loss(model, inputs, samples)
    monkeypatch.setattr(WeClip, 'loss', listen)
    return seen


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_folder_that_has_grown_is_trained_on_from_what_was_learnt(folder, train, first_batch, tmp_path):
    folder(FIRST)
    code, said = train('--work-dir', 'first')
    assert code == 0, said
    first = tmp_path / 'first' / 'iter_2.pth'
    first_batch.clear()
    folder(LATER)
    code, said = train('--from', first, '--work-dir', 'more', iterations=1)
    assert code == 0, said
    assert said.count(f'Starting from {first}: 3 classes matched by name, 1 new (apple); iterations, optimizer and '
                      'curriculum begin anew') == 1
    assert 'SAM masks: 2 to make, 4 found' in said
    run = json.loads((tmp_path / 'more' / 'run.json').read_text())
    assert run['data']['classes'] == ['apple', 'cup', 'lamp', 'plant'] and run['settings']['load_from'] == str(first)
    assert Segmenter(tmp_path / 'more' / 'iter_1.pth', 'cpu').classes == ('background', 'apple', 'cup', 'lamp', 'plant')

    # Right after loading, known classes have the logits that they had, and the curriculum is at its start.
    with torch.no_grad():
        was = Segmenter(first, 'cpu').model.tensor(first_batch['inputs'])
    torch.testing.assert_close(first_batch['logits'][:, [0, 2, 3, 4]], was, rtol=1e-4, atol=1e-4)
    assert first_batch['progress'] == 0 and safe_load(first)['state_dict']['progress'] == 1

    # Stopped and resumed, it goes on from its own checkpoint.
    code, said = train('--from', first, '--work-dir', 'more', '--resume', iterations=2)
    assert code == 0 and f'Resuming from {tmp_path}/more/iter_1.pth' in said and 'Starting from' not in said

    # What cannot be is one line, and nothing is lost, whatever was to be overwritten.
    content = safe_load(first)
    content['state_dict']['decoder.narrow.weight'] = content['state_dict']['decoder.narrow.weight'][:, :2].clone()
    torch.save(content, tmp_path / 'narrow.pth')
    for start, work_dir, told in ((first, 'first', 'lies in the work dir that this training would write into'),
                                  (tmp_path / 'narrow.pth', 'more', 'cannot be started from, it is of another model: '
                                                                    'decoder.narrow.weight is')):
        before = files_of(tmp_path / work_dir)
        code, said = train('--from', start, '--work-dir', work_dir, '--overwrite')
        assert code == 2 and told in said
        after = files_of(tmp_path / work_dir)
        assert {name: after[name] for name in before if name.endswith('.pth')} == {
            name: content for name, content in before.items() if name.endswith('.pth')}
