"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; DeepLabV2 on COCO. No published
score. Cost: not measured.

    python tools/train.py configs/two_stage/deeplab-v2-supervised_resnet101_100k_coco.py
"""
_base_ = './deeplab-v2_resnet101_100k_coco.py'
train_dataloader = dict(dataset=dict(
    with_masks=True, pixel_labels=dict(_delete_=True, type='UseGroundTruth')))
