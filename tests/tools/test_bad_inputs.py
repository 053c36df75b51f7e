"""Whatever a tool is given: an exit code of the documentation, at most one line of error, no traceback."""
import errno
import importlib
import sys

import pytest

BAD_OPTIONS = ['data_root=2024', 'data_root=[new]', 'data_root=None', 'data_root=1e5', 'data_root=cups,balls',
               'data_root=', 'train_dataloader.dataset=3', 'custom_hooks=3', 'model=None',
               'mask_bank=5/5/5', 'model=3', 'model.type=Nobody', 'train_dataloader=7', 'no_such.key=1', 'x',
               'train_dataloader.dataset.reader.data_root=12#3', 'train_dataloader.dataset.reader.split=7',
               'train_dataloader.dataset.reader.max_side=many', 'mask_generator.sam.checkpoint=None',
               'mask_generator.sam.arch=[1,2]', 'mask_generator.points_per_side=-1', 'mask_generator=None']


@pytest.fixture
def outcome(load_tool, capsys, monkeypatch):
    """A function: exit code and lines on stderr of a tool, progress left out."""
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)

    def of(tool, *args):
        code = 0
        try:
            load_tool(tool).main([str(arg) for arg in args])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        assert 'Traceback' not in out + err
        return code, [line for line in err.splitlines() if line.startswith('error:')], err
    return of


@pytest.mark.parametrize('option', BAD_OPTIONS)
@pytest.mark.parametrize('tool', ['check_data', 'make_masks', 'make_seeds', 'select_prompt', 'train'])
def test_bad_options_are_one_line(photos, outcome, tool, option, tmp_path, monkeypatch):
    config = photos[1]
    monkeypatch.chdir(tmp_path)
    args = dict(make_seeds=['--out', 'out'], train=['--work-dir', 'out']).get(tool, [])
    code, lines, err = outcome(tool, config, *args, '--cfg-options', option)
    assert code in (1, 2) or (code == 0 and not lines), err
    assert len(lines) == (code == 2) and 'fault of the program' not in err, err


def test_a_file_where_outputs_go_is_told_by_the_option_that_named_it(photos, outcome, tmp_path):
    root, config = photos
    for tool, args in [('predict', [config, root]), ('make_seeds', [config]), ('make_masks', [config])]:
        code, lines, err = outcome(tool, *args, '--out', config)
        assert code == 2 and len(lines) == 1 and f'--out {config}: a file of that name' in err, (tool, err)


def test_a_work_dir_among_the_images_is_refused_before_anything_is_written(photos, outcome):
    root, config = photos
    code, lines, err = outcome('train', config, '--work-dir', root / 'images' / 'work')
    assert code == 2 and len(lines) == 1 and f'lies in the image folder {root}/images' in err, err
    assert not (root / 'images' / 'work').exists()


@pytest.mark.parametrize('option', ['train_cfg.max_iters=0', 'train_cfg.max_iters=1.5', 'train_cfg.max_iters=many',
                                    'train_dataloader.batch_size=0', 'train_dataloader.batch_size=x'])
def test_a_training_of_no_iterations_or_images_writes_nothing(photos, outcome, tmp_path, option):
    config = photos[1]
    config.write_text(config.read_text() + 'train_cfg = dict(max_iters=2)\ntrain_dataloader["batch_size"] = 2\n')
    code, lines, err = outcome('train', config, '--work-dir', tmp_path / 'w', '--cfg-options', option)
    assert code == 2 and len(lines) == 1 and 'expected a whole number of at least 1' in err, err
    assert option.split('=')[0] in err and not (tmp_path / 'w').exists()


def test_bad_files_and_numbers_are_one_line(photos, outcome, tmp_path, monkeypatch):
    root, config = photos
    monkeypatch.chdir(tmp_path)
    garbage, folder = tmp_path / 'garbage.pth', tmp_path / 'folder'
    garbage.write_bytes(b'\x80\x02garbage\xff' * 9)
    folder.mkdir()
    for tool, args in [
            ('test', [config, garbage]), ('test', [config, folder]), ('test', [config, tmp_path / 'gone.pth']),
            ('predict', [garbage, root, '--out', tmp_path / 'o']), ('predict', [folder, root, '--out', tmp_path / 'o']),
            ('predict', [garbage, tmp_path / 'gone', '--out', tmp_path / 'o']),
            ('make_masks', [config, '--batch-size', 0]), ('make_masks', [config, '--batch-size', -3]),
            ('make_masks', [config, '--from', garbage]), ('make_seeds', [config, '--workers', -1, '--out', 'o']),
            ('make_masks', [garbage]), ('make_masks', [folder]), ('check_data', [tmp_path / 'gone.py']),
            ('make_seeds', [config, '--launcher', 'pytorch', '--out', 'o']), ('make_seeds', [config, '--out', garbage]),
            ('eval_seeds', ['--pred', garbage, '--gt', garbage]), ('eval_seeds', ['--pred', folder, '--gt', folder]),
            ('eval_seeds', ['--pred', root / 'masks', '--gt', root / 'masks', '--classes', garbage]),
            ('eval_seeds', ['--pred', root / 'masks', '--gt', root / 'masks', '--classes', '4', '--list', garbage]),
            ('compare', [garbage, '--collect']), ('compare', [folder, '--list']), ('compare', ['gone.py', '--run']),
            ('select_prompt', [config, '--templates', garbage])]:
        code, lines, err = outcome(tool, *args)
        assert code == 2 and len(lines) == 1, (tool, args, code, err)
        assert 'fault of the program' not in err, (tool, args, err)


def test_an_error_that_nobody_foresaw_is_one_line_of_every_tool(photos, outcome, load_tool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = photos[1]

    def broken(*args, **kwargs):
        raise NotImplementedError('nobody thought of it')
    for name in ('x.pth', 'x.py'):
        (tmp_path / name).touch()
    # The package's own names by their module, as the commands import them; the benchmark's lies in its own.
    for tool, name, args in [
            ('check_data', 'checking.configs.full_check', [config]), ('benchmark', 'Bench', []),
            ('make_masks', 'offline.mask_run.run_masks', [config]),
            ('make_seeds', 'jobs.run_seeds', [config, '--out', 'o']),
            ('select_prompt', 'models.prompt_selection.rank_templates', [config]),
            ('train', 'jobs.build_runner', [config, '--work-dir', 'w']),
            ('test', 'engine.safe_load', [config, 'x.pth']),
            ('predict', 'api.Segmenter', ['x.pth', photos[0], '--out', 'p']),
            ('prepare_voc', 'datasets.prepare.prepare_voc', ['x']),
            ('prepare_coco', 'datasets.prepare_coco.prepare_coco', ['x']),
            ('prepare_shapes', 'datasets.shapes.on_disk.write_split', ['s']),
            ('compare', 'comparison.experiment.load_experiment', ['x.py', '--run']),
            ('eval_seeds', 'evaluation.label_files.LabelStore', ['--pred', 'x', '--gt', 'x'])]:
        module = load_tool(tool)
        where, _, attribute = name.rpartition('.')
        monkeypatch.setattr(importlib.import_module(f'weclip_sam.{where}') if where else module, attribute, broken)
        with pytest.raises(SystemExit) as stopped:
            module.main([str(arg) for arg in args])
        assert stopped.value.code == 2, tool
    # ... and each said so in one line; the training's traceback is kept in its work dir.
    assert 'NotImplementedError' in (tmp_path / 'w' / 'error.txt').read_text()


class _Closed:
    """A pipe whose reader has gone."""

    encoding, closed = 'utf-8', False

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, 'Broken pipe')

    flush = isatty = lambda self: self.write('') if False else False

    def fileno(self):
        raise OSError


@pytest.mark.parametrize('streams', [('stdout',), ('stderr',), ('stdout', 'stderr')])
def test_the_work_of_a_tool_whose_output_nobody_reads_is_done(photos, run_tool, tmp_path, monkeypatch, streams):
    root, config = photos
    with monkeypatch.context() as patch:
        for stream in streams:
            patch.setattr(sys, stream, _Closed())
        assert run_tool('make_masks', config, '--out', tmp_path / 'bank') == 0
        assert run_tool('check_data', config, '--quick', '--json', tmp_path / 'found.json') == 0
    assert (tmp_path / 'bank' / 'summary.json').is_file() and (tmp_path / 'found.json').is_file()


def test_bad_input_leaves_no_folder(photos, outcome, tmp_path, monkeypatch):
    root, config = photos
    garbage, out = tmp_path / 'garbage.pth', tmp_path / 'new' / 'out'
    garbage.write_bytes(b'\x80\x02garbage\xff' * 9)
    monkeypatch.chdir(tmp_path)
    labels = ['--classes', root / 'classes.txt', '--images', root / 'images']
    (root / 'classes.txt').write_text('cat\ndog\nbus\n')
    for tool, args in [
            ('train', [config, '--work-dir', out, '--cfg-options', 'model.type=Nobody']),
            ('train', [config, '--work-dir', out, '--cfg-options', 'data_root=gone']),
            ('test', [config, garbage, '--work-dir', out]), ('test', [config, garbage, '--out', out]),
            ('predict', [garbage, root, '--out', out]),
            ('make_labels', [garbage, root, '--out', out]), ('make_labels', [garbage, '--out', out]),
            ('make_masks', [config, '--out', out, '--cfg-options', 'data_root=gone']),
            ('make_masks', [config, '--out', out, '--cfg-options', 'mask_generator.type=Nobody']),
            ('make_masks', [config, '--out', out, '--from', garbage]),
            ('make_seeds', [config, '--out', out, '--cfg-options', 'data_root=gone']),
            ('make_seeds', [config, '--out', out, '--labels', 'gone']),
            ('export', [root / 'images', 'coco', '--out', out, '--classes', 'gone.txt']),
            ('review', [root / 'masks', '--out', out, '--limit', '0', *labels]),
            ('deploy', [garbage, '--out', out / 'model.pt2']),
            ('compare', [config, '--collect', '--out', out]),
            ('browse_dataset', [config, '--out', out, '--cfg-options', 'data_root=gone']),
            ('import_labels', [garbage, '--like', root / 'masks', '--classes', root / 'classes.txt', '--out', out]),
            ('prepare_coco', ['--json', garbage, '--images', root / 'images', out]),
            ('prepare_voc', [out]), ('prepare_shapes', [out, '--train', '-1']),
            ('configs', ['copy', 'nobody', out / 'mine.py'])]:
        code, _, err = outcome(tool, *args)
        assert code in (1, 2), (tool, args, err)
        assert not out.parent.exists(), (tool, args, err)
