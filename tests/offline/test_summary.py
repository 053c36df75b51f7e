"""What runs keep and tell: seconds of all of them, whatever ended them, and one form of summary."""
import json
import time

import pytest
import torch

from weclip_sam.offline.summary import WorkTime, print_summary, write_summary
from weclip_sam.offline.work import WorkReport

ABOUT = dict(split='train', generator='g')


def earlier(folder, **summary):
    (folder / 'summary.json').write_text(json.dumps({**ABOUT, 'made': 3, **summary}))
    return WorkTime(folder, 'masks', ABOUT).earlier


def test_a_kill_takes_no_more_than_the_last_seconds_away(tmp_path):
    clock = WorkTime(tmp_path, 'masks', {}, time.monotonic() - 5)
    clock.tick()
    assert not (tmp_path / 'seconds.json').exists()  # nothing is written at every image
    clock = WorkTime(tmp_path, 'masks', {}, time.monotonic() - 50)
    clock.tick()  # and then no word more from it
    assert 50 <= WorkTime(tmp_path, 'masks', ABOUT).earlier < 100
    assert WorkTime(tmp_path, 'others', ABOUT).earlier == 0
    assert earlier(tmp_path, wall_seconds_of_all_runs=500) == 500  # the later of the two
    assert 50 <= earlier(tmp_path, wall_seconds_of_all_runs=7) < 100
    (tmp_path / 'seconds.json').write_text('[1')
    assert earlier(tmp_path, wall_seconds_of_all_runs=7) == 7


def test_a_stopped_run_leaves_its_seconds(tmp_path):
    with pytest.raises(KeyboardInterrupt), WorkTime(tmp_path, 'masks', {}, time.monotonic() - 3):
        raise KeyboardInterrupt
    assert 3 <= WorkTime(tmp_path, 'masks', {}).earlier < 30
    with WorkTime(tmp_path / 'other', 'masks', {}):
        pass
    assert not (tmp_path / 'other').exists()


def test_only_a_summary_of_the_same_work_counts(tmp_path):
    assert earlier(tmp_path, wall_seconds_of_all_runs=9.5) == 9.5
    assert earlier(tmp_path, wall_seconds_of_all_runs=9.5, generator='h') == 0
    assert earlier(tmp_path, wall_seconds=4) == 4  # of before all runs were counted
    assert earlier(tmp_path, wall_seconds=4, made=0) == 0
    for damaged in ('[]', '{', '{"split": "train"}', '7'):
        (tmp_path / 'summary.json').write_text(damaged)
        assert WorkTime(tmp_path, 'masks', ABOUT).earlier == 0


def test_a_summary_has_counts_shares_and_seconds(tmp_path, capsys):
    clock = WorkTime(tmp_path, 'masks', ABOUT, time.monotonic() - 70)
    clock.tick()
    failed = {f'z{i}': f'reason {i}' for i in reversed(range(7))}
    report = WorkReport(['a', 'b'], ['c'], failed, dict(load=0.5, think=3.0))
    summary = write_summary(report, clock, torch.device('cpu'), ABOUT, source='x')
    assert json.loads((tmp_path / 'summary.json').read_text()) == summary and not (tmp_path / 'seconds.json').exists()
    assert (summary['made'], summary['found'], list(summary['failed'])) == (2, 1, sorted(failed))
    assert summary['seconds_per_image'] == dict(load=0.25, think=1.5) and summary['source'] == 'x'
    assert 70 <= summary['wall_seconds'] == summary['wall_seconds_of_all_runs'] < 80
    assert (summary['split'], summary['processes'], summary['device']) == ('train', 1, 'cpu')
    assert summary['peak_memory_gb']['process'] > 0
    print_summary('2 things made', summary)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('2 things made, 1 found, 7 failed in 1:1')
    assert lines[0].endswith('; ms per image: load 250, think 1500')
    assert lines[1:] == [f'  failed: z{i}: reason {i}' for i in range(5)]
    untimed = write_summary(WorkReport(found=['a']), clock, torch.device('cpu'), ABOUT, all_timed=False)
    assert 'wall_seconds_of_all_runs' not in untimed and untimed['seconds_per_image'] == {}
    print_summary('nothing made', untimed)
    assert 'ms per image' not in capsys.readouterr().out
