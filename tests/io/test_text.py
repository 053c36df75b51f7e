"""Text that people write: marks that editors put before it, and errors that name file and line."""
import codecs
import json

import pytest

from weclip_sam.io.text import decode_text, read_json, read_lines, read_text

ENCODINGS = {'plain': 'utf-8', 'mark': 'utf-8-sig', 'notepad': 'utf-16', 'utf-32': 'utf-32'}


@pytest.mark.parametrize('encoding', ENCODINGS.values(), ids=list(ENCODINGS))
def test_marks_make_no_difference(tmp_path, encoding):
    path = tmp_path / 'list.txt'
    path.write_bytes('pâté\r\n\r\n  cup \n'.encode(encoding))
    assert read_lines(path) == ['pâté', 'cup']
    path.write_bytes('{"a": ["é"]}'.encode(encoding))
    assert read_json(path) == {'a': ['é']}


def test_big_endian_with_a_mark():
    assert decode_text(codecs.BOM_UTF16_BE + 'über'.encode('utf-16-be'), 'f') == 'über'


@pytest.mark.parametrize(('content', 'message'), [
    (b'cup\nball\nk\xe4se\n',
     'list.txt, line 3: not UTF-8 text .invalid continuation byte at byte 10.; save it as UTF-8'),
    (b'a\r\rb\r\n\xff', 'line 4: not UTF-8'), (codecs.BOM_UTF8 + b'\xff', 'line 1: not UTF-8 text .* at byte 3'),
    (codecs.BOM_UTF16_LE + b'a\0\n\0b', 'line 2: not UTF-16 text'),
    ('cup\nball'.encode('utf-16-le'), 'line 1: contains NUL characters.*save it as UTF-8')])
def test_what_cannot_be_decoded_names_file_and_line(tmp_path, content, message):
    path = tmp_path / 'list.txt'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_text(path)
    assert str(caught.value).startswith(f'{path}, line ') and '\n' not in str(caught.value)


@pytest.mark.parametrize(('content', 'message'), [
    ('{"a": 1,\n}', 'CARD, line 2: not valid JSON .*; make it anew'),
    ('[' * 200_000, 'CARD.*(nested too|not valid JSON)'),
    ('[' + '1' * 5000 + ']', 'CARD: Exceeds the limit.*; make it anew'), ('', 'CARD, line 1: not valid JSON')])
def test_json_errors_are_one_line_and_name_the_file(tmp_path, content, message):
    path = tmp_path / 'c.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=message.replace('CARD', f'^card {path}')) as caught:
        read_json(path, 'card', fix='make it anew')
    assert '\n' not in str(caught.value) and not isinstance(caught.value, json.JSONDecodeError)


def test_pairs_may_refuse(tmp_path):
    def refuse(pairs):
        raise ValueError('twice')
    (tmp_path / 'c.json').write_text('{}')
    with pytest.raises(ValueError, match='c.json: twice$'):
        read_json(tmp_path / 'c.json', pairs=refuse)
