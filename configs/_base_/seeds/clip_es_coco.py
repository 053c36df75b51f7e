"""CLIP-ES on COCO: the steps of VOC with a higher box threshold."""
_base_ = './clip_es.py'
seeds = [dict(step, threshold=0.7) if step.type == 'AttentionAffinity' else step for step in _base_.seeds]
