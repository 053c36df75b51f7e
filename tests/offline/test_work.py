"""The loop over images: shares, batches, failures, seconds, and what must not move."""
import errno
import threading
import time

import numpy as np
import pytest
import torch
from mmengine.dist import get_rank

from weclip_sam.engine.progress import ProgressReporter
from weclip_sam.offline import work
from weclip_sam.offline.work import StageClock, WorkReport, work_through

IDS = ['a', 'b', 'c', 'd', 'e']


def run(done=(), broken=(), sizes=(1,) * 5, ids=IDS, **options):
    """The report, what was made together, and what was written; an item is an array of the size of its index."""
    groups, written = [], {}

    def load(index):
        if ids[index] in broken:
            raise OSError(f'{ids[index]} is torn')
        return np.full(sizes[index], index)

    def make(items, clock):
        groups.append([int(item[0]) for item in items])
        with clock('think'):
            return [int(item.sum()) * 10 for item in items]
    report = work_through('work', ids, is_done=lambda index: ids[index] in done, load=load, make=make,
                          write=written.__setitem__, **options)
    return report, groups, written


def test_what_is_not_done_is_made_in_order_and_timed_by_stage():
    report, groups, written = run(done='bd')
    assert written == dict(a=0, c=20, e=40) and groups == [[0], [2], [4]]
    assert (report.made, report.found, report.failed) == (['a', 'c', 'e'], ['b', 'd'], {})
    assert list(report.seconds) == ['load', 'think', 'write'] and all(s >= 0 for s in report.seconds.values())
    report, groups, written = run(done=IDS)
    assert (report.found, report.seconds, groups, written) == (IDS, {}, [], {})


def test_what_is_loaded_is_the_result_where_nothing_is_made_of_it():
    written = {}
    work_through('work', IDS, is_done=lambda index: False, load=lambda index: -index, write=written.__setitem__)
    assert written == dict(a=0, b=-1, c=-2, d=-3, e=-4)


@pytest.mark.parametrize('sizes, broken, groups', [
    ((1,) * 5, '', [[0, 1, 2], [3, 4]]), ((1, 2, 1, 2, 2), '', [[0, 2], [1], [3, 4]]),
    ((1,) * 5, 'b', [[0, 2], [3, 4]]), ((1,) * 5, 'abc', [[3, 4]])])
def test_arrays_of_one_shape_are_made_together(sizes, broken, groups):
    ticks = []
    report, made, written = run(broken=broken, sizes=sizes, batch_size=3, tick=lambda: ticks.append(1))
    assert made == groups and len(ticks) == 2
    assert list(written) == [IDS[index] for group in groups for index in group] == report.made


@pytest.mark.parametrize('workers', [0, 1])
def test_a_bad_image_is_recorded_and_the_rest_goes_on(workers):
    report, _, written = run(broken='bd', workers=workers)
    assert report.failed == dict(b='b is torn', d='d is torn') and list(written) == report.made == ['a', 'c', 'e']


def test_what_cannot_be_made_is_recorded_with_its_whole_group():
    def make(items, clock):
        if 2 in items:
            raise RuntimeError
        return items
    report = work_through('work', IDS, is_done=lambda index: False, load=int, make=make,
                          write=lambda name, result: None, batch_size=2)
    assert report.made == ['a', 'b', 'e'] and report.failed == dict(c='RuntimeError', d='RuntimeError')


def test_what_cannot_be_written_and_faults_of_the_program_end_the_work():
    def full(name, result):
        raise OSError('disk full')

    def wrong(index):
        raise KeyError('typing error')
    with pytest.raises(OSError, match='disk full'):
        work_through('work', IDS, is_done=lambda index: False, load=int, write=full)
    with pytest.raises(KeyError, match='typing error'):
        work_through('work', IDS, is_done=lambda index: False, load=wrong, write=full)


def test_patience_ends_when_the_first_images_all_fail():
    with pytest.raises(ValueError, match='^the first 3 images all failed, c for example: c is torn$'):
        run(broken='abcde', patience=3)
    assert len(run(broken='bcde', patience=3)[0].failed) == 4  # one works: it is the images' fault
    assert len(run(done='e', broken='abcd', patience=3)[0].failed) == 4  # one worked before
    assert len(run(broken='abcde')[0].failed) == 5


def test_every_process_takes_its_share_whatever_is_done(monkeypatch):
    monkeypatch.setattr(work, 'get_world_size', lambda: 2)
    reports = []
    for rank, done in ((0, ''), (1, 'ab')):  # the other has begun when the second one looks
        monkeypatch.setattr(work, 'get_rank', lambda rank=rank: rank)
        reports.append(run(done=done)[0])
    assert [report.made for report in reports] == [['a', 'c', 'e'], ['d']] and reports[1].found == ['b']
    total = WorkReport.join(reports)
    assert (total.made, total.found) == (['a', 'c', 'e', 'd'], ['b'])
    assert total.seconds['think'] == sum(report.seconds['think'] for report in reports)
    assert get_rank() == 0 and total.gather() == total  # one process: nothing to add


def test_the_work_moves_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(1)
    for done in ('', IDS):  # a training that follows must not depend on what was there
        torch.manual_seed(0)
        run(done=done)
        assert torch.equal(torch.rand(1), expected)


def test_a_clock_counts_a_stage_that_fails_too():
    clock = StageClock(torch.device('cpu'))
    with pytest.raises(KeyError), clock('a'):
        raise KeyError
    clock.add('b', 2.0)
    clock.add('b', 3.0)
    assert list(clock.seconds) == ['a', 'b'] and clock.seconds['b'] == 5 and clock.seconds['a'] > 0


def test_a_name_that_cannot_be_written_is_that_image_s_failure():
    def write(name, result):
        if name == 'c':
            raise OSError(errno.ENAMETOOLONG, 'File name too long', 'out/c.png')

    def is_done(index):
        if IDS[index] == 'a':
            raise OSError(errno.ENAMETOOLONG, 'File name too long', 'out/a.png')
        return IDS[index] == 'b'
    report = work_through('work', IDS, is_done=is_done, load=int, write=write)
    assert report.made == ['d', 'e'] and report.found == ['b']
    assert report.failed == {name: f'out/{name}.png: cannot be written (File name too long)' for name in 'ac'}


def test_a_full_disk_ends_the_work():
    def write(name, result):
        raise OSError(errno.ENOSPC, 'No space left on device', f'out/{name}.png')
    with pytest.raises(OSError, match='No space left'):
        work_through('work', IDS, is_done=lambda index: False, load=int, write=write)


def test_it_says_something_at_once_and_how_far_a_long_batch_is(monkeypatch, capsys):
    monkeypatch.setattr('weclip_sam.offline.work.ProgressReporter', lambda: ProgressReporter(line_interval=0))
    ticks = []

    def make(items, clock):
        clock.pulse(0.25)
        return items
    work_through('SAM masks', ['a', 'b', 'c'], is_done=lambda index: index == 1, load=int, make=make,
                 write=lambda name, item: None, tick=lambda: ticks.append(1))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'SAM masks: 2 to make, 1 found' and len(ticks) == 4
    assert lines[1].startswith('SAM masks 0/2 (0%)') and lines[1].endswith('25% of the next')
    assert lines[2].startswith('SAM masks 1/2') and lines[4].startswith('SAM masks 2/2')


@pytest.mark.parametrize('batch_size', [0, -2])
def test_batches_have_at_least_one_image(batch_size):
    with pytest.raises(ValueError, match='--batch-size: expected at least 1'):
        run(batch_size=batch_size)


def test_results_are_written_aside_in_order_while_the_next_are_made():
    report, groups, written = run(done='b', aside=True, batch_size=2)
    assert written == dict(a=0, c=20, d=30, e=40) and list(written) == report.made == ['a', 'c', 'd', 'e']
    assert groups == [[0, 2], [3, 4]] and list(report.seconds) == ['load', 'think', 'write']
    order, made = [], threading.Event()

    def make(items, clock):
        if items == [1]:
            made.set()
        return items

    def write(name, result):
        assert made.wait(20)  # the first one is written when the second one has been made
        order.append((name, threading.current_thread() is not threading.main_thread()))
    work_through('work', ['a', 'b'], is_done=lambda index: False, load=int, make=make, write=write, aside=True)
    assert order == [('a', True), ('b', True)]


@pytest.mark.parametrize('aside', [False, True])
def test_what_cannot_be_finished_or_written_by_its_name_is_that_images_failure(aside):
    def finish(value):
        if value == 1:
            raise ValueError('no mask')
        return value * 2

    def write(name, value):
        if value == 6:
            raise OSError(errno.ENAMETOOLONG, 'File name too long', 'd.png')
        written[name] = value
    written = {}
    report = work_through('work', IDS, is_done=lambda index: False, load=int, finish=finish, write=write, aside=aside,
                          patience=1)
    assert written == dict(a=0, c=4, e=8) and report.made == ['a', 'c', 'e']
    assert report.failed == dict(b='no mask', d='d.png: cannot be written (File name too long)')


def test_a_full_disk_ends_the_writing_aside_and_nothing_follows():
    def write(name, result):
        written.append(name)
        if name == 'b':
            raise OSError(errno.ENOSPC, 'No space left on device', 'out')
    for count in (2, 50):  # told at the end, and as soon as it is seen
        written, ids = [], [chr(ord('a') + i) for i in range(count)]
        with pytest.raises(OSError, match='No space left'):
            work_through('work', ids, is_done=lambda index: False, load=int, write=write, aside=True)
        assert written == ['a', 'b']


@pytest.mark.parametrize('fault', [KeyError, KeyboardInterrupt])
def test_what_was_made_before_a_fault_is_written(fault):
    def make(items, clock):
        if items == [3]:
            raise fault('typing error')
        return items
    written = []
    with pytest.raises(fault):
        work_through('work', IDS, is_done=lambda index: False, load=int, make=make, aside=True,
                     write=lambda name, result: (time.sleep(0.01), written.append(name)))
    assert written == ['a', 'b', 'c']
    assert not [thread for thread in threading.enumerate() if thread.name.startswith('writing')]
