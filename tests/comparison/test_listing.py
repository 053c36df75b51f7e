"""What is listed of a comparison, and that every time in it was measured or documented."""
import json
from pathlib import Path

import pytest

from weclip_sam.comparison.experiment import load_experiment
from weclip_sam.comparison.listing import SHARED, group_stages, iterations, listing, seconds_taken
from weclip_sam.comparison.names import folder_name, method_named

EXPERIMENT = '''
title = 'three ways'
root = ROOT
seeds = 3
tests = ['single', 'crf']
shared = [dict(name='masks', tool='make_masks', config=CONFIG)]
methods = [
    dict(name='WeCLIP-SAM', note='ours', uses=['masks'], stages=[dict(name='train', tool='train', config=CONFIG)]),
    dict(name='WeCLIP-SAM, shorter', stages=[
        dict(name='train', tool='train', config=CONFIG, options={'train_cfg.max_iters': 100})]),
    dict(name='Other+', stages=[dict(name='train', tool='train', config=OTHER)]),
    dict(name='Unheard-of', tests=['single'], stages=[dict(name='train', tool='train', config=NONE)])]
estimates = dict(seconds_per_iteration={'oth*_tiny.py': 0.5}, seconds={'none*': 50, 'mine*': 7},
                 where='a machine of mine')
'''
CONFIGS = dict(CONFIG=('mine_tiny.py', 400), OTHER=('other_tiny.py', 200), NONE=('none_tiny.py', 300))


@pytest.fixture
def experiment(tmp_path):
    text = EXPERIMENT.replace('ROOT', repr(str(tmp_path / 'runs')))
    for word, (name, count) in CONFIGS.items():
        (tmp_path / name).write_text(f"model = dict(type='X')\ntrain_cfg = dict(max_iters={count})\n")
        text = text.replace(word, repr(str(tmp_path / name)))
    (tmp_path / 'experiment.py').write_text(text)
    return load_experiment(tmp_path / 'experiment.py')


def finish(experiment, method, name, seed, seconds, finished=True):
    """What a stage leaves, of which its time is known."""
    stages = next(run.stages for run in experiment.runs if (run.method, run.seed) == (method, seed))
    stage = next(stage for stage in stages if stage.name == name)
    stage.folder.mkdir(parents=True)
    stage.record.write_text(json.dumps(dict(arguments=stage.arguments, finished=finished, seconds=seconds,
                                            after={str(folder): None for folder in stage.after})))
    if finished:
        stage.summary.write_text('{}')
    return stage


def rows(experiment):
    """By method, its lines without blanks at both ends and doubled ones."""
    found, now = {}, None
    for line in listing(experiment)[2:]:
        if line.startswith('  '):
            found[now].append(' '.join(line.split()))
        elif line:
            now = line
            found[now] = []
    return found


def test_nothing_is_invented(experiment):
    lines = rows(experiment)
    assert list(lines)[:5] == [SHARED, 'WeCLIP-SAM [weclip-sam]: ours; uses masks',
                               'WeCLIP-SAM, shorter [weclip-sam-shorter]', 'Other+ [other-plus]',
                               'Unheard-of [unheard-of]']
    assert lines['WeCLIP-SAM [weclip-sam]: ours; uses masks'] == [
        'train to do time unknown', 'test-single to do time unknown', 'test-crf to do time unknown']
    assert lines['Other+ [other-plus]'][0] == 'train to do about 1 min 40 s each, by the iteration'  # 200 of 0.5 s
    # Of whole stages masks alone are documented here: what trains or tests with such a config is something else.
    assert lines[SHARED] == ['masks to do about 7.0 s, as documented']
    assert list(lines)[5:] == ['to do: 34 of 34 stages, at least 5 min 07 s, the time of 30 stages unknown',
                               'by the iteration (start and validation not counted), and as documented: a machine of '
                               'mine']


def test_what_was_measured_stands_for_what_is_alike(experiment):
    finish(experiment, 'WeCLIP-SAM', 'masks', 0, 61)
    finish(experiment, 'WeCLIP-SAM', 'train', 0, 200)
    finish(experiment, 'WeCLIP-SAM', 'train', 1, 220)
    finish(experiment, 'WeCLIP-SAM', 'test-crf', 0, 30)
    finish(experiment, 'Other+', 'train', 2, 7020)
    lines = rows(experiment)
    assert lines[SHARED] == ['masks finished 1 min 01 s']
    assert lines['WeCLIP-SAM [weclip-sam]: ours; uses masks'] == [
        'train 2 finished, 1 to do 3 min 30 s each; about 3 min 30 s, as its other seeds',
        'test-single to do time unknown',  # a test of another kind tells nothing
        'test-crf 1 finished, 2 to do 30.0 s; about 30.0 s each, as its other seeds']
    # The same config with a quarter of its iterations; its tests are of the same size.
    assert lines['WeCLIP-SAM, shorter [weclip-sam-shorter]'] == [
        'train to do about 52.5 s each, as the same config', 'test-single to do time unknown',
        'test-crf to do about 30.0 s each, as the same config']
    # What was measured here goes before what is documented of elsewhere.
    assert lines['Other+ [other-plus]'][0] == (
        'train 1 finished, 2 to do 1 h 57 min; about 1 h 57 min each, as its other seeds')
    # A test of another network on the same images is not far away, and it is said.
    assert lines['Other+ [other-plus]'][1:] == [
        'test-single to do time unknown', 'test-crf to do about 30.0 s each, as this test of other methods']
    # 210 + 2 x 30 + 3 x 52.5 + 3 x 30 + 2 x 7020 + 3 x 30 seconds.
    assert list(lines)[5] == 'to do: 29 of 34 stages, at least 4 h 04 min, the time of 15 stages unknown'


def test_states_and_remarks(experiment):
    stopped = finish(experiment, 'Unheard-of', 'train', 0, 9, finished=False)
    stale = finish(experiment, 'Unheard-of', 'train', 1, 9)
    stale.record.write_text(json.dumps(dict(arguments=['else'], finished=True, seconds=9)))
    lines = rows(experiment)
    assert lines['Unheard-of [unheard-of]'][0] == 'train 1 stale, 1 stopped, 1 to do time unknown'
    assert [line.split(':')[0] for line in list(lines)[-2:]] == ['stale', 'stopped']
    assert list(lines)[5].startswith('to do: 33 of 34')  # what is stale must be removed first
    # A run of somebody's own, without a record.
    stopped.record.unlink()
    stopped.summary.write_text(json.dumps(dict(wall_seconds=5, wall_seconds_of_all_runs=8)))
    assert seconds_taken(stopped) == 8
    stopped.summary.write_text('{}')
    assert seconds_taken(stopped) is None and 'train 1 finished' in rows(experiment)['Unheard-of [unheard-of]'][0]


def test_all_that_has_run(experiment):
    experiment = experiment.only(['unheard-of'])
    for seed in range(3):
        finish(experiment, 'Unheard-of', 'train', seed, 10 + seed)
        finish(experiment, 'Unheard-of', 'test-single', seed, 2)
    lines = rows(experiment)
    assert lines['Unheard-of [unheard-of]'] == ['train finished 11.0 s each', 'test-single finished 2.0 s each']
    assert list(lines)[-1] == 'all 6 stages have run'


def test_commands_on_request(experiment):
    lines = listing(experiment.only(['other-plus']), lambda stage: f'run {stage.tool} {stage.folder.parent.name}')
    assert [line.strip() for line in lines if line.startswith('      ')] == [
        f'run {tool} seed{seed}' for tool in ('train', 'test', 'test') for seed in range(3)]


def test_iterations_are_those_of_config_and_options(experiment):
    stages = {group.method: group.stages[0] for group in group_stages(experiment) if group.stages[0].tool == 'train'}
    assert {method: iterations(stage) for method, stage in stages.items()} == {
        'WeCLIP-SAM': 400, 'WeCLIP-SAM, shorter': 100, 'Other+': 200, 'Unheard-of': 300}
    Path(stages['Unheard-of'].arguments[0]).unlink()
    from weclip_sam.comparison import listing as module
    module._iterations.cache_clear()
    assert iterations(stages['Unheard-of']) is None and listing(experiment)


@pytest.mark.parametrize('given', ['WeCLIP-SAM, shorter', 'weclip-sam-shorter', 'WECLIP-SAM-SHORTER'])
def test_methods_are_found_by_what_can_be_typed(given, experiment):
    assert list(experiment.only([given]).methods) == ['WeCLIP-SAM, shorter']
    assert folder_name('WeCLIP+') == 'weclip-plus' and folder_name('"$(x)`') == 'x'


def test_a_slip_is_named(experiment):
    with pytest.raises(ValueError, match="called 'weclp-sam'. Did you mean 'weclip-sam'\\? There are: wecl"):
        experiment.only(['weclp-sam'])
    with pytest.raises(ValueError, match="called 'x'. There are: other-plus, "):
        method_named('x', ['Other+', 'Unheard-of'])


def test_estimates_with_a_slip(experiment, tmp_path):
    path = tmp_path / 'experiment.py'
    path.write_text(path.read_text().replace('seconds_per_iteration', 'seconds_per_iter'))
    with pytest.raises(ValueError, match="estimates: unknown key 'seconds_per_iter'. Did you mean 'seconds_per_it"):
        load_experiment(path)
