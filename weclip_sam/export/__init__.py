"""Labels in the forms of other tools. :func:`export_folder` writes them; ``docs/exports.md`` says who opens which."""
from weclip_sam.export.detections import to_supervision
from weclip_sam.export.folders import EXPORTS, export_folder
from weclip_sam.export.job import Options

__all__ = ['EXPORTS', 'Options', 'export_folder', 'to_supervision']
