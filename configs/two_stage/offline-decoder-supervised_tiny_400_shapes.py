"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; WeCLIP's decoder on frozen CLIP.
Minutes on two cores. Val: 73.6 ± 0.4, 81.0 with multi-scale and CRF (measured).

    python tools/train.py configs/two_stage/offline-decoder-supervised_tiny_400_shapes.py
"""
_base_ = './offline-decoder_tiny_400_shapes.py'
train_dataloader = dict(dataset=dict(
    with_masks=True, pixel_labels=dict(_delete_=True, type='UseGroundTruth')))
