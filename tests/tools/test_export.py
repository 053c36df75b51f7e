"""tools/export.py."""
import json
import shutil

import numpy as np
import pytest
from export_scene import CLASSES, make_folder, pieces, scenes
from PIL import Image

from weclip_sam.export import EXPORTS


@pytest.fixture
def tool(load_tool):
    return load_tool('export')


def test_every_form(tool, tmp_path, capsys):
    root = make_folder(tmp_path)
    tool.main([str(root), *EXPORTS, '--min-area', '2'])
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(EXPORTS)
    assert all(line.startswith(f'{name}: 5 images') and f' in {root / "export" / name}; 1 of the' in line
               for name, line in zip(EXPORTS, out, strict=True))
    areas = [mask.sum() for labels in scenes().values() for _, mask in pieces(labels)]
    assert f', {len(areas) - areas.count(1)} regions in ' in out[0]
    assert areas.count(1) and out[0].endswith(f'; {areas.count(1)} regions below 2 pixels left out')


def test_photos_that_failed_are_told_once(tool, tmp_path, capsys):
    root = make_folder(tmp_path)
    header = json.loads((root / 'predictions.json').read_text())
    (root / 'predictions.json').write_text(json.dumps(dict(header, failed={'/p/x.jpg': 'not a readable image'})))
    tool.main([str(root), 'coco', 'voc'])
    out = capsys.readouterr().out
    assert out.startswith('NOTE 1 image has no label, as making it failed: /p/x.jpg: not a readable image\ncoco: 5 im')
    assert out.count('NOTE') == 1


def test_labels_of_anybody(tool, tmp_path, capsys):
    root = make_folder(tmp_path) / 'labels'
    (tmp_path / 'names.txt').write_text('\n'.join(CLASSES[1:]), encoding='utf-8')
    shutil.move(tmp_path / 'photos', tmp_path / 'moved')
    tool.main([str(root), 'yolo-semantic', '--images', str(tmp_path / 'moved'), '--copy-images',
               '--classes', str(tmp_path / 'names.txt'), '--out', str(tmp_path / 'o')])
    for name, labels in scenes().items():
        assert np.array_equal(Image.open(tmp_path / 'o' / 'yolo-semantic' / 'masks' / f'{name}.png'), labels)


def test_the_list_names_all(tool, capsys):
    tool.main(['--list'])
    out = capsys.readouterr().out
    assert all(f'{name} ' in out for name in EXPORTS) and out.count('opens in: ') == len(EXPORTS)


@pytest.mark.parametrize('args, message', [
    (['nowhere', 'coco'], 'nowhere: no such folder of labels'), (['.', 'pascal'], "no export is called 'pascal'"),
    (['.', 'coco', '--min-area', '-3'], 'min_area: expected a number from 0'),
    (['.', 'coco', '--images', 'nowhere'], 'nowhere: no such folder of images')])
def test_one_line_for_what_does_not_go(run_tool, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(make_folder(tmp_path))
    assert run_tool('export', *args) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {message}') and error.count('\n') == 1


def test_without_a_form(run_tool, capsys):
    assert run_tool('export', 'folder') == 2
    assert 'see --list' in capsys.readouterr().err
