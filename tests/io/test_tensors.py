"""Files of weights are told apart by what is in them, whatever their name, and nothing in them runs."""
import os
import zipfile

import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from weclip_sam.io.checkpoints import safe_load
from weclip_sam.io.tensors import PICKLED, SAFETENSORS, TRAINING, read_tensors

STATE = {'a.weight': torch.arange(6.0).view(2, 3), 'a.bias': torch.ones(2)}


def training(path):
    torch.save(dict(state_dict=STATE, meta={}, message_hub=dict(log=HistoryBuffer([1.0], [1]))), path)


WRITERS = {
    'plain': (lambda p: torch.save(STATE, p), PICKLED),
    'older': (lambda p: torch.save(STATE, p, _use_new_zipfile_serialization=False), PICKLED),
    'wrapped': (lambda p: torch.save({'epoch': 3, 'model': STATE}, p), PICKLED),
    'parallel': (lambda p: torch.save({f'module.{key}': value for key, value in STATE.items()}, p), PICKLED),
    'with numbers': (lambda p: torch.save({**STATE, 'epoch': 3}, p), PICKLED),
    'safetensors': (lambda p: save_file(STATE, p), SAFETENSORS),
    'training': (training, TRAINING)}


@pytest.mark.parametrize('kind', WRITERS)
@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors', 'w'])
def test_every_format_under_every_name(tmp_path, kind, name):
    write, expected = WRITERS[kind]
    write(tmp_path / name)
    found = read_tensors(tmp_path / name, 'weights')
    assert found.kind == expected and set(found.tensors) == set(STATE)
    assert all(torch.equal(value, STATE[key]) for key, value in found.tensors.items())


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('content, words', [
    (b'', 'cannot be read: the file is empty'), (b'<!DOCTYPE html>\n<p>Not found', 'a web page, not weights'),
    (b'version https://git-lfs.github.com/spec/v1\n', r'a Git LFS pointer \(run `git lfs pull`\)'),
    (b'hello', 'cannot be read'),
    (b'PK\3\4' + bytes(30), 'cannot be read: truncated after 34 bytes'),
    ((900).to_bytes(8, 'little') + b'{"a":', 'cannot be read: a safetensors file, truncated: its header of 900 bytes')])
def test_what_is_wrong_is_said_in_one_line(tmp_path, content, words):
    (tmp_path / 'w.pth').write_bytes(content)
    beginning = rf'^weights \S+w\.pth \({len(content)} bytes, expected 1,234\): {words}'
    with pytest.raises(ValueError, match=beginning) as raised:
        read_tensors(tmp_path / 'w.pth', 'weights', 'Get another.', 1234)
    assert str(raised.value).endswith(' Get another.') and '\n' not in str(raised.value)


@pytest.mark.parametrize('legacy', [False, True])
def test_code_is_refused_and_not_run(tmp_path, legacy):
    torch.save({**STATE, 'x': Evil(tmp_path / 'ran')}, tmp_path / 'w.pth', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r'refused\. It asks to load `\w+\.mkdir`.*Nothing was executed'):
        read_tensors(tmp_path / 'w.pth', 'weights')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('content, words', [([1, 2], 'found list'), ({}, r'found none \(but \[\]\)'),
                                            ({'epoch': 3, 'state_dict': {'a': 1}}, r"found none \(but \['a'\]\)")])
def test_files_without_tensors(tmp_path, content, words):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=f'expected a dict of tensors, {words}'):
        read_tensors(tmp_path / 'w.pth', 'weights')


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    """torch's own reader would unpack it, however large it becomes."""
    torch.save({'a': torch.zeros(10 ** 6)}, tmp_path / 'whole.pth')
    with zipfile.ZipFile(tmp_path / 'whole.pth') as source, \
            zipfile.ZipFile(tmp_path / 'small.pth', 'w', zipfile.ZIP_DEFLATED) as copy:
        for name in source.namelist():
            copy.writestr(name, source.read(name))
    assert (tmp_path / 'small.pth').stat().st_size < 10 ** 5
    for read in (safe_load, lambda path: read_tensors(path, 'weights')):
        with pytest.raises(ValueError, match=r'small\.pth.*longer than the file'):
            read(tmp_path / 'small.pth')
