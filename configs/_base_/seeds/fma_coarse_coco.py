"""FMA-WSSS's coarse seeds on COCO: the steps of VOC with a higher box threshold."""
_base_ = './fma_coarse.py'
seeds = [dict(step, threshold=0.7) if step.type == 'FmaAffinity' else step for step in _base_.seeds]
