"""A whole run of the toy: what it prints and writes."""
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weclip_sam.engine import ProgressReporter, build_runner
from weclip_sam.engine.hooks.seed_eval import spread
from weclip_sam.engine.progress import announce, format_seconds


def test_a_run_ends_with_its_summary_and_writes_its_files(run_toy, tmp_path, capsys):
    runner = run_toy()
    out = capsys.readouterr().out
    for text in ('background', 'mIoU of the prediction on val', 'mIoU of the pseudo labels on 4 train images',
                 'wall time', 'peak memory: process', 'written:', 'iter_12.pth', 'loss:', 'eta:'):
        assert text in out, text
    assert 'after_train_iter:' not in out and 'DeprecationWarning' not in out and 'WARNING' not in out
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert summary['iterations'] == 12 and summary['val']['images'] == 5
    assert summary['val'] == json.loads((tmp_path / 'run' / 'iou_val.json').read_text())
    # The toy's seeds are the truth with one row of six ignored, which counts as background.
    assert 60 < summary['train_seeds']['pseudo labels'] < 100 and summary['train_seeds']['images'] == 4
    assert summary['best']['score'] == runner.message_hub.get_info('best_score')
    assert all(Path(path).exists() for path in summary['written'].values())
    assert summary['peak_memory_gb']['process'] > 0.05 and summary['wall_seconds'] > 0
    sheets = sorted(p.name for p in (tmp_path / 'run' / 'sheets').iterdir())
    assert sheets == ['iter_000004.png', 'iter_000008.png', 'iter_000012.png']
    assert Image.open(tmp_path / 'run' / 'sheets' / 'iter_000004.png').size[0] > 5 * 32
    assert not list((tmp_path / 'run').rglob('*.tmp'))


def test_a_picture_that_fails_does_not_end_the_training(run_toy, capsys, monkeypatch):
    from weclip_sam.engine.hooks import sheet as sheet_hook

    def fail(*args, **kwargs):
        raise RuntimeError('no picture today')
    monkeypatch.setattr(sheet_hook, 'draw_image', fail)
    assert run_toy().iter == 12
    assert 'could not be drawn: RuntimeError: no picture today' in capsys.readouterr().out


def test_testing_writes_palette_pngs_and_its_own_summary(run_toy, toy_config, tmp_path):
    trained = run_toy(randomness__seed=7)
    config = toy_config(work_dir='test')
    config.load_from, config.experiment_name = str(tmp_path / 'run' / 'iter_12.pth'), 'testing'
    config.custom_hooks = [dict(type='SavePredictionsHook', out_dir=str(tmp_path / 'out'))]
    scores = build_runner(config).test()
    assert scores['mIoU'] == pytest.approx(100 * trained.val_evaluator.metrics[0].last_report.miou)
    names = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert names == [f'img_{i}.png' for i in range(5)]
    image = Image.open(tmp_path / 'out' / 'img_0.png')
    assert image.mode == 'P' and image.size == (8, 6) and image.getpalette()[3:6] == [200, 0, 0]
    assert set(np.unique(image)) <= {0, 1, 2}
    summary = json.loads((tmp_path / 'test' / 'summary_test.json').read_text())
    assert summary['test']['images'] == 5
    assert (summary['checkpoint'], summary['seed'], summary['iterations']) == (config.load_from, 7, 12)


def test_a_test_with_a_foreign_checkpoint_is_refused(toy_config, tmp_path):
    import torch
    torch.save(dict(state_dict=dict(other=torch.zeros(1))), tmp_path / 'other.pth')
    config = toy_config(work_dir='test')
    config.load_from, config.experiment_name = str(tmp_path / 'other.pth'), 'foreign'
    with pytest.raises(ValueError, match=r'other.pth: does not fit.*5 of 5 trained parameters and buffers are missing'):
        build_runner(config).test()


@pytest.mark.parametrize('image_id', ['../../evil', '/etc/evil', 'a/../../evil'])
def test_predictions_stay_in_their_folder(tmp_path, image_id):
    from weclip_sam.engine.hooks.predictions import label_path
    assert label_path(tmp_path, 'sub/x.y') == tmp_path / 'sub' / 'x.y.png'
    with pytest.raises(ValueError, match='outside'):
        label_path(tmp_path, image_id)


class FakeStream:
    def __init__(self, tty):
        self.tty, self.text = tty, ''

    def isatty(self):
        return self.tty

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_plain_progress_lines_come_by_the_clock(monkeypatch):
    from weclip_sam.engine import progress
    clock = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: clock[0])
    stream, asked = FakeStream(False), []
    reporter = ProgressReporter(stream, line_interval=10)
    reporter.start('train', 100, done=20)
    for step in range(21, 101):
        clock[0] += 1

        def note(step=step):
            asked.append(step)
            return f'loss {step}'
        reporter.update(step, note)
    lines = stream.text.splitlines()
    assert asked == [30, 40, 50, 60, 70, 80, 90, 100]  # numbers are only read when they are shown
    assert lines[0] == 'train 30/100 (30%)  1.0 it/s  left 1:10  loss 30'
    assert lines[-1] == 'train 100/100 (100%)  1.0 it/s  left 0:00  loss 100'


def test_a_terminal_gets_a_bar_and_log_lines_above_it(monkeypatch):
    monkeypatch.setenv('TERM', 'xterm')
    stream = FakeStream(True)
    stream.encoding = 'utf-8'
    reporter = ProgressReporter(stream)
    reporter.start('train', 10)
    reporter.write('a log line\n')
    reporter.update(10, 'loss 0.5')
    reporter.stop()
    assert 'a log line' in stream.text and '10/10' in stream.text and 'loss 0.5' in stream.text


def test_small_helpers():
    assert [format_seconds(s) for s in (0, 75.3, 3675)] == ['0:00', '1:15', '1:01:15']
    assert format_seconds(float('inf')) == format_seconds(float('nan')) == '?'
    assert spread(10, 4) == [0, 2, 5, 7] and spread(3, None) == spread(3, 9) == [0, 1, 2]


def test_ground_truth_that_disagrees_with_the_names_is_told(run_toy, tmp_path, capsys, monkeypatch):
    import toy_parts
    draw = toy_parts.ToyPictures.__getitem__

    def moved(self, index):
        item = draw(self, index)
        if item['data_samples'].get('ground_truth') is not None:
            item['data_samples'].ground_truth = (item['data_samples'].ground_truth + 1) % 3
        return item
    monkeypatch.setattr(toy_parts.ToyPictures, '__getitem__', moved)
    run_toy()
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if '5 of 5 ground-truth masks disagree' in line]
    # Once in the log, however often it is validated, and once in the summary.
    assert len(told) == 2 and all('very probably wrong' in line for line in told)
    check = json.loads((tmp_path / 'run' / 'summary.json').read_text())['val']['ground_truth_check']
    assert check['images'] == check['disagreeing'] == 5 and check['very_probably_wrong']


def test_a_notebook_is_told_on_stdout(monkeypatch, capsys):
    assert ProgressReporter().stream is sys.stderr
    monkeypatch.setitem(sys.modules, 'ipykernel', object())
    assert ProgressReporter().stream is sys.stdout
    announce('loading')
    assert capsys.readouterr() == ('loading\n', '')
