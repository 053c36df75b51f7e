"""The worked example of docs/extending.md, as it stands there."""
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SHORT = """
train_dataloader = dict(batch_size=2, dataset=dict(reader=dict(num_images=4, size=56)))
val_dataloader = test_dataloader = dict(dataset=dict(reader=dict(num_images=2, size=56)))
seed_dataset = dict(reader=dict(num_images=4, size=56))
train_cfg = dict(max_iters=2, val_interval=2)
param_scheduler = [dict(type='PolyWarmupLR', warmup_iters=1, by_epoch=False, end=2)]
default_hooks = dict(sheets=None)
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
"""


@pytest.mark.slow
def test_the_worked_step_trains(tmp_path, monkeypatch, capsys):
    from weclip_sam.cli.predict import main as predict
    from weclip_sam.cli.train import main
    from weclip_sam.engine.start.restore import restore_model
    from weclip_sam.registry import SEED_STEPS
    page = (ROOT / 'docs' / 'extending.md').read_text()
    step, config = re.findall(r'```python\n(.*?)```', page, re.DOTALL)[:2]
    assert 'class Sharpen' in step and "_base_ = ['weclip_sam::" in config
    (tmp_path / 'my_steps.py').write_text(step)
    (tmp_path / 'my_sharper.py').write_text(config + SHORT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        main(['my_sharper.py', '--work-dir', 'run'])
    finally:
        SEED_STEPS._module_dict.pop('Sharpen', None)
        sys.modules.pop('my_steps', None)
        importlib.invalidate_caches()
    # Predictions need no step that made labels: its module is gone.
    Image.fromarray(np.full((40, 48, 3), 128, np.uint8)).save('photo.png')
    with pytest.raises(SystemExit) as stop:
        predict(['run/iter_2.pth', 'photo.png', '--out', 'out', '--device', 'cpu'])
    assert stop.value.code == 0 and (tmp_path / 'out' / 'labels' / 'photo.png').is_file()
    # Labels do need it, and nothing is made with half of a pipeline.
    with pytest.raises(ValueError, match=r"'Sharpen', which is not registered"):
        restore_model('run/iter_2.pth', labels=True)
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert 'sharpen' in summary['train_seeds']['stages'], summary['train_seeds']
