"""ExCEL's training-free seeds on COCO: the steps of VOC with a higher box threshold."""
_base_ = './excel.py'
seeds = [dict(step, threshold=0.88) if step.type == 'AttentionAffinity' else step for step in _base_.seeds]
