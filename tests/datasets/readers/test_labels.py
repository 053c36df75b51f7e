"""Label tables: what people write, what they get wrong, and what nobody should be able to do with one."""
import csv
import io
import json
import pickle

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from weclip_sam.datasets.readers.labels import read_label_table, write_label_table
from weclip_sam.io.names import normal


@pytest.fixture
def table(tmp_path):
    def write(content, name='labels.csv'):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
    return write


def test_plain_table_keeps_the_order(table):
    path = table('image,classes\nb.jpg,dog;cat\na.jpg,dog\n')
    assert list(read_label_table(path).items()) == [('b.jpg', ('dog', 'cat')), ('a.jpg', ('dog',))]


@pytest.mark.parametrize('content', [
    b'\xef\xbb\xbfimage,classes\na.jpg,cat;dog\n', b'image,classes\r\na.jpg,cat;dog\r\n',
    b'\n\nimage,classes\n\n  \na.jpg,cat;dog\n\n', b'"image","classes"\n"a.jpg","cat;dog"\n',
    b'Image , Classes\n a.jpg , cat ; dog;\n', b'image,classes\na.jpg,cat;dog;cat', b'image,classes\ra.jpg,cat;dog\r'])
def test_byte_order_mark_line_ends_blanks_and_quotes(table, content):
    assert read_label_table(table(content)) == {'a.jpg': ('cat', 'dog')}


def test_quotes_protect_commas(table):
    assert read_label_table(table('image,classes\n"a,b.jpg","cup, blue;dog"\n')) == {'a,b.jpg': ('cup, blue', 'dog')}


def test_an_image_without_a_label_has_none(table):
    assert read_label_table(table('image,classes\na.jpg,\nb.jpg,;\n')) == {'a.jpg': (), 'b.jpg': ()}


@pytest.mark.parametrize(('content', 'message'), [
    ('', 'expected the header'), ('a.jpg,cat\n', 'line 1.*header image,classes'),
    ('image classes\n', 'line 1.*header'), ('image,classes\na.jpg,cat,dog\n', "line 2: expected 2 fields.*';'"),
    ('image,classes\na.jpg\n', 'line 2: expected 2 fields'), ('image,classes\n,cat\n', 'line 2: empty image name'),
    ('image,classes\na.jpg,cat\nb.jpg,\na.jpg,dog\n', "line 4: image 'a.jpg' is listed twice.*line 2"),
    ('image,classes\n"a.jpg,cat\n', 'not valid CSV'), (b'image,classes\n\xff\xfe.jpg,cat\n', 'not UTF-8.*byte 14'),
    ('image,classes\na\0.jpg,cat\n', 'NUL')])
def test_mistakes_in_csv_name_the_line(table, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_label_table(table(content))
    assert 'labels.csv' in str(caught.value)


def test_json_forms(table):
    expected = {'a.jpg': ('cat',), 'b.jpg': ()}
    assert read_label_table(table('{"a.jpg": ["cat"], "b.jpg": []}', 'l.json')) == expected
    entries = '[{"image": "a.jpg", "classes": ["cat", "cat"]}, {"image": "b.jpg", "classes": []}]'
    assert read_label_table(table(entries, 'l.json')) == expected


@pytest.mark.parametrize(('content', 'message'), [
    ('{"a.jpg": "cat"}', 'entry 1.*list of class names'), ('{"a.jpg": [1]}', 'entry 1'),
    ('"cat"', 'expected an object'),
    ('{"a.jpg": [], "a.jpg": ["cat"]}', "'a.jpg' is listed twice"), ('{"a.jpg": [}', 'line 1: not valid JSON'),
    ('[{"image": "a.jpg"}]', 'expected an object'), ('{"a.jpg": [""]}', 'empty class name'),
    ('{"a.jpg": [' + '1' * 5000 + ']}', 'labels.json: Exceeds the limit'),
    ('{"a.jpg": [' + '1' * 4000 + ']}', 'labels.json, entry 1: expected an image name and a list of class names, got'),
    ('{"\\ud800.jpg": ["cat"]}', r"labels.json, entry 1: '\\ud800.jpg' holds half a character"),
    ('[{"image": "a.jpg", "classes": ["dog", "c\\udfffat"]}]', r"entry 1: 'c\\udfffat' holds half a character"),
    ('{" ": ["cat"]}', 'empty image name'), ('[' * 100000, 'nested too deeply|not valid JSON'),
    ('[{"image": "a", "classes": []}, {"image": "a", "classes": []}]', "entry 2: image 'a' is listed twice")])
def test_mistakes_in_json(table, tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_label_table(table(content, 'labels.json'))
    assert str(caught.value).startswith(f'{tmp_path}/labels.json') and len(str(caught.value)) < 500 + len(str(tmp_path))


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.mark.parametrize('name', ['labels.csv', 'labels.json', 'labels.pkl', 'labels.npy'])
def test_a_pickle_is_refused_unread(table, tmp_path, name):
    with pytest.raises(ValueError, match=name):
        read_label_table(table(pickle.dumps({'a.jpg': _Trap(str(tmp_path / 'sprung'))}), name))
    assert not (tmp_path / 'sprung').exists()


def test_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.csv'):
        read_label_table(tmp_path / 'nowhere.csv')


def test_write_refuses_what_csv_cannot_hold(tmp_path):
    for name in ('b\nc', 'b\rc', 'b\0c', ' b', ''):
        with pytest.raises(ValueError, match='l.csv: .*use .json'):
            write_label_table(tmp_path / 'l.csv', {'a': [name]})
    for name in ('l.csv', 'l.json'):
        with pytest.raises(ValueError, match=rf"{name}: '\\udcff' holds half a character"):
            write_label_table(tmp_path / name, {'a': ['\udcff']})
    assert list(tmp_path.iterdir()) == []


_NAMES = st.text(st.characters(exclude_characters='\0\r\n\\', exclude_categories=['Cs', 'Cc', 'Zs', 'Zl', 'Zp']),
                 min_size=1, max_size=6).map(normal).filter(lambda name: name == name.strip() and '\ufeff' not in name)
_ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=3)  # lone surrogates too
_FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_FUZZ
@given(table=st.dictionaries(_NAMES, st.lists(_NAMES, unique=True, max_size=3), max_size=4),
       suffix=st.sampled_from(['.csv', '.json']))
@example(table={';': []}, suffix='.csv')  # is no blank line
def test_what_is_written_is_read_back(tmp_path, table, suffix):
    path = tmp_path / f'labels{suffix}'
    write_label_table(path, table)
    assert read_label_table(path) == {image: tuple(names) for image, names in table.items()}


@_FUZZ
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: ('image,classes\n' + t).encode()),
                         st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | _ANY_TEXT,
                                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                                          _ANY_TEXT, inner, max_size=3), max_leaves=6)
                         .map(lambda value: json.dumps(value).encode()),
                         st.dictionaries(_ANY_TEXT, st.lists(_ANY_TEXT, max_size=2), max_size=2)
                         .map(lambda value: json.dumps(value).encode()),
                         st.integers(4200, 4400).map(lambda digits: b'{"a": [' + b'7' * digits + b']}')),
       suffix=st.sampled_from(['.csv', '.json']))
def test_any_bytes_give_a_table_or_a_value_error(tmp_path, content, suffix):
    path = tmp_path / f'fuzz{suffix}'
    path.write_bytes(content)
    try:
        table = read_label_table(path)
    except ValueError as error:
        assert str(error).startswith(str(path)) and str(error).encode()
    else:
        assert ''.join(name for image, names in table.items() for name in (image, *names)).encode() is not None
        assert all(image and image == image.strip() and '' not in names for image, names in table.items())


def test_writer_output_is_ordinary_csv(tmp_path):
    write_label_table(tmp_path / 'l.csv', {'a,b.jpg': ['x', 'y'], 'c.jpg': []})
    rows = list(csv.reader(io.StringIO((tmp_path / 'l.csv').read_text())))
    assert rows == [['image', 'classes'], ['a,b.jpg', 'x;y'], ['c.jpg', '']]


@pytest.mark.parametrize('content', [
    'image;classes\na.jpg;cat,dog\nb.jpg;\n', 'image;classes\na.jpg;cat|dog\nb.jpg;\n',
    'image;classes\na.jpg;"cat;dog"\nb.jpg;\n', 'image\tclasses\na.jpg\tcat;dog\nb.jpg\t\n',
    'sep=;\nimage;classes\na.jpg;cat, dog\nb.jpg;\n', '"image";"classes"\n"a.jpg";"cat,dog"\n"b.jpg";""\n',
    'image;classes;;\na.jpg;cat,dog;;\nb.jpg;;;\n;;;\n',
    'image,classes;\na.jpg,cat;dog\nb.jpg,;\n;\n',  # opened as columns at ";" and saved
    'image,classes,,\na.jpg,cat;dog,,\nb.jpg,,,\n'])
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_tables_as_european_spreadsheets_write_them(table, content, encoding):
    assert read_label_table(table(content.encode(encoding))) == {'a.jpg': ('cat', 'dog'), 'b.jpg': ()}


def test_a_tab_table_may_be_called_so(table):
    assert read_label_table(table('image\tclasses\na.jpg\tcat\n', 'labels.tsv')) == {'a.jpg': ('cat',)}


@pytest.mark.parametrize(('content', 'message'), [
    ('image;classes\na.jpg;cat,dog\nb.jpg;cat|dog\n',
     r"line 3: classes are separated by ',' in line 2.*'\|' in.*Use one"),
    ('image;classes\na.jpg;cat, red;dog\n',
     "line 2: expected 2 fields.*';' between its columns, separate classes by ','"),
    ('image;classes\na.jpg;"cat, red;dog"\n', "line 2: .*it is not clear what belongs to a name"),
    ('image;classes\na.jpg;cat;dog\n', 'line 2: expected 2 fields.*or put the field in quotes')])
def test_what_a_table_may_mean_is_asked(table, content, message):
    with pytest.raises(ValueError, match=f'labels.csv, {message}'):
        read_label_table(table(content))


def test_a_class_name_may_hold_the_separator(tmp_path):
    names = ['cup; mug', '"real" food', '5" pipe', 'dog']
    write_label_table(tmp_path / 'l.csv', {'a.jpg': names, 'b.jpg': ['dog']})
    assert read_label_table(tmp_path / 'l.csv') == {'a.jpg': tuple(names), 'b.jpg': ('dog',)}
    assert (tmp_path / 'l.csv').read_text().splitlines()[2] == 'b.jpg,dog'


def test_quotes_that_do_not_close_are_told(table):
    with pytest.raises(ValueError, match='line 2: the quotes in .* do not close'):
        read_label_table(table('image,classes\na.jpg,"""cup; mug"\n'))


def test_names_in_two_unicode_forms_are_one(table):
    e, decomposed = '\u00e9', 'e\u0301'
    content = f'image,classes\ncaf{decomposed}.jpg,p{e};p{decomposed}\n'
    assert read_label_table(table(content)) == {f'caf{e}.jpg': (f'p{e}',)}
    with pytest.raises(ValueError, match='is listed twice'):
        read_label_table(table(content + f'caf{e}.jpg,\n'))
    assert read_label_table(table(json.dumps({f'caf{decomposed}.jpg': [f'p{decomposed}']}), 'l.json')) == \
        {f'caf{e}.jpg': (f'p{e}',)}


def test_backslashes_separate_folders(table):
    assert list(read_label_table(table('image,classes\ntrip\\a.jpg,cat\n'))) == ['trip/a.jpg']
    with pytest.raises(ValueError, match="line 3: image 'trip/a.jpg' is listed twice"):
        read_label_table(table('image,classes\ntrip\\a.jpg,cat\ntrip/a.jpg,dog\n'))
