"""What a model and its labels are handed on as: labels in the forms of other tools (:func:`export_folder`;
``docs/exports.md`` says who opens which), and the model itself (``deploy``)."""
from weclip_sam.export.folders import EXPORTS, export_folder
from weclip_sam.export.job import Options
from weclip_sam.visualization.detections import to_supervision

__all__ = ['EXPORTS', 'Options', 'export_folder', 'to_supervision']
