"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; WeCLIP's decoder on frozen
CLIP.

    python tools/train.py configs/two_stage/offline-decoder-supervised_vit-b16_80k_coco.py
"""
_base_ = ['../_base_/datasets/coco.py', '../_base_/models/weclip_vit-b16.py', '../_base_/schedules/80k.py',
          '../_base_/runtime.py']
model = dict(labels='offline')
train_dataloader = dict(dataset=dict(with_masks=True, pixel_labels=dict(type='UseGroundTruth')))
