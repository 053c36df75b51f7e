"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; DeepLabV2 on VOC.

    python tools/train.py configs/two_stage/deeplab-v2-supervised_resnet101_20k_voc.py
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/deeplab-v2_resnet101.py',
          '../_base_/schedules/deeplab_20k.py', '../_base_/runtime.py']
train_dataloader = dict(batch_size=10, dataset=dict(with_masks=True, pixel_labels=dict(type='UseGroundTruth')))
