"""A checkpoint of other classes, or of the same in another order, is refused with both lists, whoever loads it."""
import numpy as np
import pytest
import torch

from weclip_sam.api import Segmenter
from weclip_sam.engine import build_runner, safe_load, use_resume
from weclip_sam.engine.start.class_names import require_same_classes

BOTH = 'in another order.*Its classes: dog, cat; now: cat, dog'


@pytest.fixture
def swapped(run_toy, tmp_path):
    """A checkpoint of the toy that was trained on its classes in another order."""
    run_toy(train_cfg__max_iters=2, train_cfg__val_interval=100, default_hooks__sheets=None, custom_hooks=[])
    content = safe_load(tmp_path / 'run' / 'iter_2.pth')
    content['meta']['dataset_meta']['classes'] = ('dog', 'cat')
    torch.save(content, tmp_path / 'iter_2.pth')
    return tmp_path / 'iter_2.pth'


def test_resuming_starting_from_and_testing_are_refused(swapped, toy_config):
    config = toy_config(work_dir='other')
    with pytest.raises(ValueError, match=BOTH):
        use_resume(config, str(swapped), ['cat', 'dog'])
    for number, (resume, way) in enumerate([(True, 'train'), (False, 'train'), (False, 'test')]):
        config = toy_config(work_dir=f'other{number}', default_hooks__sheets=None, train_cfg__max_iters=2)
        config.load_from, config.resume, config.experiment_name = str(swapped), resume, f'other{number}'
        runner = build_runner(config)
        with pytest.raises(ValueError, match=BOTH):
            getattr(runner, way)()


def test_a_training_may_start_from_other_classes_when_it_says_so(swapped, toy_config):
    config = toy_config(default_hooks__sheets=None, train_cfg__max_iters=1, default_hooks__guard__other_classes=True,
                        custom_hooks=[])
    config.load_from, config.experiment_name = str(swapped), 'meant'
    runner = build_runner(config)
    runner.train()
    assert runner.iter == 1


def test_prediction_with_a_config_of_other_classes_is_refused(trained_run, tmp_path):
    (dumped,) = trained_run.glob('*.py')
    text = dumped.read_text()
    checkpoint = trained_run / 'iter_2.pth'
    photo = np.zeros((24, 40, 3), np.uint8)
    same = Segmenter(checkpoint, 'cpu', config=dumped)
    names = list(same.classes[1:])
    assert same(photo).labels.shape == (24, 40)
    other = tmp_path / 'other.py'
    vocabulary = dict(classes=names[::-1], prompt_names=names[::-1], background_nouns=['sky'])
    other.write_text(f'{text}\nmodel["vocabulary"] = {vocabulary!r}\n')
    with pytest.raises(ValueError, match=f'in another order.*Its classes: {", ".join(names)}; now: '
                                         f'{", ".join(names[::-1])}.*without --config'):
        Segmenter(checkpoint, 'cpu', config=other)


def test_prediction_with_weights_that_are_no_numbers_is_refused(trained_run, tmp_path):
    content = safe_load(trained_run / 'iter_2.pth')
    next(value for value in content['state_dict'].values() if value.is_floating_point()).fill_(torch.nan)
    torch.save(content, tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match=r'nan.pth: 1 of its .* tensors hold NaN or infinite numbers'):
        Segmenter(tmp_path / 'nan.pth', 'cpu')


def test_lists_are_compared_only_where_both_are_known():
    def content(*names):
        return dict(meta=dict(dataset_meta=dict(classes=names)))
    for known, classes in (({}, ['a']), (dict(meta={}), ['a']), (None, ['a']), (content('a'), None),
                           (content('a', 'b'), ('a', 'b')), (content(), ['a'])):
        require_same_classes('x.pth', known, classes)
    with pytest.raises(ValueError, match=r'x.pth: was trained on other classes .*Its classes: a, b; now: a. Mend it'):
        require_same_classes('x.pth', content('a', 'b'), ['a'], 'Mend it')
