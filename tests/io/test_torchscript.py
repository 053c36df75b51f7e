"""TorchScript archives are read as torch.jit.load reads them, and nothing in them runs."""
import io
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from weclip_sam.foundation.clip_weights import read_state_dict
from weclip_sam.io import torchscript
from weclip_sam.io.torchscript import Refused, read_torchscript

pytestmark = [pytest.mark.filterwarnings('ignore:.*torch.jit:FutureWarning'),
              pytest.mark.filterwarnings('ignore:.*torch.jit:DeprecationWarning')]


class Small(nn.Module):
    """What archives may hold: shared and non-contiguous weights, buffers, constants, other attributes."""

    def __init__(self):
        super().__init__()
        base = torch.arange(24.0).view(4, 6)
        self.weight = nn.Parameter(base.half())
        self.register_buffer('turned', base.T)
        self.register_buffer('part', base[1:3, 2:5])
        self.register_buffer('scalar', torch.tensor(7))
        self.register_buffer('empty', torch.zeros(0, 3))
        self.register_buffer('flags', torch.tensor([True, False]))
        self.register_buffer('attn_mask', torch.ones(2, 2), persistent=False)
        self.linear = nn.Linear(3, 2)
        self.tied = self.linear
        self.bfloat = nn.Parameter(torch.randn(3).bfloat16())
        self.input_resolution, self.name, self.sizes = 224, 'small', [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.linear(x).sum() * self.turned[:3, 0]) + self.input_resolution * len(self.sizes)


def trace(model):
    return torch.jit.trace(model, torch.ones(3), check_trace=False)


@pytest.mark.parametrize('convert', [torch.jit.script, trace])
def test_reads_what_torch_reads(convert, tmp_path):
    convert(Small().eval()).save(tmp_path / 'small.pt')
    expected = torch.jit.load(tmp_path / 'small.pt').state_dict()
    found = read_torchscript(tmp_path / 'small.pt')
    assert {'weight', 'turned', 'part', 'scalar', 'empty', 'flags', 'linear.weight', 'tied.bias'} <= set(found)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and found[key].stride() == value.stride(), key
        assert torch.equal(found[key], value), key
    for one, other in (('turned', 'part'), ('linear.weight', 'tied.weight')):
        shared = [state[one].untyped_storage().data_ptr() == state[other].untyped_storage().data_ptr()
                  for state in (expected, found)]
        assert shared == [True, True]


class Writes(nn.Module):
    """A module whose loading writes a file."""

    def __init__(self, mark: str):
        super().__init__()
        self.weight, self.mark = nn.Parameter(torch.zeros(2)), mark

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.mark, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
        self.weight, self.mark, self.training = state[0], state[1], state[2]
        torch.save(torch.ones(3), self.mark)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_code_in_an_archive_does_not_run(tmp_path):
    mark = tmp_path / 'ran'
    torch.jit.script(nn.Sequential(nn.Linear(2, 2), Writes(str(mark)))).save(tmp_path / 'evil.pt')
    torch.jit.load(tmp_path / 'evil.pt')
    assert mark.exists()  # torch runs it, so the rest tests something
    mark.unlink()
    with pytest.raises(ValueError, match=r'evil\.pt \([\d,]+ bytes\): refused: loading this TorchScript archive would '
                                         r'run code of its own.*Save the model'):
        read_state_dict(tmp_path / 'evil.pt')
    assert not mark.exists()


def rewritten(path, target, change):
    """A copy of an archive in which ``change`` (name, content) -> content has had its way."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, 'w') as copy:
        for name in source.namelist():
            copy.writestr(name, change(name.partition('/')[2], source.read(name)))
    return target


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp('small') / 'small.pt'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        trace(Small().eval()).save(path)
    return path


class Calls:
    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize('function', [Path.touch, torch.load, getattr, torch.nn.Linear])
def test_nothing_that_a_pickle_names_is_called(small, tmp_path, function):
    evil = pickle.dumps(Calls(function, tmp_path / 'ran'), protocol=2)
    path = rewritten(small, tmp_path / 'x.pt', lambda name, content: evil if name == 'data.pkl' else content)
    with pytest.raises(ValueError, match=r'x\.pt .*refused: this TorchScript archive names \w+\S*, which is neither'):
        read_state_dict(path)
    assert not (tmp_path / 'ran').exists()


def test_an_archive_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes of whatever is on the stack, a class that a pickle may name included."""
    before = {kind: set(vars(kind)) for kind in vars(torchscript).values() if isinstance(kind, type)}
    for named in ('__torch__\nM', 'torch._utils\n_rebuild_tensor_v2', 'torch\ndevice', 'torch\nFloatStorage',
                  'collections\nOrderedDict'):
        for state in (b'}X\x01\x00\x00\x00xK\x01s', b'N}X\x01\x00\x00\x00xK\x01s\x86'):  # {'x': 1}, (None, {'x': 1})
            pickled = b'\x80\x02c' + named.encode() + b'\n' + state + b'b.'
            with pytest.raises(ValueError, match='x.pt'):
                read_state_dict(archive(tmp_path / 'x.pt', pickled, {}))
    assert before == {kind: set(vars(kind)) for kind in before}


STORAGE = object()


def tensor_pickle(size, stride, offset=0, key='0', count=4):
    """data.pkl of a module with one float32 tensor, written as torch writes it."""
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ('storage', torch.FloatStorage, key, 'cpu', count) if thing is STORAGE else None

    buffer = io.BytesIO()
    tensor = Calls(torch._utils._rebuild_tensor_v2, STORAGE, offset, size, stride, False, None)
    Pickler(buffer, 2).dump({'weight': tensor})
    return b'\x80\x02c__torch__\nM\n)\x81' + buffer.getvalue()[2:-1] + b'b.'


def archive(path, pickled, storages, **options):
    with zipfile.ZipFile(path, 'w', **options) as file:
        file.writestr('x/data.pkl', pickled)
        file.writestr('x/constants.pkl', b'\x80\x02).')
        for key, content in storages.items():
            file.writestr(f'x/data/{key}', content)
    return path


def test_tensors_must_lie_within_their_storage(tmp_path):
    path, four = tmp_path / 'x.pt', {'0': torch.arange(4.0).numpy().tobytes()}
    found = read_torchscript(archive(path, tensor_pickle((2, 2), (1, 2)), four))
    assert found['weight'].tolist() == [[0, 2], [1, 3]]
    for size, stride, offset, count in [
            ((5,), (1,), 0, 4), ((2, 2), (1, 4), 0, 4), ((2,), (1,), 3, 4), ((4,), (1,), 0, 5), ((4,), (1,), -1, 4),
            ((2,), (-1,), 1, 4), ((10 ** 12,), (0,), 0, 4), ((-1,), (1,), 0, 4), ((1.5,), (1,), 0, 4),
            ((4,), (1,), 0, 10 ** 15)]:
        archive(path, tensor_pickle(size, stride, offset, count=count), four)
        with pytest.raises(ValueError, match=r'x\.pt \([\d,]+ bytes\)'):
            read_state_dict(path)
    archive(path, tensor_pickle((4,), (1,), key='../other'), four)
    with pytest.raises(ValueError, match=r'x\.pt \([\d,]+ bytes\): cannot be read'):
        read_state_dict(path)


def test_an_archive_cannot_ask_for_more_memory_than_it_is_long(tmp_path):
    count = 10 ** 7
    path = archive(tmp_path / 'bomb.pt', tensor_pickle((count,), (1,), count=count), {'0': bytes(4 * count)},
                   compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10 ** 5
    with pytest.raises(Refused, match='longer than the file.*data/0'):
        read_torchscript(path)


def test_modules_within_themselves_end(tmp_path):
    # 60 modules, each of which holds the one before it twice: 2 ** 60 names
    level = b''.join(b'c__torch__\nM\n)\x81}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ubq\x00' for _ in range(60))
    path = archive(tmp_path / 'deep.pt', b'\x80\x02c__torch__\nM\n)\x81}bq\x00' + level + b'.', {})
    with pytest.raises(Refused, match='more than 100,000 entries'):
        read_torchscript(path)


def nested(depth):
    """A tuple of twice a tuple of twice a tuple and so on."""
    return b'K\x01' + b'2\x86' * depth  # DUP, TUPLE2


MODULE = b'c__torch__\nM\n)\x81'  # an empty one; BUILD ('b') with a dict sets its attributes
TENSOR = MODULE + b'}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(%s%s%s%st\x52sb.'
FLOATS = b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\n%sX\x03\x00\x00\x00cpuK\x04tQ'
ZERO, FOUR, ONE = b'K\x00', b'K\x04\x85', b'K\x01\x85'
WITHIN_ITSELF = b'q\x00}X\xe8\x03\x00\x00' + b'a' * 1000 + b'h\x00sb.'
UNBOUNDED = {
    'size': TENSOR % (FLOATS % b'X\x01\x00\x00\x000', ZERO, b'J\x00\x00\x00\x10X\x04\x00\x00\x00aaaa\x86', ONE),
    'stride': TENSOR % (FLOATS % b'X\x01\x00\x00\x000', ZERO, FOUR, nested(60)),
    'offset': TENSOR % (FLOATS % b'X\x01\x00\x00\x000', nested(60), FOUR, ONE),
    'storage key': TENSOR % (FLOATS % nested(60), ZERO, FOUR, ONE),
    'storage': TENSOR % (b'ctorch\nFloatStorage\n' + nested(60) + b'K\x04\x87', ZERO, FOUR, ONE),
    'kind': TENSOR % (b'(' + nested(60) + b'K\x00K\x00K\x00K\x00tQ', ZERO, FOUR, ONE),
    'attribute': MODULE + b'}' + nested(60) + b'K\x01sb.',
    'key of a dict': MODULE + b'(' + nested(60) + b'K\x01db.',
    'key of an OrderedDict': MODULE + b'ccollections\nOrderedDict\n)R' + nested(60) + b'K\x01sb.',
    'item of a set': b'\x8f(' + nested(60) + b'\x90.',
    'item of a frozenset': b'(' + nested(60) + b'\x91.',
    'bytearray': b'\x96' + (1 << 32).to_bytes(8, 'little') + b'.',
    'module': MODULE + WITHIN_ITSELF}


@pytest.mark.slow
def test_a_small_file_takes_neither_forever_nor_all_memory(tmp_path):
    """In a process of its own with 20 s of time for each and 300 MB beyond what it has."""
    for kind, pickled in UNBOUNDED.items():
        archive(tmp_path / f'{kind}.pt', b'\x80\x02' + pickled, {'0': bytes(16)})
    code = """
import resource, sys
from pathlib import Path
from weclip_sam.foundation.clip_weights import read_state_dict
pages = int(Path('/proc/self/statm').read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300_000_000,) * 2)
for path in sys.argv[1:]:
    print(path, flush=True)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 20, resource.RLIM_INFINITY))
    try:
        read_state_dict(Path(path))
    except ValueError as error:
        print(error)
"""
    paths = [str(tmp_path / f'{kind}.pt') for kind in UNBOUNDED]
    done = subprocess.run([sys.executable, '-c', code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    assert done.stdout.count(' bytes)') == len(paths) and 'MemoryError' not in done.stdout, done.stdout


def test_what_is_no_module_is_said(tmp_path):
    archive(tmp_path / 'list.pt', pickle.dumps([1], 2), {})
    with pytest.raises(ValueError, match=r'list\.pt .*TorchScript archive of a list, not of a module'):
        read_state_dict(tmp_path / 'list.pt')
    with zipfile.ZipFile(tmp_path / 'none.pt', 'w') as file:
        file.writestr('x/constants.pkl', b'')
    with pytest.raises(ValueError, match=r'none\.pt .*0 records data\.pkl instead of one'):
        read_state_dict(tmp_path / 'none.pt')


def test_damaged_archives_are_value_errors(small, tmp_path):
    draw = random.Random(0)
    for _ in range(150):
        def damage(name, content):
            if name != 'data.pkl':
                return content
            content = bytearray(content)
            for _ in range(draw.randint(1, 4)):
                content[draw.randrange(len(content))] = draw.randrange(256)
            return bytes(content)
        path = rewritten(small, tmp_path / 'x.pt', damage)
        with pytest.raises(ValueError, match='x.pt'):  # at the latest because it is no CLIP
            read_state_dict(path)
