"""Work that trains nothing: SAM masks and pseudo labels for a whole split, shared out, resumable."""
from weclip_sam.offline.masks import MaskBankHook

__all__ = ['MaskBankHook']
