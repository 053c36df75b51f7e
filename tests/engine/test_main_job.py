"""The main job in small: every hook of its config at work on the embedded data set."""
import json
from pathlib import Path

import pytest

from weclip_sam.engine import build_runner, load_config
from weclip_sam.engine.hooks.protocol import ProtocolValHook
from weclip_sam.models import WeClip
from weclip_sam.seeds.crf import dense_crf

CONFIG = Path(__file__).parents[2] / 'configs' / 'weclip_sam' / 'weclip-sam_tiny_400_shapes.py'


@pytest.fixture
def refined(monkeypatch):
    """Iterations and spatial width of every CRF of the run."""
    calls = []

    def watched(*args, **settings):
        calls.append((settings['iterations'], settings['gaussian_sxy']))
        return dense_crf(*args, **settings)
    monkeypatch.setattr('weclip_sam.seeds.crf.dense_crf', watched)
    return calls


@pytest.fixture
def predicted(monkeypatch):
    """How many images each pass of the network that predicts saw."""
    calls, tensor = [], WeClip.tensor

    def watched(self, inputs, data_samples=None):
        calls.append(len(inputs))
        return tensor(self, inputs, data_samples)
    monkeypatch.setattr(WeClip, 'tensor', watched)
    return calls


@pytest.fixture
def finished(tmp_path, toy_config):  # the toy's fixture clears mmengine's globals afterwards
    config = load_config(CONFIG, {
        'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'param_scheduler.0.warmup_iters': 1,
        'param_scheduler.0.end': 2, 'train_dataloader.batch_size': 2, 'train_dataloader.dataset.reader.num_images': 4,
        'val_dataloader.dataset.reader.num_images': 3, 'default_hooks.sheets.images': 2,
        'model.rfm_start': 1, 'mask_bank': str(tmp_path / 'masks'), 'seed_dataset.reader.num_images': 2})
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    config.work_dir = str(tmp_path / 'run')
    build_runner(config).train()
    return tmp_path / 'run'


def test_it_ends_with_labels_by_step_a_sheet_and_both_protocols(refined, predicted, finished):
    summary = json.loads((finished / 'summary.json').read_text())
    assert list(summary['train_seeds']['stages']) == ['gradcam', 'excel', 'eye', 'blend', 'prediction']
    # The bundled weights are at work: labels of two images are far better than chance after two iterations.
    assert summary['train_seeds']['pseudo labels'] > 30
    assert refined == [(iterations, 3.0) for iterations in (10, 10, 10)]  # WeCLIP's CRF, once per image, only there
    assert predicted == [3]  # the last validation's pass serves the network's own score and the CRF's
    assert summary['val_protocol']['seconds'] > 0 and 0 < summary['val_protocol']['CRF'] < 100
    report = json.loads((finished / 'iou_val_protocol.json').read_text())
    assert report['mIoU'] == summary['val_protocol']['CRF'] and report['images'] == 3
    assert (finished / 'sheets' / 'iter_000002.png').is_file()
    log = next(finished.glob('*/*.log')).read_text()
    assert 'could not be drawn' not in log and 'mIoU of the prediction on val with CRF' in log
    assert log.rstrip().endswith(f'''next: labels of the training images
  python tools/make_labels.py {finished}/iter_2.pth --out {finished}/labels
next: a page to look through them
  python tools/review.py {finished}/labels''')


def test_a_protocol_of_nothing_is_refused():
    with pytest.raises(ValueError, match='repeat the validation'):
        ProtocolValHook(tta=False, crf=False)
