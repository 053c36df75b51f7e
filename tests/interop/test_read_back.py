"""Exports, read back by the libraries that they are for; ``.ci/interop`` does it where the heavy ones do not fit in."""
import importlib.util
from pathlib import Path

import pytest


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


read_back, write = _load('read_back'), _load('write')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    return write.write(tmp_path_factory.mktemp('interop'))


@pytest.mark.parametrize('reader', read_back.READERS)
def test_a_library_reads_back_what_was_written(written, reader):
    pytest.importorskip(reader, reason=f'{reader} is not installed (pip install ".[interop]", or run .ci/interop)')
    read_back.READERS[reader](written / 'export', read_back.Expected(written))
