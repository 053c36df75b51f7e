"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; WeCLIP's decoder on frozen
CLIP.

    python tools/train.py configs/two_stage/offline-decoder-supervised_tiny_400_shapes.py
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/weclip_tiny.py', '../_base_/schedules/400.py',
          '../_base_/runtime.py']
model = dict(labels='offline')
train_dataloader = dict(dataset=dict(with_masks=True, pixel_labels=dict(type='UseGroundTruth')))
