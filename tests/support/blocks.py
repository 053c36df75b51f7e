"""Labels that are easy to count."""
import numpy as np

CLASSES = ['background', 'cup', 'table', 'Ä <b>&"quoted"\'</b>']
PALETTE = [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200]]


def blocks(*labels, height=24, width=32):
    """Labels side by side, H W uint8."""
    return np.repeat(np.array(labels, np.uint8), -(-width // len(labels)))[None, :width].repeat(height, 0)
