"""A resumed run equals an uninterrupted one, bit by bit, dropout and careless augmentation included."""
import shutil
from types import SimpleNamespace

import pytest
import torch

from weclip_sam.engine import CurriculumHook, build_runner, rng_state, safe_load, set_rng_state
from weclip_sam.engine.start.restore import changed_settings


def final_state(runner):
    return {k: v.clone() for k, v in runner.model.state_dict().items()}


def assert_equal_states(first, second):
    assert sorted(first) == sorted(second)
    for key in first:
        assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize('stop', [4, 6])
def test_resumed_run_is_bit_equal(run_toy, tmp_path, stop):
    # A checkpoint every 2 iterations, so that one exists where a validation follows (4) and where none does (6).
    options = dict(default_hooks__checkpoint__interval=2, default_hooks__checkpoint__max_keep_ckpts=-1)
    whole = run_toy(work_dir='whole', **options)
    folder = tmp_path / 'cut'
    folder.mkdir()
    shutil.copy(tmp_path / 'whole' / f'iter_{stop}.pth', folder)
    resumed = run_toy(work_dir='cut', resume=True, load_from=str(folder / f'iter_{stop}.pth'), **options)
    assert resumed.iter == whole.iter == 12
    assert_equal_states(final_state(whole), final_state(resumed))
    ends = [safe_load(tmp_path / name / 'iter_12.pth') for name in ('whole', 'cut')]
    for key, value in ends[0]['optimizer']['state'][0].items():
        assert torch.equal(value, ends[1]['optimizer']['state'][0][key]), key


def test_other_settings_than_the_checkpoint_s_are_named(run_toy, tmp_path):
    runner = run_toy(work_dir='whole')
    checkpoint = tmp_path / 'whole' / 'iter_12.pth'
    assert changed_settings(checkpoint, runner.cfg) == []
    runner.cfg.optim_wrapper.optimizer.lr = 0.5
    runner.cfg.model.extra = ('a', 'b')
    lr, first, second = sorted(changed_settings(checkpoint, runner.cfg), key=lambda line: 'model' in line)
    assert lr.startswith('optim_wrapper.optimizer.lr: ') and lr.endswith(' -> 0.5')
    assert first == 'model.extra.0: not set -> a' and second == 'model.extra.1: not set -> b'


def test_the_same_command_twice_gives_the_same_numbers(run_toy):
    assert_equal_states(final_state(run_toy(work_dir='a')), final_state(run_toy(work_dir='b')))


def test_without_rng_state_the_resumed_run_differs(run_toy, tmp_path):
    """The hook is what makes them equal: the toy is random enough to notice its absence."""
    options = dict(default_hooks__checkpoint__max_keep_ckpts=-1)
    whole = run_toy(work_dir='whole', **options)
    content = safe_load(tmp_path / 'whole' / 'iter_4.pth')
    del content['rng_state']
    torch.save(content, tmp_path / 'no_rng.pth')
    resumed = run_toy(work_dir='cut', resume=True, load_from=str(tmp_path / 'no_rng.pth'), **options)
    assert not torch.equal(final_state(whole)['first.weight'], final_state(resumed)['first.weight'])


def test_validation_does_not_move_training(run_toy):
    often = run_toy(work_dir='often', train_cfg__val_interval=1)
    seldom = run_toy(work_dir='seldom', train_cfg__val_interval=12)
    assert_equal_states(final_state(often), final_state(seldom))


def test_rng_state_round_trip():
    import random

    import numpy as np
    random.gauss(0, 1)  # leaves a cached second value behind
    np.random.randn()  # noqa: NPY002 - the global generator is the subject
    state = rng_state()
    drawn = [random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(3)]  # noqa: NPY002
    set_rng_state(state)
    again = [random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(3)]  # noqa: NPY002
    assert drawn[:3] == again[:3] and torch.equal(drawn[3], again[3])


def test_curriculum_is_told_every_iteration_and_saved(run_toy, tmp_path):
    run_toy()
    assert safe_load(tmp_path / 'run' / 'iter_12.pth')['state_dict']['progress'] == 11
    assert safe_load(tmp_path / 'run' / 'iter_8.pth')['state_dict']['progress'] == 7


def test_a_validation_made_up_for_sees_the_curriculum_as_it_was(run_toy, tmp_path):
    whole = run_toy(work_dir='whole')
    last = tmp_path / 'cut' / 'iter_12.pth'
    last.parent.mkdir()
    shutil.copy(tmp_path / 'whole' / 'iter_12.pth', last)
    resumed = run_toy(work_dir='cut', resume=True, load_from=str(last))
    assert resumed.model.progress == whole.model.progress == 11


def test_curriculum_needs_a_model_with_one():
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), iter=0)
    with pytest.raises(ValueError, match=r'Linear has no set_progress'):
        CurriculumHook().before_train(runner)


def test_a_model_brings_its_curriculum_along_once(trained_run, toy_config):
    assert safe_load(trained_run / 'iter_2.pth')['state_dict']['progress'] == 1  # its config lists no hook
    for listed in ([], [dict(type='CurriculumHook')]):
        config = toy_config(f'run{len(listed)}')
        config.custom_hooks = listed
        config.model = dict(
            type='WeClip', clip=dict(type='FrozenClip', arch='tiny', checkpoint='random'), seeds=[dict(type='GradCam')],
            decoder=dict(type='WeClipDecoder', dim=8, heads=1, depth=1),
            vocabulary=dict(classes=['cat'], prompt_names=['cat'], background_nouns=['sky']))
        hooks = [type(hook).__name__ for hook in build_runner(config).hooks]
        assert hooks.count('CurriculumHook') == 1
