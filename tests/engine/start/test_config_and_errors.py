"""What a user can mend is one line with the nearest match."""
import errno
import importlib.util
import io
import logging
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from weclip_sam.engine import build_runner, explain, friendly_errors, load_config, prepare_work_dir
from weclip_sam.engine.start.config import use_amp, use_randomness, use_test_options
from weclip_sam.engine.start.kinds import check_kinds
from weclip_sam.engine.start.launch import start_distributed, use_resume
from weclip_sam.engine.start.options import parse_options
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.io.files import write_json
from weclip_sam.io.pipes import _LastingStream

ROOT = Path(__file__).parents[3]


def write_config(folder, text, name='leaf.py'):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_missing_config_names_the_nearest(tmp_path):
    write_config(tmp_path / 'configs' / 'weclip_sam', 'model = dict()', 'weclip-sam_tiny_3k_shapes.py')
    write_config(tmp_path / 'configs' / '_base_', 'model = dict()', 'weclip-sam_tiny_2k_shapes.py')
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*configs/weclip_sam/weclip-sam_tiny_3k_shapes.py'"):
        load_config(tmp_path / 'configs' / 'weclip' / 'weclip-sam_tiny_2k_shapes.py')


@pytest.mark.parametrize('text, message', [
    ('model = dict(', r'leaf.py: SyntaxError'),
    ('model = undefined', 'undefined'),
    ('_base_ = ["nowhere.py"]\nmodel = dict()', r'leaf.py: its _base_ is missing'),
    ('optimizer = 1', "has no 'model'"),
    ('model = dict()\ntrain_dataloder = dict()', "unknown key 'train_dataloder'. Did you mean 'train_dataloader'"),
])
def test_broken_configs(tmp_path, text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_config(write_config(tmp_path, text))


def test_helper_variables_are_fine(tmp_path):
    text = 'crop = 64\ntrain_pipeline = []\ntta = dict(scales=(1.0,))\nmodel = dict(type="A", size=crop)'
    assert load_config(write_config(tmp_path, text)).model.size == 64


TEXT = ('model = dict(type="A", head=dict(width=3))\nlist_of = [dict(a=1), dict(a=2)]\nplain = dict(lr=1)\n'
        'copies = [list_of, plain]')


@pytest.mark.parametrize('option, path, value', [
    ('model.head.width=5', 'model.head.width', 5), ('list_of.1.a=x', 'list_of.1.a', 'x'),
    ('plain.lr=1e-3', 'plain.lr', 1e-3),
    ('model.new=[1,2]', 'model.new', [1, 2]), ('load_from=some.pth', 'load_from', 'some.pth'),
    ('plain.lr=a=b', 'plain.lr', 'a=b')])
def test_options_change_the_config(tmp_path, option, path, value):
    node = load_config(write_config(tmp_path, TEXT), [option])
    for part in path.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


@pytest.mark.parametrize('option, message', [
    ('modle.head.width=5', "the config has no 'modle'. Did you mean 'model'"),
    ('model.haed.width=5', "model has no 'haed'. Did you mean 'head'"),
    ('model.head.widht=5', "model.head has no 'widht'. Did you mean 'width'"),
    ('list_of.2.a=1', "list of 2; '2' is no index"), ('list_of.x.a=1', "'x' is no index"),
    ('plain.lr.deep=1', "plain.lr is 1, which has no 'deep'"), ('plain.lr', "expected key=value, got 'plain.lr'")])
def test_misspelt_options_are_errors(tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        load_config(write_config(tmp_path, TEXT), [option])


def test_parse_options_values():
    assert parse_options(['a=1', 'b=(1,2)', 'c=true', 'd=']) == dict(a=1, b=(1, 2), c=True, d='')
    assert parse_options(['a=1,2', 'b=[p,[q,2]]', 'c=p,q', 'd=1e-3', 'e=None', 'f=-1.5']) == dict(
        a=[1, 2], b=['p', ['q', 2]], c=['p', 'q'], d=1e-3, e=None, f=-1.5)


@pytest.mark.parametrize('text, value', [
    ("['a photo of a clean {}.', 'x({}']", ['a photo of a clean {}.', 'x({}']),
    ("{'chair': 'wooden chair'}", {'chair': 'wooden chair'}), ('/my photos/of 2024', '/my photos/of 2024'),
    ('photos/cats, dogs (2024', 'photos/cats, dogs (2024'), ('cat, dog', ['cat', 'dog']), ('a photo of a {}.', None)])
def test_blanks_commas_and_brackets_survive_in_options(text, value):
    assert parse_options([f'key={text}']) == dict(key=text if value is None else value)


def error_line(config, capsys):
    with pytest.raises(SystemExit) as stopped, friendly_errors():
        build_runner(config).train()
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize('options, message', [
    (dict(model__type='ToySegmentr'), "error: no model is called 'ToySegmentr'. Did you mean 'ToySegmentor'?"),
    (dict(train_dataloader__dataset__type='ToyPicture'),
     "error: no dataset is called 'ToyPicture'. Did you mean 'ToyPictures'?"),
    (dict(val_evaluator__type='IouMetrik'), "Did you mean 'IoUMetric'?"),
    (dict(optim_wrapper__optimizer__type='AdamWW'), "Did you mean 'AdamW'?"),
    (dict(optim_wrapper__type='Bf16OptimWraper'), "Did you mean 'Bf16OptimWrapper'?"),
    (dict(default_hooks__rng__type='RngStateHok'), "no hook is called 'RngStateHok'. Did you mean 'RngStateHook'?"),
    (dict(custom_hooks=[dict(type='CurriculumHook', interval=5)]),
     'error: CurriculumHook takes no settings besides its type'),
    (dict(model__droput=0.1), "error: ToySegmentor takes no argument 'droput'. Did you mean 'dropout'?"),
])
def test_unknown_types_and_arguments_are_one_line(toy_config, capsys, options, message):
    assert message in error_line(toy_config(**options), capsys)


def ended(error, capsys, folder=None, raiser=None):
    """Exit code and the lines on stderr of a command that an error ends."""
    with pytest.raises(SystemExit) as stopped, friendly_errors(lambda: folder):
        if raiser:
            raiser()
        raise error
    return stopped.value.code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize('error', [
    ZeroDivisionError('division by zero'), TypeError('nothing known'), KeyError('some key'), AssertionError(),
    RuntimeError('shape [2, 3] is invalid\nfor input of size 5'), NotImplementedError('That method is not supported'),
    AttributeError("'int' object has no attribute 'x'"), IndexError(3), RecursionError('maximum depth'), ValueError(''),
    SyntaxError('failed'), StopIteration(), UnicodeEncodeError('ascii', 'é', 0, 1, 'no such letter'),
    UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte'), zlib.error('Error -3'), EOFError(), MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"), ImportError('no x'),
    torch.OutOfMemoryError('CUDA out of memory. Tried\nto allocate'), OSError('odd'), struct.error('unpack'),
    subprocess.CalledProcessError(1, 'x'), TypeError('expected str, bytes or os.PathLike object, not int')], ids=repr)
@pytest.mark.parametrize('has_folder', [True, False])
def test_every_exception_is_one_line_and_exit_code_2(error, has_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    code, lines = ended(error, capsys, str(tmp_path) if has_folder else None)
    assert code == 2 and len(lines) == 1 and lines[0].startswith('error: ') and 'Traceback' not in lines[0]
    assert has_folder == (str(tmp_path / 'error.txt') in lines[0]) == (tmp_path / 'error.txt').is_file()
    if has_folder:
        kept = (tmp_path / 'error.txt').read_text()
        assert 'Traceback' in kept and type(error).__name__ in kept


def test_a_fault_of_the_program_is_told_from_what_the_user_can_mend(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    fault = 'this looks like a fault of the program itself; please report'
    assert fault in ended(ZeroDivisionError(), capsys)[1][0]
    assert 'WECLIP_SAM_TRACEBACK=1' in ended(KeyError('x'), capsys)[1][0]
    assert f'{fault} {tmp_path}/error.txt' in ended(TypeError('x'), capsys, str(tmp_path))[1][0]
    # Within a library a setting may be to blame; here nothing but us.
    line = ended(None, capsys, raiser=lambda: torch.zeros(2).view(3))[1][0]
    assert line.startswith('error: RuntimeError: ') and 'a setting may not fit' in line and fault in line
    assert 'a setting may not fit' not in ended(None, capsys, raiser=lambda: check_kinds(None, ''))[1][0]
    for error in (ValueError('mend it'), MemoryError(), zlib.error('x'), FileNotFoundError('gone')):
        assert fault not in ended(error, capsys)[1][0]
    assert 'out of memory: a smaller batch_size' in ended(torch.OutOfMemoryError('CUDA out of memory'), capsys)[1][0]
    assert 'data_root=./2024' in ended(None, capsys, raiser=lambda: os.fspath(2024))[1][0]
    assert 'data_root=./2024' in ended(None, capsys, raiser=lambda: Path(None))[1][0]
    assert explain(KeyError('some key')) is None


def test_what_a_terminal_cannot_write_comes_out_as_escapes(monkeypatch, capsys):
    buffer = io.BytesIO()
    narrow = io.TextIOWrapper(buffer, encoding='ascii', write_through=True)
    monkeypatch.setattr(sys, 'stdout', narrow)
    with friendly_errors():
        print('Gürkentopf \udcff')
    assert buffer.getvalue() == b'G\\xfcrkentopf \\udcff\n' and sys.stdout is narrow


@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_a_closed_pipe_costs_no_work_and_no_word(stream, monkeypatch, capfd, tmp_path):
    read, write = os.pipe()
    os.close(read)
    pipe = os.fdopen(write, 'w')
    monkeypatch.setattr(sys, stream, pipe)
    logger, done = logging.Logger('closed'), []
    with friendly_errors():
        logger.addHandler(logging.StreamHandler(getattr(sys, stream)))
        for number in range(3):
            print('x' * 100_000, file=getattr(sys, stream))
            logger.warning('a line of a log')
            done.append(number)
    logger.warning('after the end')
    pipe.close()  # would raise if something were left to write
    captured = capfd.readouterr()
    assert done == [0, 1, 2] and captured.err == captured.out == ''


def test_a_stream_that_is_closed_from_the_start_is_nowhere(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)
    monkeypatch.setattr(sys, 'stderr', None)
    with pytest.raises(SystemExit) as stopped, friendly_errors():
        print('lost')
        sys.stderr.isatty()
        raise ValueError('nobody hears it')
    assert stopped.value.code == 2 and sys.stderr is None


def test_another_fault_of_a_stream_is_still_told(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(SystemExit) as stopped, friendly_errors():
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'stdout', _LastingStream(Full()))
            print('x')
    assert stopped.value.code == 2


def test_amp_wrapper_needs_a_gpu(toy_config, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'error: optim_wrapper.type: AmpOptimWrapper needs a GPU' in error_line(
        toy_config(optim_wrapper__type='AmpOptimWrapper'), capsys)


@pytest.mark.parametrize('name', ['runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint',
                                  'guard', 'data', 'rng', 'sheets', 'progress', 'summary'])
def test_any_default_hook_can_be_switched_off(run_toy, name):
    runner = run_toy(**{f'default_hooks__{name}': None, 'train_cfg__max_iters': 2, 'custom_hooks': []})
    assert runner.iter == 2


@pytest.mark.parametrize('options', [
    dict(pin_memory=True), dict(drop_last=True), dict(timeout=60, num_workers=1, prefetch_factor=1),
    dict(num_workers=1, multiprocessing_context='fork')])
def test_a_loaders_own_settings_reach_it(run_toy, options):
    runner = run_toy(custom_hooks=[], train_cfg__max_iters=1,
                     **{f'train_dataloader__{key}': value for key, value in options.items()})
    assert runner.iter == 1
    loader = runner.train_dataloader
    for key, value in options.items():
        got = getattr(loader, key, value)
        assert got == value or key == 'multiprocessing_context' and got.get_start_method() == 'fork'


def test_traceback_is_kept_in_the_work_dir(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    with pytest.raises(SystemExit), friendly_errors(lambda: str(tmp_path)):
        raise ValueError('a bad value')
    assert f'error: a bad value (traceback: {tmp_path}/error.txt)\n' == capsys.readouterr().err
    assert 'raise ValueError' in (tmp_path / 'error.txt').read_text()
    monkeypatch.setenv('WECLIP_SAM_TRACEBACK', '1')
    with pytest.raises(ValueError), friendly_errors():
        raise ValueError('a bad value')


def test_disk_faults_and_dead_workers_are_explained(tmp_path):
    full = explain(OSError(errno.ENOSPC, 'No space left on device', str(tmp_path / 'iter_5.pth')))
    assert 'iter_5.pth: cannot be written, the disk is full' in full and 'MB free' in full
    assert 'read-only' in explain(OSError(errno.EROFS, 'x', '/somewhere/file'))
    assert 'a data worker died' in explain(RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.'))
    remote = ValueError('Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call):\n'
                        '  File "x"\nValueError: img_7: not an image')
    assert explain(remote) == 'img_7: not an image'
    remote = PermissionError("Caught PermissionError in DataLoader worker process 0.\nOriginal Traceback (most recent "
                             "call):\n  File \"x\"\nPermissionError: [Errno 13] Permission denied: 'a.csv'")
    assert explain(remote) == "[Errno 13] Permission denied: 'a.csv'"


def _fault_of(action):
    with pytest.raises(OSError) as caught:
        action()
    return explain(caught.value)


def test_every_fault_of_a_path_is_one_line_that_names_it(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    long = tmp_path / f'{"a" * 300}.jpg'
    for action, told in [
            (lambda: open(tmp_path / 'folder'), f'{tmp_path}/folder: is a folder, expected a file'),
            (lambda: open(tmp_path / 'file' / 'x'), f'{tmp_path}/file/x: no folder, or a part of this path is a file'),
            (lambda: (tmp_path / 'file').mkdir(), f'{tmp_path}/file: a file of that name is in the way'),
            (lambda: open(tmp_path / 'gone'), f'{tmp_path}/gone: no such file or folder'),
            (lambda: os.stat(long), f'{long}: this name is longer than the file system allows, rename it'),
            (lambda: os.replace(tmp_path / 'file', tmp_path / 'folder'),
             f'{tmp_path}/folder: is a folder, expected a file'),
            (lambda: os.listdir(os.fsencode(tmp_path / 'gone')), f'{tmp_path}/gone: no such file or folder'),
            (lambda: write_json(tmp_path / 'folder', 1), f'{tmp_path}/folder: is a folder, expected a file'),
            (lambda: write_json(tmp_path / 'file' / 'x', 1), f'{tmp_path}/file: a file of that name is in the way')]:
        assert _fault_of(action) == told
    for number in (errno.EACCES, errno.EPERM):  # reading or writing: the error does not say
        told = explain(OSError(number, os.strerror(number), 'labels.csv'))
        assert told == 'labels.csv: cannot be read or written, permission denied'
        for folder, where in ((None, 'a file'), ('runs/a', 'runs/a')):
            told = explain(OSError(number, os.strerror(number)), folder)
            assert told == f'{where}: cannot be read or written, permission denied'
    assert explain(OSError(errno.ECONNREFUSED, 'Connection refused')) is None


def test_a_data_worker_that_is_killed_is_named(run_toy, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    original = DataLoader._get_iterator

    def without_worker(self):
        iterator = original(self)
        if getattr(iterator, '_workers', None):
            (tmp_path / 'pid').write_text(str(iterator._workers[0].pid))
            os.kill(iterator._workers[0].pid, signal.SIGKILL)
        return iterator
    monkeypatch.setattr(DataLoader, '_get_iterator', without_worker)
    with pytest.raises(SystemExit) as stopped, friendly_errors():
        run_toy(train_dataloader__num_workers=1)
    error = capfd.readouterr().err
    assert stopped.value.code == 2 and 'error: a data worker died' in error and '--resume' in error
    assert f'DataLoader worker (pid(s) {(tmp_path / "pid").read_text()})' in error


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
def test_a_work_dir_that_is_read_only_is_said_before_anything_starts(tmp_path, monkeypatch, capsys, number):
    tool = importlib.import_module('weclip_sam.cli.train')
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    folder = tmp_path / 'run'

    def refuse(*args, **kwargs):  # root may write where chmod forbids it, so the refusal is made up
        raise OSError(number, os.strerror(number), str(folder / 'tmpabc'))
    monkeypatch.setattr('weclip_sam.engine.start.launch.tempfile.TemporaryFile', refuse)
    with pytest.raises(SystemExit) as stopped:
        tool.main([str(ROOT / 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py'), '--work-dir', str(folder)])
    error = capsys.readouterr().err
    reason = {errno.EROFS: 'cannot be written, the file system is read-only',
              errno.EACCES: 'cannot be read or written, permission denied'}[number]
    assert stopped.value.code == 2 and error.startswith(f'error: {folder}: {reason}')
    assert not folder.exists()


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_run_with_a_hint_and_their_exit_code(capsys, number, code):
    before = signal.getsignal(signal.SIGTERM)
    closed = []
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(SystemExit) as stopped, friendly_errors(on_stop=lambda: 'Go on with: --resume'):
            try:
                os.kill(os.getpid(), number)
                time.sleep(30)
            finally:
                closed.append(True)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert stopped.value.code == code and closed
    assert capsys.readouterr().err == 'stopped. Go on with: --resume\n'
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interruption_that_a_library_caught_is_still_one(capsys):
    with pytest.raises(SystemExit) as stopped, friendly_errors():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                pass
        except BaseException:
            raise SyntaxError('failed to format')  # noqa: B904
    assert stopped.value.code == 143 and capsys.readouterr().err == 'stopped.\n'


@pytest.mark.parametrize('key, values, least', [
    ('train_cfg.max_iters', [0, -3, 1.5, 'many', True, None], 1), ('train_dataloader.batch_size', [0, -1, 2.5, 'x'], 1),
    ('val_dataloader.batch_size', [0, 'x'], 1), ('train_dataloader.num_workers', [-1, 'x'], 0)])
def test_numbers_of_iterations_and_images_are_whole_and_enough(toy_config, key, values, least):
    for value in values:
        with pytest.raises(ValueError, match=f'{key}: expected a whole number of at least {least}, got {value!r}$'):
            toy_config(**{key: value})
    toy_config(**{key: least})


def test_work_dir_is_probed(tmp_path, monkeypatch):
    assert prepare_work_dir(tmp_path / 'a' / 'b') == str(tmp_path / 'a' / 'b')
    assert list((tmp_path / 'a' / 'b').iterdir()) == []
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='a file of that name is in the way'):
        prepare_work_dir(tmp_path / 'file')
    with pytest.raises(ValueError, match=f'--work-dir {tmp_path}/file/a/b: {tmp_path}/file is a file, not a folder'):
        prepare_work_dir(tmp_path / 'file' / 'a' / 'b')

    with pytest.raises(ValueError, match=f'^--out {tmp_path}/file: a file of that name'):
        prepare_work_dir(tmp_path / 'file', '--out')

    def refuse(fd):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', refuse)
    with pytest.raises(OSError) as caught:
        prepare_work_dir(tmp_path / 'full')
    assert explain(caught.value).startswith(f'{tmp_path}/full: cannot be written, the disk is full')


def test_launcher_needs_its_environment(toy_config, monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match='lacks RANK, WORLD_SIZE, LOCAL_RANK; start it with `torchrun'):
        start_distributed('pytorch', toy_config())
    with pytest.raises(ValueError, match='SLURM_PROCID'):
        start_distributed('slurm', toy_config())
    with pytest.raises(ValueError, match="Did you mean 'slurm'"):
        start_distributed('slrm', toy_config())


def test_resume_auto_starts_afresh_where_there_is_nothing(toy_config, tmp_path):
    config = toy_config()
    prepare_work_dir(config.work_dir)
    assert use_resume(config, None) is None and config.resume is False
    assert use_resume(config, 'auto') is None and config.resume is False
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        use_resume(config, str(tmp_path / 'nowhere.pth'))


def test_amp_test_options_and_seed(toy_config):
    config = toy_config()
    use_amp(config)
    assert config.optim_wrapper.type == 'Bf16OptimWrapper'
    config.optim_wrapper.type = 'AmpOptimWrapper'
    with pytest.raises(ValueError, match='already'):
        use_amp(config)
    use_test_options(config)
    assert 'test' not in config.model
    use_test_options(config, tta=True, crf=True)
    assert config.model.test.scales == (1.0, 0.75) and config.model.test.flip is True
    assert config.model.test.crf.iterations == 10 and config.model.test.crf.bilateral_sxy == 64
    use_randomness(config, seed=7)
    assert config.randomness == dict(seed=7)
    config.randomness = dict(seed=None)
    use_randomness(config)
    assert config.randomness.seed == 0


def test_bf16_trains_in_bfloat16_and_keeps_float32_parameters(run_toy, monkeypatch):
    import torch
    seen = []
    original = torch.nn.Conv2d.forward

    def watch(self, x):
        out = original(self, x)
        seen.append(out.dtype)
        return out
    monkeypatch.setattr(torch.nn.Conv2d, 'forward', watch)
    runner = run_toy(optim_wrapper__type='Bf16OptimWrapper', train_cfg__max_iters=2)
    assert torch.bfloat16 in seen
    assert {p.dtype for p in runner.model.parameters()} == {torch.float32}


def test_an_option_inside_a_copied_data_set_reaches_the_copies_with_the_variables_in_them():
    root = Path(__file__).resolve().parents[3]
    config = load_config(root / 'configs/weclip_sam/weclip-sam_vit-b16_80k_coco.py', {
        'mask_bank': '/banks/mine', 'seed_dataset.reader.classes': 'json', 'data_root': '/data/mine'})
    fill_shared_settings(config)
    copy = next(hook.dataset for hook in config.custom_hooks if hook.type == 'SeedEvalHook')
    assert copy == config.seed_dataset
    assert (copy.mask_bank, copy.reader.classes, copy.reader.data_root) == ('/banks/mine', 'json', '/data/mine')
