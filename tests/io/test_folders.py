"""A search finds what people put into a folder, once, and counts the rest."""
import os

import pytest

from weclip_sam.io.folders import find_files, in_clutter
from weclip_sam.io.images import SUFFIXES, is_image_name, strip_suffix


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'')
    return root


def search(root, **options):
    found = find_files(root, is_image_name, **options)
    return [path.relative_to(root).as_posix() for path in found.files], found


def test_what_systems_and_editors_leave_is_passed_over_and_counted(tmp_path):
    make(tmp_path, 'a.jpg', 'sub/b.PNG', '._a.jpg', '__MACOSX/sub/._b.png', '__MACOSX/x.jpg', '.DS_Store',
         '.ipynb_checkpoints/a-checkpoint.jpg', 'sub/Thumbs.db', 'sub/desktop.ini', '@eaDir/a.jpg', 'notes.txt',
         'b.txt', 'raw.HEIC', 'README')
    names, found = search(tmp_path)
    assert names == ['a.jpg', 'sub/b.PNG'] and found.folders == [tmp_path.resolve()]
    assert found.told() == 'other kinds of files 4 (2 .txt, 1 without suffix, 1 .heic), hidden or of the system 7'


def test_a_folder_of_a_hidden_name_can_be_asked_for(tmp_path):
    assert search(make(tmp_path / '.photos', 'a.jpg'))[0] == ['a.jpg']


def test_nothing_is_told_where_nothing_was_passed_over(tmp_path):
    assert search(make(tmp_path, 'a.jpg', 'b/c.webp'))[1].told() == ''


def test_linked_folders_are_searched_once(tmp_path):
    make(tmp_path / 'disk', 'there.jpg', 'deep/more.jpg')
    root = make(tmp_path / 'photos', 'here.jpg', 'z/real.jpg')
    for link, target in [('day2', '../disk'), ('day3', '../disk'), ('a', 'z'), ('deep', '../disk/deep')]:
        os.symlink(target, root / link)
    names, found = search(root)
    assert names == ['day2/deep/more.jpg', 'day2/there.jpg', 'here.jpg', 'z/real.jpg']
    assert found.folders == [root.resolve(), (tmp_path / 'disk').resolve()]
    assert found.told() == 'links back to what is searched anyway 3'


@pytest.mark.parametrize('target', ['.', '..', '../..', 'loop'])
def test_loops_end_and_are_told(tmp_path, target):
    root = make(tmp_path / 'photos', 'here.jpg', 'sub/a.jpg')
    os.symlink(target, root / 'sub' / 'loop')
    os.symlink('nowhere', root / 'gone.jpg')
    names, found = search(root)
    assert names == ['here.jpg', 'sub/a.jpg']
    assert found.told() == ('broken links 2' if target == 'loop' else
                            'broken links 1, links back to what is searched anyway 1')


def test_a_link_inside_a_linked_folder_leads_on_but_not_back(tmp_path):
    root, disk = make(tmp_path / 'photos', 'a.jpg'), make(tmp_path / 'disk', 'b.jpg')
    make(tmp_path / 'other', 'c.jpg')
    os.symlink(disk, root / 'disk')
    os.symlink(root, disk / 'photos')
    os.symlink(tmp_path / 'other', disk / 'other')
    os.symlink(tmp_path / 'other' / 'c.jpg', root / 'd.jpg')
    assert search(root)[0] == ['a.jpg', 'd.jpg', 'disk/b.jpg', 'disk/other/c.jpg']


def test_folders_that_cannot_be_opened_are_told(tmp_path, monkeypatch):
    make(tmp_path, 'a.jpg', 'locked/b.jpg')
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'locked':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)
    monkeypatch.setattr(os, 'scandir', refuse)
    names, found = search(tmp_path)
    assert names == ['a.jpg']
    assert found.told() == f'folders that cannot be opened {tmp_path / "locked"} (Permission denied)'
    with pytest.raises(PermissionError):
        search(tmp_path / 'locked')


def test_pipes_and_folders_of_an_image_s_name_are_no_images(tmp_path):
    make(tmp_path, 'a.jpg', 'folder.jpg/b.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')
    assert search(tmp_path)[0] == ['a.jpg', 'folder.jpg/b.jpg']


def test_depth_and_what_is_left_out(tmp_path):
    make(tmp_path, 'a.jpg', 'labels.csv', 'sub/b.jpg')
    assert search(tmp_path, deep=False)[0] == ['a.jpg']
    names, found = search(tmp_path, leave=lambda path: path in (str(tmp_path / 'labels.csv'), str(tmp_path / 'sub')))
    assert names == ['a.jpg'] and found.told() == ''


def test_clutter_anywhere_in_a_path():
    assert in_clutter('__MACOSX/a/b.png') and in_clutter('a/._b.png') and in_clutter('a/.ipynb_checkpoints/b.png')
    assert not in_clutter('a/b.c.png') and not in_clutter('../a/./b.png')


def test_suffixes_are_those_of_the_formats_that_are_read():
    assert {'.jpg', '.jpeg', '.jfif', '.jpe', '.png', '.webp', '.tif', '.tiff', '.bmp', '.dib', '.gif', '.pgm', '.ppm',
            '.pnm', '.pbm', '.jp2', '.j2k', '.mpo'} <= set(SUFFIXES)
    assert not {'.eps', '.pdf', '.txt', '.svg'} & set(SUFFIXES)
    assert [strip_suffix(name) for name in ('a.JFIF', 'a.b.pgm', '2007.000123', '.jpg')] == [
        'a', 'a.b', '2007.000123', '.jpg']
