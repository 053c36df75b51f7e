"""Nothing takes for granted what other systems than Linux lack (docs/platforms.md); nobody has tried it on them."""
import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import weclip_sam
from weclip_sam.datasets import ImageLabelDataset
from weclip_sam.offline.work import _Loader

ROOT = Path(weclip_sam.__file__).parent
FILES = sorted(ROOT.rglob('*.py'))
NOT_EVERYWHERE = {'fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty', 'pty', 'syslog', 'msvcrt', 'winreg', '_winapi'}
# Of os and signal, what Windows or macOS lack, with the files that ask before they use it.
CALLS = {'fork': (), 'forkpty': (), 'wait3': (), 'wait4': ('engine/memory.py',), 'waitid': (), 'getuid': (),
         'geteuid': (), 'getgid': (), 'setsid': (), 'killpg': (), 'getpgid': (), 'setpgid': (), 'mkfifo': (),
         'chown': (), 'lchown': (), 'statvfs': (), 'fchmod': (), 'getloadavg': (), 'uname': (), 'nice': (),
         'sched_getaffinity': ('io/parallel.py', 'engine/start/environment.py'), 'sched_setaffinity': (),
         'posix_fallocate': (), 'sendfile': (),
         'SIGKILL': (), 'SIGUSR1': (), 'SIGUSR2': (), 'SIGHUP': (), 'SIGALRM': (), 'alarm': (), 'setitimer': (),
         'kill': ('io/processes.py', 'engine/start/together.py')}


def guarded(tree):
    """Every node inside a ``try`` that catches ImportError."""
    return {inner for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)
            if any('ImportError' in ast.unparse(handler.type or ast.Name('')) for handler in node.handlers)}


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_system_may_lack_is_asked_for_first(path):
    tree, name = ast.parse(path.read_text(encoding='utf-8')), path.relative_to(ROOT).as_posix()
    safe = guarded(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node not in safe:
            modules = [node.module or ''] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            assert not NOT_EVERYWHERE & set(modules), f'{name}:{node.lineno} imports {modules} unasked'
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ('os', 'signal'):
            assert name in CALLS.get(node.attr, (name,)), f'{name}:{node.lineno}: not every system has {node.attr}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_read_and_written_as_utf8_whatever_the_system_s_own_is(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')
        said = {keyword.arg for keyword in node.keywords}
        if called in ('read_text', 'write_text') and isinstance(node.func, ast.Attribute):
            assert 'encoding' in said, f'{path.name}:{node.lineno}'
        if called == 'open' and isinstance(node.func, ast.Name):
            modes = [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)]
            binary = any('b' in mode for mode in modes) or any(isinstance(arg, ast.IfExp) for arg in node.args[1:2])
            assert binary or 'encoding' in said, f'{path.name}:{node.lineno}'


def test_what_workers_are_given_can_be_sent_to_a_new_process(tmp_path):
    """As where they are not forked: data sets, and what make_seeds.py loads images with."""
    (tmp_path / 'images').mkdir()
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / 'images' / 'a.png')
    (tmp_path / 'labels.csv').write_text('image,classes\na.png,cat\n', encoding='utf-8')
    for reader in (dict(type='FolderReader', data_root=str(tmp_path)),
                   dict(type='ShapesReader', num_images=2, size=32)):
        pipeline = [dict(type='RandomScale', ratio=(0.5, 2.0)), dict(type='RandomCrop', size=16),
                    dict(type='PackSample')]
        dataset = ImageLabelDataset(reader=reader, pipeline=pipeline)
        again = pickle.loads(pickle.dumps(_Loader(dataset.__getitem__, [0])))
        assert again[0][1]['inputs'].shape == (3, 16, 16) and not again[0][2]
