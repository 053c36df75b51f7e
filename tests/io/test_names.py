"""Names that meet are found, and no others."""
import pytest

from weclip_sam.io import names
from weclip_sam.io.names import check_apart, folds_names, meeting


@pytest.mark.parametrize('files, fold, expected', [
    (['a.png', 'b.png', 'c/a.png'], True, None), (['a.png', 'b.png', 'a.png'], False, ('a.png', 'a.png')),
    (['a.png', 'A.png'], False, None), (['a.png', 'A.png'], True, ('a.png', 'A.png')),
    (['cafe\u0301', 'caf\u00e9'], True, ('cafe\u0301', 'caf\u00e9')), (['c/a', 'C/A'], True, ('c/a', 'C/A')),
    (['a.png', 'a.png/b.png'], False, ('a.png', 'a.png/b.png')), (['d/a.png/x/b', 'd/a.png'], False,
                                                                 ('d/a.png/x/b', 'd/a.png')),
    (['my photo 1', 'my photo'], True, None)])
def test_meeting(files, fold, expected):
    assert meeting(files, fold) == expected


def test_files_of_images_that_would_meet_are_both_named(tmp_path, monkeypatch):
    assert folds_names(tmp_path) == (tmp_path.parent / tmp_path.name.upper()).exists()
    assert not list(tmp_path.iterdir()) and not folds_names(tmp_path / 'none')
    check_apart(tmp_path, ['a', 'b', 'c/a', 'my photo'])
    with pytest.raises(ValueError, match=r"images 'a' and 'a\.png/b' would meet there \(a\.png and a\.png/b\.png\)"):
        check_apart(tmp_path, ['a', 'a.png/b'])
    monkeypatch.setattr(names, 'folds_names', lambda folder: True)
    with pytest.raises(ValueError, match="the images 'a' and 'A' would meet there"):
        check_apart(tmp_path, ['a', 'A'])
