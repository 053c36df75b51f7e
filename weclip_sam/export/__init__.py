"""What a model and its labels are handed on as: labels in the forms of other tools (:func:`export_folder`;
``docs/exports.md`` says who opens which), and the model itself (``deploy``)."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weclip_sam.export.folders import EXPORTS, export_folder
    from weclip_sam.export.options import Options
    from weclip_sam.visualization.detections import to_supervision

__all__ = ['EXPORTS', 'Options', 'export_folder', 'to_supervision']
# Imported when they are first asked for: a command line asks for the options alone, and torch takes seconds.
_WHERE = dict(EXPORTS='export.folders', export_folder='export.folders', Options='export.options',
              to_supervision='visualization.detections')


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f'weclip_sam.{_WHERE[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
