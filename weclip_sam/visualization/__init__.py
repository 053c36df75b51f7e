"""Pictures: colours, overlays and sheets."""
from weclip_sam.visualization.colors import class_colors
from weclip_sam.visualization.overlays import boundaries, enlarge, overlay_class_maps, overlay_labels
from weclip_sam.visualization.sheet import Panel, Row, draw_sheet, explained_row

__all__ = ['Panel', 'Row', 'boundaries', 'class_colors', 'draw_sheet', 'enlarge', 'explained_row', 'overlay_class_maps',
           'overlay_labels']
