import pytest

from weclip_sam.io.files import atomic_open
from weclip_sam.io.new_folders import make_folder, unused_folders_removed


def test_a_new_folder_that_is_empty_after_an_error_goes_with_its_empty_parents(tmp_path):
    (tmp_path / 'old' / 'empty').mkdir(parents=True)
    with pytest.raises(ValueError, match='wrong'), unused_folders_removed():
        make_folder(tmp_path / 'a' / 'b')
        make_folder(tmp_path / 'old' / 'empty')
        with unused_folders_removed():
            make_folder(tmp_path / 'old' / 'c')
        make_folder(tmp_path / 'full' / 'd')
        (tmp_path / 'full' / 'kept.txt').touch()
        raise ValueError('wrong')
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*')) == [
        'full', 'full/kept.txt', 'old', 'old/empty']


def test_without_an_error_everything_stays(tmp_path):
    with unused_folders_removed():
        make_folder(tmp_path / 'a')
    assert make_folder(tmp_path / 'b').is_dir() and (tmp_path / 'a').is_dir()


def test_a_file_that_could_not_be_written_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError), unused_folders_removed(), atomic_open(tmp_path / 'a' / 'file.txt', 'w'):
        raise ValueError
    assert not (tmp_path / 'a').exists()
