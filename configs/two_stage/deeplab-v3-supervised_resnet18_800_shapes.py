"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; DeepLabV3 on the embedded data
set. Sixteen minutes on one core. Val: 61.0, 68.0 with multi-scale and CRF (measured, one seed).

    python tools/train.py configs/two_stage/deeplab-v3-supervised_resnet18_800_shapes.py
"""
_base_ = './deeplab-v3_resnet18_800_shapes.py'
train_dataloader = dict(dataset=dict(
    with_masks=True, pixel_labels=dict(_delete_=True, type='UseGroundTruth')))
