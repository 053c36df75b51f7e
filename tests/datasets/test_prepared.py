"""The record of what was made of what."""
import os

import pytest

from weclip_sam.datasets.prepared import Prepared, table_digest


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'source.txt').write_text('one')
    return tmp_path


def test_a_source_is_read_only_where_size_or_time_differ(root, monkeypatch):
    record = Prepared(root)
    record.put('made', 'tool', [root / 'source.txt'])
    monkeypatch.setattr('weclip_sam.datasets.prepared._digest', lambda parts: pytest.fail('was read'))
    assert Prepared(root).changed('made') == []
    os.utime(root / 'source.txt', (7, 7))
    with pytest.raises(pytest.fail.Exception):
        Prepared(root).changed('made')


def test_only_another_content_is_a_change(root):
    source = root / 'source.txt'
    Prepared(root).put('made', 'tools/prepare_voc.py', [source])
    os.utime(source, (7, 7))
    Prepared(root).check('made')
    source.write_text('two')  # as long as before
    os.utime(source, (8, 8))
    assert Prepared(root).changed('made') == [source] and Prepared(root).changed('other') == []
    with pytest.raises(ValueError, match=f'made: {source} changed since it was made; run tools/prepare_voc.py again'):
        Prepared(root).check('made')
    source.unlink()  # what is gone cannot be compared
    Prepared(root).check('made')


def test_the_same_entry_is_not_written_again(root):
    record = Prepared(root)
    record.put('made', 'tool', [root / 'source.txt'], classes=['a'])
    stamp = record.path.stat().st_mtime_ns
    Prepared(root).put('made', 'tool', [root / 'source.txt'], classes=['a'])
    assert record.path.stat().st_mtime_ns == stamp


def test_two_writers_keep_each_others_entries(root):
    first, second = Prepared(root), Prepared(root)
    first.put('a', 'tool', [])
    second.put('b', 'tool', [])
    assert Prepared(root).get('a') and Prepared(root).get('b')


@pytest.mark.parametrize(('classes', 'message'), [
    (['cup'], "label 2 was 'ball' and would mean no class"),
    (['ball', 'cup'], "label 1 was 'cup' and would mean 'ball'"),
    (['cup', 'ball', 'hat'], "label 3 was no class and would mean 'hat'")])
def test_other_classes_are_refused(root, classes, message):
    record = Prepared(root)
    record.put('masks', 'tool', [], classes=['cup', 'ball'])
    record.check_classes('masks', ('cup', 'ball'))
    record.check_classes('others', classes)
    with pytest.raises(ValueError, match=message):
        record.check_classes('masks', classes)


def test_the_digest_of_a_table_is_that_of_what_it_says():
    assert table_digest({'a': ('x', 'y'), 'b': ()}) == table_digest({'b': [], 'a': ['y', 'x']})
    assert table_digest({'a': ('x',)}) != table_digest({'a': ('y',)})
