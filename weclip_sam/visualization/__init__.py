"""Pictures: overlays, sheets, and the hook that writes them during training."""
from .colors import class_colors, heat_colors, palette_colors
from .overlays import boundaries, enlarge, overlay_class_maps, overlay_heat, overlay_labels
from .sheet import Panel, Row, draw_sheet, explained_row
from .sheet_hook import SheetHook

__all__ = ['Panel', 'Row', 'SheetHook', 'boundaries', 'class_colors', 'draw_sheet', 'enlarge', 'explained_row',
           'heat_colors', 'overlay_class_maps', 'overlay_heat', 'overlay_labels', 'palette_colors']
