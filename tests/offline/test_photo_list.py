"""Photos that a command line means: what is found, what their results are called, and that these meet nothing."""
import os

import numpy as np
import pytest
from PIL import Image

from weclip_sam.offline.photo_list import check_apart, list_images, search

PLACES = ('labels', 'overlays')


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize('images, out, text', [
    ('photos', 'photos', 'lies in the image folder'), ('photos', 'photos/sub/out', 'lies in the image folder'),
    ('out/overlays', 'out', 'would be overwritten'), ('out/labels/a.png', 'out', 'would be overwritten')])
def test_outputs_stay_apart_from_images(tmp_path, monkeypatch, images, out, text):
    for name in ('photos/a.png', 'out/overlays/a.png', 'out/labels/a.png'):
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=text):
        check_apart([images], out, search([images]), PLACES)
    check_apart(['photos', 'photos/a.png'], 'photos_out', search(['photos']), PLACES)
    check_apart(['photos/a.png'], 'photos', {}, PLACES)  # a file by name is found no second time


def test_outputs_stay_out_of_linked_folders(tmp_path, monkeypatch):
    picture(tmp_path / 'disk' / 'a.png')
    (tmp_path / 'photos').mkdir()
    os.symlink('../disk', tmp_path / 'photos' / 'day2')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='lies in the image folder photos'):
        check_apart(['photos'], 'disk/out', search(['photos']), PLACES)


def test_what_is_not_there(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='no image in this folder'):
        search([str(tmp_path / 'empty')])
    with pytest.raises(FileNotFoundError, match='nowhere: no such image or folder'):
        search([str(tmp_path / 'nowhere')])
    (tmp_path / 'results' / 'labels').mkdir(parents=True)
    (tmp_path / 'results' / 'labels' / 'a.png').touch()
    (tmp_path / 'results' / 'predictions.json').touch()
    with pytest.raises(ValueError, match='results: holds results .*give the folder of the photos'):
        search([str(tmp_path / 'results')])


def test_of_a_data_set_the_photos_are_those_that_training_reads(tmp_path):
    for name in ('images/a.jpg', 'images/in/b.jpg', 'masks/a.png', 'labels.csv'):
        (tmp_path / 'data' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'data' / name).touch()
    data = str(tmp_path / 'data')
    assert [name for _, name in list_images([data], search([data]))] == ['a', 'in/b']
    (tmp_path / 'data' / 'labels.csv').unlink()  # any folder
    assert [name for _, name in list_images([data], search([data]))] == ['images/a', 'images/in/b', 'masks/a']


def test_outputs_never_share_a_name(tmp_path):
    for name in ('f/a.jpg', 'f/a.png', 'f/b.png', 'g/b.png'):
        picture(tmp_path / name)
    arguments = [str(tmp_path / 'f'), str(tmp_path / 'g'), str(tmp_path / 'f' / 'b.png')]
    named = list_images(arguments, search(arguments))
    assert [name for _, name in named] == ['a.jpg', 'a.png', 'b.png', 'b.png_2']


@pytest.mark.parametrize('files, names', [
    (('a.jpg', 'A.png'), ['A.png', 'a.jpg']),  # sorted: capitals first
    (('A.jpg', 'a.jpg'), ['A.jpg', 'a.jpg_2']),
    (('cafe\u0301.jpg', 'caf\u00e9.png'), ['caf\u00e9.jpg', 'caf\u00e9.png']),
    (('a.jpg', 'a.jpg.tif', 'a.png'), ['a.jpg', 'a.jpg_2', 'a.png']),
    (('b.png', 'b.tif', 'b.png_2.jpg', 'b.png.png'), ['b.png', 'b.png_2', 'b.png_2_2', 'b.tif']),
    (('a.jpg', 'a.png/b.jpg'), ['a_2', 'a.png/b']),
    (('my photo.jpg', 'day 1/my photo.jpg'), ['day 1/my photo', 'my photo'])])
def test_outputs_never_meet_on_any_file_system(tmp_path, files, names):
    for name in files:
        (tmp_path / 'f' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'f' / name).touch()
    arguments = [str(tmp_path / 'f')]
    found = list_images(arguments, search(arguments))
    assert [name for _, name in found] == names and len(found) == len(files)
