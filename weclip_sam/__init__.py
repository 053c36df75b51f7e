"""Weakly supervised semantic segmentation with frozen CLIP and SAM.

Importing the package makes its registries known to mmengine; they import the modules that fill them when first asked.
"""
from weclip_sam import registry

__version__ = '0.1.0'
__all__ = ['__version__', 'registry']
