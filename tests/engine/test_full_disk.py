"""A disk that is really full, or read-only: one clear line, everything before intact, and the run goes on later."""
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from weclip_sam.engine import explain, friendly_errors

TOY = Path(__file__).parent / 'toy'
# In a mount namespace of its own, which takes the mount with it.
PRIVATE = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c']
LOST = 'events of TensorBoard or the like are lost'
MOUNT = 'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'


def may_mount(folder):
    return shutil.which('unshare') is not None and subprocess.run(
        [*PRIVATE, MOUNT.format(size='1m'), str(folder), 'true'], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['tmpfs', 'limit'])
def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path, kind):
    if kind == 'tmpfs' and not may_mount(tmp_path):
        pytest.skip('a tmpfs cannot be mounted here')
    start = [*PRIVATE, MOUNT.format(size='16m'), str(tmp_path)] if kind == 'tmpfs' else []
    env = {**os.environ, 'PYTHONPATH': f'{TOY.parents[2]}:{TOY}', 'OMP_NUM_THREADS': '1'}
    env.pop('WECLIP_SAM_TRACEBACK', None)
    done = subprocess.run([*start, sys.executable, str(TOY / 'full_disk.py'), str(tmp_path), kind], env=env, text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == dict(read_only=2 if kind == 'tmpfs' else None, training=2, resumable='iter_4.pth', header=2,
                         record=2, temporaries=[], bank=['a', 'b'], equal=True, **{'new bank': []})
    told = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    reason = 'the disk is full (0 MB free)' if kind == 'tmpfs' else 'it is larger than files may be here (ulimit -f)'
    if kind == 'tmpfs':
        assert told.pop(0).startswith(f'error: {tmp_path}/cut: cannot be written, the file system is read-only')
    # TensorBoard's thread may notice before the main one, and is heard once.
    lost, told = [line for line in told if LOST in line], [line for line in told if LOST not in line]
    assert lost in ([], [f'error: a file: cannot be written, {reason.split(" (0")[0]}: {LOST}'])
    training, header, record = told
    assert training.startswith(f'error: {tmp_path}/cut') and f'cannot be written, {reason}' in training
    assert training.endswith('Earlier results are intact. Go on with: python tools/train.py')
    assert header == f'error: {tmp_path}/new/bank.json: cannot be written, {reason}. Earlier results are intact.'
    assert record.startswith(f'error: {tmp_path}/old/shard-') and record.endswith(f'{reason}. Earlier results are '
                                                                                  'intact.')
    for noise in ('Traceback', 'Logging error', 'Exception in thread', 'Exception ignored'):
        assert noise not in done.stderr


def test_only_the_disk_s_faults_are_kept_from_the_terminal(monkeypatch, capsys):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    seen = []
    monkeypatch.setattr(threading, 'excepthook', lambda args: seen.append(args.exc_type))
    before = logging.Handler.handleError, threading.excepthook

    def fail(error):
        raise error
    with friendly_errors():
        for error in (OSError(errno.ENOSPC, 'full'), OSError(errno.ENOSPC, 'full', 'again'),
                      OSError(errno.EIO, 'broken'), KeyError('x')):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    assert seen == [OSError, KeyError] and (logging.Handler.handleError, threading.excepthook) == before
    assert capsys.readouterr().err == f'error: a file: cannot be written, the disk is full: {LOST}\n'  # once
    with pytest.raises(SystemExit), friendly_errors(lambda: '/nowhere/run', lambda: 'Go on with: this'):
        raise OSError(errno.EDQUOT, 'quota')
    assert capsys.readouterr().err == ('error: /nowhere/run: cannot be written, the disk quota is used up. Earlier '
                                       'results are intact. Go on with: this\n')
    threading.excepthook(threading.ExceptHookArgs((KeyError, KeyError('x'), None, None)))
    assert seen == [OSError, KeyError, KeyError] and logging.Handler.handleError is before[0]
    assert explain(OSError(errno.ENOSPC, 'full')).startswith('a file: cannot be written, the disk is full. ')


def test_log_handlers_keep_their_errors_but_those_of_the_disk(capsys):
    class Failing(logging.Handler):
        def emit(self, record):
            try:
                raise record.msg
            except Exception:
                self.handleError(record)

    handler = Failing()
    with friendly_errors():
        for error in (OSError(errno.ENOSPC, 'full'), OSError(errno.EROFS, 'no', 'log')):
            handler.handle(logging.makeLogRecord({'msg': error}))
        assert capsys.readouterr().err == ''
        for error in (OSError(errno.EIO, 'broken'), KeyError('some key')):
            handler.handle(logging.makeLogRecord({'msg': error}))
            shown = capsys.readouterr().err
            assert 'Logging error' in shown and repr(error.args[-1]).strip("'") in shown
