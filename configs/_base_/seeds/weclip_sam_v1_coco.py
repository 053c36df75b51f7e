"""WeCLIP-SAM's pseudo labels on COCO: the steps of VOC with ten blocks and a higher box threshold.

Not tuned on real data.
"""
_base_ = './weclip_sam_v1.py'
seeds = [dict(step, layers=10, threshold=0.7) if step.type == 'RfmAffinity' else step for step in _base_.seeds]
