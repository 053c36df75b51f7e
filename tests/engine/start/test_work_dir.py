"""A work dir has an owner: what is refused, what goes on, and what --overwrite removes."""
import copy
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from weclip_sam.engine import load_config
from weclip_sam.engine.start.identity import differences, quick_digest, run_identity
from weclip_sam.engine.start.launch import asked_to_resume
from weclip_sam.engine.start.work_dir import (
    RECORD,
    WorkDir,
    check_outside_images,
    check_work_dir,
    clear_work_dir,
    own_work_dir,
)
from weclip_sam.io.locks import LOCK, FolderLock, launch_id

ROOT = Path(__file__).parents[3]
TOY = ROOT / 'tests' / 'engine' / 'toy' / 'toy_config.py'

IDENTITY = dict(settings={'optim_wrapper.lr': 1.0, 'load_from': None}, files={}, processes=1,
                data=dict(classes=['ball', 'cup'], images=3, labels='aa'))


def changed(**data):
    return {**IDENTITY, 'data': {**IDENTITY['data'], **data}}


LR = {**IDENTITY, 'settings': {'optim_wrapper.lr': 2.0, 'load_from': None}}


@pytest.fixture
def run(tmp_path):
    """A function: a work dir with a run of four iterations that was begun, or finished."""
    def make(state='begun', record=True, name='run'):
        folder = tmp_path / name
        (folder / 'sheets').mkdir(parents=True)
        for file in ('iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_4.pth', 'last_checkpoint', 'iou_val.json',
                     'sheets/iter_000004.png', 'error.txt', 'own.py', 'notes.txt', 'other.pth', 'sheets/my.png'):
            (folder / file).write_text(file)
        if state == 'finished':
            (folder / 'summary.json').write_text(json.dumps(dict(iterations=4, val=dict(mIoU=71.6))))
        if record:
            owned = WorkDir(folder, IDENTITY, False, True)
            owned.begin()
            if state == 'finished':
                owned.finish()
        return folder
    return make


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_an_empty_folder_and_one_without_results_are_anybody_s(tmp_path):
    assert check_work_dir(tmp_path, IDENTITY) == ''
    WorkDir(tmp_path, IDENTITY, False, True).begin()
    (tmp_path / 'notes.txt').touch()
    (tmp_path / 'summary.json').write_text('{"failed": {"reason": "nan"}}')  # before its first checkpoint
    assert check_work_dir(tmp_path, LR) == check_work_dir(tmp_path, LR, 'auto') == ''
    WorkDir(tmp_path, LR, False, True).begin()
    assert json.loads((tmp_path / RECORD).read_text())['settings'] == LR['settings']
    assert not (tmp_path / 'summary.json').exists()


@pytest.mark.parametrize('state', ['begun', 'finished'])
@pytest.mark.parametrize('identity, what', [
    (LR, r'optim_wrapper.lr: 1.0 -> 2.0'),
    (changed(labels='bb'), 'the labels that the images have'),
    (changed(images=4, labels='bb'), '3 images -> 4'),
    (changed(classes=['cup', 'ball']), 'classes: ball, cup -> cup, ball'),
    ({**IDENTITY, 'processes': 2}, 'processes: 1 -> 2')])
def test_another_run_is_refused_and_what_differs_is_named(run, state, identity, what):
    folder = run(state)
    before = files(folder)
    with pytest.raises(ValueError, match=f'holds another run .{state}.*differs in {what}.*--work-dir.*--overwrite'):
        check_work_dir(folder, identity, None, 4)
    assert files(folder) == before


def test_the_same_run_is_finished_or_wants_to_be_resumed(run):
    told = check_work_dir(run('finished', name='a'), IDENTITY, None, 4)
    for text in ('finished already', '4 iterations', 'mIoU 71.60', 'summary.json', 'iter_4.pth', '--overwrite'):
        assert text in told
    assert check_work_dir(run('finished', name='b'), IDENTITY, 'auto', 4) == told.replace('/a:', '/b:')
    with pytest.raises(ValueError, match='stopped before its end .*4 iterations saved.*Add --resume'):
        check_work_dir(run(name='c'), IDENTITY, None, 8)


def test_resuming_goes_on_with_other_settings_but_not_with_other_data(run):
    folder = run()
    assert check_work_dir(folder, IDENTITY, 'auto', 8) == check_work_dir(folder, LR, 'auto', 8) == ''
    for other in (changed(labels='bb'), changed(classes=['cup', 'ball'])):
        with pytest.raises(ValueError, match='on other data.*--overwrite'):
            check_work_dir(folder, other, 'auto', 8)
    inside = str(folder / 'iter_2.pth')
    assert check_work_dir(folder, changed(labels='bb'), inside, 8) == ''  # somebody means it
    for resume in ('auto', str(folder / 'iter_4.pth')):
        with pytest.raises(ValueError, match='at its end .*nothing is left to train'):
            check_work_dir(folder, LR, resume, 4)
    with pytest.raises(ValueError, match='would write over them'):
        check_work_dir(folder, IDENTITY, str(folder.parent / 'iter_2.pth'), 8)


def test_a_checkpoint_in_the_home_folder_may_be_called_by_its_tilde(run, monkeypatch):
    folder = run()
    monkeypatch.setenv('HOME', str(folder.parent))
    checkpoint = f'~/{folder.name}/iter_4.pth'
    assert check_work_dir(folder, IDENTITY, checkpoint, 8) == ''
    with pytest.raises(ValueError, match='overwrite would remove ~/.*which load_from starts from'), \
            own_work_dir(Config(dict(work_dir=str(folder), load_from=checkpoint)), overwrite=True):
        pass


def test_a_run_of_before_records_were_kept_is_known_by_its_checkpoint(run, trained_run, tmp_path):
    with pytest.raises(ValueError, match='cannot be told'):
        check_work_dir(run(record=False), IDENTITY)
    folder = tmp_path / 'old'
    shutil.copytree(trained_run, folder)
    (config,) = folder.glob('*.py')
    now = run_identity(load_config(config))
    assert now['data']['images'] == 4 and len(now['data']['classes']) == 10
    assert 'finished already' in check_work_dir(folder, now, None, 2)
    longer = load_config(config, {'train_cfg.max_iters': 9})
    with pytest.raises(ValueError, match='another run .*train_cfg.max_iters: 2 -> 9'):
        check_work_dir(folder, run_identity(longer), None, 9)
    assert check_work_dir(folder, run_identity(longer), 'auto', 9) == ''


def test_overwriting_removes_what_it_replaces_and_only_that(run):
    folder = run('finished')
    assert not (folder / 'error.txt').exists()  # of an attempt before
    (folder / 'error.txt').write_text('Traceback')
    removed = clear_work_dir(folder)
    assert removed == sorted(['iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_4.pth', 'last_checkpoint', 'iou_val.json',
                              'sheets/iter_000004.png', 'error.txt', 'summary.json', RECORD], key=removed.index)
    assert len(removed) == 9
    assert sorted(path.name for path in files(folder)) == ['my.png', 'notes.txt', 'other.pth', 'own.py']


def test_an_identity_is_of_data_settings_and_weights_and_of_nothing_else(tmp_path, write_image):
    for name in ('a', 'b'):
        write_image(tmp_path / f'{name}.png')
    (tmp_path / 'labels.csv').write_text('image,classes\na.png,cup\nb.png,ball\n')
    (tmp_path / 'weights.pth').write_bytes(b'1' * 300_000)
    text = f"""
model = dict(type='WeClip', clip=dict(checkpoint='{tmp_path}/weights.pth'))
train_dataloader = dict(batch_size=2, num_workers=0,
                        dataset=dict(reader=dict(type='FolderReader', data_root='{tmp_path}')))
train_cfg = dict(max_iters=3)
load_from = None
"""
    (tmp_path / 'config.py').write_text(text)

    def identity(**options):
        return run_identity(load_config(tmp_path / 'config.py', {k.replace('__', '.'): v for k, v in options.items()}))
    first = identity()
    same = identity(train_dataloader__num_workers=4, work_dir='x', train_dataloader__dataset__reader__data_root=str(
        tmp_path / 'x' / '..'), log_level='INFO', resume=True)
    assert differences(first, same) == ([], [])
    assert differences(first, identity(train_cfg__max_iters=4)) == ([], ['train_cfg.max_iters: 3 -> 4'])
    (tmp_path / 'weights.pth').write_bytes(b'1' * 290_000 + b'2' + b'1' * 9_999)
    assert differences(first, identity()) == ([], ['the content of model.clip.checkpoint'])
    (tmp_path / 'labels.csv').write_text('image,classes\na.png,ball\nb.png,cup\n')
    assert differences(first, identity())[0] == ['the labels that the images have']
    (tmp_path / 'classes.txt').write_text('cup\nball\n')
    assert differences(first, identity())[0][0] == 'classes: ball, cup -> cup, ball'


def test_a_digest_sees_a_change_in_a_small_file_and_at_the_end_of_a_large_one(tmp_path):
    path, content = tmp_path / 'x', bytearray(3_000_000)
    digests = set()
    for place in (None, 0, 2_999_999):
        changed_content = copy.copy(content)
        if place is not None:
            changed_content[place] = 1
        path.write_bytes(changed_content)
        digests.add(quick_digest(path))
    path.write_bytes(b'')
    assert len({*digests, quick_digest(path)}) == 4


@pytest.fixture
def train(toy_config, tmp_path, monkeypatch):
    """``tools/train.py`` on the toy, in a work dir ``run``; returns the exit code."""
    tool = importlib.import_module('weclip_sam.cli.train')
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)

    def run(*arguments, **options):
        options = {'train_cfg.max_iters': 4, 'default_hooks.sheets': None, 'custom_hooks': '[]',
                   'default_hooks.checkpoint.interval': 2, **options}
        try:
            tool.main([str(TOY), '--work-dir', str(tmp_path / 'run'), *arguments, '--cfg-options',
                       *(f'{key}={value}' for key, value in options.items())])
        except SystemExit as stop:
            return stop.code
        finally:
            for kind in (MMLogger, Visualizer, DefaultScope, MessageHub):
                kind._instance_dict.clear()
        return 0
    return run


def test_the_tool_keeps_runs_apart(train, tmp_path, capsys):
    folder = tmp_path / 'run'
    assert train() == 0 and not (folder / LOCK).exists()
    before = files(folder)
    capsys.readouterr()
    assert train() == 0, 'the main command given again is no error'
    told = capsys.readouterr()
    assert 'this training is finished already' in told.out and '--overwrite' in told.out and 'summary.json' in told.out
    assert train('--resume') == 0 and files(folder) == before
    assert train('--seed', '1') == 2 and files(folder) == before
    told = capsys.readouterr().err
    assert 'holds another run' in told and 'randomness.seed: 0 -> 1' in told and 'Traceback' not in told

    with FolderLock(folder, 'training'):
        for arguments in ([], ['--resume'], ['--overwrite'], ['--resume', str(folder / 'iter_2.pth')]):
            assert train(*arguments) == 2
            assert 'another training is writing there' in capsys.readouterr().err
    assert train('--resume', str(folder / 'iter_3.pth')) == 2 and files(folder) == before
    assert "no such checkpoint. Did you mean 'iter_" in capsys.readouterr().err

    (folder / 'notes.txt').touch()
    assert train('--seed', '1', '--overwrite', **{'train_cfg.max_iters': 2}) == 0
    assert json.loads((folder / 'summary.json').read_text())['seed'] == 1 and (folder / 'notes.txt').exists()
    assert sorted(path.name for path in folder.glob('iter_*.pth')) == ['iter_2.pth']
    assert train('--seed', '1', '--resume') == 0  # longer than it was
    assert (folder / 'iter_4.pth').exists() and json.loads((folder / RECORD).read_text())['state'] == 'finished'


def test_a_resumed_run_keeps_the_seed_that_it_began_with(train, tmp_path, capsys):
    folder = tmp_path / 'run'
    assert train('--seed', '3', **{'train_cfg.max_iters': 2}) == 0
    before = files(folder)
    for resume in ('auto', str(folder / 'iter_2.pth')):
        assert train('--resume', resume, '--seed', '5') == 2 and files(folder) == before
        told = capsys.readouterr().err
        assert '--seed 5' in told and 'began with seed 3' in told and 'leave --seed out' in told
    assert train('--resume', **{'randomness.seed': 5}) == 2 and files(folder) == before
    assert 'began with seed 3' in capsys.readouterr().err
    assert train('--resume', **{'train_cfg.max_iters': 2}) == 0 and files(folder) == before  # nothing is left to do
    assert train('--resume') == 0
    assert json.loads((folder / RECORD).read_text())['settings']['randomness.seed'] == 3
    assert json.loads((folder / 'summary.json').read_text())['seed'] == 3


@pytest.mark.parametrize('place, passes', [
    ('data', False), ('data/images', False), ('data/images/work', False), ('data/work', True), ('data2', True),
    ('flat', False), ('flat/work', False), ('voc/work', True), ('voc/JPEGImages/a', False), ('own/a', True),
    ('own/pictures/a', False), ('link/a', False)])
def test_a_work_dir_among_the_images_is_refused(toy_config, tmp_path, place, passes):
    config = toy_config()
    for folder in ('data/images', 'flat', 'voc/JPEGImages', 'own/pictures'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'data' / 'images')
    config.sets = [dict(reader=dict(data_root=str(tmp_path / root))) for root in ('data', 'flat', 'voc')]
    config.sets.append(dict(reader=dict(data_root=str(tmp_path / 'own'), image_dir='pictures')))
    if passes:
        return check_outside_images(config, tmp_path / place)
    with pytest.raises(ValueError, match=f'--work-dir {tmp_path}/{place}: lies in the image folder .*outside'):
        check_outside_images(config, tmp_path / place)


def test_overwriting_does_not_remove_what_it_starts_from(train, tmp_path, capsys):
    assert train() == 0
    before = files(tmp_path / 'run')
    assert train('--overwrite', load_from=tmp_path / 'run' / 'iter_4.pth') == 2
    assert 'which load_from starts from' in capsys.readouterr().err and files(tmp_path / 'run') == before


def test_a_stopped_run_says_how_to_go_on_and_keeps_its_folder(train, tmp_path, capsys, monkeypatch):
    from toy_parts import ToySegmentor
    forward, calls = ToySegmentor.forward, []

    def stopped(self, inputs, data_samples=None, mode='tensor'):
        calls.append(mode)
        if calls.count('loss') == 4:
            raise KeyboardInterrupt
        return forward(self, inputs, data_samples, mode)
    with monkeypatch.context() as patch:
        patch.setattr(ToySegmentor, 'forward', stopped)
        assert train('--overwrite') == 130
    told = capsys.readouterr().err
    assert 'Go on with: ' in told and '--resume' in told and '--overwrite' not in told
    assert not (tmp_path / 'run' / LOCK).exists()
    before = files(tmp_path / 'run')
    assert train() == 2 and 'Add --resume to go on with it' in capsys.readouterr().err
    assert files(tmp_path / 'run') == before
    assert train('--resume') == 0 and (tmp_path / 'run' / 'iter_4.pth').exists()


def test_a_config_that_resumes_by_itself_does_not_follow_the_pointer(toy_config):
    config = toy_config()
    assert asked_to_resume(config) is None
    config.resume = True
    assert asked_to_resume(config) == 'auto'
    config.load_from = 'x.pth'
    assert asked_to_resume(config) == 'x.pth'


def test_other_processes_of_a_launch_pass_where_the_main_one_has_the_folder(run, toy_config, monkeypatch):
    folder = run()
    config = toy_config()
    config.work_dir, config.launcher = str(folder), 'pytorch'
    for name, value in dict(WORLD_SIZE='2', MASTER_ADDR='a', MASTER_PORT='1', RANK='1').items():
        monkeypatch.setenv(name, value)
    with FolderLock(folder, 'training', launch=launch_id()), own_work_dir(config) as owned:
        owned.begin()
        assert owned.identity['processes'] == 2
    assert json.loads((folder / RECORD).read_text())['processes'] == 1  # only the main process writes
    with pytest.raises(ValueError, match='another run'), own_work_dir(config):
        pass
    monkeypatch.setenv('MASTER_PORT', '2')
    with FolderLock(folder, 'training', launch='a 1'), pytest.raises(ValueError, match='another run'), \
            own_work_dir(config):
        pass
