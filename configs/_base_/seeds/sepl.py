"""SEPL: SAM masks improve labels that are there."""
seeds = [dict(type='SeplMerge', rule='max_iou_imp2')]
