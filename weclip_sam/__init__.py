"""Weakly supervised semantic segmentation with frozen CLIP and SAM.

Importing the package makes its registries known to mmengine; they import the modules that fill them when first asked.

>>> from weclip_sam import Segmenter
>>> result = Segmenter('work_dirs/run/iter_400.pth')('photo.jpg')
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weclip_sam import registry

if TYPE_CHECKING:
    from weclip_sam.api import Segmenter
    from weclip_sam.jobs import make_seeds, train
    from weclip_sam.result import SegmentationResult

__version__ = '0.1.0'
__all__ = ['SegmentationResult', 'Segmenter', '__version__', 'make_seeds', 'registry', 'train']
# Imported when they are first asked for: they bring the models with them.
_WHERE = dict(Segmenter='api', SegmentationResult='result', train='jobs', make_seeds='jobs')


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f'{__name__}.{_WHERE[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
