"""The frozen models: CLIP (what, roughly where), DINO (what belongs together) and SAM (exact outlines)."""
from weclip_sam import torch_versions  # noqa: F401  # first: what follows needs torchvision
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.dino import FrozenDino
from weclip_sam.foundation.mask_generator import MaskGenerator
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.foundation.sam_eye import SamEye
from weclip_sam.foundation.text import text_features

__all__ = [
    'FrozenClip',
    'FrozenDino',
    'FrozenSam',
    'MaskGenerator',
    'SamEye',
    'text_features',
]
