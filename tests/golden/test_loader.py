"""What the golden tests read off a folder of fixtures."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest

spec = importlib.util.spec_from_file_location('golden_loader', Path(__file__).with_name('conftest.py'))
loader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loader)


@pytest.fixture
def write(tmp_path):
    def write(description=None, **arrays):
        arrays = {name.replace('__', '/'): np.array(value) for name, value in arrays.items()}
        np.savez(tmp_path / 'weclip.npz', **arrays)
        if description:
            (tmp_path / 'weclip.md').write_text(description)
        return loader.Arrays(tmp_path / 'weclip.npz')
    return write


@pytest.mark.parametrize('key, scales', [('fusion/0/msc_segs', (1, 0.5)), ('fp32/test/0/msc_segs', (1, 0.75))])
def test_scales_of_fusion_are_those_of_fusion_alone(write, key, scales):
    assert loader.scales_of(write(fusion__scales=[1, 0.5]), key) == scales


def test_an_array_s_own_group_is_asked_first_then_the_description(write):
    line = '| `fp32/test/{}/msc_segs` | float32 | (1, 21, 6, 8) | mean over scales [{}] of flipped logits | 5e-4 |\n'
    said = line.format(0, '1,1.25') + line.format(1, '1, 2')
    arrays = write(said, test__scales=[0.5], fusion__scales=[1, 0.75])
    assert [loader.scales_of(arrays, f'{kind}/test/1/msc_segs') for kind in ('fp32', 'lit')] == [(0.5,), (0.5,)]
    arrays = write(said, fusion__scales=[1, 0.75])
    assert [loader.scales_of(arrays, f'fp32/test/{case}/msc_segs') for case in (0, 1, 2)] == [
        (1, 1.25), (1, 2), (1, 0.75)]
