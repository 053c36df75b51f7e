"""Ablation of WeCLIP-SAM: from the switch on, the decoder's own predictions are half of what is voted on.

    python tools/train.py configs/weclip_sam/weclip-sam-prediction_tiny_400_shapes.py
"""
_base_ = './weclip-sam_tiny_400_shapes.py'
model = dict(seeds=[
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='BlendPrediction'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=1.0)])
