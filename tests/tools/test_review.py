"""The command that makes a page of labels."""
import json
import os

import pytest
from blocks import blocks

from weclip_sam.io.images import write_labels


@pytest.fixture
def labels(tmp_path, write_image):
    """Labels of two photos, and nothing that says what they are."""
    for name, label in (('a', 1), ('sub/b', 2)):
        write_labels(tmp_path / 'mine' / f'{name}.png', blocks(0, label))
        write_image(tmp_path / 'photos' / f'{name}.jpg', (24, 32))
    (tmp_path / 'classes.txt').write_text('cup\ntable\n')
    return tmp_path / 'mine'


def test_labels_of_anybody(labels, tmp_path, run_tool, capsys):
    options = ['--classes', tmp_path / 'classes.txt', '--images', tmp_path / 'photos', '--jobs', 1]
    assert run_tool('review', labels, *options) == 0
    out = labels / 'review'
    assert sorted(os.listdir(out)) == ['review.csv', 'review.html']
    said = capsys.readouterr().out
    assert '2 images, 2 without a problem that shows\n' in said and 'in one file' in said
    assert run_tool('review', labels, *options, '--no-inline') == 0  # its pictures are not taken for labels
    assert run_tool('review', labels, *options) == 0 and '2 images, 2 without' in capsys.readouterr().out


def test_without_photos(labels, tmp_path, run_tool):
    assert run_tool('review', labels, '--classes', tmp_path / 'classes.txt', '--out', tmp_path / 'r', '--jobs', 1) == 0
    assert 'data:image/webp' in (tmp_path / 'r' / 'review.html').read_text()


def test_what_make_seeds_left(labels, tmp_path, run_tool, capsys):
    (labels / 'seeds.json').write_text(json.dumps(dict(
        classes=['cup', 'table'], image_folder=str(tmp_path / 'photos'), image_labels={'a': 'cup;table', 'sub/b': ''})))
    assert run_tool('review', labels, '--sort', 'names', '--jobs', 1) == 0
    assert 'named, not labelled: 1; labelled, not named: 1' in capsys.readouterr().out


def test_what_cannot_be_read_is_told(labels, tmp_path, run_tool, capsys):
    (tmp_path / 'photos' / 'a.jpg').write_bytes(b'x')
    assert run_tool('review', labels, '--classes', tmp_path / 'classes.txt', '--images', tmp_path / 'photos',
                    '--jobs', 1) == 1
    assert f'unreadable: {tmp_path}/photos/a.jpg: not a readable image' in capsys.readouterr().out


@pytest.mark.parametrize('options, message', [
    ([], 'nothing says which class each label is'), (['--classes', 'nowhere.txt'], 'nowhere.txt: no such file'),
    (['--classes', '{0}/classes.txt', '--images', '{0}/mine'], None),
    (['--classes', '{0}/classes.txt', '--images', '{0}/nowhere'], 'no such folder of images'),
    (['--classes', '{0}/classes.txt', '--out', '{0}/classes.txt/x'], 'is a file, not a folder'),
    (['--classes', '{0}/classes.txt', '--limit', '0'], '--limit: expected at least 1, got 0')])
def test_one_line_each(labels, tmp_path, run_tool, capsys, options, message):
    code = run_tool('review', labels, *(option.format(tmp_path) for option in options), '--jobs', 1)
    error = capsys.readouterr().err
    if message is not None:
        assert code == 2 and message in error and error.count('error:') == 1 and 'Traceback' not in error


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_that_cannot_be_written(labels, tmp_path, run_tool, capsys):
    labels.chmod(0o555)
    try:
        assert run_tool('review', labels, '--classes', tmp_path / 'classes.txt') == 2
        assert 'permission denied' in capsys.readouterr().err
    finally:
        labels.chmod(0o755)
