"""One name in two forms, composed as keyboards type it and decomposed as a Mac writes it; names that meet are found."""
import os
import re
import unicodedata

import pytest

from weclip_sam.io import names
from weclip_sam.io.files import atomic_open
from weclip_sam.io.names import (
    RealNames,
    check_apart,
    folds_names,
    is_utf8,
    listed_name,
    meeting,
    merge_forms,
    normal,
    printable,
    real_path,
)

COMPOSED = unicodedata.normalize('NFC', 'café')
DECOMPOSED = unicodedata.normalize('NFD', 'café')


def test_forms_are_one_name():
    assert COMPOSED != DECOMPOSED and normal(DECOMPOSED) == normal(COMPOSED) == COMPOSED
    assert merge_forms([DECOMPOSED, 'a', COMPOSED]) == [COMPOSED, 'a']
    assert listed_name(f'sub\\{DECOMPOSED}.jpg') == f'sub/{COMPOSED}.jpg'


@pytest.mark.parametrize('form', [COMPOSED, DECOMPOSED])
def test_the_file_is_found_by_either_form(tmp_path, form):
    (tmp_path / form).mkdir()
    (tmp_path / form / f'{form}.jpg').touch()
    for asked in (COMPOSED, DECOMPOSED):
        assert RealNames().find(tmp_path / asked / f'{asked}.jpg') == tmp_path / form / f'{form}.jpg'
        assert real_path(tmp_path, f'{asked}/{asked}.jpg') == tmp_path / form / f'{form}.jpg'
    assert RealNames().find(tmp_path / 'no.jpg') is None and real_path(tmp_path, 'é') == tmp_path / 'é'


def test_a_name_that_could_be_two_files_is_refused(tmp_path):
    for form in (COMPOSED, DECOMPOSED):
        (tmp_path / form).touch()
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip('this file system knows one form')
    with pytest.raises(ValueError, match='2 files are called .café., in different Unicode forms.*rename'):
        RealNames().find(tmp_path / COMPOSED)


def test_names_that_are_no_utf8_can_be_printed_and_written(tmp_path):
    name = os.fsdecode(b'caf\xe9.jpg')
    assert not is_utf8(name) and is_utf8(COMPOSED)
    assert printable(name) == 'caf\\udce9.jpg' and printable(COMPOSED) == COMPOSED
    with atomic_open(tmp_path / 'log.txt', 'w') as file:
        file.write(f'{name} {COMPOSED}')
    assert (tmp_path / 'log.txt').read_text(encoding='utf-8') == f'caf\\udce9.jpg {COMPOSED}'


@pytest.mark.parametrize('files, fold, expected', [
    (['a.png', 'b.png', 'c/a.png'], True, None), (['a.png', 'b.png', 'a.png'], False, ('a.png', 'a.png')),
    (['a.png', 'A.png'], False, None), (['a.png', 'A.png'], True, ('a.png', 'A.png')),
    (['cafe\u0301', 'caf\u00e9'], False, ('cafe\u0301', 'caf\u00e9')),
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


@pytest.mark.parametrize('name, reason', [
    ('a/b.png', ''), ('.hidden/my photo (1).png', ''), ('../a', ''), ('console.png', ''), ('COM10', ''), ('com', ''),
    ('a:b', "':'"), ('who?', "'\\?'"), ('a/b*"', "'\"', '\\*'"), ('a\tb', "'.x09'|'.t'"), ('con', 'device'),
    ('x/NUL.png', "'NUL.png' is the name of a device"), ('Com1.tar.gz', 'device'), ('lpt\u00b2', 'device'),
    ('photo.', 'ends in a dot'), ('folder /a', 'ends in a dot or a blank')])
def test_what_windows_cannot_have(name, reason):
    found = names.unfit_for_windows(name)
    assert re.search(reason, found) and bool(found) is bool(reason)


def test_on_windows_unfit_names_are_found_before_the_first_file(tmp_path):
    names._check_fit(tmp_path, ['a', 'b/c d'])
    with pytest.raises(ValueError, match="for the image 'b:c', since on Windows .* holds ':'; rename the image"):
        names._check_fit(tmp_path, ['a', 'b:c'])
