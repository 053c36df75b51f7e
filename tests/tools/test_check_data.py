"""check_data.py: what would stop a second stage in its loop is said before it starts."""
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from weclip_sam.io.images import write_labels

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/two_stage/deeplab-v3_resnet18_800_shapes.py'


@pytest.fixture
def check(tmp_path):
    """Runs the tool on 20 scenes with labels; returns the exit code and the messages of the errors."""
    tool = importlib.import_module('weclip_sam.cli.check_data')
    for number in range(20):
        write_labels(tmp_path / 'seeds' / f'train_0_{number:05d}.png', np.zeros((112, 112), int))

    def run(*arguments):
        sizes = [f'{name}.reader.num_images={count}' for name, count in (
            ('train_dataloader.dataset', 20), ('val_dataloader.dataset', 2), ('test_dataloader.dataset', 2),
            ('seed_dataset', 2), ('tune_dataset', 2))]
        with pytest.raises(SystemExit) as stop:
            tool.main([str(CONFIG), '--workers', '1', '--json', str(tmp_path / 'out.json'), *arguments, '--cfg-options',
                       *sizes, f'train_dataloader.dataset.pixel_labels={tmp_path}/seeds'])
        findings = json.loads((tmp_path / 'out.json').read_text())['findings']
        return stop.value.code, [finding['message'] for finding in findings if finding['level'] == 'error']
    return run


@pytest.mark.parametrize('options', [[], ['--quick']])
def test_labels_of_the_embedded_data_set(check, tmp_path, options):
    assert check(*options) == (0, [])
    write_labels(tmp_path / 'seeds' / 'train_0_00000.png', np.full((112, 112), 17))
    (tmp_path / 'seeds' / 'train_0_00001.png').unlink()
    code, (missing, value) = check(*options)
    assert code == 1 and '1 of 20 images have no label PNG, for example train_0_00001;' in missing
    assert 'train_0_00000.png: label values [17] name no class; allowed are 0 (background) to 10' in value
