"""WeCLIP+'s pseudo labels on COCO: eight blocks, and scores flow out of the boxes of the CAMs."""
_base_ = './weclip_plus.py'
seeds = [dict(step, layers=8, threshold=0.7, boxes_of='gradcam') if step.type == 'RfmAffinity' else step
         for step in _base_.seeds]
