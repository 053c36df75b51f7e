"""Evaluating a checkpoint."""
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from weclip_sam.engine import safe_load
from weclip_sam.engine.hooks.summary import _images_of

# As it is trained with, without the names that a run's own dump of it has.
CONFIG = Path(__file__).parents[2] / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py'


@pytest.fixture
def clean():
    yield
    for kind in (MMLogger, Visualizer, DefaultScope, MessageHub):
        kind._instance_dict.clear()


def test_with_sam_it_prints_what_comes_out_without_it_too(trained_run, load_tool, tmp_path, clean, capsys):
    args = [CONFIG, trained_run / 'iter_2.pth', '--work-dir', tmp_path / 'out', '--out', tmp_path / 'labels',
            '--sam', 'tiny', '--cfg-options', 'model.clip.checkpoint=random',
            'test_dataloader.dataset.reader.num_images=3']
    load_tool('test').main([str(arg) for arg in args])
    summary = json.loads((tmp_path / 'out' / 'summary_test.json').read_text())
    with_sam, without = summary['test'], summary['test_without_sam']
    assert with_sam['images'] == without['images'] == 3
    assert summary['sam']['live'] == 3 and summary['sam']['seconds_per_image'] > 0
    told = ''.join(capsys.readouterr())
    assert f'on val with SAM: {with_sam["mIoU"]:.2f}' in told
    assert f'on val without SAM: {without["mIoU"]:.2f}' in told and 'made live for 3 of 3 images' in told
    assert 'prediction on test' not in told
    assert json.loads((tmp_path / 'labels' / 'predictions.json').read_text())['sam'] == 'tiny'
    plain = [str(arg) for arg in args if arg not in ('--sam', 'tiny')]
    with pytest.raises(SystemExit) as stopped:
        load_tool('test').main(plain)
    assert stopped.value.code == 2


@pytest.mark.parametrize('given', [True, False])
def test_testing_needs_no_training_data_where_the_checkpoint_knows_the_names(trained_run, load_tool, tmp_path, clean,
                                                                            capsys, given):
    checkpoint = trained_run / 'iter_2.pth'
    if not given:
        content = dict(safe_load(checkpoint, kind='weights'))
        content['meta'] = {key: value for key, value in content['meta'].items() if key != 'dataset_meta'}
        checkpoint = tmp_path / 'old.pth'
        torch.save(content, checkpoint)
    gone = "train_dataloader.dataset.reader={'_delete_': True, 'type': 'FolderReader', 'data_root': 'gone'}"
    few = [f'{split}_dataloader.dataset.reader.num_images=3' for split in ('val', 'test')]
    options = ['model.clip.checkpoint=random', *few, gone]
    args = [CONFIG, checkpoint, '--work-dir', tmp_path / 'out', '--cfg-options', *options]
    if given:
        load_tool('test').main([str(arg) for arg in args])
        assert json.loads((tmp_path / 'out' / 'iou_test.json').read_text())['images'] == 3
    else:
        with pytest.raises(SystemExit) as stopped:
            load_tool('test').main([str(arg) for arg in args])
        assert stopped.value.code == 2 and 'gone' in capsys.readouterr().err


@pytest.mark.parametrize('reader, told', [
    (dict(split='val'), 'val'), (dict(split='tune'), 'tune'), (dict(split='val2014'), 'val2014'),
    (dict(split='lists/val.txt'), 'val'), (dict(split='all'), 'all images'), (dict(), 'test'), (None, 'test')])
def test_the_split_that_is_read_is_named(reader, told):
    cfg = Config({} if reader is None else dict(test_dataloader=dict(dataset=dict(reader=reader))))
    assert _images_of(SimpleNamespace(cfg=cfg), 'test') == told
