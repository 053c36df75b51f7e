"""Fully supervised: the upper bound of WeCLIP-SAM, its decoder and its second eye taught by ground truth. Minutes on
two cores. Val: 81.8 ± 0.2 (measured).

    python tools/train.py configs/two_stage/fine-decoder-supervised_tiny_400_shapes.py
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/weclip_sam_tiny.py', '../_base_/schedules/400.py',
          '../_base_/runtime.py']
model = dict(labels='offline')
train_dataloader = dict(dataset=dict(with_masks=True, pixel_labels=dict(type='UseGroundTruth')))
