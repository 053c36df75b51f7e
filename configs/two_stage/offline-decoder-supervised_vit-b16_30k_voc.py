"""Fully supervised: the upper bound, the only kind of run that trains on ground truth; WeCLIP's decoder on frozen CLIP.
No published score. Cost: not measured.

    python tools/train.py configs/two_stage/offline-decoder-supervised_vit-b16_30k_voc.py
"""
_base_ = './offline-decoder_vit-b16_30k_voc.py'
train_dataloader = dict(dataset=dict(
    with_masks=True, pixel_labels=dict(_delete_=True, type='UseGroundTruth')))
