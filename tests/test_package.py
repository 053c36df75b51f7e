"""What is imported from the package itself: light, until it is asked for."""
import subprocess
import sys

import pytest

import weclip_sam


def test_the_import_is_light_and_the_names_are_there_when_asked_for():
    code = '''
import sys
import weclip_sam
assert not {'weclip_sam.api', 'weclip_sam.models', 'open_clip', 'timm'} & set(sys.modules), sorted(sys.modules)
assert {'Segmenter', 'SegmentationResult', 'train', 'make_seeds'} <= set(dir(weclip_sam))
from weclip_sam import SegmentationResult
assert 'weclip_sam.api' not in sys.modules
from weclip_sam import Segmenter, make_seeds, train
from weclip_sam.api import Segmenter as same
assert Segmenter is same and callable(train) and callable(make_seeds)
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there():
    assert weclip_sam.__version__.count('.') == 2
    with pytest.raises(AttributeError, match="'weclip_sam' has no attribute 'Segmenta'"):
        _ = weclip_sam.Segmenta
    with pytest.raises(ImportError):
        from weclip_sam import Nothing  # noqa: F401
