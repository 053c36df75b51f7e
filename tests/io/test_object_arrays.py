"""Dicts of rows in .npy files: read as numpy reads them, and nothing in them is run."""
import collections
import io
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weclip_sam.io.object_arrays import read_rows


@pytest.fixture
def save(tmp_path):
    def write(value, protocol=None):
        path = tmp_path / 'cls_labels.npy'
        if protocol is None:
            np.save(path, value)
            return path
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, dict(descr='|O', fortran_order=False, shape=()))
        array = np.array(value, dtype=object)
        path.write_bytes(file.getvalue() + pickle.dumps(array, protocol))
        return path
    return write


@pytest.mark.parametrize('protocol', [None, 2, 3, 4])
@pytest.mark.parametrize('dtype', ['f4', 'f8', 'u1', 'i8', 'bool', '>f4', '>i2'])
def test_rows_are_what_numpy_reads(save, dtype, protocol):
    table = {'2007_000032': np.array([0, 1, 1], dtype), 'b': np.array([1, 0, 0], dtype)}
    found = read_rows(save(table, protocol))
    assert list(found) == list(table)
    for name, row in table.items():
        np.testing.assert_array_equal(found[name], row)
        assert found[name].dtype.kind == row.dtype.kind


def test_numbers_as_keys_lists_and_shared_rows(save):
    row = np.array([0., 1.])
    table = collections.OrderedDict([(np.int32(2007000032), row), (np.str_('b'), row), (9, [1, 0])])
    found = read_rows(save(table))
    assert {key: value.tolist() for key, value in found.items()} == {2007000032: [0, 1], 'b': [0, 1], 9: [1, 0]}


class _Trap:
    def __init__(self, function, *arguments):
        self.asked = function, arguments

    def __reduce__(self):
        return self.asked


@pytest.mark.parametrize('where', ['row', 'key', 'whole', 'within'])
def test_a_file_that_names_code_is_refused_and_runs_nothing(save, tmp_path, where):
    sprung = tmp_path / 'sprung'
    trap = _Trap(os.mkdir, str(sprung))
    table = {'row': {'a': trap}, 'key': {trap: np.zeros(2)}, 'whole': trap, 'within': {'a': [trap]}}[where]
    with pytest.raises(ValueError, match=r'cls_labels.npy: refused, it asks to load `\w+.mkdir`.*Nothing was executed'):
        read_rows(save(table))
    assert not sprung.exists()


def _pickled(body: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr='|O', fortran_order=False, shape=()))
    return file.getvalue() + body


@pytest.mark.parametrize('body', [
    # BUILD on what a name gives: a function or a type that keeps what a file put into it would spoil later reads.
    b'\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.',
    b'\x80\x02cnumpy\ndtype\nN}X\x04\x00\x00\x00codeK\x01s\x86b.',
    b'\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R(K\x03X\x01\x00\x00\x00?tb.',
    b'\x80\x02cnumpy\ndtype\nX\x05\x00\x00\x00f4,O8\x85R.', b'\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.',
    b'\x80\x02r\xff\xff\xff\x7f.', b'\x80\x02X\xff\xff\xff\x7f', b'', b'\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x00'])
def test_crafted_pickles_are_refused(tmp_path, body):
    path = tmp_path / 'x.npy'
    path.write_bytes(_pickled(body))
    with pytest.raises(ValueError, match='x.npy: (refused|damaged|holds)'):
        read_rows(path)


@pytest.mark.parametrize(('value', 'message'), [
    (np.zeros((2, 3)), 'an array of float64 and shape'), (np.array([{}, {}]), 'shape .2,.'), ({}, 'holds nothing'),
    ('text', 'an array of'), ({'a': np.zeros((2, 2))}, "image 'a': expected a row"), ({1.5: np.zeros(2)}, 'called 1.5'),
    ({'a': 'cat'}, "image 'a': expected a row"), ({'a': ['cat']}, "image 'a': expected a row")])
def test_other_arrays_say_what_was_expected(save, value, message):
    with pytest.raises(ValueError, match=f'cls_labels.npy.*{message}'):
        read_rows(save(value))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_rows_or_a_named_error(tmp_path_factory, data):
    file = io.BytesIO()
    np.save(file, {'a': np.array([0., 1.]), 'b': np.array([1., 1.])})
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / 'damaged.npy'
    path.write_bytes(content[:data.draw(st.integers(0, len(content)))])
    try:
        rows = read_rows(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert all(row.ndim == 1 for row in rows.values())
