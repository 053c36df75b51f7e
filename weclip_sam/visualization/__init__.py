"""Pictures: overlays, legends, names on regions and sheets. Colours are those of :mod:`weclip_sam.colors`."""
from weclip_sam.colors import class_colors, hex_colors, label_colors
from weclip_sam.visualization.explained import explained_overlay
from weclip_sam.visualization.legend import draw_legend
from weclip_sam.visualization.overlays import (
    boundaries,
    enlarge,
    enlarge_labels,
    outline_width,
    overlay_class_maps,
    overlay_labels,
)
from weclip_sam.visualization.region_names import inner_points, write_region_names
from weclip_sam.visualization.sheet import Panel, Row, draw_sheet, explained_row, meanings

__all__ = ['Panel', 'Row', 'boundaries', 'class_colors', 'draw_legend', 'draw_sheet', 'enlarge', 'enlarge_labels',
           'explained_overlay', 'explained_row', 'hex_colors', 'inner_points', 'label_colors', 'meanings',
           'outline_width', 'overlay_class_maps', 'overlay_labels', 'write_region_names']
