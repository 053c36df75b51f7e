"""A checkpoint alone becomes its model again, new or old; what a stranger wrote into one does nothing."""
import copy
import json
import sys

import numpy as np
import pytest
import torch

from weclip_sam.api import Segmenter
from weclip_sam.datasets.shapes.scenes import CLASSES
from weclip_sam.engine import load_config, safe_load
from weclip_sam.engine.start.old_configs import parse_literal_config
from weclip_sam.engine.start.restore import changed_settings, checkpoint_config, restore_model
from weclip_sam.io.plain import plain

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def checkpoint(trained_run):
    return trained_run / 'iter_2.pth'


@pytest.fixture(scope='module')
def dumped(trained_run):
    """The file that mmengine writes beside checkpoints; the same text stood in them before."""
    return next(trained_run.glob('*.py'))


@pytest.fixture
def changed(checkpoint, tmp_path):
    """A copy of the checkpoint, in a folder of its own, whose ``meta`` has other entries."""
    content = safe_load(checkpoint)

    def write(settings=None, cfg=None, **meta):
        path = tmp_path / 'changed' / 'x.pth'
        path.parent.mkdir(exist_ok=True)
        meta = {**content['meta'], 'settings': settings, 'cfg': cfg, **meta}
        torch.save(dict(state_dict=content['state_dict'], meta=meta), path)
        return path
    return write


def test_a_checkpoint_holds_its_config_as_plain_values(checkpoint, dumped):
    meta = torch.load(checkpoint, weights_only=False)['meta']
    expected = load_config(dumped).to_dict()
    assert type(meta['settings']) is dict and meta['settings'] == expected and 'cfg' not in meta
    assert checkpoint_config(checkpoint, dict(meta=meta)).to_dict() == expected
    assert checkpoint_config(checkpoint, dict(meta=dict(cfg=dumped.read_text()))).to_dict() == expected


def test_new_and_old_checkpoints_predict_the_same(checkpoint, dumped, changed, tmp_path):
    expected = Segmenter(checkpoint, 'cpu')(PHOTO, probabilities=True)
    paths = [changed(cfg=dumped.read_text())]
    found = Segmenter(paths[0], 'cpu')
    assert found.classes[1:] == CLASSES
    assert np.array_equal(found(PHOTO, probabilities=True).probabilities, expected.probabilities)
    # One without a config is served by the config dumped beside it.
    path = changed()
    path.with_name('dumped.py').write_text(dumped.read_text())
    assert np.array_equal(Segmenter(path, 'cpu')(PHOTO, probabilities=True).probabilities, expected.probabilities)
    path.with_name('other.py').write_text('')
    with pytest.raises(ValueError, match='holds no config, and 2 configs lie beside it'):
        restore_model(path)


def test_no_setting_counts_as_changed_because_of_how_it_was_kept(checkpoint, dumped):
    config = load_config(dumped)
    config.model.extra, config.model.clip.mean = {'b', 'a'}, np.zeros(3)
    assert changed_settings(checkpoint, config) == [
        *(f'model.clip.mean.{i}: not set -> 0.0' for i in range(3)),
        'model.extra.0: not set -> a', 'model.extra.1: not set -> b']


def test_code_in_a_text_is_refused_and_not_run(changed, dumped):
    text = dumped.read_text()
    for bad in ('import os\n', "x = open('/etc/passwd')\n", 'x = dict(**{})\n', 'x = (lambda: 1)()\n', 'a.b = 1\n'):
        with pytest.raises(ValueError, match='Nothing was executed'):
            restore_model(changed(cfg=bad + text))
    for bad in ('model = (', 'x = {[1]: 2}', 'x = ' + '-' * 20_000 + '1', 'x = ' + '[' * 500 + ']' * 500, '\0'):
        with pytest.raises(ValueError, match='x.pth: .*cannot be read'):
            restore_model(changed(cfg=bad))
    with pytest.raises(ValueError, match='holds no config, and none lies beside it'):
        restore_model(changed(cfg=''))


def doubled(depth):
    node = 1
    for _ in range(depth):
        node = [node, node]
    return node


def within_itself():
    node = []
    node.append(node)
    return node


@pytest.mark.parametrize('config, message', [
    (lambda: dict(model=dict(type='WeClip', decoder=doubled(60))), 'nested deeper than'),
    (lambda: dict(model=dict(type='WeClip', decoder=doubled(40))), 'more than 100,000 values'),
    (lambda: dict(model=within_itself()), 'nested deeper than'),
    (lambda: dict(model=dict(type='WeClip', mean=torch.zeros(1).expand(10 ** 12))), 'model.mean is a Tensor'),
    (lambda: dict(model={(1, 2): 3}), 'model has a tuple as a key'),
    (lambda: dict(model=dict(), filename='/etc/passwd'), "an entry 'filename', which no config can have"),
    (lambda: dict(model='WeClip'), 'has no model'),
    (lambda: {1: 2}, "an entry '1'")])
def test_a_dict_that_is_no_config_is_refused(changed, config, message):
    with pytest.raises(ValueError, match=rf'x\.pth: .*{message}'):
        restore_model(changed(config()))


@pytest.mark.parametrize('old', [False, True])
@pytest.mark.parametrize('place', ['model', 'model.clip', 'model.seeds', 'pipeline', 'scope', 'imports'])
def test_nothing_that_a_config_names_is_imported_or_called(changed, checkpoint, tmp_path, monkeypatch, old, place):
    """mmengine imports and calls what a type names and no registry knows: ``subprocess.Popen``, or a file here."""
    mark = tmp_path / 'ran'
    (tmp_path / 'stranger').mkdir()
    for name in ('stranger.py', 'stranger/registry.py', 'stranger/__init__.py'):
        (tmp_path / name).write_text(f'open({str(mark)!r}, "w")')
    monkeypatch.syspath_prepend(str(tmp_path))
    config = copy.deepcopy(safe_load(checkpoint)['meta']['settings'])
    evil = dict(type='subprocess.Popen', args=['touch', str(mark)])
    if place == 'model':
        config['model'] = dict(evil, vocabulary=config['model']['vocabulary'])
    elif place == 'model.clip':
        config['model']['clip'] = evil
    elif place == 'model.seeds':
        config['model']['seeds'] = (dict(type='stranger'),)
    elif place == 'pipeline':
        config['test_dataloader']['dataset']['pipeline'].append(evil)
    elif place == 'scope':
        config['model']['_scope_'] = 'stranger'
    else:
        config['custom_imports'] = dict(imports=['stranger'])
    kept = dict(cfg='\n'.join(f'{key} = {value!r}' for key, value in config.items())) if old else dict(settings=config)
    if place in ('imports', 'model.seeds'):  # predictions need no seed steps: they are left out
        assert Segmenter(changed(**kept), 'cpu').classes[1:] == CLASSES
    else:
        with pytest.raises(ValueError, match=r'x\.pth: refused\. Its .* is not registered.*Nothing was exe') as raised:
            Segmenter(changed(**kept), 'cpu')
        assert 'subprocess.Popen' in str(raised.value) or 'stranger' in str(raised.value)
    assert not mark.exists() and 'stranger' not in sys.modules


def test_a_resumed_run_executes_no_text_of_the_checkpoint(run_toy, tmp_path):
    """mmengine's Runner.resume runs what stands in ``meta.config``."""
    path = tmp_path / 'run' / 'iter_12.pth'
    run_toy()
    content = safe_load(path)
    for text in (f'open({str(tmp_path / "ran")!r}, "w")', 'neither Python nor a config'):
        content['meta']['config'] = text
        torch.save(content, path)
        assert run_toy(resume=True, load_from=str(path)).iter == 12
    assert not (tmp_path / 'ran').exists()


def test_types_are_known_by_their_full_names_too(changed, checkpoint):
    config = copy.deepcopy(safe_load(checkpoint)['meta']['settings'])
    config['model']['type'] = 'weclip_sam.models.weclip.WeClip'  # as configs with lazy imports are dumped
    assert type(restore_model(changed(config))[0]).__name__ == 'WeClip'
    config['model']['type'] = 'WeClipp'
    with pytest.raises(ValueError, match="asks for the type 'WeClipp'.*Did you mean 'WeClip'.*config that imports it"):
        restore_model(changed(config))


def test_a_config_that_cannot_be_kept_is_refused_before_the_first_iteration(toy_config):
    from weclip_sam.engine import build_runner
    config = toy_config()
    runner = build_runner(config)
    runner.cfg.model.odd = object()
    with pytest.raises(ValueError, match='the config: model.odd is a object, which a checkpoint cannot hold'):
        runner.train()
    assert runner.iter == 0


def test_a_dumped_config_reads_back_as_it_was(dumped):
    assert parse_literal_config(dumped.read_text(), 'x') == load_config(dumped).to_dict()
    text = "a = dict(b=[1, -2.5, (None, True)], c={'x': set(), 3: {4}}, d=inf)"
    assert parse_literal_config(text, 'x') == dict(
        a=dict(b=[1, -2.5, (None, True)], c={'x': set(), 3: {4}}, d=float('inf')))


def test_plain_values_are_copies_of_pythons_own_types(tmp_path):
    class Text(str):
        pass

    given = dict(a=Text('x'), b=np.float32(0.5), c={3, 1, 'x'}, d=tmp_path, e=torch.ones(2, dtype=torch.long),
                 f=(True, None), g=ValueError, h=[np.array([1])])
    found = plain(given, 'x')
    assert found == dict(a='x', b=0.5, c=[1, 3, 'x'], d=str(tmp_path), e=[1, 1], f=(True, None), g='ValueError',
                         h=[[1]])
    assert [type(value) for value in found.values()] == [str, float, list, str, list, tuple, str, list]
    assert found['h'] is not given['h'] and json.dumps(found) and type(found['f'][0]) is bool
    for value in (object(), print, {1: {2.5: 3}}, {(1,)}, b'x', 1j):
        with pytest.raises(ValueError, match='^the settings: (it|1) '):
            plain(value, 'the settings')
