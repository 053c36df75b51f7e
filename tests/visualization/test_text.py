"""Letters on pictures, also those that no font has."""
import numpy as np
import pytest
from PIL import Image, ImageDraw

from weclip_sam.visualization import text as module
from weclip_sam.visualization.text import font_with, letters_of, load_font, shortened, wrapped, write_across, written


@pytest.fixture
def no_other_fonts(monkeypatch):
    """A machine with DejaVu Sans alone."""
    monkeypatch.setattr('matplotlib.font_manager.findSystemFonts', lambda: [])
    font_with.cache_clear()
    yield
    font_with.cache_clear()


@pytest.mark.parametrize('name', ['Küche', 'Ξένος', 'стол', 'café ñ ř', 'a_b-c 3'])
def test_the_fonts_that_come_along_have_european_letters(name):
    text, font = written(name, 15)
    assert text == name and font.path == load_font(15).path and font.size == 15


@pytest.mark.usefixtures('no_other_fonts')
def test_letters_that_no_font_has(monkeypatch):
    assert written('椅子', 15, 'label 3')[0] == 'label 3'
    assert written('img 椅子.jpg', 15)[0] == 'img ??.jpg'
    for name in ('椅子', '🐱', 'ก', 'a\nb\tc\x00', '', '\u202eevil', '\ud800'):
        text, font = written(name, 15)  # whatever it is, it can be drawn
        ImageDraw.Draw(Image.new('RGB', (50, 20))).text((0, 0), text, font=font)
    assert written('a\n b\tc\x00', 15)[0] == 'a b c'


def test_another_font_of_the_machine_is_taken_where_it_has_the_letters(monkeypatch, tmp_path):
    """Fonts are tried in order, upright ones first; what is no font is passed over."""
    bold = load_font(10, bold=True).path
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    monkeypatch.setattr('matplotlib.font_manager.findSystemFonts',
                        lambda: [str(tmp_path / 'missing.ttf'), str(tmp_path / 'broken.ttf'), bold])
    monkeypatch.setattr(module, 'letters_of', lambda file: letters_of(file) | {0x6905} if file == bold else
                        letters_of(file))
    font_with.cache_clear()
    text, font = written('椅', 15, 'label 3')
    assert text == '椅' and font.path == bold
    assert written('椅子', 15, 'label 3')[0] == 'label 3'  # it has but one of the two
    font_with.cache_clear()


def test_texts_are_cut_and_broken_where_there_is_no_room():
    font = load_font(15)
    assert shortened('short', font, 200) == 'short'
    cut = shortened('a very long name of a class', font, 80)
    assert cut.endswith('…') and cut[:3] == 'a v' and 60 < font.getlength(cut) <= 80
    assert shortened('name', font, 0) == '…'
    lines = wrapped('one two three four five six ' + 'x' * 100, 15, 90)
    assert ' '.join(lines).startswith('one two three four five six x') and lines[-1].endswith('…')
    assert len(lines) > 2 and all(font.getlength(line) <= 90 for line in lines)
    assert wrapped('', 15, 90) == []


def test_a_sentence_stands_in_the_middle_or_not_at_all():
    picture = Image.new('RGB', (300, 100), (90, 90, 90))
    write_across(picture, 'only background', 20)
    rows, columns = np.nonzero((np.asarray(picture) == 255).all(-1))
    assert abs(rows.mean() - 50) < 6 and abs((columns.min() + columns.max()) / 2 - 150) < 4
    narrow = Image.new('RGB', (60, 100), (90, 90, 90))
    write_across(narrow, 'only background', 13)
    assert (np.asarray(narrow) == 90).all()  # 'background' would be cut
