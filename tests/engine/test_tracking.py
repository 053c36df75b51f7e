"""A training that is watched elsewhere: what is sent, and that no tracker can end the work."""
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from weclip_sam.engine import build_runner, load_config
from weclip_sam.engine.start import tracker as start_tracker
from weclip_sam.engine.start.tracker import fill_tracker
from weclip_sam.engine.tracking import Tracker, WandbTracker
from weclip_sam.registry import VISBACKENDS

TOY = Path(__file__).parent / 'toy'
SEEN: dict = {}
SHORT = dict(train_cfg__max_iters=8, default_hooks__logger__interval=4)


def clear_mmengine():
    """Forget the names of the run before, which was of this second."""
    for kind in (MMLogger, Visualizer, MessageHub):
        kind._instance_dict.clear()


@VISBACKENDS.register_module(force=True)
class ToyTracker(Tracker):
    """Keeps what it is sent in ``SEEN``; fails where it is told to."""

    name = 'toy'
    advice = 'Mend it.'

    def begin(self, run_id):
        SEEN.update(run_id=run_id, name=self.run_name, scalars=[], images=[], ends=[])
        if SEEN.get('fails') == 'begin':
            raise OSError('nobody there')
        self.where = 'nowhere'
        return 'run 1'

    def send_settings(self, settings, text, environment):
        SEEN.update(settings=settings, text=text, environment=environment)

    def send_scalars(self, scalars, step):
        if SEEN.get('fails') == step:
            raise RuntimeError('the line is dead')
        SEEN['scalars'].append((step, scalars))

    def send_image(self, name, image, step):
        SEEN['images'].append((step, name, image.shape[2]))

    def finish(self, failed):
        SEEN['ends'].append((failed, (self.work_dir / 'summary.json').exists()))

    def give_up(self):
        SEEN['gave_up'] = True
        raise RuntimeError('dead, too')


@pytest.fixture
def load_train(monkeypatch):
    """The module of train.py."""
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    return importlib.import_module('weclip_sam.cli.train')


@pytest.fixture
def watched(toy_config, monkeypatch):
    """The toy's config with a tracker; ``SEEN`` is empty."""
    SEEN.clear()
    monkeypatch.setitem(start_tracker.TRACKERS, 'toy', 'ToyTracker')
    monkeypatch.setattr(start_tracker, '_is_installed', lambda package: True)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'toy_config.py', '--seed', '1'])

    def make(word='toy', **options):
        config = toy_config(**{**SHORT, **options})
        config.tracker, config.experiment_name = word, f'watched{len(SEEN)}'
        return config
    return make


def test_losses_scores_label_quality_sheets_config_and_environment_are_sent(watched, tmp_path):
    config = watched()
    build_runner(config).train()
    assert SEEN['name'] == 'toy_config' and SEEN['run_id'] is None
    steps = {}
    for step, scalars in SEEN['scalars']:
        assert all(isinstance(value, float) for value in scalars.values())
        for name in scalars:
            steps.setdefault(name, []).append(step)
    assert steps['loss'] == steps['mIoU'] == [4, 8] and steps['labels/mIoU'] == [8]
    assert 'iter' not in steps and 'step' not in steps
    assert SEEN['images'] == [(4, 'sheet', 3), (8, 'sheet', 3)]
    assert SEEN['settings']['train_cfg']['max_iters'] == 8
    assert Config.fromstring(SEEN['text'], '.py').to_dict()['train_cfg']['max_iters'] == 8
    assert SEEN['environment']['command'] == 'tools/train.py toy_config.py --seed 1'
    assert SEEN['ends'] == [(False, True)]  # once, and after the summary: an upload may take its time
    assert json.loads((tmp_path / 'run' / 'tracker.json').read_text()) == {'toy': 'run 1'}
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert summary['written']['toy'] == 'nowhere'


def test_a_resumed_training_goes_on_with_its_run(watched, tmp_path):
    for max_iters, resume in ((4, False), (8, True)):
        config = watched(train_cfg__max_iters=max_iters)
        config.resume, config.experiment_name = resume, f'part{max_iters}'
        config.load_from = str(tmp_path / 'run' / 'iter_4.pth') if resume else None
        build_runner(config).train()
    assert SEEN['run_id'] == 'run 1' and {step for step, _ in SEEN['scalars']} == {8}


def test_what_fails_in_the_middle_is_told_once_and_ends_nothing(watched, tmp_path, capsys):
    config = watched()
    SEEN['fails'] = 4
    runner = build_runner(config)
    runner.train()
    told = capsys.readouterr().out.count("tracker 'toy': nothing more is sent (RuntimeError: the line is dead)")
    assert told == 1 and runner.iter == 8 and (tmp_path / 'run' / 'summary.json').is_file()
    assert SEEN['scalars'] == SEEN['images'] == SEEN['ends'] == [] and SEEN['gave_up']


def test_what_fails_at_the_start_is_one_line_before_any_work(watched, tmp_path):
    config = watched()
    SEEN['fails'] = 'begin'
    with pytest.raises(ValueError, match=r"tracker 'toy': cannot begin a run \(OSError: nobody there\)\. Mend it\."):
        build_runner(config)
    assert not (tmp_path / 'run' / 'tracker.json').exists()


def test_a_training_that_fails_ends_its_run_as_failed(watched):
    config = watched(custom_hooks=[dict(type='ToyFaultHook', rank=0, iteration=5)])
    with pytest.raises(ValueError, match='a fault of process 0'):
        build_runner(config).train()
    assert SEEN['ends'] == [(True, False)]


def test_a_command_that_fails_before_the_training_ends_the_run_as_well(watched, load_train, tmp_path, monkeypatch):
    from weclip_sam.engine.start.work_dir import WorkDir

    def full(self):
        raise OSError(28, 'No space left on device', 'run.json')
    monkeypatch.setattr(WorkDir, 'begin', full)
    with pytest.raises(SystemExit):
        load_train.main([str(TOY / 'toy_config.py'), '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                         'tracker=toy'])
    assert SEEN['ends'] == [(True, False)] and not (tmp_path / 'run' / 'environment.json').exists()


def test_an_overwritten_training_is_another_run(watched, load_train, tmp_path):
    command = [str(TOY / 'toy_config.py'), '--work-dir', str(tmp_path / 'run'), '--overwrite', '--cfg-options',
               'train_cfg.max_iters=4', 'tracker=toy']
    for _ in range(2):
        clear_mmengine()
        load_train.main(command)
        assert SEEN['run_id'] is None
        assert json.loads((tmp_path / 'run' / 'tracker.json').read_text()) == {'toy': 'run 1'}


def test_the_word_is_checked_and_filled_in_once(tmp_path, monkeypatch):
    config = Config(dict(work_dir=str(tmp_path), tracker='wand'))
    with pytest.raises(ValueError, match=r"tracker: expected one of wandb, mlflow, tensorboard or None, got 'wand'. "
                                         r"Did you mean 'wandb'\?"):
        fill_tracker(config)
    config.tracker = None
    fill_tracker(config)
    assert 'visualizer' not in config
    # Folders that trackers leave in the current one are no packages.
    (tmp_path / 'folders' / 'wandb').mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, 'path', [str(tmp_path / 'folders')])
        patch.delitem(sys.modules, 'wandb', raising=False)
        config.tracker = 'wandb'
        with pytest.raises(ValueError, match="tracker 'wandb': the package wandb is not installed; pip install wandb"):
            fill_tracker(config)
    monkeypatch.setattr(start_tracker, '_is_installed', lambda package: True)
    config.visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
    for resume in (False, True, True):
        config.resume = resume
        fill_tracker(config)
        assert config.visualizer.vis_backends == [dict(type='TensorboardVisBackend'), dict(
            type='WandbTracker', run_name=tmp_path.name, work_dir=str(tmp_path), goes_on=resume)]
    config.tracker, before = 'tensorboard', config.to_dict()['visualizer']
    fill_tracker(config)
    assert config.to_dict()['visualizer'] == before


def test_the_word_can_be_given_as_an_option_of_a_config():
    path = Path(__file__).parents[2] / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py'
    assert load_config(path).tracker is None
    assert load_config(path, ['tracker=mlflow']).tracker == 'mlflow'


@pytest.mark.parametrize('ending', ['finish', 'give_up'])
@pytest.mark.parametrize('open_run', [None, object()], ids=['alone', 'beside a run of somebody'])
def test_a_wandb_run_that_somebody_has_open_stays_open(tmp_path, monkeypatch, open_run, ending):
    ends, asked = [], []

    class Run:
        id, offline, dir = 'own', True, str(tmp_path / 'files')

        def define_metric(self, *args, **kwargs):
            pass

        def finish(self, exit_code):
            ends.append(('run', exit_code))

    def init(**given):
        asked.append(given)
        return Run()
    fake = types.ModuleType('wandb')
    fake.run, fake.init, fake.Settings = open_run, init, dict
    fake.teardown = lambda exit_code=None: ends.append(('helper', exit_code))
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    tracker = WandbTracker('', str(tmp_path), 'name')
    assert tracker.begin(None) == 'own' and asked[0].get('reinit') == (None if open_run is None else 'create_new')
    tracker.finish(False) if ending == 'finish' else tracker.give_up()
    own = [('run', 0)] if ending == 'finish' else []
    helper = [('helper', 0 if ending == 'finish' else 1)] if open_run is None else []
    assert ends == own + helper


# ---- the real packages, offline ---------------------------------------------------------------------------------


@pytest.fixture
def run_real(toy_config, monkeypatch, tmp_path):
    """Train the toy with a real tracker, in steps that each resume the one before; returns the work dir."""
    for name in ('WANDB_PROJECT', 'WANDB_ENTITY', 'WANDB_API_KEY', 'MLFLOW_TRACKING_URI', 'MLFLOW_EXPERIMENT_NAME'):
        monkeypatch.delenv(name, raising=False)
    for name, value in dict(WANDB_MODE='offline', WANDB_SILENT='true', WANDB_X_DISABLE_STATS='true').items():
        monkeypatch.setenv(name, value)

    def run(word, *parts, **options):
        for number, max_iters in enumerate(parts):
            config = toy_config(**{**SHORT, 'train_cfg__max_iters': max_iters, **options})
            config.tracker, config.experiment_name, config.resume = word, f'{word}{number}', number > 0
            config.load_from = str(tmp_path / 'run' / f'iter_{parts[number - 1]}.pth') if number else None
            build_runner(config).train()
        return tmp_path / 'run'
    return run


@pytest.mark.slow
def test_mlflow_keeps_a_run_in_a_file_beside_the_work_dir(run_real, tmp_path):
    mlflow = pytest.importorskip('mlflow', reason='mlflow is not installed')
    run_dir = run_real('mlflow', 4, 8)
    client = mlflow.MlflowClient(f'sqlite:///{tmp_path}/mlflow.db')
    experiment = client.get_experiment_by_name('weclip_sam')
    run, = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ('toy_config', 'FINISHED')
    assert json.loads((run_dir / 'tracker.json').read_text()) == {'mlflow': run.info.run_id}
    assert run.data.params['train_cfg.max_iters'] == '4' and run.data.params['model.type'] == 'ToySegmentor'
    for name in ('loss', 'mIoU'):
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, name)] == [4, 8]
    scores = json.loads((run_dir / 'summary.json').read_text())
    assert client.get_metric_history(run.info.run_id, 'mIoU')[-1].value == pytest.approx(scores['val']['mIoU'])
    assert run.data.metrics['labels/mIoU'] == pytest.approx(scores['train_seeds']['pseudo labels'])
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, tracking_uri=f'sqlite:///{tmp_path}/mlflow.db',
                                                      dst_path=str(tmp_path)))
    assert Config.fromfile(folder / 'config.py').train_cfg.max_iters == 8
    assert json.loads((folder / 'environment.json').read_text())['packages']['torch']
    assert len(list((folder / 'images').glob('sheet*.png'))) == 2
    assert not list(run_dir.glob('mlruns')) and not (Path.cwd() / 'mlflow.db').exists()


@pytest.mark.slow
def test_mlflow_that_breaks_in_the_middle_ends_nothing(run_real, tmp_path, capsys, monkeypatch):
    pytest.importorskip('mlflow', reason='mlflow is not installed')
    from weclip_sam.engine.tracking import MlflowTracker
    send = MlflowTracker.send_scalars

    def broken(self, scalars, step):
        if step == 4:
            (tmp_path / 'mlflow.db').write_bytes(b'no data base' * 100)
        send(self, scalars, step)
    monkeypatch.setattr(MlflowTracker, 'send_scalars', broken)
    run_dir = run_real('mlflow', 8)
    assert capsys.readouterr().out.count("tracker 'mlflow': nothing more is sent") == 1
    assert json.loads((run_dir / 'summary.json').read_text())['iterations'] == 8


def wandb_records(file):
    """The records of an offline run: protocol buffers in the blocks of a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record
    data, place, part = file.read_bytes(), 7, b''  # behind the file's own header
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        length, kind = int.from_bytes(data[place + 4:place + 6], 'little'), data[place + 6]
        part += data[place + 7:place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            record = Record()
            record.ParseFromString(part)
            yield record
            part = b''


@pytest.mark.slow
def test_wandb_keeps_a_run_in_the_work_dir(run_real):
    pytest.importorskip('wandb', reason='wandb is not installed')
    run_dir = run_real('wandb', 4, 8)
    run_id = json.loads((run_dir / 'tracker.json').read_text())['wandb']
    folders = sorted((run_dir / 'wandb').glob(f'offline-run-*-{run_id}'))
    assert folders and len(folders) == len(list((run_dir / 'wandb').glob('offline-run-*')))
    rows, config, names = [], {}, set()
    for folder in folders:
        for record in wandb_records(next(folder.glob('run-*.wandb'))):
            if record.WhichOneof('record_type') == 'history':
                rows.append({item.key or item.nested_key[0]: json.loads(item.value_json)
                             for item in record.history.item})
            names |= {record.run.display_name, record.run.project} if record.HasField('run') else set()
            updates = [*record.run.config.update, *record.config.update]
            config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates}
    assert {'toy_config', 'weclip_sam'} <= names
    assert [row['iteration'] for row in rows if 'loss' in row] == [4, 8]
    assert [row['iteration'] for row in rows if 'sheet' in row] == [4, 8]
    scores = json.loads((run_dir / 'summary.json').read_text())
    assert [row['mIoU'] for row in rows if 'mIoU' in row][-1] == pytest.approx(scores['val']['mIoU'])
    assert [row['labels/mIoU'] for row in rows if 'labels/mIoU' in row][-1] == pytest.approx(
        scores['train_seeds']['pseudo labels'])
    assert config['train_cfg']['max_iters'] == 8 and config['environment']['packages']['torch']
    assert len(list(run_dir.glob('wandb/offline-run-*/files/media/images/sheet*.png'))) == 2
    assert not list(run_dir.glob('wandb/offline-run-*/**/*.py')), 'source files were kept'


@pytest.mark.slow
def test_wandb_whose_helper_dies_ends_nothing(run_real, capsys, monkeypatch):
    pytest.importorskip('wandb', reason='wandb is not installed')
    import child_processes

    send, before = WandbTracker.send_scalars, child_processes.children()

    def broken(self, scalars, step):
        if step == 4:
            assert any('wandb' in name for name in child_processes.end_new_children(before).values())
        send(self, scalars, step)
    monkeypatch.setattr(WandbTracker, 'send_scalars', broken)
    run_dir = run_real('wandb', 8)
    assert capsys.readouterr().out.count("tracker 'wandb': nothing more is sent") == 1
    assert json.loads((run_dir / 'summary.json').read_text())['iterations'] == 8


def test_numbers_of_any_kind_are_sent_as_numbers(tmp_path):
    SEEN.clear()
    tracker = ToyTracker(str(tmp_path), str(tmp_path), 'run')
    tracker.add_scalars(dict(loss=1.0), 1)  # has not begun
    tracker.add_config(Config(dict(a=1)))
    tracker.add_scalars(dict(a=np.float32(1), b=2, c='text', d=None, e=[1], step=3), 3)
    tracker.add_scalar('f', True, 4)
    assert SEEN['scalars'] == [(3, dict(a=1.0, b=2.0)), (4, dict(f=1.0))]
